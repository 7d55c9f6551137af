package reranker

import (
	"context"
	"math"
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/runtime"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) (*Model, *Scorer) {
	t.Helper()
	m, err := Open("../finetune/testdata/bert-reranker")
	check(t, err)
	s, err := NewScorer(m, scoring.Options{Options: runtime.Options{Threads: 2}})
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()); check(t, m.Close()) })
	return m, s
}

// logits are the pairs' scores.
func logits(t *testing.T, s *Scorer, pairs []scoring.Pair, maxLen int) []float32 {
	t.Helper()
	c, err := s.CrossEncoder(maxLen)
	check(t, err)
	out, err := c.Pairs(context.Background(), pairs, nil)
	check(t, err)
	return out
}

// A long passage's score is the best of its windows, each scored alone; a short one's is what it is without windows.
func TestMaxWindow(t *testing.T) {
	m, s := open(t)
	const maxLen = 20
	query := "如何"
	pairs := []scoring.Pair{{Query: query, Passage: "密码 水果"}, {Query: query, Passage: strings.Repeat("密码 苹果 水果 在设置页面 ", 9)}, {Query: query}}
	plain := logits(t, s, pairs, maxLen)
	// Windows of this model's few positions: beside RAG-Retrieval's least of 101 tokens all passages would be cut.
	ids, types := m.Tokenizer.PairWindows(nil, query, "", pairs[1].Passage, "", maxLen, 4, func(n int) int { return n / 4 })
	if len(ids) < 3 {
		t.Fatalf("%d windows", len(ids))
	}
	best := math.Inf(-1)
	for i := range ids {
		if len(ids[i]) > maxLen {
			t.Errorf("window %d has %d tokens", i, len(ids[i]))
		}
		logits, err := s.session.Run(m.packToScore([]encoder.Row{{IDs: ids[i], Types: types[i]}}), 1)
		check(t, err)
		if i == 0 && math.Abs(float64(logits[0]-plain[1])) > 1e-5 {
			t.Errorf("the first window scores %g, the cut passage %g", logits[0], plain[1])
		}
		best = max(best, float64(logits[0]))
	}
	s.o.MaxWindow = true
	s.minWindow = 4
	got := logits(t, s, pairs, maxLen)
	if math.Abs(float64(got[0]-plain[0])) > 1e-5 || math.Abs(float64(got[2]-plain[2])) > 1e-5 {
		t.Errorf("short passages: %v, without windows %v", got, plain)
	}
	if math.Abs(float64(got[1])-best) > 1e-5 || got[1] < plain[1]-1e-5 {
		t.Errorf("long passage: %g, best window %g, beginning %g", got[1], best, plain[1])
	}
}

// Windows cover the whole passage: end to end without what overlaps they are its tokens.
func TestWindowsCoverThePassage(t *testing.T) {
	m, _ := open(t)
	passage := strings.Repeat("密码 苹果 水果 在设置页面 ", 9)
	whole, _ := m.Tokenizer.EncodePair("如何", passage, 10_000, "only_second")
	ids, _ := m.Tokenizer.PairWindows(nil, "如何", "", passage, "", 24, 4, func(n int) int { return n / 4 })
	first, _ := m.Tokenizer.EncodePair("如何", "", 24, "only_second")
	head := len(first) - 1 // the last special token follows the passage
	window := 24 - len(first)
	var joined []int64
	for i, row := range ids {
		part := row[head : len(row)-1]
		if i > 0 {
			part = part[window/4:]
		}
		joined = append(joined, part...)
	}
	want := whole[head : len(whole)-1]
	if len(joined) != len(want) {
		t.Fatalf("%d tokens, want %d", len(joined), len(want))
	}
	for i := range want {
		if joined[i] != want[i] {
			t.Fatalf("token %d is %d, want %d", i, joined[i], want[i])
		}
	}
}
