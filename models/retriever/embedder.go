package retriever

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
)

// Embedding is what an Embedder makes of a text.
type Embedding struct {
	// Values are the text's vectors, each of length one, end to end: one vector of an embedding model, or one vector for each
	// token that counts of a ColBERT model.
	Values []float32
	// TokenIDs are the tokens of a ColBERT model's vectors, by their numbers in the vocabulary. Nil: there is one vector.
	TokenIDs []int64
	// Tokens is how many tokens the model read of the text, special tokens and ColBERT's expansion included.
	Tokens int
}

// Vectors is how many vectors an embedding has.
func (e Embedding) Vectors() int {
	if e.TokenIDs == nil {
		return 1
	}
	return len(e.TokenIDs)
}

// EncodeOptions say how texts are encoded. The zero value gives whole vectors.
type EncodeOptions struct {
	// Dimension keeps so many numbers at the beginning of each vector, and makes it one of length one again: for models that were
	// trained with use_mrl. 0: all.
	Dimension int
	// Long says what is read of a text that is too long for the model: CutEnd, CutStart or Refuse.
	Long LongText
	// Progress hears how many texts are done. It may be nil.
	Progress func(done int)
}

// Embedder makes vectors of texts. Several goroutines may use it at once.
type Embedder interface {
	// Encode gives the embedding of each text, in order. Long texts are cut unless o.Long says otherwise; equal ones are encoded once. It ends with the context.
	// An error about a text is a *TextError with its number.
	Encode(ctx context.Context, texts []prompt.Text, o EncodeOptions) ([]Embedding, error)
	// Similarity gives a query's score with each passage: a Model's Rank gives the same for passages that are not too long.
	Similarity(query Embedding, passages []Embedding) ([]float32, error)
	// Info tells what the model is.
	Info() Info
}

// MultiVector is the Embedder of a ColBERT model, with a vector for each token.
type MultiVector interface {
	Embedder
	// Similarities gives each query's score with each passage, [queries][passages]. It costs less than a call of Similarity for each
	// query.
	Similarities(queries, passages []Embedding) ([][]float32, error)
	// Matches compares each token of a query with each token of a passage.
	Matches(ctx context.Context, query, passage string) (Matches, error)
}

// StreamChunk is how many texts Stream reads before it encodes them together: enough to find texts of like length.
const StreamChunk = 1024

// Stream encodes texts as they come, in chunks of StreamChunk, and hands each one's embedding to emit, in order. Memory holds one
// chunk. A text's embedding depends, in its last bits, on the other texts of its chunk: a job that goes on at a multiple of
// StreamChunk gets the same vectors. An error that the texts come with ends it. The numbers of *TextErrors and of Progress count
// from the first text.
func Stream(ctx context.Context, e Embedder, texts iter.Seq2[prompt.Text, error], o EncodeOptions, emit func(Embedding) error) error {
	var chunk []prompt.Text
	before := 0 // texts of the chunks before
	flush := func() error {
		inChunk := o
		if o.Progress != nil {
			inChunk.Progress = func(done int) { o.Progress(before + done) }
		}
		embeddings, err := e.Encode(ctx, chunk, inChunk)
		if wrong := (*TextError)(nil); errors.As(err, &wrong) {
			return &TextError{Index: before + wrong.Index, Origin: wrong.Origin, Err: wrong.Err}
		}
		if err != nil {
			return err
		}
		for _, x := range embeddings {
			if err := emit(x); err != nil {
				return err
			}
		}
		before, chunk = before+len(chunk), chunk[:0]
		return nil
	}
	for text, err := range texts {
		if err != nil {
			return err
		}
		if chunk = append(chunk, text); len(chunk) == StreamChunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// singleVector is the Embedder of a model with one vector for each text.
type singleVector struct {
	b    scoring.BiEncoder[[]float32]
	info Info
}

// Info implements Embedder.
func (e *singleVector) Info() Info { return e.info }

// Encode implements Embedder.
func (e *singleVector) Encode(ctx context.Context, texts []prompt.Text, o EncodeOptions) ([]Embedding, error) {
	if err := e.checkDimension(o.Dimension); err != nil {
		return nil, err
	}
	vectors, tokens, err := e.b.Encode(ctx, texts, o.Long, o.Progress)
	if err != nil {
		return nil, err
	}
	return embeddings(vectors, tokens, o.Dimension)
}

func (e *singleVector) encodeRows(ctx context.Context, rows []encoder.Row, o EncodeOptions) ([]Embedding, error) {
	if err := e.checkDimension(o.Dimension); err != nil {
		return nil, err
	}
	vectors, err := e.b.EncodeRows(ctx, rows, ones(len(rows)), o.Progress)
	if err != nil {
		return nil, err
	}
	return embeddings(vectors, encoder.Lengths(rows), o.Dimension)
}

func (e *singleVector) checkDimension(n int) error {
	if width := int(e.info.Dimension); n < 0 || width > 0 && n > width { // the width 0 is of an ONNX file that does not tell
		return optionError("dimension", "is %d, want 1 to %d", n, width)
	}
	return nil
}

// embeddings makes embeddings of vectors, of which the first dimension numbers are kept, or all where that is 0.
func embeddings(vectors [][]float32, tokens []int, dimension int) ([]Embedding, error) {
	out := make([]Embedding, len(vectors))
	for i, v := range vectors {
		if dimension > len(v) {
			return nil, optionError("dimension", "is %d, want 1 to %d", dimension, len(v))
		}
		if dimension > 0 {
			v = cut(v, dimension)
		}
		out[i] = Embedding{Values: v, Tokens: tokens[i]}
	}
	return out, nil
}

func ones(n int) []int { return slices.Repeat([]int{1}, n) }

// cut gives the first n numbers of a vector, as a vector of length one.
func cut(v []float32, n int) []float32 {
	sum := 0.0
	for _, x := range v[:n] {
		sum += float64(x) * float64(x)
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(float64(v[i]) / max(math.Sqrt(sum), 1e-12))
	}
	return out
}

// Similarity implements Embedder.
func (e *singleVector) Similarity(query Embedding, passages []Embedding) ([]float32, error) {
	vectors := make([][]float32, len(passages))
	for i, p := range passages {
		if vectors[i] = p.Values; len(p.Values) != len(query.Values) {
			return nil, fmt.Errorf("passage %d has a vector of %d numbers, the query of %d", i+1, len(p.Values), len(query.Values))
		}
	}
	return e.b.Similarity(query.Values, vectors)
}

// multiVector is the Embedder of a ColBERT model.
type multiVector struct {
	b      scoring.BiEncoder[colbert.Encoding]
	scorer *colbert.Scorer
	info   Info
}

// Info implements Embedder.
func (e *multiVector) Info() Info { return e.info }

// Encode implements Embedder.
func (e *multiVector) Encode(ctx context.Context, texts []prompt.Text, o EncodeOptions) ([]Embedding, error) {
	if o.Dimension != 0 {
		return nil, &OptionError{Format: "%s is for embedding models: a ColBERT model's vectors are not cut", Options: []string{"dimension"}}
	}
	encodings, tokens, err := e.b.Encode(ctx, texts, o.Long, o.Progress)
	if err != nil {
		return nil, err
	}
	out := make([]Embedding, len(encodings))
	for i, x := range encodings {
		out[i] = e.embedding(x, texts[i].Query, tokens[i])
	}
	return out, nil
}

func (e *multiVector) encodeRows(ctx context.Context, rows []encoder.Row, o EncodeOptions) ([]Embedding, error) {
	encodings, err := e.b.EncodeRows(ctx, rows, ones(len(rows)), o.Progress)
	if err != nil {
		return nil, err
	}
	out := make([]Embedding, len(encodings))
	for i, x := range encodings {
		out[i] = e.embedding(x, false, len(rows[i].IDs))
	}
	return out, nil
}

func (e *multiVector) embedding(x colbert.Encoding, query bool, tokens int) Embedding {
	v := e.scorer.Counted(x, query, 0)
	return Embedding{Values: v.Values, TokenIDs: v.IDs, Tokens: tokens}
}

// Similarity implements Embedder.
func (e *multiVector) Similarity(query Embedding, passages []Embedding) ([]float32, error) {
	scores, err := e.Similarities([]Embedding{query}, passages)
	if err != nil {
		return nil, err
	}
	return scores[0], nil
}

// Similarities implements MultiVector.
func (e *multiVector) Similarities(queries, passages []Embedding) ([][]float32, error) {
	q, err := e.vectors(queries)
	if err != nil {
		return nil, err
	}
	p, err := e.vectors(passages)
	if err != nil {
		return nil, err
	}
	return e.scorer.MaxSims(q, p)
}

// vectors gives embeddings as the scorer takes them.
func (e *multiVector) vectors(embeddings []Embedding) ([]colbert.Vectors, error) {
	out := make([]colbert.Vectors, len(embeddings))
	for i, x := range embeddings {
		if len(x.Values) != len(x.TokenIDs)*int(e.info.Dimension) {
			return nil, fmt.Errorf("text %d has %d numbers for %d tokens, want %d for each", i+1, len(x.Values), len(x.TokenIDs), e.info.Dimension)
		}
		out[i] = colbert.Vectors{IDs: x.TokenIDs, Values: x.Values, Padded: x.Tokens < e.info.PassageMaxLen}
	}
	return out, nil
}
