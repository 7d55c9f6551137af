package pgvector

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/dist"
)

// Build says what a collection is made of.
type Build struct {
	Source   index.Documents
	Embedder retriever.Embedder
	// Model is where the model lies, as the collection keeps it. Empty: as the embedder was opened.
	Model string
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
	// Ranks share the encoding if they are several: every rank makes the same call, and rank 0 writes. Nil: this process does all.
	Ranks *dist.Dealer
}

// ChunkLen is how many documents are encoded and written together. An interrupted job goes on after the last whole chunk.
const ChunkLen = index.ChunkLen

// Build makes what the collection does not have yet: documents, vectors, postings for BM25, and the index of the vectors. An
// interrupted call leaves whole chunks, after which the next one goes on; the rows are then the same as if it had not been
// interrupted. A collection of another model or other documents is ErrOtherCollection, unless Fresh. A complete one stays as it is,
// but for its index where ANN is another.
func (s *Store) Build(ctx context.Context, b Build) error {
	if b.Source.Len() == 0 {
		return errors.New("there are no documents to index")
	}
	info := b.Embedder.Info()
	want := Manifest{Collection: s.address.collection, Model: cmp.Or(b.Model, info.Ref), Fingerprint: b.Fingerprint, Cut: b.Dimension, Corpus: b.Source.Hash(),
		Documents: b.Source.Len(), ANN: b.ANN}
	if want.ANN == "" {
		want.ANN = HNSW
	}
	want.Dimension = int(info.Dimension) // 0: an ONNX file that does not tell
	if b.Dimension > 0 {
		want.Dimension = b.Dimension
	}
	first := !b.Ranks.Shares() || b.Ranks.Comm().Rank() == 0
	var w *Writer
	var err error
	if first {
		if w, err = s.Writer(ctx, want, b.Fresh); err == nil {
			w.Stage = b.Stage
			defer w.Close()
		}
	}
	if err := b.Ranks.Agree(err); err != nil {
		return err
	}
	if err := b.write(ctx, w); err != nil {
		return err
	}
	if first {
		err = w.Finish(ctx)
	}
	if err := b.Ranks.Agree(err); err != nil {
		return err
	}
	return b.Ranks.Agree(s.reload(ctx))
}

// write encodes and writes the chunks that are missing. Ranks other than 0 have no writer.
func (b Build) write(ctx context.Context, w *Writer) error {
	x := index.Encode{Source: b.Source, Embedder: b.Embedder, Dimension: b.Dimension, Progress: b.Progress, Ranks: b.Ranks}
	if w == nil {
		return x.Chunks(ctx, 0, nil)
	}
	return x.Chunks(ctx, w.Written(), func(from int, vectors [][]float32) error {
		documents := make([]corpus.Document, len(vectors))
		for i := range documents {
			var err error
			if documents[i], err = b.Source.Document(from + i); err != nil {
				return err
			}
		}
		err := w.Write(ctx, documents, vectors)
		var wrong *DocumentError
		if errors.As(err, &wrong) {
			err = fmt.Errorf("%s: %w", b.Source.Location(wrong.Document), err)
		}
		return err
	})
}
