package pgvector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pgvector/pgvector-go"

	"rag-retrieval-go/internal/corpus"
)

// Writer writes a collection's documents in their order. One goroutine uses it at a time. Build uses it for an Embedder; it
// is for vectors that come from elsewhere.
//
//	w, err := s.Writer(ctx, manifest, false)
//	defer w.Close()
//	for w.Written() < manifest.Documents {
//		err = w.Write(ctx, documents, vectors) // of the next documents
//	}
//	err = w.Finish(ctx)
type Writer struct {
	// Stage hears what Finish is doing. It may be nil.
	Stage func(what string)

	store      *Store
	conn       *pgxpool.Conn // holds the lock on the collection
	want       Manifest
	collection collection // its Number is 0 as long as nothing is written
}

// DocumentError says that the database cannot hold a document.
type DocumentError struct {
	Document int // its number in the corpus, from 0
	ID       string
	Err      error
}

func (e *DocumentError) Error() string { return fmt.Sprintf("document %q: %v", e.ID, e.Err) }

// Unwrap returns what is wrong with the document.
func (e *DocumentError) Unwrap() error { return e.Err }

// Writer begins to write a collection, or goes on. Of the manifest, Written and Complete are not read, and Dimension may be 0
// until the first Write. A collection of another model or other documents is ErrOtherCollection, unless fresh: then it is replaced
// when the first documents are written. Another process that writes the same collection is an error.
func (s *Store) Writer(ctx context.Context, want Manifest, fresh bool) (*Writer, error) {
	w := &Writer{store: s, want: want}
	w.want.Collection, w.want.Written, w.want.Complete = s.address.collection, 0, false
	if err := checkDimension(want.Dimension, want.ANN); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, s.address.explain(err)
	}
	var err error
	if w.conn, err = s.pool.Acquire(ctx); err != nil {
		return nil, s.address.explain(err)
	}
	if err := w.open(ctx, fresh); err != nil {
		w.Close()
		return nil, s.address.explain(err)
	}
	return w, nil
}

// lockWait is how long a Writer waits for another one: the server may notice late that a process is gone.
const lockWait = 2 * time.Second

// open locks the collection and reads what there is of it.
func (w *Writer) open(ctx context.Context, fresh bool) error {
	if err := w.lock(ctx); err != nil {
		return err
	}
	found, err := readCollection(ctx, w.conn, w.want.Collection)
	if err != nil || found.Number == 0 || fresh {
		return err
	}
	if err := found.differs(w.want); err != nil {
		return err
	}
	w.collection = found
	w.want.Dimension = found.Dimension
	if found.Complete || found.Written == found.Documents {
		return nil
	}
	// Rows of a chunk that was not finished take place until they are cleared away. On a full disk there may be no other place.
	_, err = w.conn.Exec(ctx, fmt.Sprintf(`VACUUM rag_retrieval.%s, rag_retrieval.%s`, found.documentsTable(), found.chunkPostingsTable()))
	return err
}

func (w *Writer) lock(ctx context.Context) error {
	for end := time.Now().Add(lockWait); ; {
		var locked bool
		err := w.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended('rag_retrieval ' || $1, 0))`, w.want.Collection).Scan(&locked)
		if err != nil || locked {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the collection %q is being written by another process", w.want.Collection)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockWait / 20):
		}
	}
}

// Written is how many documents are written.
func (w *Writer) Written() int { return w.collection.Written }

// Close unlocks the collection and gives back the connection. What Write has written stays.
func (w *Writer) Close() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockWait)
	defer cancel()
	if _, err := w.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`); err != nil {
		_ = w.conn.Conn().Close(ctx) // the lock ends with the connection
	}
	w.conn.Release()
	w.conn = nil
}

// checkDimension returns an error if the database cannot hold or index vectors of a dimension, which may be 0: not known.
func checkDimension(dimension int, ann ANN) error {
	if dimension > maxDimension {
		return fmt.Errorf("vectors of %d numbers: pgvector holds at most %d", dimension, maxDimension)
	}
	if ann == HNSW && dimension > maxHNSWHalf {
		return fmt.Errorf("vectors of %d numbers: pgvector's HNSW index takes at most %d; search exactly (--ann exact)", dimension, maxHNSWHalf)
	}
	return nil
}

// Write writes the next documents, from number Written on, with their vectors of length one, all of them or none. A document that
// the database cannot hold is a *DocumentError.
func (w *Writer) Write(ctx context.Context, documents []corpus.Document, vectors [][]float32) error {
	if err := w.check(documents, vectors); err != nil {
		return err
	}
	c := w.collection
	lists := postingsOf(documents, c.Written)
	err := pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) (err error) {
		if c.Number == 0 {
			if c, err = create(ctx, tx, w.want); err != nil {
				return err
			}
		}
		if err := copyDocuments(ctx, tx, c, documents, vectors); err != nil {
			return err
		}
		if err := copyPostings(ctx, tx, c, lists); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE rag_retrieval.collections SET written = written + $1, terms = terms + $2
			WHERE number = $3 AND written = $4 AND NOT complete`, len(documents), lists.terms, c.Number, c.Written)
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("the collection %q was changed by another process", c.Collection)
		}
		return err
	})
	if err != nil {
		return w.explainWrite(err, documents)
	}
	c.Written += len(documents)
	c.Terms += lists.terms
	w.collection = c
	return nil
}

func (w *Writer) check(documents []corpus.Document, vectors [][]float32) error {
	if len(documents) == 0 || len(documents) != len(vectors) {
		return fmt.Errorf("%d documents with %d vectors, want as many, and at least one", len(documents), len(vectors))
	}
	if end := w.Written() + len(documents); end > w.want.Documents {
		return fmt.Errorf("document %d of a corpus of %d", end, w.want.Documents)
	}
	if w.want.Dimension == 0 {
		w.want.Dimension = len(vectors[0])
		if err := checkDimension(w.want.Dimension, w.want.ANN); err != nil {
			return err
		}
	}
	for i, v := range vectors {
		if len(v) != w.want.Dimension {
			return fmt.Errorf("document %q has a vector of %d numbers, the collection has vectors of %d", documents[i].ID, len(v), w.want.Dimension)
		}
	}
	return nil
}

// explainWrite names the document that the database did not take.
func (w *Writer) explainWrite(err error, documents []corpus.Document) error {
	if row, column, ok := refused(err); ok && row >= 0 && row < len(documents) {
		return &DocumentError{w.Written() + row, documents[row].ID, fmt.Errorf("PostgreSQL cannot hold its %s: %s", column, message(err))}
	}
	return w.explain(err)
}

// explain adds how far the writing is, where the same call may succeed later.
func (w *Writer) explain(err error) error {
	explained := w.store.address.explain(err)
	if lost(err) || isDiskFull(err) {
		return fmt.Errorf("%w; %d of %d documents are written, run it again to go on", explained, w.Written(), w.want.Documents)
	}
	return explained
}

func copyDocuments(ctx context.Context, tx pgx.Tx, c collection, documents []corpus.Document, vectors [][]float32) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{schema, c.documentsTable()}, []string{"document", "id", "title", "text", "metadata", "embedding"},
		pgx.CopyFromSlice(len(documents), func(i int) ([]any, error) {
			d := documents[i]
			var metadata any
			if d.Metadata != nil {
				metadata = []byte(d.Metadata)
			}
			return []any{int32(c.Written + i), d.ID, d.Title, d.Text, metadata, pgvector.NewVector(vectors[i])}, nil
		}))
	return err
}

func copyPostings(ctx context.Context, tx pgx.Tx, c collection, lists chunkPostings) error {
	start := int32(c.Written)
	terms := slices.Sorted(maps.Keys(lists.lists))
	_, err := tx.CopyFrom(ctx, pgx.Identifier{schema, c.chunkPostingsTable()}, []string{"term", "start", "documents", "counts", "lengths"},
		pgx.CopyFromSlice(len(terms), func(i int) ([]any, error) {
			p := lists.lists[terms[i]]
			return []any{terms[i], start, p.documents, p.counts, p.lengths}, nil
		}))
	return err
}

// Finish indexes a collection whose documents are all written. Each step is one transaction; an interrupted call goes on with the
// step in which it was interrupted. A complete collection of another ANN gets another index of its vectors.
func (w *Writer) Finish(ctx context.Context) error {
	c := w.collection
	if c.Written != w.want.Documents {
		return fmt.Errorf("%d of %d documents are written", c.Written, w.want.Documents)
	}
	if err := checkDimension(c.Dimension, w.want.ANN); err != nil {
		return err
	}
	steps := []struct {
		what string
		done bool
		do   func(context.Context, collection) error
	}{
		{"joining the postings", c.Complete, w.joinPostings},
		{"indexing the metadata", c.Complete, w.indexMetadata},
		{"indexing the vectors", c.Complete && c.ANN == w.want.ANN, w.indexVectors},
	}
	for _, step := range steps {
		if step.done {
			continue
		}
		if w.Stage != nil {
			w.Stage(step.what)
		}
		if err := step.do(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", step.what, w.explain(err))
		}
	}
	return w.store.reload(ctx)
}

// reload reads the collection again.
func (s *Store) reload(ctx context.Context) error { return s.address.explain(s.load(ctx)) }

// indexMetadata makes the index for filters.
func (w *Writer) indexMetadata(ctx context.Context, c collection) error {
	_, err := w.conn.Exec(ctx, fmt.Sprintf(`CREATE INDEX IF NOT EXISTS %s_metadata ON rag_retrieval.%s USING gin (metadata jsonb_path_ops)`,
		c.documentsTable(), c.documentsTable()))
	return err
}

// hnswIndex is the index of a collection's vectors. Longer vectors than an index takes are indexed with 16 bits a number, and the
// best of them are compared as they are.
func (c collection) hnswIndex() (name, expression string) {
	name = c.documentsTable() + "_embedding"
	if c.Dimension <= maxHNSW {
		return name, "embedding vector_ip_ops"
	}
	return name, fmt.Sprintf("(embedding::halfvec(%d)) halfvec_ip_ops", c.Dimension)
}

// indexVectors makes the collection's index of vectors that it shall have, and marks the collection as complete.
func (w *Writer) indexVectors(ctx context.Context, c collection) error {
	err := w.buildHNSW(ctx, c, true)
	var exhausted *sharedMemoryError
	if errors.As(err, &exhausted) {
		err = w.buildHNSW(ctx, c, false)
	}
	return err
}

// sharedMemoryError says that the server's machine has too little shared memory for several workers, as containers do.
type sharedMemoryError struct{ error }

func (w *Writer) buildHNSW(ctx context.Context, c collection, parallel bool) error {
	name, expression := c.hnswIndex()
	return pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DROP INDEX IF EXISTS rag_retrieval.`+name); err != nil {
			return err
		}
		if w.want.ANN == HNSW {
			if _, err := tx.Exec(ctx, `SELECT set_config('maintenance_work_mem', $1, true)
				WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes($1)`, hnswMemory(c)); err != nil {
				return err
			}
			if !parallel {
				if _, err := tx.Exec(ctx, `SET LOCAL max_parallel_maintenance_workers = 0`); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, fmt.Sprintf(`CREATE INDEX %s ON rag_retrieval.%s USING hnsw (%s)`, name, c.documentsTable(), expression)); err != nil {
				if parallel && isSharedMemory(err) {
					return &sharedMemoryError{err}
				}
				return err
			}
		}
		_, err := tx.Exec(ctx, `UPDATE rag_retrieval.collections SET complete = true, ann = $1 WHERE number = $2`, w.want.ANN, c.Number)
		return err
	})
}

// hnswMemory is the memory that building the index in memory takes, within bounds: beyond it the server builds much slower.
func hnswMemory(c collection) string {
	const most = 1 << 20 // KiB
	need := c.Documents * (4*c.Dimension + 500) / 1024 * 5 / 4
	return fmt.Sprintf("%dkB", min(max(need, 1024), most))
}
