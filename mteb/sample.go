// Package mteb has the reranking and retrieval tasks of MTEB as data, the scoring rules of MTEB 1.x and 2.x, and result files. It
// knows nothing of models.
//
// A reranking task is samples of a query with its positive and negative documents. Its data set is in one of two formats. In the
// 1.x format, a row is a query with its positive and negative documents. In the 2.x format, queries, corpus, qrels (relevance)
// and top_ranked (candidates) are separate files.
//
//	task, err := mteb.ReadJSONL("test.jsonl")
//	m, err := mteb.Evaluate(mteb.Rule1, task.Samples, scores) // scores[i] of sample i: positives first
//	fmt.Println(m.AP, m.RR)
//
// A retrieval task is a corpus, queries and qrels. What a Searcher, or a run file, finds for its queries is a Run.
//
//	task, err := mteb.ReadRetrieval("scifact", mteb.RetrievalOptions{}, unpack)
//	defer task.Close()
//	m, err := mteb.EvaluateRetrieval(task, run)
//	fmt.Println(m.NDCG.At(10))
package mteb

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"rag-retrieval-go/internal/jsonl"
)

// Sample is one query with its candidates. If Query has several sub-queries, a candidate's score is its best one.
type Sample struct {
	ID       string
	Query    []string
	Positive []string
	Negative []string
	// Prompt replaces the model's own prompt before the query. "" means the model's own.
	Prompt string
	// Origin is the file and line of the sample, for messages. "" means that it is not known.
	Origin string
	// DocumentIDs holds the candidates' ids in 2.x data, where they break ties. It is nil for 1.x data.
	DocumentIDs []string
}

// Candidates returns all documents, positives first. Scores are in the same order.
func (s Sample) Candidates() []string {
	return append(append(make([]string, 0, len(s.Positive)+len(s.Negative)), s.Positive...), s.Negative...)
}

// Task is a set of samples with a name.
type Task struct {
	Name    string
	Samples []Sample
	// Dropped counts rows without positives or without negatives. They are ignored, as in MTEB.
	Dropped int
}

// Hash returns the SHA-256 of the samples' texts. Only results with equal hashes can be compared.
func (t Task) Hash() string {
	h := sha256.New()
	for _, s := range t.Samples {
		if s.Prompt != "" {
			fmt.Fprintf(h, "prompt %d\n%s\n", len(s.Prompt), s.Prompt)
		}
		for _, texts := range [][]string{s.Query, s.Positive, s.Negative} {
			fmt.Fprintf(h, "%d\n", len(texts))
			for _, text := range texts {
				fmt.Fprintf(h, "%d\n%s\n", len(text), text)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

type row struct {
	Query    jsonl.Strings `json:"query"`
	Positive jsonl.Strings `json:"positive"`
	Negative jsonl.Strings `json:"negative"`
}

// ReadJSONL reads a file in the 1.x format: rows of {"query": text or list, "positive": [text], "negative": [text]}. The
// task is named after the file.
func ReadJSONL(path string) (Task, error) {
	base := filepath.Base(path)
	t := Task{Name: strings.TrimSuffix(base, filepath.Ext(base))}
	f, err := jsonl.Open(path)
	if err != nil {
		return t, err
	}
	defer f.Close()
	for i := 0; i < f.Len(); i++ {
		var r row
		if err := f.Row(i, &r); err != nil {
			return t, err
		}
		if len(r.Query) == 0 {
			return t, f.Errorf(i, `"query" is missing or empty`)
		}
		for _, key := range []struct {
			name  string
			texts jsonl.Strings
		}{{"query", r.Query}, {"positive", r.Positive}, {"negative", r.Negative}} {
			if key.texts == nil {
				return t, f.Errorf(i, "%q is missing", key.name)
			}
			for _, text := range key.texts {
				if strings.TrimSpace(text) == "" {
					return t, f.Errorf(i, "%q has an empty text", key.name)
				}
			}
		}
		if len(r.Positive) == 0 || len(r.Negative) == 0 {
			t.Dropped++
			continue
		}
		t.Samples = append(t.Samples, Sample{ID: fmt.Sprint(i), Query: r.Query, Positive: r.Positive, Negative: r.Negative, Origin: f.Location(i)})
	}
	if len(t.Samples) == 0 {
		return t, fmt.Errorf("%s: no row has both positives and negatives", path)
	}
	return t, nil
}
