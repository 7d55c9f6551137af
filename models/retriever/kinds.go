package retriever

import (
	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/onnxfile"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/scoring"
)

// opens notes what Close has to free: what is opened last is freed first.
func (m *Model) opens(close func() error) { m.close = append([]func() error{close}, m.close...) }

func (m *Model) openEmbedding(engine scoring.Options) error {
	x, err := embedding.Open(m.info.Dir)
	if err != nil {
		return err
	}
	m.opens(x.Close)
	m.texts = x.Tokenizer
	x.Config.SetPrompts(m.options.QueryPrompt, m.options.PassagePrompt)
	m.describe(x.Encoder, x.Config.Formats)
	m.info.Dimension, m.info.Pooling = x.Width(), string(x.Config.Pooling)
	m.setLengths(x.Config.MaxSeqLength)
	e, err := embedding.NewEncoder(x, engine)
	if err != nil {
		return err
	}
	m.opens(e.Close)
	return m.useVectors(e.BiEncoder(m.info.QueryMaxLen, m.info.PassageMaxLen))
}

// useVectors makes the model one of a vector for each text.
func (m *Model) useVectors(b scoring.BiEncoder[[]float32], err error) error {
	m.info.Similarity = "cosine"
	b.Queue = queueOf(m, b.Forward)
	m.ranker, m.embedder = b, &singleVector{b, m.info}
	return err
}

// useScores makes the model one that scores pairs.
func (m *Model) useScores(c scoring.CrossEncoder, err error) error {
	c.Queue = queueOf(m, c.Forward)
	m.ranker = c
	return err
}

// queueOf is the queue of the options for a forward pass, or nil.
func queueOf[V any](m *Model, forward func(rows []encoder.Row) ([]V, error)) *scoring.Queue[V] {
	if m.options.Queue == nil {
		return nil
	}
	q := scoring.NewQueue(forward, *m.options.Queue)
	m.opens(func() error { q.Wait(); return nil })
	m.load, m.tokenizing = q.Load, q.Tokenize
	return q
}

func (m *Model) openColBERT(engine scoring.Options) error {
	x, err := colbert.Open(m.info.Dir)
	if err != nil {
		return err
	}
	m.opens(x.Close)
	m.texts = x.Tokenizer
	m.describe(x.Encoder, x.Formats)
	m.info.Dimension, m.info.Similarity = x.Dim, "maxsim"
	if x.Rules.Mean {
		m.info.Similarity = "meanmaxsim"
	}
	m.info.QueryMaxLen, m.info.PassageMaxLen = orElse(m.options.QueryMaxLen, x.QueryMaxLen), orElse(m.options.PassageMaxLen, x.PassageMaxLen)
	s, err := colbert.NewScorer(x, engine)
	if err != nil {
		return err
	}
	m.opens(s.Close)
	s.PaddingCompetes = m.options.PaddingCompetes
	b, err := s.BiEncoder(m.info.QueryMaxLen, m.info.PassageMaxLen)
	b.Queue = queueOf(m, b.Forward)
	m.ranker, m.embedder = b, &multiVector{b, s, m.info}
	return err
}

func (m *Model) openReranker(engine scoring.Options) error {
	x, err := reranker.Open(m.info.Dir)
	if err != nil {
		return err
	}
	m.opens(x.Close)
	m.texts = x.Tokenizer
	m.describe(x.Encoder, x.Formats)
	m.info.MaxLen = orElse(m.options.MaxLen, x.MaxLen)
	s, err := reranker.NewScorer(x, engine)
	if err != nil {
		return err
	}
	m.opens(s.Close)
	return m.useScores(s.CrossEncoder(m.info.MaxLen))
}

// openFile opens an ONNX file.
func (m *Model) openFile(engine scoring.Options) error {
	o := m.options
	x, err := onnxfile.Open(m.info.Ref, o.Kind, engine)
	if err != nil {
		return err
	}
	m.opens(x.Close)
	m.texts = x.Tokenizer()
	m.info.Kind, m.info.Dir, m.info.Architecture = x.Kind, x.Dir, "onnx"
	if err := m.checkPrompts(); err != nil {
		return err
	}
	x.Config.SetPrompts(o.QueryPrompt, o.PassagePrompt)
	m.describeFormats(x.Config.Formats)
	if x.Kind == modelcard.Reranker {
		m.info.MaxLen = orElse(o.MaxLen, x.MaxLen)
		return m.useScores(x.CrossEncoder(m.info.MaxLen))
	}
	m.info.Dimension, m.info.Pooling = x.Dimension, string(x.Config.Pooling)
	m.setLengths(x.QueryMaxLen)
	return m.useVectors(x.BiEncoder(m.info.QueryMaxLen, m.info.PassageMaxLen))
}

// describe fills in what the kinds of this project's own graphs share.
func (m *Model) describe(e encoder.Config, f prompt.Formats) {
	m.info.Architecture = e.ModelType
	m.describeFormats(f)
}

func (m *Model) describeFormats(f prompt.Formats) {
	m.info.QueryFormat, m.info.DocumentFormat = f.Query.String(), f.Document.String()
	m.info.Seq, m.info.SpecialToken = f.Seq, f.SpecialToken
}

// setLengths chooses an embedding model's lengths: those of the options, or the longest text that it reads, as sentence-transformers does.
func (m *Model) setLengths(own int) {
	m.info.QueryMaxLen, m.info.PassageMaxLen = orElse(m.options.QueryMaxLen, own), orElse(m.options.PassageMaxLen, own)
}

func orElse(n, otherwise int) int {
	if n != 0 {
		return n
	}
	return otherwise
}
