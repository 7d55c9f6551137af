package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
)

// kind holds a kind's texts for the help, and opens its training task.
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

// kindCommands makes a subcommand for each kind.
func kindCommands(make func(k modelcard.Kind, x kind) *cli.Command) []*cli.Command {
	var out []*cli.Command
	for _, k := range modelcard.Kinds {
		out = append(out, make(k, kinds[k]))
	}
	return out
}

// noKind is the error of a command that was given an unknown kind of model.
func noKind(c *cli.Context) error {
	var names []string
	for _, k := range modelcard.Kinds {
		names = append(names, string(k))
	}
	return usagef("no kind of model %q%s; want one of %s", c.Args().First(), didYouMean("", c.Args().First(), names), kindNames())
}

func kindNames() string {
	var names []string
	for _, k := range modelcard.Kinds {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// describe returns the part of a kind's help about rows and losses.
func (x kind) describe() string {
	return fmt.Sprintf("Rows of the training file:\n  %s\n\n%s", x.rows, x.describeLosses())
}

func (x kind) describeLosses() string { return "Losses (--loss-type):\n  " + x.losses }
