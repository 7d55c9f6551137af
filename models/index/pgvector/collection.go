package pgvector

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ANN is how a collection finds the nearest vectors (approximate nearest neighbours).
type ANN string

const (
	// HNSW searches a graph of neighbours. It is fast, and misses some of the best documents.
	HNSW ANN = "hnsw"
	// Exact compares a query with all vectors.
	Exact ANN = "exact"
)

// ParseANN reads the name of a kind of search.
func ParseANN(name string) (ANN, error) {
	switch a := ANN(name); a {
	case HNSW, Exact:
		return a, nil
	}
	return "", fmt.Errorf("%.40q, want %s or %s", name, HNSW, Exact)
}

// Manifest tells what a collection is.
type Manifest struct {
	Collection  string `json:"collection"`
	Model       string `json:"model"`         // as it was opened
	Fingerprint string `json:"fingerprint"`   // of everything besides the corpus that the vectors depend on
	Cut         int    `json:"cut,omitempty"` // vectors were cut to this dimension; 0: they are whole
	Dimension   int    `json:"dimension"`     // of the vectors
	Corpus      string `json:"corpus_sha256"` // of all documents in their order
	Documents   int    `json:"documents"`     // of the corpus
	Written     int    `json:"written"`       // of them, in order
	ANN         ANN    `json:"ann"`
	Complete    bool   `json:"complete"` // all documents are written and indexed
}

// collection is a Manifest with what only this package needs.
type collection struct {
	Manifest
	Number int   // its tables' names end with it; 0: there is no such collection
	Terms  int64 // of all written documents, for BM25
}

// The names of a collection's tables.
func (c collection) documentsTable() string { return fmt.Sprintf("documents_%d", c.Number) }
func (c collection) postingsTable() string  { return fmt.Sprintf("postings_%d", c.Number) }
func (c collection) chunkPostingsTable() string {
	return fmt.Sprintf("chunk_postings_%d", c.Number)
}

// Manifest tells what the collection is. There may be none yet.
func (s *Store) Manifest() (m Manifest, exists bool) {
	return s.collection.Manifest, s.collection.Number != 0
}

// Complete tells what the collection is. A collection that is not there, or not complete, is an error.
func (s *Store) Complete() (Manifest, error) {
	if !s.collection.Manifest.Complete {
		return Manifest{}, s.notComplete()
	}
	return s.collection.Manifest, nil
}

// load reads what the database has of the collection.
func (s *Store) load(ctx context.Context) error {
	s.collection, s.outdated = collection{}, nil
	version, err := readVersion(ctx, s.pool)
	if err != nil || version == 0 {
		return err
	}
	if version < schemaVersion {
		s.outdated = fmt.Errorf("its schema %s has version %d, this program reads version %d: index with this program once, which brings it up to date",
			schema, version, schemaVersion)
		return nil
	}
	if err := checkExtension(ctx, s.pool); err != nil {
		return err
	}
	s.collection, err = readCollection(ctx, s.pool, s.address.collection)
	return err
}

func readCollection(ctx context.Context, q querier, name string) (c collection, err error) {
	err = q.QueryRow(ctx, `SELECT number, name, model, fingerprint, cut, dimension, corpus, documents, written, terms, ann, complete
		FROM rag_retrieval.collections WHERE name = $1`, name).Scan(&c.Number, &c.Collection, &c.Model, &c.Fingerprint, &c.Cut,
		&c.Dimension, &c.Corpus, &c.Documents, &c.Written, &c.Terms, &c.ANN, &c.Complete)
	if errors.Is(err, pgx.ErrNoRows) {
		return collection{}, nil
	}
	return c, err
}

// ErrOtherCollection says that a collection is that of another model or of other documents.
var ErrOtherCollection = errors.New("the collection has other vectors")

// differs returns an error that says in what the collection differs from the wanted one.
func (c collection) differs(want Manifest) error {
	var what string
	switch {
	case want.Dimension != 0 && c.Dimension != want.Dimension:
		what = fmt.Sprintf("of %d numbers, now they have %d", c.Dimension, want.Dimension)
	case c.Cut != want.Cut:
		what = fmt.Sprintf("cut to dimension %d, now %d is wanted (0: whole ones)", c.Cut, want.Cut)
	case c.Fingerprint != want.Fingerprint:
		what = fmt.Sprintf("of the model %s, or it has changed, or was opened with other options", c.Model)
	case c.Corpus != want.Corpus:
		what = fmt.Sprintf("of other documents (%d; now there are %d), or of an older state of them", c.Documents, want.Documents)
	default:
		return nil
	}
	return fmt.Errorf("%w: %q has vectors %s; start it again (--fresh), or name another (?collection=NAME)", ErrOtherCollection, c.Collection, what)
}

// create makes a collection's tables in place of those of an older one of this name. A change of these tables needs a migration, and
// a new schemaVersion.
func create(ctx context.Context, tx pgx.Tx, want Manifest) (c collection, err error) {
	old, err := readCollection(ctx, tx, want.Collection)
	if err != nil {
		return c, err
	}
	if old.Number != 0 {
		if err := old.drop(ctx, tx); err != nil {
			return c, err
		}
	}
	c = collection{Manifest: want}
	err = tx.QueryRow(ctx, `INSERT INTO rag_retrieval.collections (name, model, fingerprint, cut, dimension, corpus, documents, ann)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING number`,
		c.Collection, c.Model, c.Fingerprint, c.Cut, c.Dimension, c.Corpus, c.Documents, c.ANN).Scan(&c.Number)
	if err != nil {
		return c, err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf(`
		CREATE TABLE rag_retrieval.%s (document integer PRIMARY KEY, id text NOT NULL, title text NOT NULL, text text NOT NULL,
			metadata jsonb, embedding %s(%d) NOT NULL);
		CREATE TABLE rag_retrieval.%s (term text COLLATE "C" NOT NULL, start integer NOT NULL, documents integer[] NOT NULL,
			counts integer[] NOT NULL, lengths integer[] NOT NULL)`,
		c.documentsTable(), vectorType, c.Dimension, c.chunkPostingsTable()))
	if err == nil && c.Dimension <= maxInline {
		_, err = tx.Exec(ctx, fmt.Sprintf(`ALTER TABLE rag_retrieval.%s ALTER COLUMN embedding SET STORAGE PLAIN`, c.documentsTable()))
	}
	return c, err
}

const (
	vectorType = "vector"
	// maxDimension is the longest vector of the type vector.
	maxDimension = 16000
	// maxInline is the longest vector that lies in its row, where a search of all vectors finds it at once. The rows of a page
	// have 8 kB together.
	maxInline = 1900
	// maxHNSW and maxHNSWHalf are the longest vectors of an HNSW index, and of one whose numbers have 16 bits.
	maxHNSW     = 2000
	maxHNSWHalf = 4000
)

// drop removes a collection.
func (c collection) drop(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(`DROP TABLE IF EXISTS rag_retrieval.%s, rag_retrieval.%s, rag_retrieval.%s;
		DELETE FROM rag_retrieval.collections WHERE number = %d`,
		c.documentsTable(), c.chunkPostingsTable(), c.postingsTable(), c.Number))
	return err
}
