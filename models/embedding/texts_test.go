package embedding

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
)

// text points to a text.
func text(s string) *string { return &s }

// Training, scoring and encoding read the same tokens of a text, with the model's prompts, a row's own prompt in their
// place, and the configuration's formats; each window of a long passage has what stands around the passage.
func TestEveryPathReadsTheSameTokens(t *testing.T) {
	dir := encodertest.Folder(t, tiny, map[string]string{
		"config_sentence_transformers.json": `{"prompts": {"query": "q q ", "document": "d ", "other": "x"}}`,
	})
	const long = "f g h i j k l m n o p r s t u"
	rows := []data.Row{
		{Query: text("a b"), Prompt: "z z ", Pos: []string{"c"}, Neg: []string{long}}, {Query: text("b"), Pos: []string{"c d"}, Neg: []string{"e"}},
	}
	samples := []mteb.Sample{
		{Query: []string{"a b"}, Prompt: "z z ", Positive: []string{"c", long}}, {Query: []string{"b"}, Positive: []string{"c d", "e"}},
	}
	for _, c := range []struct {
		query, document string
		want            []string // queries, then of each its positive and its negative
		frame           [2]string
	}{
		{"", "", []string{"z z a b", "q q b", "d c", "d " + long, "d c d", "d e"}, [2]string{"d", ""}},
		{"x {} y", "{} z", []string{"z z a b y", "x b y", "c z", long + " z", "c d z", "e z"}, [2]string{"", "z"}},
		{"{}", "{}", []string{"z z a b", "b", "c", long, "c d", "e"}, [2]string{"", ""}},
	} {
		cfg := config.DefaultTrain(modelcard.Embedding)
		cfg.Model, cfg.QueryMaxLen, cfg.PassageMaxLen, cfg.NegNums, cfg.QueryFormat, cfg.DocumentFormat = dir, 9, 10, 1, c.query, c.document
		task, err := NewTask(cfg)
		check(t, err)
		defer task.Close()
		m := task.(*Task).m
		var want [][]int64
		for i, s := range c.want {
			want = append(want, m.Tokenizer.Encode(s, map[bool]int{true: 9, false: 10}[i < 2]))
		}
		b, err := task.Collate(data.WholeBatch(0, []data.Example{{Row: rows[0]}, {Row: rows[1], Number: 1}}))
		check(t, err)
		if got := encodertest.IDs(b[0]); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: training reads %v, want %v", c, got, want)
		}
		e, err := newEncoder(m, nil, scoring.Options{Options: runtime.Options{Threads: 1}})
		check(t, err)
		defer e.Close()
		if got := scored(t, e, samples); !sameRows(got, want) {
			t.Errorf("%+v: scoring reads %v, want %v", c, got, want)
		}
		encoded, err := e.Encode(context.Background(), []string{"b"}, true, 9, nil)
		check(t, err)
		direct, err := e.forward([]encoder.Row{{IDs: want[1]}})
		check(t, err)
		if d := largestDifference(encoded, direct); d > 1e-6 {
			t.Errorf("%+v: encoding a query differs by %g", c, d)
		}
		e.o.MaxWindow = true
		checkWindows(t, m, scored(t, e, samples), long, c.frame)
	}
}

// scored are the rows that scoring makes of samples.
func scored(t *testing.T, e *Encoder, samples []mteb.Sample) (ids [][]int64) {
	t.Helper()
	bi := e.biEncoder(9, 10)
	forward := bi.Forward
	bi.Forward = func(rows []encoder.Row) ([][]float32, error) {
		for _, r := range rows {
			ids = append(ids, r.IDs)
		}
		return forward(rows)
	}
	_, err := mteb.ScoreAll(context.Background(), scoring.SampleScorer{Ranker: bi}, samples)
	check(t, err)
	return ids
}

// sameRows compares in any order.
func sameRows(a, b [][]int64) bool {
	sorted := func(rows [][]int64) []string {
		var out []string
		for _, r := range rows {
			out = append(out, fmt.Sprint(r))
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(sorted(a), sorted(b))
}

// checkWindows finds the windows of a passage of one-letter words: each stands in the frame, and together they have
// every word.
func checkWindows(t *testing.T, m *Model, rows [][]int64, passage string, frame [2]string) {
	t.Helper()
	inner := func(s string) []int64 { ids := m.Tokenizer.Encode(s, 100); return ids[1 : len(ids)-1] }
	before, after, words := inner(frame[0]), inner(frame[1]), inner(passage)
	var covered []int64
	for _, ids := range rows {
		if len(ids) < 2+len(before)+len(after) || len(ids) > 10 {
			t.Fatalf("%v", ids)
		}
		body := ids[1 : len(ids)-1]
		part := body[len(before) : len(body)-len(after)]
		if len(part) == 0 || !slices.Contains(words, part[0]) {
			continue // of another text
		}
		if !slices.Equal(body[:len(before)], before) || !slices.Equal(body[len(body)-len(after):], after) {
			t.Errorf("the window %v is not framed by %v and %v", ids, before, after)
		}
		covered = append(covered, part...)
	}
	slices.Sort(covered)
	slices.Sort(words)
	if covered = slices.Compact(covered); !slices.Equal(covered, words) {
		t.Errorf("windows cover %v, want %v", covered, words)
	}
}
