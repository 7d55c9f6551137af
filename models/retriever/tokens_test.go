package retriever_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/models/scoring"
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
		tokens, err := m.Tokenize(t.Context(), text, true)
		check(t, err)
		for _, x := range tokens {
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
	cut, err := m.CutTexts(t.Context(), texts, 2)
	check(t, err)
	if cut[0] != "a b" || cut[1] != "er" {
		t.Errorf("%q", cut)
	}
	long := []string{strings.Repeat("a ", m.Info().MaxLen+10)}
	if same, err := m.CutTexts(t.Context(), long, m.Info().MaxLen); err != nil || same[0] != long[0] {
		t.Error("a text was cut that the model cuts itself")
	}
}

// With a queue, everything that tokenizes waits for a core, and stops waiting when its context ends.
func TestTokenizingWaitsForACore(t *testing.T) {
	gate := scoring.NewGate(1)
	other := scoring.NewQueue(func([]encoder.Row) ([]int, error) { return nil, nil }, scoring.QueueOptions{Gate: gate})
	var models []*retriever.Model
	for _, ref := range ofKinds {
		m, err := retriever.Open(t.Context(), ref, retriever.Options{Queue: &scoring.QueueOptions{Gate: gate}})
		check(t, err)
		defer m.Close()
		models = append(models, m)
	}
	release := make(chan struct{})
	var begun, ended sync.WaitGroup
	begun.Add(runtime.GOMAXPROCS(0))
	for range runtime.GOMAXPROCS(0) {
		ended.Go(func() {
			other.Tokenize(context.Background(), func() error { begun.Done(); <-release; return nil })
		})
	}
	begun.Wait()
	ask := func(ctx context.Context) (errs []error) {
		for _, m := range models {
			_, err := m.Tokenize(ctx, "a", true)
			errs = append(errs, err)
			_, err = m.CutTexts(ctx, []string{"a b"}, 1)
			errs = append(errs, err)
			if e, err := m.Embedder(); err == nil {
				if multi, ok := e.(retriever.MultiVector); ok {
					_, err := multi.Matches(ctx, "a", "b")
					errs = append(errs, err)
				}
			}
		}
		return errs
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for i, err := range ask(ctx) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d: %v, want that no core is left", i, err)
		}
	}
	close(release)
	ended.Wait()
	for i, err := range ask(t.Context()) {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}
