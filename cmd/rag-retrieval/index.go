package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/index/pgvector"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/dist"
)

func indexCommand() *cli.Command {
	return &cli.Command{
		Name: "index", Usage: "make an index of documents to search: their vectors, their words for BM25, and the documents",
		Description: `Documents are rows {"_id": "…", "title": "…", "text": "…"} of .jsonl, .jsonl.gz or .parquet files, and any other fields, on which a
search can filter. A model reads title and text. The index is a folder, or a collection of a PostgreSQL database with pgvector.
Searching needs the model and the index, not the files of the documents. A call that was interrupted goes on.

Vectors lie in vectors.npy, which NumPy reads: numpy.load("DIR/vectors.npy", mmap_mode="r").

Examples:
  rag-retrieval index --model out/model --corpus docs.jsonl --output index
  rag-retrieval index --model out/model --corpus a.parquet --corpus b.jsonl.gz --output index --int8
  rag-retrieval index --model out/model --corpus docs.jsonl --store 'postgres://me@localhost/rag?collection=news'
  mpirun -n 4 rag-retrieval index --model out/model --corpus docs.jsonl --output index     # the ranks share the encoding
  rag-retrieval search --index index "how do I reverse a slice"`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "folder or hub id of an embedding model, or an .onnx file beside a tokenizer", Required: true},
			&cli.StringSliceFlag{Name: "corpus", Usage: "file of documents; may be given several times", Required: true},
			&cli.StringFlag{Name: "output", Usage: "folder of the index"},
			&cli.StringFlag{Name: "store", Usage: "database of the index: postgres://USER:PASSWORD@HOST/DATABASE?collection=NAME; see scripts/setup.sh --postgres"},
			&cli.StringFlag{Name: "ann", Usage: "with --store: how the database finds vectors, hnsw (approximate) or exact", Value: string(pgvector.HNSW)},
			&cli.IntFlag{Name: "dimension", Usage: "keep so many numbers of each vector, for models trained with use_mrl; 0: all"},
			&cli.BoolFlag{Name: "fresh", Usage: "begin anew, also in place of an index of other documents or of another model"},
			&cli.IntFlag{Name: "query-max-len", Usage: "tokens of a query; 0: the model's own limit"},
			&cli.IntFlag{Name: "passage-max-len", Usage: "tokens of a passage; 0: the model's own limit"},
			&cli.StringFlag{Name: "query-prompt", Usage: "put this before queries, instead of the model's own prompt"},
			&cli.StringFlag{Name: "passage-prompt", Usage: "put this before passages, instead of the model's own prompt"},
		}, engineFlags()...),
		OnUsageError: onUsageError,
		Action:       onRanks(makeIndex),
	}
}

func makeIndex(c *cli.Context, j job) (err error) {
	next := nothingBegun
	defer func() { err = onInterrupt(err, next) }()
	if err := noArguments(c); err != nil {
		return err
	}
	ann, annErr := pgvector.ParseANN(c.String("ann"))
	switch {
	case (c.String("output") == "") == (c.String("store") == ""):
		return usagef("want either --output or --store")
	case annErr != nil:
		return usagef("--ann is %v", annErr)
	case c.IsSet("ann") && c.String("store") == "":
		return usagef("--ann goes with --store: an index in a folder is exact")
	}
	if err := j.checkOutputs(c, nil, []string{"output"}); err != nil {
		return err
	}
	documents, err := j.openCorpus(c.Context, c.StringSlice("corpus"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, documents.Close()) }()
	o := engineOptions(c)
	o.Kind = modelcard.Embedding
	o.QueryMaxLen, o.PassageMaxLen = c.Int("query-max-len"), c.Int("passage-max-len")
	setPrompts(c, &o)
	m, err := j.open(c, c.String("model"), o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	use, err := j.useOf(c.Context, m, o, c.Int("dimension"))
	if err != nil {
		return err
	}
	e, err := m.Embedder()
	if err != nil {
		return err
	}
	next = goesOn(c, keptDocuments)
	bars := stageBars{name: "index"}
	defer bars.done()
	if c.String("store") != "" {
		return asUsage(j.storeIndex(c, documents, e, use, ann, &bars))
	}
	x := index.Encode{Dir: c.String("output"), Embedder: e, Fresh: c.Bool("fresh"), Ranks: dist.NewDealer(j)}
	if err := index.WriteFolder(c.Context, x, documents, use, bars.show); err != nil {
		return explainOther(asUsage(err))
	}
	bars.done()
	fmt.Fprintf(os.Stderr, "%s: an index of %d documents\n", x.Dir, documents.Len())
	return nil
}

// storeIndex makes a collection of a database.
func (j job) storeIndex(c *cli.Context, documents *corpus.Corpus, e retriever.Embedder, use index.Use, ann pgvector.ANN, bars *stageBars) error {
	fingerprint, err := use.Fingerprint()
	if err != nil {
		return err
	}
	s, err := pgvector.Open(c.Context, c.String("store"))
	if err := j.agree(err); err != nil {
		if s != nil {
			s.Close()
		}
		return err
	}
	defer s.Close()
	err = s.Build(c.Context, pgvector.Build{
		Source: documents, Embedder: e, Model: use.Model, Fingerprint: fingerprint, Dimension: use.Dimension, ANN: ann, Fresh: c.Bool("fresh"),
		Progress: func(done, total int) { bars.show(index.StageEncode, done, total) },
		Stage: func(what string) {
			bars.done()
			note(what)
		},
		Ranks: dist.NewDealer(j),
	})
	if err == nil {
		m, _ := s.Manifest()
		fmt.Fprintf(os.Stderr, "the collection %q: an index of %d documents\n", m.Collection, m.Documents)
	}
	return err
}

// explainOther tells what can be done where a folder has an index of something else.
func explainOther(err error) error {
	if errors.Is(err, index.ErrOtherVectors) {
		return fmt.Errorf("%w; --fresh replaces them, or choose another folder", err)
	}
	return err
}

// openCorpus opens the files of a corpus, the same on all ranks.
func (j job) openCorpus(ctx context.Context, paths []string) (documents *corpus.Corpus, err error) {
	var local []string
	err = j.inStep(func() error {
		return j.inTurn(func() error {
			local = nil
			for _, path := range paths {
				file, err := resolver().Data(ctx, path)
				if err != nil {
					return err
				}
				local = append(local, file)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	documents, err = corpus.Open(local...)
	if err := j.agree(err); err != nil {
		if documents != nil {
			documents.Close()
		}
		return nil, err
	}
	if j.Size() > 1 {
		err = j.agree(j.compare("its documents are other ones", map[string]string{strings.Join(paths, ", "): documents.Hash()}))
	}
	return documents, err
}

// useOf tells how a model was opened, for the search of an index.
func (j job) useOf(ctx context.Context, m *retriever.Model, o retriever.Options, dimension int) (index.Use, error) {
	info := m.Info()
	use := index.Use{
		Model: info.Ref, QueryPrompt: o.QueryPrompt, PassagePrompt: o.PassagePrompt, QueryMaxLen: info.QueryMaxLen, PassageMaxLen: info.PassageMaxLen,
		Dimension: dimension, Int8: info.Int8, BF16: info.BF16,
	}
	if _, err := os.Stat(use.Model); err == nil { // a search may be called in another folder
		if use.Model, err = filepath.Abs(use.Model); err != nil {
			return use, err
		}
	}
	var err error
	use.Content, err = fromFirst(j, func() (string, error) { return contentOf(ctx, m) })
	return use, err
}
