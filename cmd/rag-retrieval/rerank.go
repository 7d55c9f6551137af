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
	"slices"
	"sort"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/models/scoring"
)

func rerankCommand() *cli.Command {
	return &cli.Command{
		Name: "rerank", Usage: `score {"query": "…", "documents": ["…"]} rows into {"scores": […], "order": […]} rows`, ArgsUsage: "[FILE …]",
		Description: `Models of every kind: cosines of an embedding model, MaxSim of a ColBERT model, logits of a reranker. "order" has the
documents' numbers, from 0, best first. A bad row gives {"error": "…"} in its place, and an exit code of 1 at the end. Rows
come from the files or from stdin. With --query, each line of the files is a document of that one query.

Examples:
  rag-retrieval rerank --model out/model --query "reverse a slice" --document "func Reverse" --document "func Sort"
  rag-retrieval rerank --model out/model --query "reverse a slice" passages.txt --format table
  echo '{"query": "reverse a slice", "documents": ["func Reverse", "func Sort"]}' | rag-retrieval rerank --model out/model
  rag-retrieval rerank --model out/model --max-len 256 < rows.jsonl > scores.jsonl
  rag-retrieval rerank --model out/model --mixed-precision auto < rows.jsonl > scores.jsonl   # bf16 on a CPU where that is faster`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "folder or hub id of the model, or an .onnx file beside a tokenizer", Required: true},
			&cli.StringFlag{Name: "query", Usage: "score documents for this query"},
			&cli.StringSliceFlag{Name: "document", Usage: "a document of --query; may be given several times"},
			&cli.StringFlag{Name: "format", Usage: "with --query: json, or table, the documents best first", Value: "json"},
		}, scoringFlags()...),
		OnUsageError: onUsageError,
		Action:       onRanks(rerank),
	}
}

func rerank(c *cli.Context, j job) (err error) {
	format := c.String("format")
	switch one := c.IsSet("query"); {
	case format != "json" && format != "table":
		return usagef("--format is %q, want json or table", format)
	case !one && (c.IsSet("document") || format != "json"):
		return usagef("--document and --format table go with --query")
	case one:
		return rerankOne(c, j)
	}
	s := j.stdio()
	inputs, err := s.open(j, c.Args().Slice())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(inputs)) }()
	model, err := j.open(c, c.String("model"), scoringOptions(c))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	out := bufio.NewWriter(s.Writer(os.Stdout))
	bad := 0
	for _, in := range inputs {
		n, err := rerankRows(c.Context, in, out, model)
		bad += n
		if err := errors.Join(err, out.Flush(), s.Err()); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d bad rows", bad)
	}
	return nil
}

// input is a file of rows or lines, or stdin.
type input struct {
	io.Reader
	io.Closer
	name string
}

func closeAll(inputs []input) error {
	var errs []error
	for _, in := range inputs {
		errs = append(errs, in.Close())
	}
	return errors.Join(errs...)
}

// rerankOne scores the documents of --query: those of the flags, then the lines of the files.
func rerankOne(c *cli.Context, j job) (err error) {
	documents := c.StringSlice("document")
	if c.Args().Present() || len(documents) == 0 {
		inputs, openErr := j.stdio().open(j, c.Args().Slice())
		if openErr != nil {
			return openErr
		}
		defer func() { err = errors.Join(err, closeAll(inputs)) }()
		for _, in := range inputs {
			text, err := io.ReadAll(in)
			if err != nil {
				return fmt.Errorf("%s: %w", in.name, err)
			}
			for _, line := range strings.Split(string(text), "\n") {
				if line = strings.TrimSpace(line); line != "" {
					documents = append(documents, line)
				}
			}
		}
	}
	if len(documents) == 0 {
		return usagef("--query has no documents: give --document, files of a document a line, or such lines on stdin")
	}
	model, err := j.open(c, c.String("model"), scoringOptions(c))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	scores, err := model.Scores(c.Context, c.String("query"), documents...)
	if err != nil {
		return err
	}
	row := ranked{scores, order(scores)}
	if c.String("format") == "json" {
		return json.NewEncoder(os.Stdout).Encode(row)
	}
	var rows [][]string
	for rank, i := range row.Order {
		rows = append(rows, []string{eval.OneLine(documents[i]), fmt.Sprint(rank + 1), fmt.Sprintf("%.4f", row.Scores[i])})
	}
	return eval.WriteTable(os.Stdout, "table", []string{"document", "rank", "score"}, rows)
}

// rerankChunk is how many rows are read before they are scored together.
const rerankChunk = 64

// ranked is a row of the output.
type ranked struct {
	Scores []float32 `json:"scores"`
	Order  []int     `json:"order"`
}

// rerankRows scores JSON rows, and says how many of them were bad.
func rerankRows(ctx context.Context, in input, out io.Writer, r retriever.Ranker) (bad int, err error) {
	lines, e := bufio.NewReader(in), json.NewEncoder(out)
	for line, end := 0, error(nil); end == nil; {
		var queries []retriever.Query
		var problems []error // one for each row; nil: the row is the next query
		for len(problems) < rerankChunk && end == nil {
			var b []byte
			if b, end = lines.ReadBytes('\n'); end != nil && !errors.Is(end, io.EOF) {
				return bad, fmt.Errorf("%s: %w", in.name, end)
			}
			line++
			if len(bytes.TrimSpace(b)) == 0 {
				continue
			}
			place := fmt.Sprintf("%s:%d", in.name, line)
			query, err := rerankRow(b)
			if err != nil {
				err = fmt.Errorf("%s: %w", place, err)
				bad++
			} else {
				query.Origin = place
				queries = append(queries, query)
			}
			problems = append(problems, err)
		}
		scores, unscored, err := rankRows(ctx, r, queries, problems)
		bad += unscored
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

// rankRows scores queries. problems has for each row of the input what is wrong with it, or nil where the row is the next query.
// A query that has a text without a token gets its problem there, and has no scores; bad counts such queries.
func rankRows(ctx context.Context, r retriever.Ranker, queries []retriever.Query, problems []error) (scores [][]float32, bad int, err error) {
	for {
		scores, err = scoring.RankAll(ctx, r, queries)
		var wrong *retriever.TextError
		if !errors.As(err, &wrong) {
			return scores, bad, err
		}
		left := wrong.Index
		for i, problem := range problems {
			if problem != nil {
				continue
			}
			if left == 0 {
				problems[i] = wrong
				break
			}
			left--
		}
		queries = slices.Delete(queries, wrong.Index, wrong.Index+1)
		bad++
	}
}

func rerankRow(b []byte) (retriever.Query, error) {
	var row struct {
		Query     *string  `json:"query"`
		Documents []string `json:"documents"`
	}
	if err := jsonl.Decode(b, &row); err != nil {
		return retriever.Query{}, err
	}
	switch {
	case row.Query == nil:
		return retriever.Query{}, errors.New(`"query" is missing`)
	case len(row.Documents) == 0:
		return retriever.Query{}, errors.New(`"documents" is missing or empty`)
	}
	return retriever.Query{Texts: []string{*row.Query}, Documents: row.Documents}, nil
}

// order returns the numbers of the documents, best score first. Documents of equal scores keep their order.
func order(scores []float32) []int {
	out := make([]int, len(scores))
	for i := range out {
		out[i] = i
	}
	sort.SliceStable(out, func(i, j int) bool { return scores[out[i]] > scores[out[j]] })
	return out
}
