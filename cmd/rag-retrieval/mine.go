package main

import (
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/mine"
	"rag-retrieval-go/models/modelcard"
)

func mineCommand() *cli.Command {
	return &cli.Command{
		Name: "mine", Usage: "find hard negatives: passages that score high for a query although they do not answer it",
		Description: `Rows of the training files have "query" and "pos"; equal queries are one query with several positives. Without --corpus the
distinct positives are searched. Passages that equal the query or one of its positives never become negatives. What became of every
query and candidate is printed as a table. Options have the names and the meaning of sentence-transformers' mine_hard_negatives.

The corpus has rows {"_id": "…", "title": "…", "text": "…"}. Its vectors are kept in the cache while the command runs: one that was
interrupted goes on. With --vectors they stay in that folder, for other limits on the same data. In place of a corpus, --index and
--store search what "rag-retrieval index" has made, with the model of the index.

Formats of the output:
  rows          {"query", "pos": […], "neg": […]} to train on (default)
  triplet       {"query", "positive", "negative"}
  n-tuple       {"query", "positive", "negative_1", …}; queries with too few negatives are left out
  labeled-pair  {"query", "positive", "label"}
  labeled-list  {"query", "positive": […], "labels": […]}

Examples:
  rag-retrieval mine --model MODEL --train-dataset pairs.jsonl --output mined.jsonl
  rag-retrieval mine --model MODEL --train-dataset pairs.jsonl --relative-margin 0.05 --num-negatives 7 --output mined.jsonl
  rag-retrieval mine --model MODEL --train-dataset pairs.jsonl --corpus docs.jsonl --vectors vectors --range-min 10 --output mined.jsonl
  rag-retrieval mine --model MODEL --train-dataset pairs.jsonl --cross-encoder RERANKER --max-score 0.6 --output-scores --output mined.jsonl
  rag-retrieval mine --kind bm25 --train-dataset pairs.jsonl --output mined.jsonl              # by words, without a model
  rag-retrieval mine --store 'postgres://me@localhost/rag?collection=news' --train-dataset pairs.jsonl --output mined.jsonl
  mpirun -n 4 rag-retrieval mine --model MODEL --train-dataset pairs.jsonl --output mined.jsonl   # the ranks share the work`,
		Flags:        append(mineFlags(), engineFlags()...),
		OnUsageError: onUsageError,
		Action:       onRanks(mineNegatives),
	}
}

func mineFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "model", Usage: "folder or hub id of an embedding model, or an .onnx file beside a tokenizer; with --index and --store: where the model of the index is now"},
		&cli.StringFlag{Name: "kind", Usage: "embedding, or bm25: by words, without a model; default: what the model's folder says of itself"},
		&cli.StringSliceFlag{Name: "train-dataset", Usage: "training rows; may be given several times", Required: true},
		&cli.StringSliceFlag{Name: "corpus", Usage: "documents that are searched besides the positives; may be given several times"},
		&cli.StringFlag{Name: "output", Usage: "file that is written", Required: true},
		&cli.StringFlag{Name: "output-format", Usage: strings.Join(mine.OutputFormats, ", "), Value: mine.Rows},
		&cli.BoolFlag{Name: "output-scores", Usage: "write the scores too: pos_scores and neg_scores in rows, scores or score in the other formats"},
		&cli.IntFlag{Name: "num-negatives", Usage: "negatives of a query", Value: mine.DefaultNegatives},
		&cli.IntFlag{Name: "range-min", Usage: "skip so many of the best candidates that the limits let through"},
		&cli.IntFlag{Name: "range-max", Usage: "consider so many candidates", DefaultText: "range-min + num-negatives, or 10 times as many with a limit, + the most positives of a query"},
		&cli.Float64Flag{Name: "absolute-margin", Usage: "drop candidates whose score + this is above the query's lowest positive", DefaultText: "none"},
		&cli.Float64Flag{Name: "relative-margin", Usage: "drop candidates above p - |p| x this, where p is the score of the query's lowest positive", DefaultText: "none"},
		&cli.Float64Flag{Name: "max-score", Usage: "drop candidates with a higher score", DefaultText: "none"},
		&cli.Float64Flag{Name: "min-score", Usage: "drop candidates with a lower score", DefaultText: "none"},
		&cli.StringFlag{Name: "sampling-strategy", Usage: "top or random", Value: mine.Top},
		&cli.Uint64Flag{Name: "seed", Usage: "of --sampling-strategy random", Value: 42},
		&cli.BoolFlag{Name: "include-positives", Usage: "leave a query's positives among its candidates, to make data for reranking; the format is n-tuple"},
		&cli.StringFlag{Name: "cross-encoder", Usage: "reranker that scores the candidates again, before the limits apply; its scores have the model's own activation"},
		&cli.IntFlag{Name: "query-max-len", Usage: "tokens of a query; 0: the model's own limit"},
		&cli.IntFlag{Name: "passage-max-len", Usage: "tokens of a passage; 0: the model's own limit"},
		&cli.StringFlag{Name: "query-prompt", Usage: "put this before queries, instead of the model's own prompt"},
		&cli.StringFlag{Name: "passage-prompt", Usage: "put this before passages, instead of the model's own prompt"},
		&cli.StringFlag{Name: "vectors", Usage: "folder for the vectors of the documents; they stay there"},
		&cli.StringFlag{Name: "index", Usage: "folder that rag-retrieval index has made: its documents are the corpus"},
		&cli.StringFlag{Name: "store", Usage: "database of an index, whose documents are the corpus: postgres://USER:PASSWORD@HOST/DATABASE?collection=NAME"},
		&cli.BoolFlag{Name: "fresh", Usage: "encode the documents again, also those that an earlier call has encoded"},
		&cli.StringFlag{Name: "json", Usage: "write the counts to this file"},
	}
}

// readFlags checks everything that needs no data.
func (m *mining) readFlags() error {
	c := m.c
	if err := noArguments(c); err != nil {
		return err
	}
	switch kind := c.String("kind"); {
	case kind != "" && kind != string(modelcard.Embedding) && kind != kindBM25:
		return usagef("--kind is %q, want embedding or bm25", kind)
	case c.IsSet("index") && c.IsSet("store"):
		return usagef("want either --index or --store")
	case m.bm25() && c.IsSet("model"), !m.bm25() && !m.indexed() && !c.IsSet("model"):
		return usagef("want one of --model, --index, --store and --kind bm25")
	case m.bm25():
		if err := m.refuse("for an embedding model, not for --kind bm25", "index", "store", "vectors", "fresh", "query-max-len", "passage-max-len", "query-prompt", "passage-prompt"); err != nil {
			return err
		}
	case m.indexed():
		if err := m.refuse("not used: the index says it", "corpus", "kind", "query-max-len", "passage-max-len", "query-prompt", "passage-prompt"); err != nil {
			return err
		}
	}
	if c.IsSet("seed") && c.String("sampling-strategy") != mine.Random {
		return usagef("--seed is for --sampling-strategy %s", mine.Random)
	}
	m.options = mine.Options{
		RangeMin: c.Int("range-min"), RangeMax: c.Int("range-max"), NumNegatives: c.Int("num-negatives"),
		SamplingStrategy: c.String("sampling-strategy"), Seed: c.Uint64("seed"), IncludePositives: c.Bool("include-positives"),
		Rescored: c.String("cross-encoder") != "",
	}
	for flag, to := range map[string]**float64{
		"max-score": &m.options.MaxScore, "min-score": &m.options.MinScore,
		"absolute-margin": &m.options.AbsoluteMargin, "relative-margin": &m.options.RelativeMargin,
	} {
		if c.IsSet(flag) {
			x := c.Float64(flag)
			*to = &x
		}
	}
	var wrong *mine.OptionError
	if err := m.options.Check(); errors.As(err, &wrong) {
		return usagef("--%s %s", strings.ReplaceAll(wrong.Option, "_", "-"), strings.ReplaceAll(wrong.Problem, "_", "-"))
	}
	return m.readFormat()
}

// refuse returns an error if one of the flags is given.
func (m *mining) refuse(why string, flags ...string) error {
	for _, flag := range flags {
		if m.c.IsSet(flag) {
			return usagef("--%s is %s", flag, why)
		}
	}
	return nil
}

// readFormat checks the output's format.
func (m *mining) readFormat() error {
	m.format = m.c.String("output-format")
	if m.options.IncludePositives {
		if m.c.IsSet("output-format") && m.format != mine.NTuple {
			return usagef("--include-positives writes %s, not %s", mine.NTuple, m.format)
		}
		m.format = mine.NTuple
	}
	for _, f := range mine.OutputFormats {
		if f == m.format {
			return nil
		}
	}
	return usagef("--output-format is %q, want one of %v", m.format, mine.OutputFormats)
}
