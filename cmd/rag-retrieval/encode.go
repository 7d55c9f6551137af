package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
)

func encodeCommand() *cli.Command {
	return &cli.Command{
		Name: "encode", Usage: `turn {"text": "…"} rows into {"embedding": […]} rows on stdout`, ArgsUsage: "[FILE …]",
		Description: `Rows come from the files or from stdin.

Examples:
  echo '{"text": "reverses the order of the elements"}' | rag-retrieval encode --model out/model
  rag-retrieval encode --model out/model --as passage < texts.jsonl > vectors.jsonl
  rag-retrieval encode --model out/model --mixed-precision auto < texts.jsonl > vectors.jsonl   # bf16 on a CPU where that is faster
  mpirun -n 4 rag-retrieval encode --model out/model texts.jsonl > vectors.jsonl     # the ranks share the batches`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "folder or hub id of the model, or an .onnx file beside a tokenizer", Required: true},
			&cli.StringFlag{Name: "as", Usage: "query or passage: which prompt of the model applies", Value: "passage"},
			&cli.IntFlag{Name: "max-len", Usage: "tokens of a text; 0: the model's own limit"},
		}, engineFlags()...),
		OnUsageError: onUsageError,
		Action:       onRanks(encode),
	}
}

func encode(c *cli.Context, j job) (err error) {
	if as := c.String("as"); as != "query" && as != "passage" {
		return usagef("--as is %q, want query or passage", as)
	}
	o := engineOptions(c)
	o.Kind = modelcard.Embedding
	queries := c.String("as") == "query"
	if queries {
		o.QueryMaxLen = c.Int("max-len")
	} else {
		o.PassageMaxLen = c.Int("max-len")
	}
	m, err := j.open(c, c.String("model"), o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	e, err := m.Embedder()
	if err != nil {
		return err
	}
	s := j.stdio()
	inputs, err := s.open(j, c.Args().Slice())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(inputs)) }()
	out := bufio.NewWriter(s.Writer(os.Stdout))
	for _, in := range inputs {
		err := encodeRows(c.Context, in, out, e, queries)
		if err := errors.Join(err, out.Flush(), s.Err()); err != nil {
			return err
		}
	}
	return nil
}

// encodeRows encodes the texts of JSON rows.
func encodeRows(ctx context.Context, in input, out io.Writer, e retriever.Embedder, queries bool) error {
	var lines []int // of each text
	texts := func(yield func(prompt.Text, error) bool) {
		r := bufio.NewReader(in)
		for line, end := 1, error(nil); end == nil; line++ {
			var b []byte
			if b, end = r.ReadBytes('\n'); end != nil && !errors.Is(end, io.EOF) {
				yield(prompt.Text{}, fmt.Errorf("%s: %w", in.name, end))
				return
			}
			if len(bytes.TrimSpace(b)) == 0 {
				continue
			}
			text, err := encodeRow(b)
			if err != nil {
				err = fmt.Errorf("%s:%d: %w", in.name, line, err)
			}
			lines = append(lines, line)
			if !yield(prompt.Text{Query: queries, Text: text}, err) {
				return
			}
		}
	}
	write := json.NewEncoder(out)
	err := retriever.Stream(ctx, e, texts, retriever.EncodeOptions{}, func(x retriever.Embedding) error {
		return write.Encode(map[string][]float32{"embedding": x.Values})
	})
	if wrong := (*retriever.TextError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("%s:%d: %w", in.name, lines[wrong.Index], wrong.Err)
	}
	return err
}

func encodeRow(b []byte) (string, error) {
	var row struct {
		Text *string `json:"text"`
	}
	if err := jsonl.Decode(b, &row); err != nil {
		return "", err
	}
	if row.Text == nil {
		return "", errors.New(`"text" is missing`)
	}
	return *row.Text, nil
}
