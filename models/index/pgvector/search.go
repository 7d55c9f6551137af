package pgvector

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"

	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/index"
)

// Numbers returns the documents of hits.
func Numbers(hits []index.Hit) []int {
	out := make([]int, len(hits))
	for i, h := range hits {
		out[i] = h.Document
	}
	return out
}

// searchable returns an error if there is nothing to search for k documents.
func (s *Store) searchable(k int) error {
	if k < 1 {
		return fmt.Errorf("a search for %d documents, want at least 1", k)
	}
	if !s.collection.Complete {
		return s.notComplete()
	}
	return nil
}

// batchLen is how many queries are sent at a time. The server works on one while the next ones are on their way.
const batchLen = 256

// Search returns the k nearest documents to each query, a vector of length one, best first, and of equal scores by number. With HNSW
// some of the best may be missing. There are fewer than k only where fewer documents meet the filter.
func (s *Store) Search(ctx context.Context, queries [][]float32, k int, filter index.Filter) ([][]index.Hit, error) {
	if err := s.searchable(k); err != nil {
		return nil, err
	}
	c := s.collection
	if err := index.CheckQueries(queries, c.Dimension, "collection"); err != nil {
		return nil, err
	}
	k = min(k, c.Documents)
	hits := make([][]index.Hit, 0, len(queries))
	err := s.read(ctx, func(tx pgx.Tx) error {
		if err := setHNSW(ctx, tx, c, k); err != nil {
			return err
		}
		for len(hits) < len(queries) {
			part, err := s.searchBatch(ctx, tx, queries[len(hits):min(len(hits)+batchLen, len(queries))], k, filter, c.ANN == HNSW)
			if err != nil {
				return err
			}
			hits = append(hits, part...)
		}
		return nil
	})
	if err == nil && c.ANN == HNSW {
		err = s.searchAgain(ctx, queries, hits, k, filter)
	}
	if err != nil {
		return nil, s.address.explain(err)
	}
	return hits, nil
}

// searchAgain searches exactly for queries for which the graph gave too few documents: a filter that few documents meet lets its
// search end early.
func (s *Store) searchAgain(ctx context.Context, queries [][]float32, hits [][]index.Hit, k int, filter index.Filter) error {
	var numbers []int
	var few [][]float32
	for i, h := range hits {
		if len(h) < k {
			numbers, few = append(numbers, i), append(few, queries[i])
		}
	}
	if len(few) == 0 {
		return nil
	}
	return s.read(ctx, func(tx pgx.Tx) error {
		// Bitmap scans, which find what meets a filter, stay.
		if _, err := tx.Exec(ctx, `SET LOCAL enable_indexscan = off`); err != nil {
			return err
		}
		for len(few) > 0 {
			n := min(len(few), batchLen)
			part, err := s.searchBatch(ctx, tx, few[:n], k, filter, false)
			if err != nil {
				return err
			}
			for i, h := range part {
				hits[numbers[i]] = h
			}
			numbers, few = numbers[n:], few[n:]
		}
		return nil
	})
}

// read runs a function in a transaction that only reads.
func (s *Store) read(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, do)
}

// setHNSW sets how far the graph is searched: ef_search is the number of candidates, 1,000 at most. Beyond it, and where a filter
// leaves too few, the scan goes on with further candidates.
func setHNSW(ctx context.Context, tx pgx.Tx, c collection, k int) error {
	if c.ANN != HNSW {
		return nil
	}
	const least, most, tuples = 40, 1000, 20000 // pgvector's default, limit, and default of max_scan_tuples
	_, err := tx.Exec(ctx, `SELECT set_config('hnsw.ef_search', $1, true), set_config('hnsw.iterative_scan', 'strict_order', true),
		set_config('hnsw.max_scan_tuples', $2, true)`,
		fmt.Sprint(min(max(c.near(k), least), most)), fmt.Sprint(max(c.Documents, tuples)))
	return err
}

// searchBatch sends queries together and reads the hits of each.
func (s *Store) searchBatch(ctx context.Context, tx pgx.Tx, queries [][]float32, k int, filter index.Filter, approximate bool) ([][]index.Hit, error) {
	c := s.collection
	b := &pgx.Batch{}
	for _, q := range queries {
		args := []any{pgvector.NewVector(q)}
		where, args := filterSQL(filter, args)
		if where != "" {
			where = "WHERE " + where
		}
		b.Queue(c.searchSQL(where, k, approximate), args...)
	}
	return sendBatch(ctx, tx, b)
}

// near is how many documents the graph gives for the k best: some more, among which equal scores are put in order. An index whose
// numbers have 16 bits needs more of them.
func (c collection) near(k int) int {
	if c.Dimension > maxHNSW {
		return k + k/2 + 10
	}
	return k + 10
}

// searchSQL is the statement of a search. $1: the query. k is a part of it, because the plan depends on it. PostgreSQL before 17
// uses an index of distances only where nothing else is ordered by.
func (c collection) searchSQL(where string, k int, approximate bool) string {
	table := "rag_retrieval." + c.documentsTable()
	if approximate {
		distance := "embedding <#> $1"
		if c.Dimension > maxHNSW {
			distance = fmt.Sprintf("embedding::halfvec(%[1]d) <#> $1::vector::halfvec(%[1]d)", c.Dimension)
		}
		table = fmt.Sprintf("(SELECT document, embedding FROM %s %s ORDER BY %s LIMIT %d) AS near", table, where, distance, c.near(k))
		where = ""
	}
	return fmt.Sprintf(`SELECT document, -(embedding <#> $1) FROM %s %s ORDER BY embedding <#> $1, document LIMIT %d`, table, where, k)
}

// sendBatch sends statements together. Each gives the numbers and scores of documents.
func sendBatch(ctx context.Context, tx pgx.Tx, b *pgx.Batch) (hits [][]index.Hit, err error) {
	results := tx.SendBatch(ctx, b)
	for range b.Len() {
		rows, err := results.Query()
		if err != nil {
			_ = results.Close() // its error is this one
			return nil, err
		}
		list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h index.Hit, err error) {
			var score float64
			err = row.Scan(&h.Document, &score)
			h.Score = float32(score)
			return h, err
		})
		if err != nil {
			_ = results.Close() // its error is this one
			return nil, err
		}
		hits = append(hits, list)
	}
	return hits, results.Close()
}

// Document reads document i, from 0.
func (s *Store) Document(ctx context.Context, i int) (corpus.Document, error) {
	documents, err := s.Documents(ctx, []int{i})
	if err != nil {
		return corpus.Document{}, err
	}
	return documents[0], nil
}

// Documents reads the documents of numbers, in their order. Metadata are equal to those of the corpus, in another spelling.
func (s *Store) Documents(ctx context.Context, numbers []int) ([]corpus.Document, error) {
	if !s.collection.Complete {
		return nil, s.notComplete()
	}
	for _, n := range numbers {
		if n < 0 || n >= s.collection.Documents {
			return nil, fmt.Errorf("document %d, want 0 to %d", n, s.collection.Documents-1)
		}
	}
	rows, err := s.pool.Query(ctx, fmt.Sprintf(`SELECT id, title, text, metadata FROM unnest($1::integer[]) WITH ORDINALITY AS wanted(document, place)
		JOIN rag_retrieval.%s USING (document) ORDER BY place`, s.collection.documentsTable()), numbers)
	if err != nil {
		return nil, s.address.explain(err)
	}
	documents, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d corpus.Document, err error) {
		var metadata []byte
		err = row.Scan(&d.ID, &d.Title, &d.Text, &metadata)
		d.Metadata = metadata
		return d, err
	})
	if err == nil && len(documents) != len(numbers) {
		err = fmt.Errorf("%d of %d documents were found: the collection was changed", len(documents), len(numbers))
	}
	if err != nil {
		return nil, s.address.explain(err)
	}
	return documents, nil
}
