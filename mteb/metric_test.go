package mteb

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The expected numbers are scikit-learn's and pytrec_eval's, in a folder beside the checkout. Without it the test is skipped.
func TestMetricsEqualThePeers(t *testing.T) {
	b, err := os.ReadFile("../../shared/golden/metrics_golden.json")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the golden numbers are not in this checkout")
	} else if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Aggregate struct {
			Map1 float64 `json:"v1_map"`
			MRR1 float64 `json:"v1_mrr"`
			Map2 float64 `json:"v2_map_at_1000"`
			MRR2 float64 `json:"v2_mrr_at_10"`
		}
		Cases []struct {
			Positives, Negatives int
			Scores               []float32
			AP1                  float64 `json:"v1_ap"`
			RR1                  float64 `json:"v1_mrr_at_10"`
			AP2                  float64 `json:"v2_ap"`
			RR2                  float64 `json:"v2_mrr_at_10"`
		}
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	var samples []Sample
	var scores [][]float32
	for i, c := range golden.Cases {
		one, two := Rule1.Measure(c.Scores, c.Positives, nil), Rule2.Measure(c.Scores, c.Positives, nil)
		for name, d := range map[string]float64{
			"v1 ap": one.AP - c.AP1, "v1 mrr": one.RR - c.RR1, "v2 ap": two.AP - c.AP2, "v2 mrr": two.RR - c.RR2,
		} {
			if math.Abs(d) > 1e-9 {
				t.Errorf("case %d %s differs by %g", i, name, d)
			}
		}
		samples = append(samples, Sample{Positive: make([]string, c.Positives), Negative: make([]string, c.Negatives)})
		scores = append(scores, c.Scores)
	}
	for _, c := range []struct {
		rule     Rule
		map_, rr float64
	}{{Rule1, golden.Aggregate.Map1, golden.Aggregate.MRR1}, {Rule2, golden.Aggregate.Map2, golden.Aggregate.MRR2}} {
		m, err := Evaluate(c.rule, samples, scores)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(m.AP-c.map_) > 1e-9 || math.Abs(m.RR-c.rr) > 1e-9 || m.Ties == 0 {
			t.Errorf("%s: %+v, want %g and %g", c.rule, m, c.map_, c.rr)
		}
	}
}

// Metrics are compared with calculations by hand: two positives at ranks 1 and 3 of four, then all scores equal, for which the
// rules differ.
func TestMetricsByHand(t *testing.T) {
	scores := []float32{0.9, 0.5, 0.7, 0.1}
	for _, r := range Rules {
		got := r.Measure(scores, 2, nil)
		ideal := 1 + 1/math.Log2(3)
		want := QueryMetrics{AP: (1 + 2.0/3) / 2, RR: 1, NDCG: (1 + 1/math.Log2(4)) / ideal, Recall: 1}
		if math.Abs(got.AP-want.AP) > 1e-12 || got.RR != 1 || math.Abs(got.NDCG-want.NDCG) > 1e-12 || got.Recall != 1 {
			t.Errorf("%s: %+v, want %+v", r, got, want)
		}
	}
	flat := []float32{1, 1, 1, 1}
	if m := Rule1.Measure(flat, 1, nil); m.AP != 0.25 || m.RR != 1 {
		t.Errorf("mteb-1, all tied: %+v; want AP 0.25, RR 1", m)
	}
	if m := Rule2.Measure(flat, 1, nil); m.AP != 0.25 || m.RR != 0.25 {
		t.Errorf("mteb-2, all tied: %+v; want 0.25, 0.25", m)
	}
	far := make([]float32, 12) // the positive is eleventh: nothing in the first ten
	far[0] = -1
	far[11] = -2
	if m := Rule1.Measure(far, 1, nil); m.RR != 0 || m.NDCG != 0 || m.Recall != 0 || math.Abs(m.AP-1.0/11) > 1e-12 {
		t.Errorf("beyond the cut: %+v", m)
	}
}

func TestReadJSONL(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "set.jsonl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := ReadJSONL(write(`{"query":"a","positive":["b"],"negative":["c","d"]}

{"query":["a","e"],"positive":["b"],"negative":[]}
{"query":["a","e"],"positive":["b"],"negative":["f"]}`))
	if err != nil || len(good.Samples) != 2 || good.Dropped != 1 || good.Name != "set" || good.Samples[1].ID != "2" {
		t.Errorf("%+v, %v", good, err)
	}
	for text, want := range map[string]string{
		"": "set.jsonl: the file has no rows",
		`{"query":"a","positive":["b"],"negative":["c"]}` + "\n{": "set.jsonl:2: not JSON",
		`{"query":"a","positive":["b"]}`:                          `set.jsonl:1: "negative" is missing`,
		`{"query":"a","positive":[" "],"negative":["c"]}`:         `set.jsonl:1: "positive" has an empty text`,
		`{"query":3,"positive":["b"],"negative":["c"]}`:           "set.jsonl:1: want a string or a list of strings, found 3",
		"{\"query\":\"\xff\"}":                                    "set.jsonl:1: not valid UTF-8 at byte 11",
		`[1]`:                                                     "set.jsonl:1: the row is an array, want an object",
		`{"query":"a","positive":["b"],"negative":[]}`:            "no row has both positives and negatives",
	} {
		if _, err := ReadJSONL(write(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
