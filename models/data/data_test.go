package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"rag-retrieval-go/ortrain"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, rows ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	check(t, os.WriteFile(path, []byte(strings.Join(rows, "\n")), 0o600))
	return path
}

// onePerPositive makes one example for each positive.
func onePerPositive(r Row) (int, error) {
	if r.Form() == Queries {
		return 0, errors.New("no positives")
	}
	return len(r.Pos), nil
}

// Batches depend only on the step. Every example comes once in an epoch, and in another order in the next.
func TestSourceIsAFunctionOfTheStep(t *testing.T) {
	var rows []string
	for i := 0; i < 11; i++ {
		rows = append(rows, fmt.Sprintf(`{"query":"%c","pos":["%c a","%c b"],"neg":["x","y","z"]}`, 'a'+i, 'a'+i, 'a'+i))
	}
	path := write(t, rows...)
	d, err := Open(t.Context(), []string{path}, Options{Examples: onePerPositive})
	check(t, err)
	defer d.Close()
	b := Batching{BatchSize: 4, Accumulation: 2, Shuffle: true, Seed: 1}
	if d.Len() != 22 || b.StepsPerEpoch(22) != 3 {
		t.Fatalf("%d examples, %d steps", d.Len(), b.StepsPerEpoch(22))
	}
	collect := func(first int) (batches []string, seen map[string]int) {
		seen = map[string]int{}
		source := d.Source(b, func(batch Batch) ([]*ortrain.Batch, error) {
			text := ""
			for _, e := range batch.Examples {
				positive := e.Row.Pos[e.IndexInRow]
				seen[fmt.Sprint(batch.Epoch, " ", positive)]++
				text += positive + ";"
			}
			batches = append(batches, text)
			return []*ortrain.Batch{ortrain.NewBatch()}, nil
		})
		for step := first; step < 6; step++ {
			_, err := source(step)
			check(t, err)
		}
		return batches, seen
	}
	all, seen := collect(0)
	if len(all) != 12 || len(seen) != 44 {
		t.Errorf("%d examples in %d batches, want 44 in 12", len(seen), len(all))
	}
	for e, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", e, n)
		}
	}
	later, _ := collect(4)
	if !reflect.DeepEqual(all[8:], later) {
		t.Error("a source started at step 4 gives other batches than one that came there")
	}
	if all[0] == all[6] {
		t.Error("the second epoch is the first again")
	}
}

func TestLastMicroBatch(t *testing.T) {
	b := Batching{BatchSize: 4, Accumulation: 1, MinBatch: 2}
	for examples, want := range map[int]int{8: 2, 9: 2, 10: 3, 3: 1} {
		if got := b.StepsPerEpoch(examples); got != want {
			t.Errorf("%d examples: %d steps, want %d", examples, got, want)
		}
	}
	b.MinBatch = 1
	if got := b.StepsPerEpoch(9); got != 3 {
		t.Errorf("a batch of one: %d steps, want 3", got)
	}
}

// Ranks leave out a last micro-batch only where one rank would too: where it teaches nothing. Together they have each example
// of an epoch once.
func TestRanksLastMicroBatch(t *testing.T) {
	b := Batching{BatchSize: 4, Accumulation: 1, MinBatch: 1, Ranks: 2}
	for examples, want := range map[int]int{16: 2, 17: 3, 1: 1} {
		if got := b.StepsPerEpoch(examples); got != want {
			t.Errorf("%d examples: %d steps, want %d", examples, got, want)
		}
		at := 0
		for i := range b.StepsPerEpoch(examples) {
			for b.Rank = range b.Ranks {
				from, to := b.part(i, examples)
				if from != at || to < from {
					t.Errorf("%d examples: rank %d has %d to %d, want from %d", examples, b.Rank, from, to, at)
				}
				at = to
			}
		}
		if at != examples {
			t.Errorf("%d of %d examples are read", at, examples)
		}
	}
	b.MinBatch = 2 // of each rank
	for examples, want := range map[int]int{16: 2, 19: 2, 20: 3} {
		if got := b.StepsPerEpoch(examples); got != want {
			t.Errorf("%d examples, 2 for each rank: %d steps, want %d", examples, got, want)
		}
	}
}

// If there are fewer elements than asked for, Draw repeats each equally often, or once more.
func TestDraw(t *testing.T) {
	from := []string{"x", "y", "z"}
	count := map[string]int{}
	for _, n := range Draw(3, 5, 0, 7, from) {
		count[n]++
	}
	for _, n := range from {
		if count[n] < 2 || count[n] > 3 {
			t.Errorf("drawn %v", count)
		}
	}
	if !reflect.DeepEqual(Draw(3, 5, 0, 7, from), Draw(3, 5, 0, 7, from)) {
		t.Error("two draws for one epoch differ")
	}
	if reflect.DeepEqual(Draw(3, 5, 0, 7, from), Draw(3, 5, 1, 7, from)) && reflect.DeepEqual(Draw(3, 6, 0, 7, from), Draw(3, 6, 1, 7, from)) {
		t.Error("two epochs draw the same")
	}
}

func TestForms(t *testing.T) {
	for _, c := range []struct {
		row  string
		want Form
	}{
		{`{"query":"a","pos":"b"}`, Pairs}, {`{"query":"a","pos":["b"],"neg":["c"]}`, Pairs},
		{`{"query":"a","pos":["b"],"scores":[0.5]}`, Scored}, {`{"query":"a","pos":["b"],"pos_scores":[0.5],"neg":["c"],"neg_scores":[0.1]}`, Scored}, {`{"query":"a","content":"b","label":1}`, Labeled},
		{`{"query":"a","hits":[{"content":"b","label":0}]}`, Grouped}, {`{"query":"a"}`, Queries},
	} {
		d, err := Open(t.Context(), []string{write(t, c.row)}, Options{Examples: func(Row) (int, error) { return 1, nil }})
		check(t, err)
		e, err := d.Example(0)
		check(t, err)
		if e.Row.Form() != c.want {
			t.Errorf("%s is %s, want %s", c.row, e.Row.Form(), c.want)
		}
		check(t, d.Close())
	}
}

// An error of a bad row has file, line and key. With SkipBad, bad rows are skipped and counted.
func TestBadRows(t *testing.T) {
	for row, want := range map[string]string{
		`{"pos":"b"}`:                              `:2: "query" is missing`,
		`{"query":" ","pos":"b"}`:                  `:2: "query" is empty`,
		`{"query":"a","pos":[]}`:                   `:2: "pos" is missing or empty`,
		`{"query":"a","pos":["b",""]}`:             `:2: "pos" has an empty text`,
		`{"query":"a","pos":["b"],"scores":[1,2]}`: `:2: "scores" has 2 numbers for 1 texts in "pos"`,
		`{"query":"a","content":"b"}`:              `:2: "label" is missing`,
		`{"query":"a","label":1}`:                  `:2: "content" is missing`,
		`{"query":"a","hits":[{"content":"b"}]}`:   `:2: hits[0]: "label" is missing`,
		`{"query":"a","hits":[]}`:                  `:2: "hits" is empty`,
		`{"query":"a"}`:                            `:2: no positives`,
		`{"query":"a","pos":7}`:                    `:2: `,
		`{"query":"a",`:                            `:2: not JSON`,
		"{\"query\":\"a\xff\",\"pos\":\"b\"}":      `:2: not valid UTF-8`,
	} {
		path := write(t, `{"query":"q","pos":"p"}`, row)
		_, err := Open(t.Context(), []string{path}, Options{Examples: onePerPositive})
		if err == nil || !strings.HasPrefix(err.Error(), path+want) {
			t.Errorf("%s: %v, want %s%s", row, err, path, want)
		}
		d, err := Open(t.Context(), []string{path}, Options{Examples: onePerPositive, SkipBad: true})
		check(t, err)
		if d.Len() != 1 || d.Skipped != 1 || !strings.Contains(d.FirstBad, want) {
			t.Errorf("%s: %d examples, %d skipped, %v", row, d.Len(), d.Skipped, d.FirstBad)
		}
		check(t, d.Close())
	}
	if _, err := Open(t.Context(), []string{write(t, `{"query":"a"}`)}, Options{Examples: onePerPositive, SkipBad: true}); err == nil || !strings.Contains(err.Error(), "no row makes an example") {
		t.Errorf("only bad rows: %v", err)
	}
}

func TestLabelKey(t *testing.T) {
	o := Options{LabelKey: "score", Examples: func(Row) (int, error) { return 1, nil }}
	d, err := Open(t.Context(), []string{write(t, `{"query":"a","content":"b","score":0.25}`, `{"query":"a","hits":[{"content":"b","score":3},{"content":"c","score":-1}]}`)}, o)
	check(t, err)
	defer d.Close()
	one, err := d.Example(0)
	check(t, err)
	two, err := d.Example(1)
	check(t, err)
	if *one.Row.Label != 0.25 || *two.Row.Hits[0].Label != 3 || *two.Row.Hits[1].Label != -1 {
		t.Errorf("%+v %+v", one.Row, two.Row)
	}
	if _, err := Open(t.Context(), []string{write(t, `{"query":"a","content":"b","label":1}`)}, o); err == nil || !strings.Contains(err.Error(), `"score" is missing`) {
		t.Errorf("another key: %v", err)
	}
	for _, row := range []string{`{"query":"a","hits":[{"content":"b","score":3}],"Hits":[{"content":"b"},{"content":"c"}]}`, `{"query":"a","Hits":[{"content":"b","score":3}]}`} {
		if _, err := Open(t.Context(), []string{write(t, row)}, o); err == nil || !strings.Contains(err.Error(), `"hits" must be there once`) {
			t.Errorf("%s: %v", row, err)
		}
	}
}

// Several files form one data set.
func TestSeveralFiles(t *testing.T) {
	d, err := Open(t.Context(), []string{write(t, `{"query":"a","pos":["b","c"]}`), write(t, `{"query":"d","pos":"e"}`)}, Options{Examples: onePerPositive})
	check(t, err)
	defer d.Close()
	e, err := d.Example(2)
	check(t, err)
	if d.Len() != 3 || *e.Row.Query != "d" {
		t.Errorf("%d examples, the last of %q", d.Len(), *e.Row.Query)
	}
}

// With weight 2, a file's examples come twice in an epoch. With weight 0.5, a different half comes in each epoch.
func TestWeights(t *testing.T) {
	var many []string
	for i := range 8 {
		many = append(many, fmt.Sprintf(`{"query":"m%d","pos":"x"}`, i))
	}
	files := []string{write(t, many...), write(t, `{"query":"a","pos":["b","c"]}`)}
	d, err := Open(t.Context(), files, Options{Examples: onePerPositive, Weights: []float64{0.5, 2}})
	check(t, err)
	defer d.Close()
	b := Batching{BatchSize: 3, Accumulation: 1, Shuffle: true, Seed: 4}
	if d.EpochLen() != 8 || b.StepsPerEpoch(d.EpochLen()) != 3 {
		t.Fatalf("%d examples an epoch", d.EpochLen())
	}
	var halves []string
	seen := map[string]int{}
	source := d.Source(b, func(batch Batch) ([]*ortrain.Batch, error) {
		for _, e := range batch.Examples {
			if q := *e.Row.Query; q == "a" {
				seen[fmt.Sprint(batch.Epoch, e.IndexInRow)]++
			} else {
				seen[fmt.Sprint(batch.Epoch, "m")]++
				seen[fmt.Sprint(batch.Epoch, q)]++
			}
		}
		return []*ortrain.Batch{ortrain.NewBatch()}, nil
	})
	for step := range 6 {
		_, err := source(step)
		check(t, err)
	}
	for epoch := range 2 {
		half := ""
		for i := range 8 {
			if n := seen[fmt.Sprintf("%dm%d", epoch, i)]; n == 1 {
				half += fmt.Sprint(i)
			} else if n > 1 {
				t.Errorf("m%d came %d times", i, n)
			}
		}
		halves = append(halves, half)
		if seen[fmt.Sprint(epoch, "m")] != 4 || seen[fmt.Sprint(epoch, 0)] != 2 || seen[fmt.Sprint(epoch, 1)] != 2 {
			t.Errorf("epoch %d: %v", epoch, seen)
		}
	}
	if halves[0] == halves[1] {
		t.Errorf("both epochs have %s", halves[0])
	}
	if _, err := Open(t.Context(), files, Options{Examples: onePerPositive, Weights: []float64{1}}); err == nil || !strings.Contains(err.Error(), "1 weights for 2 files") {
		t.Errorf("too few weights: %v", err)
	}
}

// A computed shuffle is a permutation, differs by seed and epoch, and shows no pattern between neighbours.
func TestPermutation(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 16, 17, 1000, 4097} {
		seen := make([]bool, n)
		p := newPermutation(n, 7, 1)
		for i := range n {
			if at := p.at(i); at < 0 || at >= n || seen[at] {
				t.Fatalf("%d of %d goes to %d", i, n, at)
			} else {
				seen[at] = true
			}
		}
	}
	const n = 10_000
	a, b, c := newPermutation(n, 7, 1), newPermutation(n, 7, 2), newPermutation(n, 8, 1)
	same, rising, near := 0, 0, 0
	for i := range n - 1 {
		if a.at(i) == b.at(i) || a.at(i) == c.at(i) || a.at(i) == i {
			same++
		}
		if a.at(i+1) > a.at(i) {
			rising++
		}
		if d := a.at(i+1) - a.at(i); d > -100 && d < 100 {
			near++
		}
	}
	if same > 30 || rising < 4700 || rising > 5300 || near > 300 { // 3, 5000 and 199 are expected
		t.Errorf("%d places shared, %d rises, %d neighbours stay near", same, rising, near)
	}
}

// The index is kept: a second run does not read the rows. A changed file is read again, and a broken index is made again.
func TestIndexIsKept(t *testing.T) {
	path := write(t, `{"query":"a","pos":["b","c"]}`, "", `{"query":"d","pos":"e"}`, `{"bad":1}`)
	read := 0
	o := Options{Cache: t.TempDir(), Key: "k", SkipBad: true, Examples: func(r Row) (int, error) { read++; return onePerPositive(r) }}
	open := func(wantRead int) {
		t.Helper()
		read = 0
		d, err := Open(t.Context(), []string{path}, o)
		check(t, err)
		defer d.Close()
		e, err := d.Example(2)
		check(t, err)
		if d.Len() != 3 || *e.Row.Query != "d" || read != wantRead || d.Skipped != 1 || !strings.Contains(d.FirstBad, ":4: ") {
			t.Errorf("%d examples, the last of %q, %d rows read, %d skipped: %s", d.Len(), *e.Row.Query, read, d.Skipped, d.FirstBad)
		}
	}
	open(2)
	open(0)
	o.Key = "other"
	open(2)
	indices, _ := filepath.Glob(filepath.Join(o.Cache, "*.index"))
	for _, index := range indices {
		check(t, os.WriteFile(index, []byte("broken"), 0o600))
	}
	open(2)
	check(t, os.WriteFile(path, []byte(`{"query":"a","pos":["b","c"]}`+"\n"+`{"query":"d","pos":"e"}`+"\n\n{}"), 0o600))
	open(2)
}

// An index with one wrong bit, or without its last records, is made again. Without this check, rows would be read from wrong
// offsets. The index is also made again for a changed file with the same size and a restored modification time.
func TestDamagedIndex(t *testing.T) {
	path := write(t, `{"query":"a","pos":["b","c"]}`, `{"query":"d","pos":"e"}`)
	read := 0
	o := Options{Cache: t.TempDir(), Examples: func(r Row) (int, error) { read++; return onePerPositive(r) }}
	open := func(what, last string) Checksum {
		t.Helper()
		read = 0
		d, err := Open(t.Context(), []string{path}, o)
		check(t, err)
		defer d.Close()
		if d.Len() != 3 || read != 2 {
			t.Fatalf("%s: %d examples, %d rows read, want 3 and 2", what, d.Len(), read)
		}
		e, err := d.Example(2)
		check(t, err)
		if *e.Row.Query != last {
			t.Errorf("%s: the last row's query is %q", what, *e.Row.Query)
		}
		return d.Checksums()[0]
	}
	before := open("at first", "d")
	content, err := os.ReadFile(path)
	check(t, err)
	if before.Size != int64(len(content)) || before.SHA256 != fmt.Sprintf("%x", sha256.Sum256(content)) {
		t.Errorf("the file's sum is %v", before)
	}
	index, err := filepath.Glob(filepath.Join(o.Cache, "*.index"))
	check(t, err)
	b, err := os.ReadFile(index[0])
	check(t, err)
	b[2*recordSize] ^= 8
	check(t, os.WriteFile(index[0], b, 0o600))
	open("a wrong bit", "d")
	check(t, os.Truncate(index[0], 2*recordSize))
	open("a record less", "d")
	st, err := os.Stat(path)
	check(t, err)
	time.Sleep(20 * time.Millisecond) // a tick of the file system's clock
	check(t, os.WriteFile(path, bytes.ReplaceAll(content, []byte(`"d"`), []byte(`"x"`)), 0o600))
	check(t, os.Chtimes(path, st.ModTime(), st.ModTime()))
	if after := open("a restored time", "x"); after == before {
		t.Error("the changed file has the sum of the one before")
	}
}

// HashFile returns the checksum of a file and keeps it in the cache.
func TestSumFile(t *testing.T) {
	path, cache := write(t, "abc"), filepath.Join(t.TempDir(), "cache")
	sum, err := HashFile(t.Context(), path, cache)
	check(t, err)
	if want := (Checksum{3, fmt.Sprintf("%x", sha256.Sum256([]byte("abc")))}); sum != want {
		t.Errorf("%v, want %v", sum, want)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if again, err := HashFile(ended, path, cache); err != nil || again != sum {
		t.Errorf("read again: %v %v", again, err)
	}
	check(t, os.WriteFile(path, []byte("abcd"), 0o600))
	if _, err := HashFile(ended, path, cache); !errors.Is(err, context.Canceled) {
		t.Errorf("not read again: %v", err)
	}

	// Without a cache folder nothing is kept, nor put into the working folder.
	t.Chdir(t.TempDir())
	again, err := HashFile(t.Context(), path, "")
	check(t, err)
	if left, _ := os.ReadDir("."); again.Size != 4 || len(left) != 0 {
		t.Errorf("without a cache folder: %v, %v", again, left)
	}
}

// A teacher's scores are read under both names.
func TestPosScores(t *testing.T) {
	d, err := Open(t.Context(), []string{write(t, `{"query":"a","pos":["b"],"pos_scores":[0.5]}`)}, Options{Examples: onePerPositive})
	check(t, err)
	defer d.Close()
	if e, err := d.Example(0); err != nil || e.Row.Form() != Scored || e.Row.Scores[0] != 0.5 {
		t.Errorf("%+v, %v", e, err)
	}
}

// A weight that leaves no example of a file in an epoch is an error that names both. So is a file without examples.
func TestWeightsOfNothing(t *testing.T) {
	many, one := write(t, `{"query":"a","pos":["b","c","d"]}`), write(t, `{"query":"a","pos":"b"}`)
	o := Options{Examples: onePerPositive, Weights: []float64{1, 0.4}}
	d, err := Open(t.Context(), []string{many, one}, o)
	if err == nil {
		_, err = d.Source(Batching{BatchSize: 2, Accumulation: 1}, nil)(0)
	}
	if want := one + ": the weight 0.4 leaves none of its 1 examples in an epoch"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	o.Weights = []float64{0.1, 0.1}
	if d, err = Open(t.Context(), []string{many, one}, o); err == nil {
		_, err = d.Source(Batching{BatchSize: 2, Accumulation: 1}, nil)(0)
		t.Errorf("no error: %v", err)
	}
}

// Rows of only a text are read, for a teacher's texts.
func TestPlainTexts(t *testing.T) {
	d, err := Open(t.Context(), []string{write(t, `{"text":"a"}`, `{"query":"b","text":"c"}`)}, Options{Examples: func(Row) (int, error) { return 1, nil }})
	check(t, err)
	defer d.Close()
	for i, want := range []string{"a", "b"} {
		e, err := d.Example(i)
		check(t, err)
		if e.Query().Text.Text != want || e.Row.Form() != Queries {
			t.Errorf("row %d is %q, a row of %s", i, e.Query().Text.Text, e.Row.Form())
		}
	}
	if _, err := Open(t.Context(), []string{write(t, `{"text":"a","pos":"b"}`)}, Options{Examples: onePerPositive}); err == nil || !strings.Contains(err.Error(), `"query" is missing`) {
		t.Errorf("text and pos: %v", err)
	}
}

// "text" of a wrong type is an error only if it is used.
func TestTextOfAnotherType(t *testing.T) {
	d, err := Open(t.Context(), []string{write(t, `{"query":"a","pos":"b","text":7}`)}, Options{Examples: onePerPositive})
	check(t, err)
	check(t, d.Close())
	if _, err := Open(t.Context(), []string{write(t, `{"text":7}`)}, Options{Examples: onePerPositive}); err == nil || !strings.Contains(err.Error(), `:1: "text" is 7, want a string`) {
		t.Errorf("%v", err)
	}
}

// The error of a row in a wrong format names the configuration key that demands the format.
func TestFormIsChecked(t *testing.T) {
	one := func(Row) (int, error) { return 1, nil }
	path := write(t, `{"query":"a","hits":[{"content":"b","label":1}]}`, `{"query":"a","content":"b","label":1}`)
	_, err := Open(t.Context(), []string{path}, Options{Examples: one, Form: Grouped, FormKey: "train_dataset_type"})
	if want := path + `:2: train_dataset_type wants rows of {"query", "hits": [{"content", "label"}]}, this one is of {"query", "content", "label"}`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// Rows that teach nothing are skipped and counted, and the first one is named, also with a cached index.
func TestIdleRows(t *testing.T) {
	path := write(t, `{"query":"a","pos":"b"}`, `{"query":"a","pos":["b","b"]}`, `{"query":"a","pos":["c","c"]}`)
	o := Options{Cache: t.TempDir(), Examples: func(r Row) (int, error) {
		if len(r.Pos) == 2 {
			return 0, fmt.Errorf("all the same: %w", ErrUninformative)
		}
		return 1, nil
	}}
	for range 2 {
		d, err := Open(t.Context(), []string{path}, o)
		check(t, err)
		if d.Len() != 1 || d.Uninformative != 2 || d.FirstUninformative != path+":2: all the same: the row teaches nothing" || d.Skipped != 0 {
			t.Errorf("%d examples, %d idle: %s", d.Len(), d.Uninformative, d.FirstUninformative)
		}
		check(t, d.Close())
	}
	path = write(t, `{"query":"a","pos":["b","b"]}`)
	if _, err := Open(t.Context(), []string{path}, o); err == nil || err.Error() != path+": no row makes an example; the first: "+path+":1: all the same: the row teaches nothing" {
		t.Errorf("%v", err)
	}
}

// Rows with fewer negatives than an example draws are counted by row, not by example, and the first one is named, also with a cached
// index. An index is valid for one number of negatives.
func TestShortRows(t *testing.T) {
	one := write(t, `{"query":"a","pos":"b","neg":["c","d"]}`, `{"query":"a","pos":["b","c"],"neg":["d"]}`)
	two := write(t, `{"query":"a","pos":"b"}`)
	o := Options{Cache: t.TempDir(), Examples: func(r Row) (int, error) { return len(r.Pos), nil }}
	for range 2 {
		for n, want := range []string{"", two + ":1 has 0", one + ":2 has 1", one + ":1 has 2"} {
			o.Negatives = n
			d, err := Open(t.Context(), []string{one, two}, o)
			check(t, err)
			if d.Short != n || d.FirstShort != want {
				t.Errorf("of %d negatives: %d rows, %q, want %q", n, d.Short, d.FirstShort, want)
			}
			check(t, d.Close())
		}
	}
}

// Long passages are shuffled in thirds at the given rate, differently each epoch, but equally in a resumed run. Queries and
// short passages are never shuffled, and no character is lost.
func TestShuffleRate(t *testing.T) {
	long := strings.Repeat("密", 40) + strings.Repeat("b", 40) + strings.Repeat("c", 40)
	var rows []string
	for range 200 {
		rows = append(rows, fmt.Sprintf(`{"query":%q,"hits":[{"content":%q,"label":1},{"content":"short","label":0}]}`, long, long))
	}
	d, err := Open(t.Context(), []string{write(t, rows...)}, Options{Examples: func(Row) (int, error) { return 1, nil }})
	check(t, err)
	defer d.Close()
	collect := func(rate float64, first int) (out []string, changed int) {
		source := d.Source(Batching{BatchSize: 200, Accumulation: 1, ShuffleRate: rate, Seed: 3}, func(batch Batch) ([]*ortrain.Batch, error) {
			for _, e := range batch.Examples {
				text := *e.Row.Hits[0].Content
				if *e.Row.Query != long || *e.Row.Hits[1].Content != "short" || strings.Count(text, "密") != 40 || strings.Count(text, "c") != 40 {
					t.Fatalf("%+v", e.Row)
				}
				if text != long {
					changed++
				}
				out = append(out, text)
			}
			return nil, nil
		})
		for step := first; step < 2; step++ {
			_, err := source(step)
			check(t, err)
		}
		return out, changed
	}
	all, changed := collect(0.3, 0)
	if changed < 80 || changed > 160 { // 120 are expected
		t.Errorf("%d of 400 texts changed", changed)
	}
	if reflect.DeepEqual(all[:200], all[200:]) {
		t.Error("both epochs are the same")
	}
	if again, _ := collect(0.3, 1); !reflect.DeepEqual(again, all[200:]) {
		t.Error("a resumed run sees other texts")
	}
	if _, changed := collect(0, 0); changed > 0 {
		t.Errorf("%d texts changed at a rate of 0", changed)
	}
}
