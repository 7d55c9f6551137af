package mteb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"rag-retrieval-go/internal/jsonl"
)

// Unpack returns the path of a file's rows as JSON lines. A .gz or .parquet file is unpacked; any other path is returned
// unchanged.
type Unpack func(path string) (string, error)

// Read reads a task from a file in the 1.x format (see ReadJSONL), or from a folder. The folder has files in the 1.x format,
// or corpus, queries, qrels and top_ranked in the 2.x format. If the folder has several splits, split names one of them;
// otherwise it may be "".
func Read(path, split string, unpack Unpack) (Task, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Task{}, err
	}
	if !st.IsDir() {
		local, err := unpack(path)
		if err != nil {
			return Task{}, err
		}
		return ReadJSONL(local)
	}
	parts, err := findParts(path, split)
	if err != nil {
		return Task{}, err
	}
	for role, files := range parts {
		for i, f := range files {
			if files[i], err = unpack(f); err != nil {
				return Task{}, err
			}
		}
		parts[role] = files
	}
	t := Task{Name: filepath.Base(path)}
	if parts[corpusPart] != nil {
		return t, readParts(&t, path, parts)
	}
	for _, f := range parts[rowsPart] {
		x, err := ReadJSONL(f)
		if err != nil {
			return t, err
		}
		for _, s := range x.Samples {
			s.ID = fmt.Sprint(len(t.Samples))
			t.Samples = append(t.Samples, s)
		}
		t.Dropped += x.Dropped
	}
	return t, nil
}

// The parts of a task's folder.
const (
	rowsPart    = "rows" // of the 1.x format
	corpusPart  = "corpus"
	queriesPart = "queries"
	qrelsPart   = "qrels"
	rankedPart  = "top_ranked"
)

// partOf says which part a file belongs to, by its name or its folder's. If isV2 is true, the folder has the 2.x format:
// there the hub keeps qrels as the configuration "default", in a folder "data" or "default".
func partOf(name string, isV2 bool) string {
	for part := name; part != "." && part != "/"; part = filepath.Dir(part) {
		word, _, _ := strings.Cut(filepath.Base(part), ".")
		word, _, _ = strings.Cut(word, "-")
		switch word {
		case corpusPart, queriesPart, qrelsPart, rankedPart:
			return word
		case "default", "data":
			if isV2 {
				return qrelsPart
			}
		}
	}
	return rowsPart
}

// findParts lists a folder's files of one split, by part.
func findParts(dir, split string) (map[string][]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if isRows(name) {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no .jsonl, .jsonl.gz or .parquet file", dir)
	}
	sort.Strings(names)
	isV2 := slices.ContainsFunc(names, func(n string) bool { return partOf(n, false) == corpusPart })
	byRole := map[string][]string{}
	for _, n := range names {
		r := partOf(n, isV2)
		byRole[r] = append(byRole[r], n)
	}
	for r, files := range byRole {
		if byRole[r], err = filesOfSplit(dir, r, files, split); err != nil {
			return nil, err
		}
	}
	return byRole, nil
}

// isRows says whether a file of a task's folder has rows. qrels may be tab-separated, as BEIR's are.
func isRows(name string) bool {
	for _, suffix := range []string{".jsonl", ".jsonl.gz", ".parquet"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return isTSV(name) && partOf(name, false) == qrelsPart
}

// filesOfSplit returns the files of a split, such as "dev.jsonl.gz", "data/dev-00000-of-00002.parquet",
// "corpus/dev-….parquet" or "default/dev/0000.parquet". Files without a split in their name belong to all splits.
func filesOfSplit(dir, part string, files []string, split string) ([]string, error) {
	var out []string
	found := map[string]bool{}
	for _, f := range files {
		s := splitOf(f)
		if s != "" {
			found[s] = true
		}
		if s == "" || s == split || split == "" {
			out = append(out, filepath.Join(dir, f))
		}
	}
	if len(out) > 0 && (split != "" || len(found) <= 1) {
		return out, nil
	}
	var known []string
	for s := range found {
		known = append(known, s)
	}
	sort.Strings(known)
	if len(known) == 1 { // a single split is read whatever its name is, as MTEB does
		return filesOfSplit(dir, part, files, known[0])
	}
	return nil, &SplitError{dir, part, split, known}
}

// SplitError says that a folder has several splits, and that none was named, or another one.
type SplitError struct {
	Dir   string
	Part  string // of the folder, such as "rows"
	Split string // that was named; empty: none
	Known []string
}

func (e *SplitError) Error() string {
	if e.Split == "" {
		return fmt.Sprintf("%s: %s of several splits: want one of %s", e.Dir, e.Part, strings.Join(e.Known, ", "))
	}
	return fmt.Sprintf("%s: the split of %s is %q, want one of %s", e.Dir, e.Part, e.Split, strings.Join(e.Known, ", "))
}

// splits are the names of splits with which file names begin, and which folders may have.
var splits = []string{"train", "validation", "dev", "test"}

// splitOf says of which split a file is, by its name or else its folder's; empty: of none.
func splitOf(name string) string {
	word, _, _ := strings.Cut(filepath.Base(name), ".")
	word, _, _ = strings.Cut(word, "-")
	for folder := filepath.Dir(name); !slices.Contains(splits, word); folder = filepath.Dir(folder) {
		if folder == "." || folder == "/" {
			return ""
		}
		word = filepath.Base(folder)
	}
	return word
}

// The rows of the 2.x format.
type (
	document struct {
		ID      rowID  `json:"_id"`
		PlainID rowID  `json:"id"` // another name of _id in some data sets
		Title   string `json:"title"`
		Text    string `json:"text"`
	}
	ranking struct {
		Query     rowID   `json:"query-id"`
		Documents []rowID `json:"corpus-ids"`
	}
)

func (d document) id() string {
	if d.ID != "" {
		return string(d.ID)
	}
	return string(d.PlainID)
}

// readParts reads a task from files in the 2.x format. A query's candidates are those in top_ranked. A candidate is relevant
// if its score in qrels is above 0.
func readParts(t *Task, dir string, parts map[string][]string) error {
	for _, part := range []string{queriesPart, qrelsPart, rankedPart} {
		if parts[part] == nil {
			return fmt.Errorf("%s: no %s", dir, part)
		}
	}
	texts := map[string]string{}
	if err := eachRow(parts[corpusPart], func(_ string, d document) error {
		text := strings.TrimSpace(d.Title + " " + d.Text)
		if text == "" || d.id() == "" {
			return errors.New(`"_id" or "text" is missing or empty`)
		}
		texts[d.id()] = text
		return nil
	}); err != nil {
		return err
	}
	relevant := map[string]map[string]bool{}
	if err := eachJudgment(parts[qrelsPart], func(_ string, r judgment) error {
		query, document := string(r.Query), string(r.Document)
		if relevant[query] == nil {
			relevant[query] = map[string]bool{}
		}
		relevant[query][document] = *r.Score > 0
		return nil
	}); err != nil {
		return err
	}
	candidates := map[string][]string{}
	if err := eachRow(parts[rankedPart], func(_ string, r ranking) error {
		for _, id := range r.Documents {
			candidates[string(r.Query)] = append(candidates[string(r.Query)], string(id))
		}
		return nil
	}); err != nil {
		return err
	}
	err := eachRow(parts[queriesPart], func(_ string, q document) error {
		if relevant[q.id()] == nil {
			return nil // a query of another split
		}
		return t.addRanked(q, relevant[q.id()], candidates[q.id()], texts)
	})
	if err == nil && len(t.Samples) == 0 {
		err = fmt.Errorf("%s: no query has both positives and negatives", dir)
	}
	return err
}

// addRanked adds a sample for a query, with positives first. A query without positives or negatives is counted as dropped.
func (t *Task) addRanked(q document, relevant map[string]bool, candidates []string, texts map[string]string) error {
	s := Sample{ID: q.id(), Query: []string{q.Text}, Origin: fmt.Sprintf("the query %q", q.id())}
	if strings.TrimSpace(q.Text) == "" {
		return fmt.Errorf("the query %q has no text", q.id())
	}
	for _, wanted := range []bool{true, false} {
		for _, id := range candidates {
			if relevant[id] != wanted {
				continue
			}
			text, ok := texts[id]
			if !ok {
				return fmt.Errorf("the query %q has the candidate %q, which is not in the corpus", q.id(), id)
			}
			if s.DocumentIDs = append(s.DocumentIDs, id); wanted {
				s.Positive = append(s.Positive, text)
			} else {
				s.Negative = append(s.Negative, text)
			}
		}
	}
	if len(s.Positive) == 0 || len(s.Negative) == 0 {
		t.Dropped++
		return nil
	}
	t.Samples = append(t.Samples, s)
	return nil
}

// eachRow calls f for each row of the files, with the row's file and line.
func eachRow[T any](files []string, f func(origin string, row T) error) error {
	return eachLine(files, func(origin string, _ int, b []byte) error {
		var row T
		if err := jsonl.Decode(b, &row); err != nil {
			return err
		}
		return f(origin, row)
	})
}

// eachLine calls f for each line of the files that is not blank, with its file and line, and the number of the line. Errors of f
// get the file and the line.
func eachLine(files []string, f func(origin string, line int, b []byte) error) error {
	for _, path := range files {
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		err = jsonl.Scan(in, path, func(_ int64, line int, b []byte) error {
			origin := fmt.Sprintf("%s:%d", path, line)
			if err := f(origin, line, b); err != nil {
				return fmt.Errorf("%s: %w", origin, err)
			}
			return nil
		})
		if err := errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return nil
}
