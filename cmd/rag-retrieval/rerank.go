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
	"sort"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/mteb"
)

func rerankCommand() *cli.Command {
	return &cli.Command{
		Name: "rerank", Usage: `score {"query": "…", "documents": ["…"]} rows on stdin into {"scores": […], "order": […]} rows on stdout`,
		Description: `Models of every kind: cosines of an embedding model, MaxSim of a ColBERT model, logits of a reranker. "order" has the
documents' numbers, from 0, best first. A bad row gives {"error": "…"} in its place, and an exit code of 1 at the end.

Examples:
  echo '{"query": "reverse a slice", "documents": ["func Reverse", "func Sort"]}' | rag-retrieval rerank --model out/model
  rag-retrieval rerank --model out/model --max-len 256 < rows.jsonl > scores.jsonl`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "folder or hub id of the model", Required: true},
		}, scoringFlags()...),
		OnUsageError: onUsageError,
		Action:       rerank,
	}
}

// scoringFlags say how texts are scored.
func scoringFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "kind", Usage: "kind of the model: embedding, colbert or reranker; default: what the folder says of itself"},
		&cli.IntFlag{Name: "query-max-len", Usage: "tokens of a query; 0: the model's own limit"},
		&cli.IntFlag{Name: "passage-max-len", Usage: "tokens of a passage; 0: the model's own limit"},
		&cli.IntFlag{Name: "max-len", Usage: "tokens of a reranker's pair; 0: the model's own limit"},
		&cli.StringFlag{Name: "long-docs", Usage: "a reranker's passages that are too long: truncate, or max-window, the best score of their windows", Value: "truncate"},
		&cli.StringFlag{Name: "query-prompt", Usage: "put this before queries of an embedding model, instead of its own prompt"},
		&cli.StringFlag{Name: "passage-prompt", Usage: "put this before passages of an embedding model, instead of its own prompt"},
		&cli.BoolFlag{Name: "padding-competes", Usage: "ColBERT: padding competes as a vector of zeros, as in RAG-Retrieval; to compare with its numbers"},
		&cli.IntFlag{Name: "threads", Usage: "threads; 0: one per core"},
	}
}

func rerank(c *cli.Context) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	scorer, _, closeModel, err := openScorer(c, scoredModel(c))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeModel()) }()
	out := bufio.NewWriter(os.Stdout)
	bad, err := rerankRows(c.Context, os.Stdin, out, scorer)
	if err := errors.Join(err, out.Flush()); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d bad rows on stdin", bad)
	}
	return nil
}

// rerankChunk is how many rows are read before they are scored together.
const rerankChunk = 64

// ranked is a row of the output.
type ranked struct {
	Scores []float32 `json:"scores"`
	Order  []int     `json:"order"`
}

func rerankRows(ctx context.Context, in io.Reader, out io.Writer, s eval.Scorer) (bad int, err error) {
	r, e := bufio.NewReader(in), json.NewEncoder(out)
	for line, end := 0, error(nil); end == nil; {
		var samples []mteb.Sample
		var problems []error // of each row; nil: it is a sample
		for len(problems) < rerankChunk && end == nil {
			var b []byte
			if b, end = r.ReadBytes('\n'); end != nil && !errors.Is(end, io.EOF) {
				return bad, fmt.Errorf("stdin: %w", end)
			}
			line++
			if len(bytes.TrimSpace(b)) == 0 {
				continue
			}
			sample, err := rerankRow(b)
			if err != nil {
				err = fmt.Errorf("stdin:%d: %w", line, err)
				bad++
			} else {
				samples = append(samples, sample)
			}
			problems = append(problems, err)
		}
		scores, err := s.Score(ctx, samples, func(int, int) {})
		if err != nil {
			return bad, err
		}
		for _, problem := range problems {
			var row any = map[string]string{"error": fmt.Sprint(problem)}
			if problem == nil {
				row = ranked{scores[0], order(scores[0])}
				scores = scores[1:]
			}
			if err := e.Encode(row); err != nil {
				return bad, err
			}
		}
	}
	return bad, nil
}

func rerankRow(b []byte) (mteb.Sample, error) {
	var row struct {
		Query     *string  `json:"query"`
		Documents []string `json:"documents"`
	}
	if err := jsonl.Decode(b, &row); err != nil {
		return mteb.Sample{}, err
	}
	switch {
	case row.Query == nil:
		return mteb.Sample{}, errors.New(`"query" is missing`)
	case len(row.Documents) == 0:
		return mteb.Sample{}, errors.New(`"documents" is missing or empty`)
	}
	return mteb.Sample{Query: []string{*row.Query}, Positive: row.Documents}, nil
}

// order ranks scores, best first; equal ones keep their order.
func order(scores []float32) []int {
	out := make([]int, len(scores))
	for i := range out {
		out[i] = i
	}
	sort.SliceStable(out, func(i, j int) bool { return scores[out[i]] > scores[out[j]] })
	return out
}
