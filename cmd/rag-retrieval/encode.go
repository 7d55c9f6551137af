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
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/models/scoring"
)

func encodeCommand() *cli.Command {
	return &cli.Command{
		Name: "encode", Usage: `turn {"text": "…"} rows on stdin into {"embedding": […]} rows on stdout`,
		Description: `Examples:
  echo '{"text": "reverses the order of the elements"}' | rag-retrieval encode --model out/model
  rag-retrieval encode --model out/model --as passage < texts.jsonl > vectors.jsonl`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "folder of the model", Required: true},
			&cli.StringFlag{Name: "as", Usage: "query or passage: which maximal length of the training run applies", Value: "passage"},
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
	dir, err := resolve.Model(c.Context, c.String("model"))
	if err != nil {
		return err
	}
	o, err := engine(c)
	if err != nil {
		return err
	}
	m, enc, err := openEncoder(dir, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, enc.Close(), m.Close()) }()
	length, err := encodeLength(c, m)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	return errors.Join(encodeRows(c.Context, os.Stdin, out, enc, c.String("as") == "query", length), out.Flush())
}

// encodeLength is --max-len, or the length the model was trained with, or the model's own limit.
func encodeLength(c *cli.Context, m *embedding.Model) (int, error) {
	if n := c.Int("max-len"); n != 0 {
		return n, nil
	}
	saved, ok, err := modelcard.Read(m.Dir)
	if err != nil || !ok {
		return m.Config.MaxSeqLength, err
	}
	if c.String("as") == "query" {
		return saved.QueryMaxLen, nil
	}
	return saved.PassageMaxLen, nil
}

// encodeChunk is how many rows are read before they are encoded together.
const encodeChunk = 1024

func encodeRows(ctx context.Context, in io.Reader, out io.Writer, enc *embedding.Encoder, queries bool, length int) error {
	r := bufio.NewReader(in)
	e := json.NewEncoder(out)
	for line := 0; ; {
		var texts []string
		var lines []int // of each
		var end error
		for len(texts) < encodeChunk && end == nil {
			var b []byte
			b, end = r.ReadBytes('\n')
			if end != nil && !errors.Is(end, io.EOF) {
				return fmt.Errorf("stdin: %w", end)
			}
			line++
			if len(bytes.TrimSpace(b)) == 0 {
				continue
			}
			var row struct {
				Text *string `json:"text"`
			}
			if err := jsonl.Decode(b, &row); err != nil {
				return fmt.Errorf("stdin:%d: %w", line, err)
			}
			if row.Text == nil {
				return fmt.Errorf(`stdin:%d: "text" is missing`, line)
			}
			texts, lines = append(texts, *row.Text), append(lines, line)
		}
		vectors, err := enc.Encode(ctx, texts, queries, length, nil)
		if bad := (*scoring.TextError)(nil); errors.As(err, &bad) {
			return fmt.Errorf("stdin:%d: %w", lines[bad.Index], bad.Err)
		}
		if err != nil {
			return err
		}
		for _, v := range vectors {
			if err := e.Encode(map[string][]float32{"embedding": v}); err != nil {
				return err
			}
		}
		if end != nil {
			return nil
		}
	}
}
