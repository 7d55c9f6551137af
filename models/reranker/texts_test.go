package reranker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
)

// A folder that was not trained here has its tokenizer's length.
func TestLengthOfTheTokenizer(t *testing.T) {
	m, err := Open(encodertest.Folder(t, "../finetune/testdata/bert-reranker", map[string]string{"tokenizer_config.json": `{"model_max_length": 9}`}))
	check(t, err)
	defer m.Close()
	if m.MaxLen != 9 {
		t.Errorf("pairs of %d tokens, want 9", m.MaxLen)
	}
}

// A length that the prompt fills is refused: every passage would be cut to nothing, and all scores of a query be equal.
func TestLengthThatThePromptFills(t *testing.T) {
	m, err := Open("../finetune/testdata/folders/qwen3-reranker-causal")
	check(t, err)
	defer m.Close()
	row, err := m.Pair(scoring.Pair{}, m.MaxLen)
	check(t, err)
	prompt := len(row.IDs)
	if err := m.checkLength("max_len", prompt+1); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("has %d tokens already", prompt)) {
		t.Errorf("a length of %d: %v", prompt+1, err)
	}
	check(t, m.checkLength("max_len", prompt+2))
}

// Training and scoring read the same tokens of a pair, with the model's formats, a row's own prompt in their place, and the
// configuration's formats, around the texts; each window of a long passage stands in the passage's format.
func TestEveryPathReadsTheSameTokens(t *testing.T) {
	text := func(s string) *string { return &s }
	number := func(x float64) *float64 { return &x }
	long := strings.TrimSpace(strings.Repeat("如 何 密 码 ", 8))
	rows := []data.Row{{Query: text(" a b "), Prompt: "z ", Content: text(" c"), Label: number(1)}, {Query: text("b"), Content: text(long), Label: number(0)}}
	samples := []mteb.Sample{{Query: []string{" a b "}, Prompt: "z ", Positive: []string{" c"}}, {Query: []string{"b"}, Positive: []string{long}}}
	for _, c := range []struct {
		saved, query, document string
		want                   [][2]string
	}{
		{`{"kind": "reranker", "query_format": "q {} q", "document_format": "d {} d"}`, "", "", [][2]string{{"z a b q", "d c d"}, {"q b q", "d " + long + " d"}}},
		{`{"kind": "reranker", "query_format": "q {} q"}`, "{}", "e {}", [][2]string{{"z a b", "e c"}, {"b", "e " + long}}},
		{`{"kind": "reranker"}`, "", "", [][2]string{{"z a b", "c"}, {"b", long}}},
	} {
		cfg := config.DefaultTrain(modelcard.Reranker)
		cfg.Model, cfg.MaxLen = encodertest.Folder(t, "../finetune/testdata/bert-reranker", map[string]string{modelcard.File: c.saved}), 16
		cfg.QueryFormat, cfg.DocumentFormat = c.query, c.document
		opened, err := NewTask(cfg)
		check(t, err)
		defer opened.Close()
		task := opened.(*Task)
		var want [][]int64
		for _, p := range c.want {
			ids, _ := task.m.Tokenizer.EncodePair(p[0], p[1], 16, tokenizer.OnlySecond)
			want = append(want, ids)
		}
		b, err := task.Collate(data.WholeBatch(0, []data.Example{{Row: rows[0]}, {Row: rows[1], Number: 1}}))
		check(t, err)
		if got := encodertest.IDs(b[0]); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: training reads\n%v, want\n%v", c, got, want)
		}
		s, err := newScorer(task.m, nil, scoring.Options{Options: runtime.Options{Threads: 1}})
		check(t, err)
		defer s.Close()
		if got := read(t, s, samples); !reflect.DeepEqual(sortedRows(got), sortedRows(want)) {
			t.Errorf("%+v: scoring reads\n%v, want\n%v", c, got, want)
		}
		s.o.MaxWindow, s.minWindow = true, 3
		d := task.m.Formats.Document
		end, _ := task.m.Tokenizer.EncodePair("", strings.TrimSpace(d.After), 16, tokenizer.OnlySecond)
		start, _ := task.m.Tokenizer.EncodePair(task.m.Formats.Query.Before+"b"+task.m.Formats.Query.After, strings.TrimSpace(d.Before), 16, tokenizer.OnlySecond)
		windows := 0
		for _, ids := range read(t, s, samples) {
			if slices.Equal(ids[:len(start)-1], start[:len(start)-1]) && slices.Equal(ids[len(ids)-len(end)+2:], end[2:]) {
				windows++
			}
		}
		if windows < 3 {
			t.Errorf("%+v: %d windows stand in the passage's format", c, windows)
		}
	}
}

// read are the rows that scoring makes of samples.
func read(t *testing.T, s *Scorer, samples []mteb.Sample) (ids [][]int64) {
	t.Helper()
	c, err := s.CrossEncoder(16)
	check(t, err)
	forward := c.Forward
	c.Forward = func(rows []encoder.Row) ([]float32, error) {
		for _, r := range rows {
			ids = append(ids, r.IDs)
		}
		return forward(rows)
	}
	_, err = mteb.ScoreAll(context.Background(), scoring.SampleScorer{Ranker: c}, samples)
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

// A folder of sentence-transformers' CrossEncoder is a reranker, and its modules besides the encoder are refused by name.
func TestCrossEncoderFolders(t *testing.T) {
	const transformer = `{"path":"","type":"sentence_transformers.base.modules.transformer.Transformer"}`
	folder := func(modules string) string {
		return encodertest.Folder(t, "../finetune/testdata/bert-reranker", map[string]string{
			"modules.json": modules, "config_sentence_transformers.json": `{"model_type":"CrossEncoder","prompts":{"query":"q "},"default_prompt_name":"query"}`,
		})
	}
	m, err := Open(folder("[" + transformer + "]"))
	check(t, err)
	defer m.Close()
	if m.Formats.Query.Before != "q " {
		t.Errorf("%+v", m.Formats)
	}
	_, err = Open(folder("[" + transformer + `,{"path":"1_LogitScore","type":"sentence_transformers.cross_encoder.modules.LogitScore"}]`))
	if err == nil || !strings.Contains(err.Error(), `LogitScore" is not supported, want Transformer`) {
		t.Error(err)
	}
}

// Queries that fill max_len alone leave nothing of their passages: the user hears of it before training.
func TestQueriesThatFillTheLength(t *testing.T) {
	path := filepath.Join(t.TempDir(), "train.jsonl")
	long := strings.TrimSpace(strings.Repeat("如 何 密 码 ", 8))
	check(t, os.WriteFile(path, fmt.Appendf(nil, `{"query": "如 何", "pos": "密 码", "neg": "如 何"}
{"query": %q, "pos": "密 码", "neg": "如"}
{"query": "如 何", "pos": %q, "neg": "如"}
`, long, long), 0o600))
	for _, c := range []struct {
		folder, seq string
		maxLen      int
		want        string
	}{
		{"bert-reranker", "", 20, "in 1 of 3 examples that were looked at, the query alone fills 20 tokens"},
		{"modernbert-reranker", "", 64, "in 1 of 3 examples that were looked at, the query alone fills 64 tokens"},
		{"qwen3-reranker", "", 64, "in 1 of 3 examples that were looked at, the query alone fills 64 tokens"},
		{"qwen3-reranker", "a ", 64, "in 1 of 3 examples that were looked at, the query alone fills 64 tokens"},
		{"qwen3-reranker", "a ", 128, ""},
	} {
		cfg := config.DefaultTrain(modelcard.Reranker)
		cfg.Model, cfg.MaxLen, cfg.Seq, cfg.LossType = "../finetune/testdata/"+c.folder, c.maxLen, c.seq, "listwise_ce"
		opened, err := NewTask(cfg)
		check(t, err)
		defer opened.Close()
		task := opened.(*Task)
		d, err := data.Open(t.Context(), []string{path}, data.Options{Examples: task.Examples})
		check(t, err)
		defer d.Close()
		check(t, task.Check(d))
		notes := strings.Join(task.Notes(), "\n")
		if !strings.Contains(notes, c.want) || c.want == "" && notes != "" || c.want != "" && !strings.HasSuffix(notes, "train.jsonl:2") {
			t.Errorf("%s, seq %q, %d tokens: %q", c.folder, c.seq, c.maxLen, notes)
		}
	}
}
