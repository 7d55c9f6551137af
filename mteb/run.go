package mteb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/jsonl"
)

// A run file in TREC's form has one line for each document that was found: the query's id, "Q0", the document's id, the rank, the
// score and the name of the system. Ranks are for people: the scores decide, as in trec_eval.

// WriteRun writes a run as a file in TREC's form, best documents first. system must not have a space. Read back, each score is the
// same number.
func WriteRun(path string, t RetrievalTask, run Run, system string) error {
	ranked, err := t.Ranked(run)
	if err != nil {
		return err
	}
	ids := idReader{t: t, known: map[int]string{}}
	return atomicdir.Create(path, func(out io.Writer) error {
		w := bufio.NewWriter(out)
		for i, q := range t.Queries {
			if err := checkRunID("query", q.ID); err != nil {
				return err
			}
			for rank, h := range ranked[i] {
				id := ids.id(h.Document)
				if err := errors.Join(ids.err, checkRunID("document", id)); err != nil {
					return err
				}
				score := strconv.FormatFloat(float64(h.Score), 'g', -1, 32)
				if _, err := fmt.Fprintf(w, "%s Q0 %s %d %s %s\n", q.ID, id, rank+1, score, system); err != nil {
					return err
				}
			}
		}
		return w.Flush()
	})
}

// isColumnSpace says whether a character ends a column, as for C's isspace: a wide space does not.
func isColumnSpace(r rune) bool { return strings.ContainsRune(" \t\r\n\v\f", r) }

// checkRunID refuses an id that a run file cannot hold.
func checkRunID(what, id string) error {
	if strings.ContainsFunc(id, isColumnSpace) {
		return fmt.Errorf("the %s %q cannot be in a run file: its id has a space", what, id)
	}
	return nil
}

// ReadRun reads a run file in TREC's form. It is an error if a line has another form, a score that is not a number, an id that
// the task does not have, or a document that the query has already. A score is read as float32, as in trec_eval. Queries of the
// data that have no qrels are passed over.
func ReadRun(path string, t RetrievalTask) (Run, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r := runReader{t: t, queries: map[string]int{}, documents: map[string]int{}}
	for i, q := range t.Queries {
		r.queries[q.ID] = i
	}
	run := make(Run, len(t.Queries))
	current, seen := -1, map[int]bool{} // the query of the line before, and its documents
	err = jsonl.Scan(in, path, func(_ int64, line int, b []byte) error {
		n, hit, err := r.parse(b)
		if err == nil && n >= 0 {
			if n != current {
				current = n
				clear(seen)
				for _, h := range run[n] { // a query's lines need not be together
					seen[h.Document] = true
				}
			}
			if seen[hit.Document] {
				err = fmt.Errorf("a second line of the query %q and the document %q", t.Queries[n].ID, bytes.FieldsFunc(b, isColumnSpace)[2])
			}
			seen[hit.Document] = true
			run[n] = append(run[n], hit)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", path, line, err)
		}
		return nil
	})
	return run, err
}

// runReader reads the lines of a run file.
type runReader struct {
	t         RetrievalTask
	queries   map[string]int // numbers by id
	documents map[string]int // those that a line has named
}

// parse reads a line. The query's number is -1 if the query has no qrels.
func (r runReader) parse(line []byte) (query int, h Hit, err error) {
	fields := strings.FieldsFunc(string(line), isColumnSpace)
	if len(fields) != 6 {
		return 0, h, fmt.Errorf("%d columns, want 6: query, Q0, document, rank, score and system", len(fields))
	}
	score, err := strconv.ParseFloat(fields[4], 32)
	if err != nil || math.IsNaN(score) {
		return 0, h, fmt.Errorf("the score is %.40q, want a number", fields[4])
	}
	query, known := r.queries[fields[0]]
	if !known {
		if !r.t.others[fields[0]] {
			return 0, h, fmt.Errorf("the query %q is not among the queries", fields[0])
		}
		query = -1
	}
	document, known := r.documents[fields[2]]
	if !known {
		if document, known = r.t.Corpus.Number(fields[2]); !known {
			return 0, h, fmt.Errorf("the document %q is not in the corpus", fields[2])
		}
		r.documents[fields[2]] = document
	}
	return query, Hit{document, float32(score)}, nil
}
