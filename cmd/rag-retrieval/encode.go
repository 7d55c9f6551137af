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
		Name: "encode", Usage: `turn {"text": "…"} rows on stdin into {"embedding": […]} rows on stdout`,
		Description: `Examples:
  echo '{"text": "reverses the order of the elements"}' | rag-retrieval encode --model out/model
  rag-retrieval encode --model out/model --as passage < texts.jsonl > vectors.jsonl`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "folder or hub id of the model, or an .onnx file beside a tokenizer", Required: true},
			&cli.StringFlag{Name: "as", Usage: "query or passage: which prompt of the model, and which maximal length of the training run, apply", Value: "passage"},
			&cli.IntFlag{Name: "max-len", Usage: "tokens of a text; 0: the model's own limit"},
		}, engineFlags()...),
		OnUsageError: onUsageError,
		Action:       encode,
	}
}

func encode(c *cli.Context) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	if as := c.String("as"); as != "query" && as != "passage" {
		return usagef("--as is %q, want query or passage", as)
	}
	o := engineOptions(c)
	o.Kind, o.TrainingLengths = modelcard.Embedding, true
	queries := c.String("as") == "query"
	if queries {
		o.QueryMaxLen = c.Int("max-len")
	} else {
		o.PassageMaxLen = c.Int("max-len")
	}
	m, err := openWith(c, c.String("model"), o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	e, err := m.Embedder()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	return errors.Join(encodeRows(c.Context, os.Stdin, out, e, queries), out.Flush())
}

// encodeRows encodes the texts of JSON rows.
func encodeRows(ctx context.Context, in io.Reader, out io.Writer, e retriever.Embedder, queries bool) error {
	var lines []int // of each text
	texts := func(yield func(prompt.Text, error) bool) {
		r := bufio.NewReader(in)
		for line, end := 1, error(nil); end == nil; line++ {
			var b []byte
			if b, end = r.ReadBytes('\n'); end != nil && !errors.Is(end, io.EOF) {
				yield(prompt.Text{}, fmt.Errorf("stdin: %w", end))
				return
			}
			if len(bytes.TrimSpace(b)) == 0 {
				continue
			}
			text, err := encodeRow(b)
			if err != nil {
				err = fmt.Errorf("stdin:%d: %w", line, err)
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
		return fmt.Errorf("stdin:%d: %w", lines[wrong.Index], wrong.Err)
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
