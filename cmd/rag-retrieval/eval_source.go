package main

import (
	"context"
	"errors"
	"path/filepath"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
)

// source is what scores: a model, recorded scores, or BM25.
type source struct {
	scorerOf func(task string) mteb.Scorer
	// fingerprint stands for everything that a model's scores depend on besides the data. Empty: the scores are made too fast to
	// be kept.
	fingerprint string
	// exact opens the same model in fp32; nil where it is in fp32.
	exact func() (*retriever.Model, error)
	close func() error
}

// openSource opens the model or the scores that the flags name.
func (e *evaluation) openSource() error {
	c := e.c
	path, bm25 := c.String("scores"), c.String("kind") == kindBM25
	given := len(c.StringSlice("model"))
	for _, is := range []bool{path != "", bm25} {
		if is {
			given++
		}
	}
	if given != 1 {
		return usagef("want one of --model, --scores and --kind bm25")
	}
	nothing := func() error { return nil }
	switch {
	case path != "":
		r, err := eval.OpenSavedScores(path)
		if err != nil {
			return err
		}
		e.report.Model, e.report.Kind, e.source = filepath.Base(path), "scores", source{scorerOf: r.ForTask, close: nothing}
		return nil
	case bm25:
		e.report.Model, e.report.Kind = kindBM25, kindBM25
		e.source = source{scorerOf: func(string) mteb.Scorer { return retriever.SampleScorer{Ranker: retriever.BM25{}} }, close: nothing}
		return nil
	}
	return e.openModel(c.StringSlice("model")[0], scoringOptions(c))
}

// describeModel puts into the report what is to be known of the model, which the call named ref.
func (e *evaluation) describeModel(ref string) {
	m := e.model
	e.report.Model, e.report.Kind, e.report.Precision = ref, string(m.Kind), m.Precision
	e.report.Lengths = &mteb.Lengths{QueryMaxLen: m.QueryMaxLen, PassageMaxLen: m.PassageMaxLen, MaxLen: m.MaxLen}
}

// openModel opens a model as the source of scores.
func (e *evaluation) openModel(ref string, o retriever.Options) error {
	m, err := e.job.open(e.c, ref, o)
	if err != nil {
		return err
	}
	e.model = m.Info()
	e.describeModel(ref)
	e.source = source{scorerOf: func(string) mteb.Scorer { return retriever.SampleScorer{Ranker: m} }, close: m.Close}
	if e.source.fingerprint, err = fromFirst(e.job, func() (string, error) { return m.Fingerprint(version) }); err != nil {
		return errors.Join(err, m.Close())
	}
	if o.Int8 {
		again := o
		again.Note = nil // all was said
		int8 := &reopened{m: m, open: func() (*retriever.Model, error) { return e.job.open(e.c, ref, again) }}
		e.source.scorerOf, e.source.close = func(string) mteb.Scorer { return retriever.SampleScorer{Ranker: int8} }, int8.close
		fp32 := o
		fp32.Int8, fp32.MixedPrecision = false, precision.No
		e.source.exact = func() (*retriever.Model, error) { return e.job.open(e.c, ref, fp32) }
	}
	return nil
}

// reopened is a model that may be closed and is opened again when it is needed, so that two large models are never in memory at
// once.
type reopened struct {
	m    *retriever.Model // nil: closed
	open func() (*retriever.Model, error)
}

// Rank implements retriever.Ranker.
func (r *reopened) Rank(ctx context.Context, queries []retriever.Query, o retriever.RankOptions, emit func([]float32) error) error {
	if r.m == nil {
		m, err := r.open()
		if err != nil {
			return err
		}
		r.m = m
	}
	return r.m.Rank(ctx, queries, o, emit)
}

func (r *reopened) close() error {
	m := r.m
	if r.m = nil; m == nil {
		return nil
	}
	return m.Close()
}

// kindBM25 is the baseline's kind.
const kindBM25 = "bm25"
