package pgvector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rag-retrieval-go/internal/bm25"
	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/index"
)

// A posting of a term is a document that has it, how often, and the document's length in terms. Postings lie in three arrays of the
// same length: a row for each term and chunk while documents are written, then a row for each term and block of chunks, which
// take a tenth of the rows. Lengths stand beside the counts because looking them up in another table took longer than the sums.
type postings struct{ documents, counts, lengths []int32 }

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

// joinPostings makes the postings of blocks of those of chunks. frequency is the term's document frequency in all blocks.
func (w *Writer) joinPostings(ctx context.Context, c collection) error {
	return pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		var left bool // false: an interrupted call had done it
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, schema+"."+c.chunkPostingsTable()).Scan(&left); err != nil || !left {
			return err
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(`
			CREATE TABLE rag_retrieval.%[1]s AS
				SELECT term, start / %[3]d AS block, sum(sum(cardinality(documents))) OVER (PARTITION BY term)::integer AS frequency,
					rag_retrieval.joined(documents ORDER BY start) AS documents, rag_retrieval.joined(counts ORDER BY start) AS counts,
					rag_retrieval.joined(lengths ORDER BY start) AS lengths
				FROM rag_retrieval.%[2]s GROUP BY term, start / %[3]d;
			ALTER TABLE rag_retrieval.%[1]s ADD PRIMARY KEY (term, block);
			DROP TABLE rag_retrieval.%[2]s;
			ANALYZE rag_retrieval.%[1]s`, c.postingsTable(), c.chunkPostingsTable(), blockLen))
		return err
	})
}

// bm25SQL scores documents by BM25. $1: the query's terms, each as often as it occurs; $2: the number of documents; $3: their mean
// length. %d is k1 + 1 and so on; see internal/bm25, whose scores these are. Scores are ordered by their first nine decimals, as there.
const bm25SQL = `
	WITH query AS (SELECT term, count(*)::float8 AS times FROM unnest($1::text[]) AS term GROUP BY term)
	SELECT document, score FROM (
		SELECT x.document, sum(q.times * ln(1 + ($2::float8 - p.frequency + 0.5) / (p.frequency + 0.5))
			* x.count * (%[2]g + 1) / (x.count + %[2]g * (1 - %[3]g + %[3]g * x.length / $3::float8))) AS score
		FROM query q JOIN rag_retrieval.%[1]s p USING (term), unnest(p.documents, p.counts, p.lengths) AS x(document, count, length)
		GROUP BY x.document) AS scored
	%[4]s
	ORDER BY round(score * 1e9) DESC, document LIMIT %[5]d`

// BM25 returns the k best documents for each query by BM25, best first, and of equal scores by number. Scores are those of
// internal/bm25 over the collection's passages. Documents without a term of the query are not among them.
func (s *Store) BM25(ctx context.Context, queries []string, k int, filter index.Filter) ([][]index.Hit, error) {
	if err := s.searchable(k); err != nil {
		return nil, err
	}
	c := s.collection
	// The terms' total is 0 if no document has a term. There are no postings then.
	mean := max(float64(c.Terms), 1) / float64(c.Documents)
	b := &pgx.Batch{}
	for _, q := range queries {
		terms := bm25.Terms(q)
		for i, t := range terms {
			terms[i] = termKey(t)
		}
		if terms == nil {
			terms = []string{}
		}
		args := []any{terms, c.Documents, mean}
		where, args := filterSQL(filter, args)
		if where != "" {
			where = fmt.Sprintf("JOIN rag_retrieval.%s USING (document) WHERE %s", c.documentsTable(), where)
		}
		b.Queue(fmt.Sprintf(bm25SQL, c.postingsTable(), bm25.K1, bm25.B, where, k), args...)
	}
	var hits [][]index.Hit
	err := s.read(ctx, func(tx pgx.Tx) (err error) {
		hits, err = sendBatch(ctx, tx, b)
		return err
	})
	return hits, s.address.explain(err)
}
