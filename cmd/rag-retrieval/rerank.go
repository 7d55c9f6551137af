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
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
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
  rag-retrieval rerank --model out/model --max-len 256 < rows.jsonl > scores.jsonl`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "folder or hub id of the model, or an .onnx file beside a tokenizer", Required: true},
			&cli.StringFlag{Name: "query", Usage: "score documents for this query"},
			&cli.StringSliceFlag{Name: "document", Usage: "a document of --query; may be given several times"},
			&cli.StringFlag{Name: "format", Usage: "with --query: json, or table, the documents best first", Value: "json"},
		}, scoringFlags()...),
		OnUsageError: onUsageError,
		Action:       rerank,
	}
}

// scoringFlags say how texts are scored.
func scoringFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "kind", Usage: "kind of the model: embedding, colbert or reranker; default: what the folder says of itself"},
		&cli.IntFlag{Name: "query-max-len", Usage: "tokens of a query; 0: the model's own limit"},
		&cli.IntFlag{Name: "passage-max-len", Usage: "tokens of a passage; 0: the model's own limit"},
		&cli.IntFlag{Name: "max-len", Usage: "tokens of a reranker's pair; 0: the model's own limit"},
		&cli.StringFlag{Name: "long-docs", Usage: "passages that are too long: truncate, or max-window, the best score of their windows", Value: "truncate"},
		&cli.StringFlag{Name: "query-prompt", Usage: "put this before queries of an embedding model, instead of its own prompt"},
		&cli.StringFlag{Name: "passage-prompt", Usage: "put this before passages of an embedding model, instead of its own prompt"},
		&cli.BoolFlag{Name: "padding-competes", Usage: "ColBERT: padding competes as a vector of zeros, as in RAG-Retrieval; to compare with its numbers"},
	}, engineFlags()...)
}

// engineFlags say what computes.
func engineFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "threads", Usage: "threads; 0: one per core"},
		&cli.BoolFlag{Name: "int8", Usage: "linear layers in 8-bit integers, on the CPU: faster, scores close to those of fp32"},
		&cli.StringFlag{Name: "provider", Usage: "cpu, cuda, or auto: cuda where it works", Value: runtime.CPU},
	}
}

// engine reads engineFlags.
func engine(c *cli.Context) (scoring.Options, error) {
	provider := c.String("provider")
	if !slices.Contains(runtime.Providers, provider) {
		return scoring.Options{}, usagef("--provider is %q, want one of %v", provider, runtime.Providers)
	}
	if c.Bool("int8") { // CUDA has no kernels for it
		if provider == runtime.CUDA {
			return scoring.Options{}, usagef("--int8 is for the CPU: leave it out, or --provider cuda")
		}
		provider = runtime.CPU
	}
	use, reason, err := runtime.Resolve(provider)
	if err != nil {
		return scoring.Options{}, err
	}
	if reason != nil {
		fmt.Fprintf(os.Stderr, "running on the CPU: %v\n", reason)
	}
	return scoring.Options{Options: runtime.Options{Provider: use, Threads: c.Int("threads")}, Int8: c.Bool("int8")}, nil
}

func rerank(c *cli.Context) (err error) {
	format := c.String("format")
	switch one := c.IsSet("query"); {
	case format != "json" && format != "table":
		return usagef("--format is %q, want json or table", format)
	case !one && (c.IsSet("document") || format != "json"):
		return usagef("--document and --format table go with --query")
	case one:
		return rerankOne(c)
	}
	inputs, err := openInputs(c.Args().Slice())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(inputs)) }()
	scorer, err := openScorer(c, scoredModel(c, c.String("model")))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scorer.close()) }()
	out := bufio.NewWriter(os.Stdout)
	bad := 0
	for _, in := range inputs {
		n, err := rerankRows(c.Context, in, out, scorer)
		bad += n
		if err := errors.Join(err, out.Flush()); err != nil {
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
	*os.File
	name string
}

// openInputs opens files, or takes stdin where there are none.
func openInputs(paths []string) ([]input, error) {
	if len(paths) == 0 {
		return []input{{os.Stdin, "stdin"}}, nil
	}
	var out []input
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, errors.Join(err, closeAll(out))
		}
		out = append(out, input{f, path})
	}
	return out, nil
}

func closeAll(inputs []input) error {
	var errs []error
	for _, in := range inputs {
		errs = append(errs, in.Close())
	}
	return errors.Join(errs...)
}

// rerankOne scores the documents of --query: those of the flags, then the lines of the files.
func rerankOne(c *cli.Context) (err error) {
	documents := c.StringSlice("document")
	if c.Args().Present() || len(documents) == 0 {
		inputs, openErr := openInputs(c.Args().Slice())
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
	scorer, err := openScorer(c, scoredModel(c, c.String("model")))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scorer.close()) }()
	sample := mteb.Sample{Query: []string{c.String("query")}, Positive: documents}
	scores, err := mteb.ScoreAll(c.Context, scorer, []mteb.Sample{sample})
	if err != nil {
		return err
	}
	row := ranked{scores[0], order(scores[0])}
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

// rerankRows scores JSON rows.
func rerankRows(ctx context.Context, in input, out io.Writer, s mteb.Scorer) (bad int, err error) {
	r, e := bufio.NewReader(in), json.NewEncoder(out)
	for line, end := 0, error(nil); end == nil; {
		var samples []mteb.Sample
		var problems []error // of each row; nil: it is a sample
		for len(problems) < rerankChunk && end == nil {
			var b []byte
			if b, end = r.ReadBytes('\n'); end != nil && !errors.Is(end, io.EOF) {
				return bad, fmt.Errorf("%s: %w", in.name, end)
			}
			line++
			if len(bytes.TrimSpace(b)) == 0 {
				continue
			}
			place := fmt.Sprintf("%s:%d", in.name, line)
			sample, err := rerankRow(b)
			if err != nil {
				err = fmt.Errorf("%s: %w", place, err)
				bad++
			} else {
				sample.Origin = place
				samples = append(samples, sample)
			}
			problems = append(problems, err)
		}
		scores, wrong, err := scoreRows(ctx, s, samples, problems)
		bad += wrong
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

// scoreRows scores samples; problems has for each row of the input what is wrong with it, or nil where it is the next
// sample. A sample that has a text without a token joins them, and has no scores.
func scoreRows(ctx context.Context, s mteb.Scorer, samples []mteb.Sample, problems []error) (scores [][]float32, bad int, err error) {
	for {
		scores, err = mteb.ScoreAll(ctx, s, samples)
		var wrong *scoring.TextError
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
		samples = slices.Delete(samples, wrong.Index, wrong.Index+1)
		bad++
	}
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
