package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/onnxfile"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
)

// kind is what the commands know of a kind of model.
type kind struct {
	usage, rows, losses, example string
	newTask                      finetune.NewTask
}

var kinds = map[modelcard.Kind]kind{
	modelcard.Embedding: {
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
	modelcard.ColBERT: {
		usage: "fine-tune a late-interaction model: one vector per token, compared by MaxSim",
		rows: `{"query": "…", "pos": "…" or ["…"], "neg": "…" or ["…"]} for contrastive; "neg" is read where --neg-nums is above 0
  {"query": "…", "pos": ["…", "…"], "scores": [0.9, 0.1]} for kl`,
		losses: `contrastive  in-batch negatives, and hard ones (default)
  kl           the distribution of a teacher's scores over a query's passages`,
		example: "--train-dataset triplets.jsonl --neg-nums 4", newTask: colbert.NewTask,
	},
	modelcard.Reranker: {
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
func kindCommands(make func(k modelcard.Kind, x kind) *cli.Command) []*cli.Command {
	var out []*cli.Command
	for _, k := range modelcard.Kinds {
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
	for _, k := range modelcard.Kinds {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// scored is a model that is to score.
type scored struct {
	ref, kind string // kind is empty where the folder is to say it
	// Prompts of an embedding model in place of its own; nil: its own.
	queryPrompt, passagePrompt *string
	int8                       bool
}

// scoredModel is the model that the flags name as ref.
func scoredModel(c *cli.Context, ref string) scored {
	x := scored{ref: ref, kind: c.String("kind"), int8: c.Bool("int8")}
	for flag, to := range map[string]**string{"query-prompt": &x.queryPrompt, "passage-prompt": &x.passagePrompt} {
		if c.IsSet(flag) {
			text := c.String(flag)
			*to = &text
		}
	}
	return x
}

// scorer is a model that is open.
type scorer struct {
	mteb.Scorer
	kind  modelcard.Kind
	dir   string
	close func() error
}

// openScorer opens a model for scoring samples.
func openScorer(c *cli.Context, x scored) (s *scorer, err error) {
	s = &scorer{}
	o, err := engine(c)
	if err != nil {
		return s, err
	}
	o.Int8 = x.int8
	switch how := c.String("long-docs"); how {
	case "truncate":
	case "max-window":
		o.MaxWindow = true
	default:
		return s, usagef("--long-docs is %q, want truncate or max-window", how)
	}
	if onnxfile.Is(x.ref) {
		return s, s.openPlain(c, x, o)
	}
	if s.dir, err = resolve.Model(c.Context, x.ref); err != nil {
		return s, err
	}
	if s.kind, err = kindOf(x.kind, s.dir); err != nil {
		return s, err
	}
	if s.kind != modelcard.Embedding && (x.queryPrompt != nil || x.passagePrompt != nil) {
		return s, usagef("prompts are for embedding models; %s is a model of kind %s", x.ref, s.kind)
	}
	switch s.kind {
	case modelcard.Reranker:
		return s, s.openReranker(c, o)
	case modelcard.ColBERT:
		return s, s.openColBERT(c, o)
	}
	return s, s.openEmbedding(c, x, o)
}

// openPlain opens an ONNX file.
func (s *scorer) openPlain(c *cli.Context, x scored, o scoring.Options) error {
	if _, ok := kinds[modelcard.Kind(x.kind)]; x.kind != "" && !ok {
		return usagef("--kind is %q, want one of %s", x.kind, kindNames())
	}
	m, err := onnxfile.Open(x.ref, modelcard.Kind(x.kind), o)
	if err != nil {
		return err
	}
	m.Config.SetPrompts(x.queryPrompt, x.passagePrompt)
	m.MaxLen = orElse(c.Int("max-len"), m.MaxLen)
	m.QueryMaxLen = orElse(c.Int("query-max-len"), m.QueryMaxLen)
	m.PassageMaxLen = orElse(c.Int("passage-max-len"), m.PassageMaxLen)
	s.Scorer, s.kind, s.dir, s.close = m, m.Kind, m.Dir, m.Close
	return nil
}

func (s *scorer) openReranker(c *cli.Context, o scoring.Options) error {
	m, err := reranker.Open(s.dir)
	if err != nil {
		return err
	}
	r, err := reranker.NewScorer(m, o)
	if err != nil {
		return errors.Join(err, m.Close())
	}
	s.Scorer = reranker.SampleScorer{Scorer: r, MaxLen: orElse(c.Int("max-len"), m.MaxLen)}
	s.close = func() error { return errors.Join(r.Close(), m.Close()) }
	return nil
}

func (s *scorer) openColBERT(c *cli.Context, o scoring.Options) error {
	m, err := colbert.Open(s.dir)
	if err != nil {
		return err
	}
	r, err := colbert.NewScorer(m, o)
	if err != nil {
		return errors.Join(err, m.Close())
	}
	r.PaddingCompetes = c.Bool("padding-competes")
	s.Scorer = colbert.SampleScorer{
		Scorer: r, QueryMaxLen: orElse(c.Int("query-max-len"), m.QueryMaxLen), PassageMaxLen: orElse(c.Int("passage-max-len"), m.PassageMaxLen),
	}
	s.close = func() error { return errors.Join(r.Close(), m.Close()) }
	return nil
}

func (s *scorer) openEmbedding(c *cli.Context, x scored, o scoring.Options) error {
	m, enc, err := openEncoder(s.dir, o)
	if err != nil {
		return err
	}
	m.Config.SetPrompts(x.queryPrompt, x.passagePrompt)
	own := m.Config.MaxSeqLength
	s.Scorer = embedding.Scorer{
		Encoder: enc, QueryMaxLen: orElse(c.Int("query-max-len"), own), PassageMaxLen: orElse(c.Int("passage-max-len"), own),
	}
	s.close = func() error { return errors.Join(enc.Close(), m.Close()) }
	return nil
}

// kindOf is the kind that was asked for, or what the folder says of itself.
func kindOf(kind, dir string) (modelcard.Kind, error) {
	want := modelcard.Kind(kind)
	if want == "" {
		return modelcard.Detect(dir)
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

// openEncoder opens the embedding model of a folder.
func openEncoder(dir string, o scoring.Options) (*embedding.Model, *embedding.Encoder, error) {
	m, err := embedding.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	enc, err := embedding.NewEncoder(m, o)
	if err != nil {
		return nil, nil, errors.Join(err, m.Close())
	}
	return m, enc, nil
}

// describe is the part of a kind's help that tells of rows and losses.
func (x kind) describe() string {
	return fmt.Sprintf("Rows of the training file:\n  %s\n\nLosses (--loss-type):\n  %s", x.rows, x.losses)
}
