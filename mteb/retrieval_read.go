package mteb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/internal/corpus"
)

// DefaultSplit is the split that is read from data with several splits if none is named, as in MTEB.
const DefaultSplit = "test"

// RetrievalOptions say how ReadRetrieval reads.
type RetrievalOptions struct {
	// Split of data with several splits. "" means DefaultSplit.
	Split string
	// AllowUnknown lets rows of qrels pass that name a query or a document which the data lack. MTEB ignores such queries, and
	// counts such documents as relevant ones that nobody finds. It is for published data, which cannot be mended. Otherwise such a
	// row is an error.
	AllowUnknown bool
}

// ReadRetrieval reads a retrieval task from a folder in BEIR's or MTEB's form: corpus, queries and qrels, as files such as
// corpus.jsonl or as folders of files. Queries without qrels are left out. The caller closes the task.
func ReadRetrieval(dir string, o RetrievalOptions, unpack Unpack) (t RetrievalTask, err error) {
	if o.Split == "" {
		o.Split = DefaultSplit
	}
	if st, err := os.Stat(dir); err != nil {
		return t, err
	} else if !st.IsDir() {
		return t, fmt.Errorf("%s: want a folder with corpus, queries and qrels", dir)
	}
	parts, err := findParts(dir, o.Split)
	if err != nil {
		return t, err
	}
	for _, part := range []string{corpusPart, queriesPart, qrelsPart} {
		if parts[part] == nil {
			return t, fmt.Errorf("%s: no %s: want files or folders named corpus, queries and qrels", dir, part)
		}
		for i, f := range parts[part] {
			if parts[part][i], err = unpack(f); err != nil {
				return t, err
			}
		}
	}
	name, err := filepath.Abs(dir) // "." has a name too
	if err != nil {
		return t, err
	}
	t = RetrievalTask{Name: filepath.Base(name)}
	if t.Corpus, err = corpus.Open(parts[corpusPart]...); err != nil {
		return RetrievalTask{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	numbers, err := t.readQueries(parts[queriesPart])
	if err == nil {
		err = t.readQrels(parts[qrelsPart], numbers, o.AllowUnknown)
	}
	if err == nil {
		err = t.keepJudged(dir)
	}
	return t, err
}

// readQueries adds all queries, and returns the number of each by its id.
func (t *RetrievalTask) readQueries(files []string) (map[string]int, error) {
	numbers := map[string]int{}
	err := eachRow(files, func(origin string, q document) error {
		id := q.id()
		if id == "" {
			return errors.New(`"_id" is missing or empty`)
		}
		if first, taken := numbers[id]; taken {
			return fmt.Errorf("the id %q is that of %s too", id, t.Queries[first].Origin)
		}
		numbers[id] = len(t.Queries)
		t.Queries = append(t.Queries, RetrievalQuery{ID: id, Text: q.Text, Origin: origin, Relevance: map[int]int{}})
		return nil
	})
	return numbers, err
}

// readQrels adds the relevances to the queries.
func (t *RetrievalTask) readQrels(files []string, numbers map[string]int, allowUnknown bool) error {
	absent := map[[2]string]int{} // relevance by query and document
	err := eachJudgment(files, func(origin string, r judgment) error {
		query, relevance := string(r.Query), int(*r.Score)
		n, known := numbers[query]
		if !known {
			return t.unknown(&t.Unknown.Queries, allowUnknown, origin, fmt.Sprintf("the query %q is not among the queries", query))
		}
		d, known := t.Corpus.Number(string(r.Document))
		if !known {
			absent[[2]string{query, string(r.Document)}] = relevance
			return t.unknown(&t.Unknown.Documents, allowUnknown, origin, fmt.Sprintf("the document %q is not in the corpus", string(r.Document)))
		}
		if before, twice := t.Queries[n].Relevance[d]; twice && before != relevance && !allowUnknown {
			return fmt.Errorf("the query %q and the document %q have the score %d, and %d in a row before", query, string(r.Document), relevance, before)
		}
		t.Queries[n].Relevance[d] = relevance
		return nil
	})
	for pair, relevance := range absent {
		q := &t.Queries[numbers[pair[0]]]
		q.Absent = append(q.Absent, relevance)
	}
	return err
}

// unknown counts a row of qrels that names what the data lack, or makes an error of it.
func (t *RetrievalTask) unknown(count *int, allow bool, origin, problem string) error {
	if !allow {
		return errors.New(problem)
	}
	if *count++; t.Unknown.First == "" {
		t.Unknown.First = origin + ": " + problem
	}
	return nil
}

// keepJudged drops the queries without qrels: they are of another split.
func (t *RetrievalTask) keepJudged(dir string) error {
	all := t.Queries
	t.Queries, t.others = nil, map[string]bool{}
	for _, q := range all {
		if len(q.Relevance)+len(q.Absent) == 0 {
			t.others[q.ID] = true
			continue
		}
		if strings.TrimSpace(q.Text) == "" {
			return fmt.Errorf(`%s: "text" of the query %q is missing or empty`, q.Origin, q.ID)
		}
		slices.Sort(q.Absent)
		t.Queries = append(t.Queries, q)
	}
	if len(t.Queries) == 0 {
		return fmt.Errorf("%s: qrels name none of the queries", dir)
	}
	return nil
}
