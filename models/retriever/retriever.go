// Package retriever opens a model of any kind to use it: to encode texts, and to score documents for queries. Commands,
// evaluation, mining and servers all open models here, so that a text has the same prompt, format and length everywhere.
//
//	m, err := retriever.Open(ctx, "out/model", retriever.Options{}) // or a hub id, or an .onnx file
//	defer m.Close()
//	scores, err := m.Scores(ctx, "reverse a slice", "func Reverse", "func Sort")
//
//	e, err := m.Embedder() // an error for a reranker
//	vectors, err := e.Encode(ctx, prompt.Texts(false, "func Reverse", "func Sort"), retriever.EncodeOptions{})
//
// A Ranker scores documents for queries: every Model is one, and so is BM25. An Embedder makes vectors of texts; Stream has it
// encode a corpus that does not fit in memory. SampleScorer makes a Ranker what eval measures. The package trains nothing, prints
// nothing and writes no file but what it fetches from the hub into the cache.
package retriever

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/onnxfile"
	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/kernels"
)

// Query is a query with the documents that are to be scored for it.
type Query = scoring.Query

// RankOptions say which queries are scored, and who hears of it.
type RankOptions = scoring.RankOptions

// Ranker scores documents for queries.
type Ranker = scoring.Ranker

// TextError is about one of the texts or queries that a call was given.
type TextError = scoring.TextError

// LongText says what is read of a text that is too long for the model.
type LongText = scoring.LongText

const (
	CutEnd   = scoring.CutEnd
	CutStart = scoring.CutStart
	Refuse   = scoring.Refuse
)

// LengthError is about a text that is too long for the model where it was not to be cut.
type LengthError = scoring.LengthError

// SampleScorer makes a Ranker an mteb.Scorer.
type SampleScorer = scoring.SampleScorer

// Model is an open model. Its scores are an embedding model's cosines, a ColBERT model's MaxSim, or a reranker's logits. Several
// goroutines may use it at once until one closes it.
type Model struct {
	ranker   Ranker
	embedder Embedder // nil for a reranker
	texts    *tokenizer.Tokenizer
	info     Info
	options  Options
	close    []func() error // in this order

	// Both are the queue's, and nil without one.
	load       func() scoring.QueueLoad
	tokenizing func(ctx context.Context, f func() error) error
}

// Open opens the model that ref names: a folder, a model's id on the hub, or an .onnx file with its tokenizer beside it. A wrong
// option is an *OptionError, whatever the model.
func Open(ctx context.Context, ref string, o Options) (*Model, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	if onnxfile.Is(ref) {
		if o.MixedPrecision == precision.BF16 {
			return nil, &OptionError{Format: "%s bf16: " + strings.ReplaceAll(ref, "%", "%%") + " is an ONNX file, which is run as it is: leave the option out, or give the model's folder", Options: []string{"mixed_precision"}}
		}
		o.MixedPrecision = precision.No
	}
	engine, err := o.engine()
	if err != nil {
		return nil, err
	}
	m := &Model{options: o, info: Info{Ref: ref, Provider: engine.Provider, Int8: o.Int8, BF16: engine.BF16, Precision: pathOf(engine), LongDocs: o.LongDocs}}
	if err := m.open(ctx, engine); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if engine.BF16 != kernels.None && o.Note != nil {
		o.Note(ref + ": " + describePrecision(engine))
	}
	return m, nil
}

func (m *Model) open(ctx context.Context, engine scoring.Options) (err error) {
	ref, o := m.info.Ref, m.options
	if onnxfile.Is(ref) {
		return m.openFile(engine)
	}
	if m.info.Dir, err = (resolve.Resolver{Note: o.Note, Progress: o.Progress}).Model(ctx, ref); err != nil {
		return err
	}
	if m.info.Kind, err = KindOf(m.info.Dir, o.Kind); err != nil {
		return err
	}
	if err := m.checkPrompts(); err != nil {
		return err
	}
	switch m.info.Kind {
	case modelcard.Reranker:
		return m.openReranker(engine)
	case modelcard.ColBERT:
		return m.openColBERT(engine)
	}
	return m.openEmbedding(engine)
}

// checkPrompts refuses prompts for a model of a kind that has none.
func (m *Model) checkPrompts() error {
	if o := m.options; m.info.Kind == modelcard.Embedding || o.QueryPrompt == nil && o.PassagePrompt == nil {
		return nil
	}
	return &OptionError{Format: fmt.Sprintf("prompts are for embedding models; %s is a model of kind %s", strings.ReplaceAll(m.info.Ref, "%", "%%"), m.info.Kind)}
}

// QueueLoad tells what waits and runs in the model's queue now; nothing where it has none.
func (m *Model) QueueLoad() scoring.QueueLoad {
	if m.load == nil {
		return scoring.QueueLoad{}
	}
	return m.load()
}

// Close frees the model.
func (m *Model) Close() error {
	var errs []error
	for _, f := range m.close {
		errs = append(errs, f())
	}
	m.close = nil
	return errors.Join(errs...)
}

// Rank implements Ranker.
func (m *Model) Rank(ctx context.Context, queries []Query, o RankOptions, emit func(scores []float32) error) error {
	return m.ranker.Rank(ctx, queries, o, emit)
}

// Scores gives one query's score for each document.
func (m *Model) Scores(ctx context.Context, query string, documents ...string) ([]float32, error) {
	scores, err := scoring.RankAll(ctx, m, []Query{{Texts: []string{query}, Documents: documents}})
	if err != nil {
		return nil, err
	}
	return scores[0], nil
}

// Embedder gives what makes vectors with the model. A reranker makes none: that is an error.
func (m *Model) Embedder() (Embedder, error) {
	if m.embedder == nil {
		return nil, fmt.Errorf("%s is a model of kind %s, which reads query and passage together and makes no vectors", m.info.Ref, m.info.Kind)
	}
	return m.embedder, nil
}
