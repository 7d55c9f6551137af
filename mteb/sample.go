// Package mteb holds the reranking tasks of MTEB as data: samples of a query with its positive and negative
// documents, both generations' scoring rules, and result files. It knows nothing of models.
//
//	samples, err := mteb.ReadJSONL("test.jsonl")
//	r, err := mteb.Evaluate(mteb.Rule1, samples, scores)   // scores[i] of sample i: positives first
//	fmt.Println(r.AP, r.RR)
package mteb

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"rag-retrieval-go/internal/jsonl"
)

// Sample is one query and its candidates. Several sub-queries count as one: a document's score is its largest.
type Sample struct {
	ID       string
	Query    []string
	Positive []string
	Negative []string
	// Prompt stands before the queries, in place of the model's own; empty: the model's.
	Prompt string
	// From is the file and line of the sample, for messages; empty: not known.
	From string
	// DocumentIDs are those of the candidates in MTEB 2.x's data, which break ties there; nil: MTEB's own for 1.x data.
	DocumentIDs []string
}

// Candidates are the documents in the order of their scores: positives first.
func (s Sample) Candidates() []string {
	return append(append(make([]string, 0, len(s.Positive)+len(s.Negative)), s.Positive...), s.Negative...)
}

// Best is the larger of two scores of each candidate, in place of a: sub-queries count by their best score. a may be nil.
func Best(a, b []float32) []float32 {
	if a == nil {
		return b
	}
	for i := range a {
		a[i] = max(a[i], b[i])
	}
	return a
}

// Task is a set of samples with a name.
type Task struct {
	Name    string
	Samples []Sample
	// Dropped counts rows without positives or without negatives, which MTEB leaves out.
	Dropped int
}

// Hash is the SHA-256 of the samples' texts: results on other data must not be compared.
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

// ReadJSONL reads a file of MTEB's first shape: {"query": text or list, "positive": [text], "negative": [text]}.
// The task is named after the file.
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
		t.Samples = append(t.Samples, Sample{ID: fmt.Sprint(i), Query: r.Query, Positive: r.Positive, Negative: r.Negative, From: f.Place(i)})
	}
	if len(t.Samples) == 0 {
		return t, fmt.Errorf("%s: no row has both positives and negatives", path)
	}
	return t, nil
}
