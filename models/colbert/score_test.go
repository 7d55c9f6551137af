package colbert

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/flat"
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
	s, err := NewScorer(m, scoring.Options{Options: runtime.Options{Threads: 1}})
	check(t, err)
	defer s.Close()
	differ := 0
	for _, w := range want.Scores {
		q, p := encodings(t, s, []string{w.Query}, []string{w.Passage}, want.QueryMaxLen, want.PassageMaxLen)
		for i := range q[0].Values {
			q[0].Values[i] *= w.Sign
		}
		for padded, score := range map[bool]float64{false: w.Unpadded, true: w.Padded} {
			s.PaddingCompetes = padded
			got, err := s.MaxSim(q[0], p)
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

// PyLate's folders are scored by PyLate's rules, as sentence-transformers' loader of them computes it: [CLS] counts, marker
// tokens, queries filled up with mask tokens that others attend to or not, and tokens that are skipped.
func TestPyLate(t *testing.T) {
	b, err := os.ReadFile("testdata/pylate_scores.json")
	check(t, err)
	var want struct {
		Queries, Passages []string
		Attend            struct{ True, False [][]float64 }
	}
	check(t, json.Unmarshal(b, &want))
	m, err := Open("testdata/pylate")
	check(t, err)
	defer m.Close()
	if m.QueryMaxLen != 12 || m.PassageMaxLen != 14 || !m.Rules.KeepFirst || m.Rules.Mean || m.layers[0].Bias || len(m.Rules.Skip) != 2 {
		t.Fatalf("%+v", m)
	}
	s, err := NewScorer(m, scoring.Options{Options: runtime.Options{Threads: 1}})
	check(t, err)
	defer s.Close()
	for attend, rows := range map[bool][][]float64{true: want.Attend.True, false: want.Attend.False} {
		m.Rules.Attend = attend
		q, p := encodings(t, s, want.Queries, want.Passages, m.QueryMaxLen, m.PassageMaxLen)
		for i, row := range rows {
			got, err := s.MaxSim(q[i], p)
			check(t, err)
			for j, w := range row {
				if math.Abs(float64(got[j])-w) > 1e-5 {
					t.Errorf("attend %v, query %d, passage %d: %.6f, want %.6f", attend, i, j, got[j], w)
				}
			}
		}
	}
	if want.Attend.True[0][0] == want.Attend.False[0][0] {
		t.Error("attending makes no difference")
	}
}

// A folder is saved by the rules that it came with, and scores the same.
func TestSaveKeepsTheRules(t *testing.T) {
	for name, lengths := range map[string][2]int{"testdata/pylate": {12, 14}, "../finetune/testdata/bert": {9, 14}} {
		m, err := Open(name)
		check(t, err)
		defer m.Close()
		layout, err := flat.NewLayout(m.Params())
		check(t, err)
		parameters := make([]float32, layout.Total)
		check(t, m.Fill(hf.Buffer{Layout: layout, Data: parameters}))
		dir := filepath.Join(t.TempDir(), "saved")
		check(t, m.Save(dir, modelcard.Card{QueryMaxLen: lengths[0], PassageMaxLen: lengths[1]}, layout, parameters))
		saved, err := Open(dir)
		check(t, err)
		defer saved.Close()
		if !reflect.DeepEqual(saved.Rules, m.Rules) || saved.QueryMaxLen != lengths[0] || saved.PassageMaxLen != lengths[1] {
			t.Errorf("%s: saved with %+v, %d and %d tokens", name, saved.Rules, saved.QueryMaxLen, saved.PassageMaxLen)
		}
		again := make([]float32, layout.Total)
		check(t, saved.Fill(hf.Buffer{Layout: layout, Data: again}))
		if !reflect.DeepEqual(parameters, again) {
			t.Errorf("%s: the weights changed in saving", name)
		}
	}
}
