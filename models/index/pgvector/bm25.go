package pgvector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"rag-retrieval-go/internal/bm25"
	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/index"
)

// A posting of a term is a document that has it, with the term's weight in the document. Postings lie in arrays. While documents are
// written there is a row for each term and chunk, with what the weight is made of: how often the document has the term, and the
// document's length in terms. When all are written and the mean length is known, they become a row for each term and block of
// chunks, which are a tenth of the rows, with the weights.
type postings struct{ documents, counts, lengths []int32 }

// weightOne is the number that stands for a weight of 1 in the database: weights are below 1 and have 30 binary places. They take half
// the room of a float8, and their error is 5e-10.
const weightOne = 1 << 30

// blockLen is how many documents a block joins. Joining takes the square of its chunks in time. Tests change it.
var blockLen = 64 * ChunkLen

// chunkPostings are the postings of a chunk of documents.
type chunkPostings struct {
	lists map[string]*postings // by termKey
	terms int64                // of all its documents, each as often as it occurs
}

// postingsOf makes the postings of documents, the first of which has the number start.
func postingsOf(documents []corpus.Document, start int) chunkPostings {
	p := chunkPostings{lists: map[string]*postings{}}
	for i, d := range documents {
		terms := bm25.Terms(d.Passage())
		counts := map[string]int32{}
		for _, t := range terms {
			counts[termKey(t)]++
		}
		for t, n := range counts {
			list := p.lists[t]
			if list == nil {
				list = &postings{}
				p.lists[t] = list
			}
			list.documents = append(list.documents, int32(start+i))
			list.counts = append(list.counts, n)
			list.lengths = append(list.lengths, int32(len(terms)))
		}
		p.terms += int64(len(terms))
	}
	return p
}

// maxTerm is the longest term in bytes that stands for itself: the index of terms takes at most 2,704 bytes.
const maxTerm = 256

// termKey is what stands for a term in the database. Terms have only letters and digits, so that the sum of a long one is no
// other term.
func termKey(term string) string {
	if len(term) <= maxTerm {
		return term
	}
	sum := sha256.Sum256([]byte(term))
	return "#" + hex.EncodeToString(sum[:])
}

// joinSQL makes the postings of blocks of those of chunks. frequency is the term's document frequency in all blocks, $1 the mean
// length, %[4]g BM25's k1, and %[5]g its b.
const joinSQL = `
	INSERT INTO rag_retrieval.%[1]s
		SELECT term, block, frequency, documents, ARRAY(
			SELECT round(%[6]d::float8 * count / (count + %[4]g::float8 * (1 - %[5]g::float8 + %[5]g::float8 * length / $1::float8)))::integer
			FROM unnest(counts, lengths) AS x(count, length))
		FROM (
			SELECT term, start / %[3]d AS block, sum(sum(cardinality(documents))) OVER (PARTITION BY term) AS frequency,
				rag_retrieval.joined(documents ORDER BY start) AS documents, rag_retrieval.joined(counts ORDER BY start) AS counts,
				rag_retrieval.joined(lengths ORDER BY start) AS lengths
			FROM rag_retrieval.%[2]s GROUP BY term, start / %[3]d) AS blocks`

// joinPostings makes the postings that searches read.
func (w *Writer) joinPostings(ctx context.Context, c collection) error {
	return pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		var left bool // false: an interrupted call had done it
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, schema+"."+c.chunkPostingsTable()).Scan(&left); err != nil || !left {
			return err
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(`CREATE TABLE rag_retrieval.%s (term text COLLATE "C" NOT NULL, block integer NOT NULL,
			frequency integer NOT NULL, documents integer[] NOT NULL, weights integer[] NOT NULL)`, c.postingsTable()))
		if err != nil {
			return err
		}
		// The terms' total is 0 if no document has a term. There are no postings then.
		mean := max(float64(c.Terms), 1) / float64(c.Documents)
		if _, err := tx.Exec(ctx, fmt.Sprintf(joinSQL, c.postingsTable(), c.chunkPostingsTable(), blockLen, bm25.K1, bm25.B, weightOne), mean); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, fmt.Sprintf(`ALTER TABLE rag_retrieval.%[1]s ADD PRIMARY KEY (term, block); DROP TABLE rag_retrieval.%[2]s;
			ANALYZE rag_retrieval.%[1]s`, c.postingsTable(), c.chunkPostingsTable()))
		return err
	})
}

// bm25SQL scores documents by BM25. $1: the query's terms; $2: how often each occurs; $3: the number of documents; %[2]g: k1. The
// scores are those of internal/bm25, and ordered by their first nine decimals, as there. Sets of rows in a SELECT's list are faster
// than joined ones, which the server would store first.
const bm25SQL = `
	WITH lists AS MATERIALIZED (
		SELECT ($2::float8[])[array_position($1::text[], term)] * ln(1 + ($3::float8 - frequency + 0.5::float8) / (frequency + 0.5::float8))
			* (%[2]g::float8 + 1) / %[3]d AS factor, documents, weights
		FROM rag_retrieval.%[1]s WHERE term = ANY ($1::text[]))
	SELECT document, score FROM (
		SELECT document, sum(factor * weight) AS score
		FROM (SELECT factor, unnest(documents) AS document, unnest(weights) AS weight FROM lists) AS postings %[4]s
		GROUP BY document) AS scored
	ORDER BY round(score * 1e9::float8) DESC, document LIMIT %[5]d`

// BM25 returns the k best documents for each query by BM25, best first, and of equal scores by number. Scores are those of
// internal/bm25 over the collection's passages. Documents without a term of the query are not among them.
func (s *Store) BM25(ctx context.Context, queries []string, k int, filter index.Filter) ([][]index.Hit, error) {
	if err := s.searchable(k); err != nil {
		return nil, err
	}
	c := s.collection
	var hits [][]index.Hit
	err := s.read(ctx, func(tx pgx.Tx) (err error) {
		// The server guesses that an array has ten elements, and would look up each posting's document in a loop.
		if _, err := tx.Exec(ctx, `SET LOCAL enable_nestloop = off`); err != nil {
			return err
		}
		for part := range slices.Chunk(queries, batchLen) {
			b := &pgx.Batch{}
			for _, q := range part {
				terms, times := termsOf(q)
				where, args := filterSQL(filter, []any{terms, times, c.Documents})
				if where != "" {
					where = fmt.Sprintf("JOIN rag_retrieval.%s USING (document) WHERE %s", c.documentsTable(), where)
				}
				b.Queue(fmt.Sprintf(bm25SQL, c.postingsTable(), bm25.K1, weightOne, where, k), args...)
			}
			list, err := sendBatch(ctx, tx, b)
			if err != nil {
				return err
			}
			hits = append(hits, list...)
		}
		return nil
	})
	return hits, s.address.explain(err)
}

// termsOf returns the terms of a query in order, and how often it has each.
func termsOf(query string) (terms []string, times []float64) {
	counts := map[string]float64{}
	for _, t := range bm25.Terms(query) {
		counts[termKey(t)]++
	}
	terms = slices.Sorted(maps.Keys(counts))
	for _, t := range terms {
		times = append(times, counts[t])
	}
	return terms, times
}
