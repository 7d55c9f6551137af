// Package pgvector keeps a corpus with its vectors in a PostgreSQL database, whose extension vector (pgvector) finds the nearest
// documents to a query. It scores by BM25 in the database too, for hybrid search.
//
//	s, err := pgvector.Open(ctx, "postgres://me:secret@db.example/rag?collection=news") // without ?collection: "default"
//	defer s.Close()
//	err = s.Build(ctx, pgvector.Build{Source: documents, Embedder: e, Fingerprint: f, ANN: pgvector.HNSW}) // goes on where it was
//	hits, err := s.Search(ctx, queryVectors, 10, nil)
//	words, err := s.BM25(ctx, []string{"hard negatives"}, 10, nil)
//	documents, err := s.Documents(ctx, pgvector.Numbers(hits[0]))
//
// The tables lie in the schema rag_retrieval, which Build makes and brings up to date. A database holds any number of collections;
// each has one corpus and the vectors of one model. Build writes chunks of ChunkLen documents, each in one transaction, so that a
// collection has whole chunks only, whatever happens. Searching needs a complete collection and no right but to read.
//
// Errors are one line each. They never tell the password.
package pgvector

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxvector "github.com/pgvector/pgvector-go/pgx"
)

// Store is an open collection of a database. Several goroutines may search it at once.
type Store struct {
	pool       *pgxpool.Pool
	address    address
	collection collection // as it was when the store was opened, or when Build ended
	outdated   error      // the schema is an older one, which only Build uses
}

// ErrNoCollection says that the database has no such collection.
var ErrNoCollection = errors.New("there is no such collection")

// Open connects to the database of a URL such as postgres://user:password@host:port/database?collection=NAME, and reads what the
// collection is. Other parameters are those of PostgreSQL's own programs, such as sslmode. The collection need not exist, see
// Manifest. A schema that a newer program made is an error.
func Open(ctx context.Context, url string) (*Store, error) {
	a, config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	config.AfterConnect = prepare
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, a.explain(err)
	}
	s := &Store{pool: pool, address: a}
	if err := s.load(ctx); err != nil {
		pool.Close()
		return nil, a.explain(err)
	}
	return s, nil
}

// Close closes the connections.
func (s *Store) Close() { s.pool.Close() }

// Schema is where all tables are.
const schema = "rag_retrieval"

// prepare sets up a new connection.
func prepare(ctx context.Context, conn *pgx.Conn) error {
	// The extension may be installed in any schema. Its operators are found in the search path only.
	var place *string
	err := conn.QueryRow(ctx, `SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'vector'`).Scan(&place)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	path := schema
	if place != nil {
		path += ", " + *place
	}
	// Plans are made for each query's own values: a general plan does not know how rare a filter's value is. They are too short for
	// compilation to be worth its time.
	_, err = conn.Exec(ctx, `SELECT set_config('search_path', $1, false), set_config('plan_cache_mode', 'force_custom_plan', false),
		set_config('jit', 'off', false)`, path)
	if err != nil || place == nil {
		return err
	}
	return pgxvector.RegisterTypes(ctx, conn)
}

// extensionVersion is the oldest usable version of pgvector: older ones cannot go on searching where a filter leaves too few.
var extensionVersion = [2]int{0, 8}

// checkExtension returns an error if the database's extension vector is missing or too old.
func checkExtension(ctx context.Context, q querier) error {
	var version string
	err := q.QueryRow(ctx, `SELECT extversion FROM pg_extension WHERE extname = 'vector'`).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return errNoExtension
	}
	if err != nil {
		return err
	}
	part := strings.SplitN(version+".0", ".", 3)
	major, err1 := strconv.Atoi(part[0])
	minor, err2 := strconv.Atoi(part[1])
	if err1 == nil && err2 == nil && (major < extensionVersion[0] || major == extensionVersion[0] && minor < extensionVersion[1]) {
		return fmt.Errorf("the database's extension vector (pgvector) is version %s, want %d.%d or newer: install it, then run ALTER EXTENSION vector UPDATE",
			version, extensionVersion[0], extensionVersion[1])
	}
	return nil
}

// querier is a connection, a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
