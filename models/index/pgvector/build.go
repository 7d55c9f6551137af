package pgvector

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
)

// Source is a list of documents that need not be in memory. A *corpus.Corpus is one.
type Source interface {
	Len() int
	// Document reads document i, from 0.
	Document(i int) (corpus.Document, error)
	// Location is where document i stands, such as a file and a line, for messages.
	Location(i int) string
	// Hash stands for all documents in their order.
	Hash() string
}

// Build says what a collection is made of.
type Build struct {
	Source   Source
	Embedder retriever.Embedder
	// Fingerprint stands for everything besides the source that vectors depend on, see retriever.Model.Fingerprint.
	Fingerprint string
	// Dimension keeps so many numbers at the beginning of each vector, see retriever.EncodeOptions. 0: all.
	Dimension int
	// ANN is how vectors are found. Empty: HNSW.
	ANN ANN
	// Fresh begins anew, whatever the collection is.
	Fresh bool
	// Progress hears how many documents are encoded. It may be nil.
	Progress func(done, total int)
	// Stage hears what else is done, such as "indexing the vectors". It may be nil.
	Stage func(what string)
}

// ChunkLen is how many documents are encoded and written together. An interrupted job goes on after the last whole chunk.
const ChunkLen = retriever.StreamChunk

// Build makes what the collection does not have yet: documents, vectors, postings for BM25, and the index of the vectors. An
// interrupted call leaves whole chunks, after which the next one goes on; the rows are then the same as if it had not been
// interrupted. A collection of another model or other documents is ErrOtherCollection, unless Fresh. A complete one stays as it is,
// but for its index where ANN is another.
func (s *Store) Build(ctx context.Context, b Build) error {
	if b.Source.Len() == 0 {
		return errors.New("there are no documents to index")
	}
	info := b.Embedder.Info()
	want := Manifest{Collection: s.address.collection, Model: info.Ref, Fingerprint: b.Fingerprint, Cut: b.Dimension, Corpus: b.Source.Hash(),
		Documents: b.Source.Len(), ANN: b.ANN}
	if want.ANN == "" {
		want.ANN = HNSW
	}
	want.Dimension = int(info.Dimension) // 0: an ONNX file that does not tell
	if b.Dimension > 0 {
		want.Dimension = b.Dimension
	}
	w, err := s.Writer(ctx, want, b.Fresh)
	if err != nil {
		return err
	}
	err = b.write(ctx, w)
	if err == nil {
		if b.Stage != nil {
			w.Stage = b.Stage
		}
		err = w.Finish(ctx)
	}
	w.Close()
	return err
}

// write encodes and writes the chunks that are missing.
func (b Build) write(ctx context.Context, w *Writer) error {
	for from := w.Written(); from < b.Source.Len(); from = w.Written() {
		documents := make([]corpus.Document, 0, ChunkLen)
		for i := from; i < min(from+ChunkLen, b.Source.Len()); i++ {
			d, err := b.Source.Document(i)
			if err != nil {
				return err
			}
			documents = append(documents, d)
		}
		vectors, err := b.encode(ctx, from, documents)
		if err != nil {
			return err
		}
		if err := w.Write(ctx, documents, vectors); err != nil {
			var wrong *DocumentError
			if errors.As(err, &wrong) {
				return fmt.Errorf("%s: %w", b.Source.Location(wrong.Document), err)
			}
			return err
		}
	}
	return nil
}

// encode makes the vectors of a chunk.
func (b Build) encode(ctx context.Context, from int, documents []corpus.Document) ([][]float32, error) {
	o := retriever.EncodeOptions{Dimension: b.Dimension}
	if b.Progress != nil {
		o.Progress = func(done int) { b.Progress(from+done, b.Source.Len()) }
	}
	texts := make([]prompt.Text, len(documents))
	for i, d := range documents {
		texts[i] = prompt.Text{Text: d.Passage()}
	}
	embeddings, err := b.Embedder.Encode(ctx, texts, o)
	if wrong := (*retriever.TextError)(nil); errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s: %w", b.Source.Location(from+wrong.Index), wrong.Err)
	}
	if err != nil {
		return nil, err
	}
	vectors := make([][]float32, len(embeddings))
	for i, e := range embeddings {
		if e.TokenIDs != nil {
			return nil, fmt.Errorf("%s is a model of kind %s, with a vector for each token: want an embedding model", b.Embedder.Info().Ref, b.Embedder.Info().Kind)
		}
		if !finite(e.Values) {
			return nil, fmt.Errorf("%s: the model's vector has a value that is no number", b.Source.Location(from+i))
		}
		vectors[i] = e.Values
	}
	return vectors, nil
}

// finite says whether all values are numbers.
func finite(values []float32) bool {
	return !slices.ContainsFunc(values, func(x float32) bool { return math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) })
}
