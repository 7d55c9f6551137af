package colbert

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
)

// Training and scoring read the same tokens of a text, with the model's prompts, a row's own prompt in their place, the
// configuration's formats, and PyLate's marker and expansion; each window of a long passage has the passage's prompt.
func TestEveryPathReadsTheSameTokens(t *testing.T) {
	text := func(s string) *string { return &s }
	long := strings.Repeat("如 何 密 码 ", 8)
	rows := []data.Row{
		{Query: text("a b"), Prompt: "z ", Pos: []string{"c"}, Neg: []string{long}}, {Query: text("b"), Pos: []string{"c d"}, Neg: []string{"e"}},
	}
	samples := []mteb.Sample{
		{Query: []string{"a b"}, Prompt: "z ", Positive: []string{"c", long}}, {Query: []string{"b"}, Positive: []string{"c d", "e"}},
	}
	for _, c := range []struct {
		folder, file, query, document string
		want                          []string // queries, then of each its positive and its negative
	}{
		{"../finetune/testdata/bert", `{"model_type": "MultiVectorEncoder", "prompts": {"query": "q ", "passage": "d "}}`, "", "",
			[]string{"z a b", "q b", "d c", "d " + long, "d c d", "d e"}},
		{"testdata/pylate", "", "x {} y", "d {}", []string{"z a b y", "x b y", "d c", "d " + long, "d c d", "d e"}},
	} {
		files := map[string]string{}
		if c.file != "" {
			files["config_sentence_transformers.json"] = c.file
		}
		cfg := config.DefaultTrain(modelcard.ColBERT)
		cfg.Model, cfg.QueryMaxLen, cfg.PassageMaxLen, cfg.NegNums = encodertest.Folder(t, c.folder, files), 12, 10, 1
		cfg.QueryFormat, cfg.DocumentFormat = c.query, c.document
		opened, err := NewTask(cfg)
		check(t, err)
		defer opened.Close()
		task := opened.(*Task)
		var want [][]int64
		for i, s := range c.want {
			want = append(want, expected(task.m, s, i < 2))
		}
		b, err := task.Collate(data.WholeBatch(0, []data.Example{{Row: rows[0]}, {Row: rows[1], Number: 1}}))
		check(t, err)
		if got := encodertest.IDs(b[0]); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: training reads\n%v, want\n%v", c, got, want)
		}
		s, err := newScorer(task.m, nil, scoring.Options{Options: runtime.Options{Threads: 1}})
		check(t, err)
		defer s.Close()
		if got := sortedRows(read(t, s, samples)); !reflect.DeepEqual(got, sortedRows(want)) {
			t.Errorf("%+v: scoring reads\n%v, want\n%v", c, got, sortedRows(want))
		}
		s.o.MaxWindow = true
		first, windows := expected(task.m, "d c", false), 0
		head := len(first) - 2
		for _, ids := range read(t, s, samples) {
			if len(ids) > head+3 && slices.Equal(ids[:head], first[:head]) && len(ids) <= 10 {
				windows++
			}
		}
		if room := 10 - head - 1; windows < 32/room {
			t.Errorf("%+v: %d windows have the prompt and a marker", c, windows)
		}
	}
}

// Where a folder fills queries up to their maximal length, another length than the folder's holds for training and scoring
// alike.
func TestQueriesOfAnotherLength(t *testing.T) {
	for folder, want := range map[string]int{"pylate-two": 20, "native-fixed": 20, "native-min": 10} {
		cfg := config.DefaultTrain(modelcard.ColBERT)
		cfg.Model, cfg.QueryMaxLen, cfg.PassageMaxLen = multivector(t, folder, nil), 20, 20
		opened, err := NewTask(cfg)
		check(t, err)
		defer opened.Close()
		scored, err := Open(cfg.Model)
		check(t, err)
		defer scored.Close()
		for _, m := range []*Model{opened.(*Task).m, scored} {
			row, err := m.row(prompt.Text{Query: true, Text: "a"}, 20)
			check(t, err)
			if len(row.IDs) != want {
				t.Errorf("%s: a query of %d tokens, want %d", folder, len(row.IDs), want)
			}
		}
	}
}

// A folder that names no lengths has its tokenizer's.
func TestLengthOfTheTokenizer(t *testing.T) {
	files := map[string]string{"tokenizer_config.json": `{"model_max_length": 9}`, "sentence_bert_config.json": "{}"}
	m, err := Open(multivector(t, "native-mask", files))
	check(t, err)
	defer m.Close()
	if m.QueryMaxLen != 9 || m.PassageMaxLen != 9 {
		t.Errorf("queries of %d tokens, passages of %d, want 9", m.QueryMaxLen, m.PassageMaxLen)
	}
}

// expected are the tokens of a text that stands in its format already.
func expected(m *Model, s string, query bool) []int64 {
	maxLen, marker := 10, m.Rules.PassageMarker
	if query {
		maxLen, marker = 12, m.Rules.QueryMarker
	}
	if marker <= 0 {
		return m.Tokenizer.Encode(s, maxLen)
	}
	ids := slices.Insert(m.Tokenizer.Encode(s, maxLen-1), 1, marker)
	for query && len(ids) < 12 {
		ids = append(ids, m.Rules.Mask)
	}
	return ids
}

// read are the rows that scoring makes of samples.
func read(t *testing.T, s *Scorer, samples []mteb.Sample) (ids [][]int64) {
	t.Helper()
	bi, err := s.BiEncoder(12, 10)
	check(t, err)
	forward := bi.Forward
	bi.Forward = func(rows []encoder.Row) ([]Encoding, error) {
		for _, r := range rows {
			ids = append(ids, r.IDs)
		}
		return forward(rows)
	}
	_, err = mteb.ScoreAll(context.Background(), scoring.SampleScorer{Ranker: bi}, samples)
	check(t, err)
	return ids
}

func sortedRows(rows [][]int64) (out []string) {
	for _, r := range rows {
		out = append(out, fmt.Sprint(r))
	}
	slices.Sort(out)
	return out
}
