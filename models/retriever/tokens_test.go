package retriever_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
)

// folders of one model of each kind.
var ofKinds = []string{tiny, "../colbert/testdata/pylate", fixtures + "bert-reranker"}

func opened(t *testing.T, dir string) *retriever.Model {
	t.Helper()
	m, err := retriever.Open(t.Context(), dir, retriever.Options{Threads: 1})
	check(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// A text's tokens, as a finished sequence, give the text's vector. Sequences are cut or refused as texts are.
func TestEncodeIDs(t *testing.T) {
	m := opened(t, tiny)
	e, err := m.Embedder()
	check(t, err)
	long := strings.Repeat("a b c ", 200)
	limit := m.Info().PassageMaxLen
	ids := func(text string) (out []int64) {
		for _, x := range m.Tokenize(text, true) {
			out = append(out, x.ID)
		}
		return out
	}
	sequences := [][]int64{ids("the a"), ids("er b"), ids(long)}
	got, err := m.EncodeIDs(t.Context(), sequences[:2], retriever.EncodeOptions{Dimension: 3})
	check(t, err)
	want, err := e.Encode(t.Context(), prompt.Texts(false, "the a", "er b"), retriever.EncodeOptions{Dimension: 3})
	check(t, err)
	for i := range want {
		if !slices.Equal(got[i].Values, want[i].Values) || got[i].Tokens != want[i].Tokens {
			t.Errorf("text %d: %v, want %v", i, got[i], want[i])
		}
	}
	for _, long := range []retriever.LongText{retriever.CutEnd, retriever.CutStart} {
		got, err := m.EncodeIDs(t.Context(), sequences[2:], retriever.EncodeOptions{Long: long})
		if check(t, err); got[0].Tokens != limit {
			t.Errorf("%d tokens of a long sequence were read, want %d", got[0].Tokens, limit)
		}
	}
	for words, ids := range map[string][]int64{"no token": {}, "999999 is not in the model's vocabulary": {2, 999999}, "-1 is not in": {-1}} {
		_, err := m.EncodeIDs(t.Context(), [][]int64{sequences[0], ids}, retriever.EncodeOptions{})
		if wrong := (*retriever.TextError)(nil); !errors.As(err, &wrong) || wrong.Index != 1 || !strings.Contains(err.Error(), words) {
			t.Errorf("%v: %v", ids, err)
		}
	}
	if _, err := m.EncodeIDs(t.Context(), sequences[2:], retriever.EncodeOptions{Long: retriever.Refuse}); !errors.As(err, new(*retriever.LengthError)) {
		t.Errorf("a long sequence was not refused: %v", err)
	}
	if _, err := opened(t, ofKinds[2]).EncodeIDs(t.Context(), sequences, retriever.EncodeOptions{}); err == nil {
		t.Error("a reranker made vectors")
	}
	if x, err := opened(t, ofKinds[1]).EncodeIDs(t.Context(), sequences[:1], retriever.EncodeOptions{}); err != nil || x[0].Vectors() < 2 {
		t.Errorf("a ColBERT model: %v, %v", x, err)
	}
}

// A text that is too long is cut at the end that was asked for, or refused, and says how long it is.
func TestLongTexts(t *testing.T) {
	m := opened(t, tiny)
	e, err := m.Embedder()
	check(t, err)
	limit := m.Info().PassageMaxLen
	long := strings.Repeat("a ", limit) + strings.Repeat("b ", limit)
	encode := func(text string, long retriever.LongText) ([]retriever.Embedding, error) {
		return e.Encode(t.Context(), prompt.Texts(false, text), retriever.EncodeOptions{Long: long})
	}
	for way, text := range map[retriever.LongText]string{retriever.CutEnd: strings.Repeat("a ", limit-2), retriever.CutStart: strings.Repeat("b ", limit-2)} {
		got, err := encode(long, way)
		check(t, err)
		want, err := encode(text, retriever.Refuse) // it has just the right length
		check(t, err)
		if !slices.Equal(got[0].Values, want[0].Values) {
			t.Errorf("way %d: not the vector of what it was to be cut to", way)
		}
	}
	_, err = encode(long, retriever.Refuse)
	if wrong := (*retriever.LengthError)(nil); !errors.As(err, &wrong) || wrong.Tokens != 2*limit+2 || wrong.Limit != limit {
		t.Errorf("%v, want %d tokens", err, 2*limit+2)
	}
}

// RefuseLong tells a text that is too long from one that is not, for each kind of model, and leaves scores as they are.
func TestRefuseLong(t *testing.T) {
	for _, dir := range ofKinds {
		m := opened(t, dir)
		limit := max(m.Info().PassageMaxLen, m.Info().MaxLen)
		rank := func(refuse bool, documents ...string) (scores []float32, err error) {
			err = m.Rank(t.Context(), []retriever.Query{{Texts: []string{"the a"}, Documents: documents}}, retriever.RankOptions{RefuseLong: refuse}, func(x []float32) error {
				scores = x
				return nil
			})
			return scores, err
		}
		want, err := rank(false, "er", "b c")
		check(t, err)
		if got, err := rank(true, "er", "b c"); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", dir, got, err, want)
		}
		if _, err := rank(true, "er", strings.Repeat("a b ", limit)); !errors.As(err, new(*retriever.LengthError)) {
			t.Errorf("%s: a long document was not refused: %v", dir, err)
		}
		if _, err := rank(false, "er", strings.Repeat("a b ", limit)); err != nil {
			t.Errorf("%s: a long document was not cut: %v", dir, err)
		}
	}
}

// CutTexts gives the score of the text that is left; texts that the model cuts earlier stay.
func TestCutTexts(t *testing.T) {
	m := opened(t, ofKinds[2])
	texts := []string{"a b c d", "er"}
	cut := m.CutTexts(texts, 2)
	if cut[0] != "a b" || cut[1] != "er" {
		t.Errorf("%q", cut)
	}
	long := []string{strings.Repeat("a ", m.Info().MaxLen+10)}
	if same := m.CutTexts(long, m.Info().MaxLen); same[0] != long[0] {
		t.Error("a text was cut that the model cuts itself")
	}
}
