package colbert

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"testing"

	"rag-retrieval-go/ortrain/runtime"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Where products are negative, zero vectors in the padding's place would win: both rules equal PyTorch's numbers, and
// they differ. A sign of -1 turns the query's vectors round.
func TestScoresWithNegativeProducts(t *testing.T) {
	b, err := os.ReadFile("testdata/scores.json")
	check(t, err)
	var want struct {
		QueryMaxLen   int `json:"query_max_len"`
		PassageMaxLen int `json:"passage_max_len"`
		Scores        []struct {
			Query, Passage   string
			Sign             float32
			Unpadded, Padded float64
		}
	}
	check(t, json.Unmarshal(b, &want))
	m, err := Open("../finetune/testdata/bert")
	check(t, err)
	defer m.Close()
	s, err := NewScorer(m, runtime.Options{Threads: 1})
	check(t, err)
	defer s.Close()
	differ := 0
	for _, w := range want.Scores {
		q, err := s.Queries(context.Background(), []string{w.Query}, want.QueryMaxLen, nil)
		check(t, err)
		p, err := s.Passages(context.Background(), []string{w.Passage}, want.PassageMaxLen, nil)
		check(t, err)
		for i := range q[0].vectors {
			q[0].vectors[i] *= w.Sign
		}
		for padded, score := range map[bool]float64{false: w.Unpadded, true: w.Padded} {
			s.PaddingCompetes = padded
			got, err := s.Score(q[0], p, want.PassageMaxLen)
			check(t, err)
			if math.Abs(float64(got[0])-score) > 1e-5 {
				t.Errorf("%q and %q, padding competes %v: %.6f, want %.6f", w.Query, w.Passage, padded, got[0], score)
			}
		}
		if math.Abs(w.Padded-w.Unpadded) > 1e-3 {
			differ++
		}
	}
	if differ < 5 {
		t.Errorf("the two rules differ in %d of %d cases", differ, len(want.Scores))
	}
}
