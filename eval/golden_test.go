package eval

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"

	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
)

const (
	goldenFile = "../../shared/golden/eval_minilm.json"
	dataDir    = "../../shared/data/rerank"
	modelDir   = "../.rag-retrieval/models/all-MiniLM-L6-v2"
)

// golden are mteb's own numbers for all-MiniLM-L6-v2 at 256 tokens, rule 1 from mteb 1.39.7, rule 2 from 2.26.24.
type golden struct {
	Sets map[string]struct {
		Queries    int
		Candidates int
		V1         struct {
			Map, Mrr float64
			Recall   float64 `json:"recall_at_10"`
		}
		V2 struct {
			Map float64 `json:"map_at_1000"`
			Mrr float64 `json:"mrr_at_10"`
		}
		FirstRows []struct {
			Cosines []float64 `json:"scores"`
			AP      float64
			MRR     float64 `json:"mrr_at_10"`
		} `json:"first_rows"`
	}
}

func openGolden(t *testing.T) (golden, mteb.Scorer) {
	t.Helper()
	var g golden
	b, err := os.ReadFile(goldenFile)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the golden numbers are not in this checkout")
	}
	check(t, err)
	check(t, json.Unmarshal(b, &g))
	if _, err := os.Stat(modelDir); err != nil {
		t.Skip("the model is not set up: scripts/setup.sh")
	}
	m, err := retriever.Open(t.Context(), modelDir, retriever.Options{QueryMaxLen: 256, PassageMaxLen: 256})
	check(t, err)
	t.Cleanup(func() { check(t, m.Close()) })
	return g, retriever.SampleScorer{Ranker: m}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The first rows of every set: each candidate's cosine, and both metrics.
func TestFirstRowsEqualMTEB(t *testing.T) {
	g, scorer := openGolden(t)
	for name, set := range g.Sets {
		task, err := mteb.ReadJSONL(filepath.Join(dataDir, name+".jsonl"))
		check(t, err)
		n := len(set.FirstRows)
		if n == 0 || len(task.Samples) != set.Queries {
			t.Fatalf("%s: %d rows, %d samples", name, n, len(task.Samples))
		}
		scores, err := mteb.ScoreAll(context.Background(), scorer, task.Samples[:n])
		check(t, err)
		for i, want := range set.FirstRows {
			if len(want.Cosines) != len(scores[i]) {
				t.Fatalf("%s row %d: %d candidates, want %d", name, i, len(scores[i]), len(want.Cosines))
			}
			for j, c := range want.Cosines {
				if math.Abs(c-float64(scores[i][j])) > 1e-5 {
					t.Errorf("%s row %d candidate %d: cosine %.7f, want %.7f", name, i, j, scores[i][j], c)
				}
			}
			m := mteb.Rule1.Measure(scores[i], len(task.Samples[i].Positive), nil)
			if math.Abs(m.AP-want.AP) > 1e-5 || math.Abs(m.RR-want.MRR) > 1e-5 {
				t.Errorf("%s row %d: AP %g and RR %g, want %g and %g", name, i, m.AP, m.RR, want.AP, want.MRR)
			}
		}
	}
}

// Whole sets by both rules, to four decimals. Minutes on two cores, so it must be asked for: scripts/test_long.sh.
func TestWholeSetsEqualMTEB(t *testing.T) {
	if os.Getenv("RAG_RETRIEVAL_LONG") == "" {
		t.Skip("set RAG_RETRIEVAL_LONG=1")
	}
	g, scorer := openGolden(t)
	for name, set := range g.Sets {
		task, err := mteb.ReadJSONL(filepath.Join(dataDir, name+".jsonl"))
		check(t, err)
		out, err := Run(context.Background(), scorer, task, mteb.Rule1, nil, func(int, int) {})
		check(t, err)
		second, err := mteb.Evaluate(mteb.Rule2, task.Samples, out.Scores)
		check(t, err)
		for what, pair := range map[string][2]float64{
			"map v1": {out.Result.MAP, set.V1.Map}, "mrr v1": {out.Result.MRR, set.V1.Mrr},
			"map v2": {second.AP, set.V2.Map}, "mrr v2": {second.RR, set.V2.Mrr},
			"recall@10 v1": {out.Result.Recall, set.V1.Recall},
		} {
			t.Logf("%s %s: %.5f, mteb %.5f", name, what, pair[0], pair[1])
			if math.Abs(pair[0]-pair[1]) > 5e-5 {
				t.Errorf("%s %s: %.6f, mteb %.6f", name, what, pair[0], pair[1])
			}
		}
	}
}
