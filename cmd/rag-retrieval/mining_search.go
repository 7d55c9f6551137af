package main

import (
	"fmt"

	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/mine"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/runtime"
)

// openSearcher opens what finds candidates. With a model it encodes the documents of the set.
func (m *mining) openSearcher(j *mine.Job) error {
	if m.bm25() {
		x, err := mine.NewBM25(m.c.Context, m.set)
		j.Searcher, m.model = x, kindBM25
		return err
	}
	o, ref := scoringOptions(m.c), m.c.String("model")
	var s index.Searcher
	var use index.Use
	if m.indexed() {
		var err error
		if use, err = m.openIndex(&s); err != nil {
			return err
		}
		asIndexed(&o, use)
		ref = orText(ref, use.Model)
	}
	m.model = ref
	model, err := m.openModel(ref, o)
	if err != nil {
		return err
	}
	if k := model.Info().Kind; k != modelcard.Embedding {
		return fmt.Errorf("%s is a model of kind %s: mining needs an embedding model, with one vector for each text", ref, k)
	}
	if m.indexed() {
		content, err := fromFirst(m.job, func() (string, error) { return contentOf(m.c.Context, model) })
		if err == nil {
			err = checkContent(ref, content, use)
		}
		if err != nil {
			return err
		}
	}
	v, err := m.openVectors(model, o, use.Dimension)
	if err != nil {
		return err
	}
	j.Searcher = v
	if m.indexed() {
		j.Searcher = &mine.Indexed{Vectors: v, Index: s.Store}
	}
	return nil
}

func (m *mining) openModel(ref string, o retriever.Options) (*retriever.Model, error) {
	model, err := m.job.open(m.c, ref, o)
	if err == nil {
		m.close = append(m.close, model.Close)
	}
	return model, err
}

// openIndex opens the index that is searched, on all ranks.
func (m *mining) openIndex(s *index.Searcher) (index.Use, error) {
	use, close, err := openStore(m.c, s)
	if err == nil {
		m.close = append(m.close, close)
	}
	return use, m.job.agree(err)
}

// openVectors encodes the documents of the set, or opens their vectors where an earlier call has encoded them.
func (m *mining) openVectors(model *retriever.Model, o retriever.Options, dimension int) (v mine.Vectors, err error) {
	e, err := model.Embedder()
	if err != nil {
		return v, err
	}
	fingerprint, err := fromFirst(m.job, func() (string, error) { return model.Fingerprint(version) })
	if err != nil {
		return v, err
	}
	folder := keptFolder{m.c.String("vectors"), true}
	if folder.Dir == "" {
		if folder, err = m.keep(fmt.Sprintf("%.24s-%.24s-%d", fingerprint, m.set.Hash(), dimension)); err != nil {
			return v, err
		}
	}
	if m.next = beginsAgain; folder.Lasts {
		m.next = goesOn(m.c, keptDocuments)
	}
	documents, err := index.Encode{
		Dir: folder.Dir, Source: m.set, Embedder: e, Fingerprint: fingerprint, Dimension: dimension, Fresh: m.c.Bool("fresh"),
		Progress: m.progress("encoding documents"), Ranks: m.ranks,
	}.Vectors(m.c.Context)
	if err != nil {
		return v, explainOther(err)
	}
	m.close = append(m.close, documents.Close)
	if folder.Lasts {
		m.next = goesOn(m.c, "the encoded documents are kept, what was mined is not")
	}
	if o, err = m.job.shareHost(m.c, o); err != nil {
		return v, err
	}
	exact, err := index.NewExact(documents, runtime.Options{Provider: model.Info().Provider, DeviceID: o.DeviceID, Threads: o.Threads})
	if err := m.job.agree(err); err != nil {
		return v, err
	}
	m.close = append(m.close, exact.Close)
	return mine.Vectors{Set: m.set, Embedder: e, Documents: documents, Exact: exact, Dimension: dimension, Ranks: m.ranks}, nil
}

// keep gives a folder in the cache for the vectors, the same on all ranks.
func (m *mining) keep(key string) (keptFolder, error) {
	return fromFirst(m.job, func() (keptFolder, error) {
		folder, release, err := keepFolder("vectors", key, "mine", m.c.Bool("fresh"))
		if err == nil {
			m.close = append(m.close, func() error { return release(m.done) })
		}
		return folder, err
	})
}

// openCrossEncoder opens the reranker.
func (m *mining) openCrossEncoder(j *mine.Job) error {
	ref := m.c.String("cross-encoder")
	if ref == "" {
		return nil
	}
	model, err := m.openModel(ref, engineOptions(m.c))
	if err != nil {
		return err
	}
	j.CrossEncoder = model
	if model.Info().Kind == modelcard.Reranker {
		j.Activation, err = reranker.Activation(model.Info().Dir)
	}
	return m.job.agree(err)
}
