package mteb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"rag-retrieval-go/internal/corpus"
)

// RetrievalTask is a retrieval task: a corpus, queries, and the documents that are relevant to each query. A model finds each
// query's documents in the whole corpus.
type RetrievalTask struct {
	Name    string
	Corpus  *corpus.Corpus
	Queries []RetrievalQuery // those that qrels judge, in the order of their file
	// IgnoreIdenticalIDs leaves out a found document whose id is the query's, as MTEB does for some tasks. It is left out after the
	// best ones were chosen, so that one fewer counts.
	IgnoreIdenticalIDs bool
	// Unknown describes the rows of qrels that name a query or a document which the data lack. It is empty unless they were let pass.
	Unknown Unknown

	others map[string]bool // ids of queries without qrels: a run file may name them
}

// RetrievalQuery is one query of a retrieval task.
type RetrievalQuery struct {
	ID   string
	Text string
	// Origin is the file and line of the query, for messages.
	Origin string
	// Relevance holds the relevance of each judged document, by the document's number in the corpus. A document is relevant if its
	// relevance is above 0; higher ones gain more in nDCG.
	Relevance map[int]int
	// Absent holds the relevances of judged documents which the corpus lacks. Nobody can find them, but MTEB counts them.
	Absent []int
}

// Unknown counts the rows of qrels that name what the data lack.
type Unknown struct {
	Queries, Documents int    // rows
	First              string // the first such row: file, line and id
}

// Hit is a document that was found for a query.
type Hit struct {
	Document int // its number in the corpus
	Score    float32
}

// Run holds the documents that were found for each query of a task, in any order.
type Run [][]Hit

// Searcher finds documents.
type Searcher interface {
	// Search finds the k best documents for each query of a task, or fewer if the corpus has fewer. progress is called with what
	// is being done, and how many of how many texts, pairs or queries are done.
	Search(ctx context.Context, t RetrievalTask, k int, progress func(stage string, done, total int)) (Run, error)
}

// Hash returns the SHA-256 of corpus, queries and qrels. Only results with equal hashes can be compared.
func (t RetrievalTask) Hash() string {
	h := sha256.New()
	fmt.Fprintln(h, t.Corpus.Hash(), t.IgnoreIdenticalIDs)
	for _, q := range t.Queries {
		fmt.Fprintf(h, "%q %q %v\n", q.ID, q.Text, q.Absent)
		var judged []int
		for d := range q.Relevance {
			judged = append(judged, d)
		}
		slices.Sort(judged)
		for _, d := range judged {
			fmt.Fprintln(h, d, q.Relevance[d])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Close closes the corpus.
func (t RetrievalTask) Close() error {
	if t.Corpus == nil {
		return nil
	}
	return t.Corpus.Close()
}
