package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/internal/progress"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/runtime"
)

// scoringFlags say how texts are scored.
func scoringFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "kind", Usage: "kind of the model: embedding, colbert or reranker; default: what the folder says of itself"},
		&cli.IntFlag{Name: "query-max-len", Usage: "tokens of a query; 0: the model's own limit"},
		&cli.IntFlag{Name: "passage-max-len", Usage: "tokens of a passage; 0: the model's own limit"},
		&cli.IntFlag{Name: "max-len", Usage: "tokens of a reranker's pair; 0: the model's own limit"},
		&cli.StringFlag{Name: "long-docs", Usage: "passages that are too long: truncate, or max-window, the best score of their windows", Value: retriever.Truncate},
		&cli.StringFlag{Name: "query-prompt", Usage: "put this before queries of an embedding model, instead of its own prompt"},
		&cli.StringFlag{Name: "passage-prompt", Usage: "put this before passages of an embedding model, instead of its own prompt"},
		&cli.BoolFlag{Name: "padding-competes", Usage: "ColBERT: padding competes as a vector of zeros, as in RAG-Retrieval; to compare with its numbers"},
	}, engineFlags()...)
}

// engineFlags say what computes.
func engineFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "threads", Usage: "threads; 0: one per core, or under mpirun the rank's share of its host's cores"},
		&cli.BoolFlag{Name: "int8", Usage: "linear layers in 8-bit integers, on the CPU: faster, scores close to those of fp32"},
		&cli.StringFlag{Name: "mixed-precision", Usage: "matrix products on the CPU or with openvino: no (or fp32), bf16, or auto: bf16 on a CPU where that is faster (AMX; AVX512-BF16 of AMD); with --int8, of the layers that are not in 8-bit integers", Value: precision.No},
		&cli.StringFlag{Name: "provider", Usage: "cpu, cuda, auto: cuda where it works, or openvino: Intel's, after setup.sh --openvino", Value: runtime.CPU},
		&cli.IntFlag{Name: "device-id", Usage: "on cuda, the number of the GPU", DefaultText: "0, or under mpirun the rank's number on its host"},
	}
}

// engineOptions reads engineFlags.
func engineOptions(c *cli.Context) retriever.Options {
	return retriever.Options{
		Threads: c.Int("threads"), Int8: c.Bool("int8"), MixedPrecision: c.String("mixed-precision"), Provider: c.String("provider"), DeviceID: c.Int("device-id"), Note: note, Progress: &fetchBar{},
	}
}

// scoringOptions reads scoringFlags.
func scoringOptions(c *cli.Context) retriever.Options {
	o := engineOptions(c)
	o.Kind = modelcard.Kind(c.String("kind"))
	o.QueryMaxLen, o.PassageMaxLen, o.MaxLen = c.Int("query-max-len"), c.Int("passage-max-len"), c.Int("max-len")
	o.LongDocs, o.PaddingCompetes = c.String("long-docs"), c.Bool("padding-competes")
	setPrompts(c, &o)
	return o
}

// setPrompts reads the flags of prompts.
func setPrompts(c *cli.Context, o *retriever.Options) {
	for flag, to := range map[string]**string{"query-prompt": &o.QueryPrompt, "passage-prompt": &o.PassagePrompt} {
		if c.IsSet(flag) {
			text := c.String(flag)
			*to = &text
		}
	}
}

// openWith opens a model.
func openWith(c *cli.Context, ref string, o retriever.Options) (*retriever.Model, error) {
	m, err := retriever.Open(c.Context, ref, o)
	return m, asUsage(err)
}

// asUsage makes a wrong option a mistake in how the program was called.
func asUsage(err error) error {
	var wrong *retriever.OptionError
	if errors.As(err, &wrong) {
		return usagef("%s", wrong.Named(func(option string) string { return "--" + strings.ReplaceAll(option, "_", "-") }))
	}
	return err
}

// note tells the user something that stops nothing.
func note(line string) { fmt.Fprintln(messages, line) }

// resolver finds models and data, and shows what it fetches.
func resolver() resolve.Resolver { return resolve.Resolver{Note: note, Progress: &fetchBar{}} }

// fetchBar shows a bar for each large file that is fetched.
type fetchBar struct {
	file string
	bar  *progress.Bar
}

// largeFile is from how many bytes on a file gets a bar.
const largeFile = 1 << 20

// Fetching implements resolve.Progress.
func (b *fetchBar) Fetching(file string, done, total int64) {
	if total < largeFile {
		return
	}
	if file != b.file {
		b.Done()
		b.bar, b.file = progress.New(os.Stderr, "fetching "+path.Base(file), int(total>>10), 0), file
	}
	b.bar.Set(int(done>>10), "KiB")
}

// Done implements resolve.Progress.
func (b *fetchBar) Done() {
	if b.bar != nil {
		b.bar.Done()
	}
}
