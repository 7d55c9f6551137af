package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/models/card"
	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/refs"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/ortrain/runtime"
)

// kind is what the commands know of a kind of model.
type kind struct {
	usage, rows, losses, example string
	newTask                      finetune.NewTask
}

var kinds = map[card.Kind]kind{
	card.Embedding: {
		usage: "fine-tune a bi-encoder: one vector per text, compared by cosine",
		rows: `{"query": "…", "pos": "…" or ["…"], "neg": "…" or ["…"]} for infonce; "neg" is read where --neg-nums is above 0
  {"query": "…", "pos": ["…"], "scores": [0.9]} for pair_kl, cosine and cosent
  {"query": "…"} for stella, with --teacher-embeddings`,
		losses: `infonce   in-batch negatives, and hard ones (default)
  pair_kl   the distribution of a teacher's scores over the pairs of a batch
  cosine    the squared error of the cosine against the score
  cosent    the order of the scores
  stella    a teacher's vectors: cosine, similarities and triplets`,
		example: "--train-dataset pairs.jsonl", newTask: embedding.NewTask,
	},
	card.ColBERT: {
		usage: "fine-tune a late-interaction model: one vector per token, compared by MaxSim",
		rows: `{"query": "…", "pos": "…" or ["…"], "neg": "…" or ["…"]} for contrastive; "neg" is read where --neg-nums is above 0
  {"query": "…", "pos": ["…", "…"], "scores": [0.9, 0.1]} for kl`,
		losses: `contrastive  in-batch negatives, and hard ones (default)
  kl           the distribution of a teacher's scores over a query's passages`,
		example: "--train-dataset triplets.jsonl --neg-nums 4", newTask: colbert.NewTask,
	},
	card.Reranker: {
		usage: "fine-tune a cross-encoder: query and passage in one sequence, one score",
		rows: `{"query": "…", "content": "…", "label": 1} for the point-wise losses
  {"query": "…", "hits": [{"content": "…", "label": 1}]} or {"query", "pos", "neg"} (labels 1 and 0)
  or {"query", "pos", "scores"} for every loss`,
		losses: `pointwise_bce     binary cross-entropy of the label (default)
  pointwise_mse     squared error of the score's sigmoid against the label
  pairwise_ranknet  passages with the larger label score higher
  listwise_ce       the distribution of the labels over a query's passages`,
		example: "--train-dataset labels.jsonl", newTask: reranker.NewTask,
	},
}

// kindCommands makes a subcommand of each kind.
func kindCommands(make func(k card.Kind, x kind) *cli.Command) []*cli.Command {
	var out []*cli.Command
	for _, k := range card.Kinds {
		out = append(out, make(k, kinds[k]))
	}
	return out
}

// noKind answers commands that want a kind of model and got an unknown one.
func noKind(c *cli.Context) error {
	return usagef("no kind of model %q: want one of %s", c.Args().First(), kindNames())
}

func kindNames() string {
	var names []string
	for _, k := range card.Kinds {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// scored is a model that is to score.
type scored struct {
	ref, kind string // kind is empty where the folder is to say it
	// Prompts of an embedding model in place of its own; nil: its own.
	queryPrompt, passagePrompt *string
}

// scoredModel is what the flags name.
func scoredModel(c *cli.Context) scored {
	x := scored{ref: c.String("model"), kind: c.String("kind")}
	for flag, to := range map[string]**string{"query-prompt": &x.queryPrompt, "passage-prompt": &x.passagePrompt} {
		if c.IsSet(flag) {
			text := c.String(flag)
			*to = &text
		}
	}
	return x
}

// openScorer opens a model for scoring samples.
func openScorer(c *cli.Context, x scored) (s eval.Scorer, k card.Kind, closeModel func() error, err error) {
	o := runtime.Options{Threads: c.Int("threads")}
	dir, err := refs.Model(c.Context, x.ref)
	if err != nil {
		return nil, k, nil, err
	}
	if k, err = kindOf(x.kind, dir); err != nil {
		return nil, k, nil, err
	}
	query, passage := c.Int("query-max-len"), c.Int("passage-max-len")
	if k != card.Embedding && (x.queryPrompt != nil || x.passagePrompt != nil) {
		return nil, k, nil, usagef("prompts are for embedding models; %s is a model of kind %s", x.ref, k)
	}
	windows := c.String("long-docs") == "max-window"
	switch how := c.String("long-docs"); {
	case how != "truncate" && !windows:
		return nil, k, nil, usagef("--long-docs is %q, want truncate or max-window", how)
	case windows && k != card.Reranker:
		return nil, k, nil, usagef("--long-docs max-window is for rerankers; %s is a model of kind %s", x.ref, k)
	}
	switch k {
	case card.Reranker:
		m, err := reranker.Open(dir)
		if err != nil {
			return nil, k, nil, err
		}
		r, err := reranker.NewScorer(m, o)
		if err != nil {
			return nil, k, nil, errors.Join(err, m.Close())
		}
		r.MaxWindow = windows
		s := reranker.SampleScorer{Scorer: r, MaxLen: orElse(c.Int("max-len"), m.MaxLen)}
		return s, k, func() error { return errors.Join(r.Close(), m.Close()) }, nil
	case card.ColBERT:
		m, err := colbert.Open(dir)
		if err != nil {
			return nil, k, nil, err
		}
		r, err := colbert.NewScorer(m, o)
		if err != nil {
			return nil, k, nil, errors.Join(err, m.Close())
		}
		r.PaddingCompetes = c.Bool("padding-competes")
		s := colbert.SampleScorer{Scorer: r, QueryMaxLen: orElse(query, m.QueryMaxLen), PassageMaxLen: orElse(passage, m.PassageMaxLen)}
		return s, k, func() error { return errors.Join(r.Close(), m.Close()) }, nil
	}
	m, enc, err := openEncoder(c, dir)
	if err != nil {
		return nil, k, nil, err
	}
	m.Config.SetPrompts(x.queryPrompt, x.passagePrompt)
	e := embedding.Scorer{
		Encoder: enc, QueryMaxLen: orElse(query, m.Config.MaxSeqLength), PassageMaxLen: orElse(passage, m.Config.MaxSeqLength),
	}
	return e, k, func() error { return errors.Join(enc.Close(), m.Close()) }, nil
}

// kindOf is the kind that was asked for, or what the folder says of itself.
func kindOf(kind, dir string) (card.Kind, error) {
	want := card.Kind(kind)
	if want == "" {
		return card.Detect(dir)
	}
	if _, ok := kinds[want]; !ok {
		return "", usagef("--kind is %q, want one of %s", want, kindNames())
	}
	return want, nil
}

func orElse(n, otherwise int) int {
	if n != 0 {
		return n
	}
	return otherwise
}

// openEncoder opens the embedding model of a folder with --threads threads.
func openEncoder(c *cli.Context, dir string) (*embedding.Model, *embedding.Encoder, error) {
	m, err := embedding.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	enc, err := embedding.NewEncoder(m, runtime.Options{Threads: c.Int("threads")})
	if err != nil {
		return nil, nil, errors.Join(err, m.Close())
	}
	return m, enc, nil
}

// describe is the part of a kind's help that tells of rows and losses.
func (x kind) describe() string {
	return fmt.Sprintf("Rows of the training file:\n  %s\n\nLosses (--loss-type):\n  %s", x.rows, x.losses)
}
