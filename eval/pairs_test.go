package eval

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/models/scoring"
)

const headsDir = "../../shared/golden/heads"

// goldenPair is a query and a passage with their scores by transformers and RAG-Retrieval's formulas.
type goldenPair struct {
	Query, Content string
	Logit512       float64 `json:"ce_logit_max512"`
	Tokens512      int     `json:"ce_tokens_max512"`
	Logit256       float64 `json:"ce_logit_max256"`
	Tokens256      int     `json:"ce_tokens_max256"`
	Padded         float64 `json:"colbert_rr_padded_128_512"`
	Unpadded       float64 `json:"colbert_unpadded_128_512"`
}

// derived makes a model folder from all-MiniLM-L6-v2 and a head, in the same way as the models of the golden numbers.
func derived(t *testing.T, architecture string) string {
	t.Helper()
	dir := t.TempDir()
	check(t, hf.CopyFiles(modelDir, dir))
	w, err := hf.OpenWeights(modelDir)
	check(t, err)
	defer w.Close()
	tensors := w.Tensors
	if architecture == "colbert" {
		check(t, hf.CopyFile(filepath.Join(headsDir, "colbert_linear.safetensors"), filepath.Join(dir, "colbert_linear.safetensors")))
	} else {
		head, err := hf.OpenFile(filepath.Join(headsDir, "classifier.safetensors"))
		check(t, err)
		defer head.Close()
		tensors = w.Replace(head.Tensors)
		config := map[string]any{}
		check(t, hf.ReadJSON(filepath.Join(modelDir, "config.json"), &config))
		config["architectures"] = []string{architecture}
		check(t, hf.WriteJSON(filepath.Join(dir, "config.json"), config))
	}
	check(t, hf.WriteWeights(filepath.Join(dir, hf.SafetensorsFile), nil, tensors))
	return dir
}

func goldenPairs(t *testing.T) []goldenPair {
	t.Helper()
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Skip("the golden numbers are not in this checkout")
	}
	if _, err := os.Stat(modelDir); err != nil {
		t.Skip("the model is not set up: scripts/setup.sh")
	}
	var g struct{ Pairs []goldenPair }
	check(t, json.Unmarshal(b, &g))
	if len(g.Pairs) != 50 {
		t.Fatalf("%d pairs", len(g.Pairs))
	}
	return g.Pairs
}

func TestCrossEncoderEqualsTransformers(t *testing.T) {
	golden := goldenPairs(t)
	m, err := reranker.Open(derived(t, "BertForSequenceClassification"))
	check(t, err)
	s, err := reranker.NewScorer(m, scoring.Options{})
	check(t, err)
	defer func() { check(t, errors.Join(s.Close(), m.Close())) }()
	var pairs []scoring.Pair
	for _, g := range golden {
		pairs = append(pairs, scoring.Pair{Query: g.Query, Passage: g.Content})
	}
	worst := 0.0
	for _, n := range []int{256, 512} {
		c, err := s.CrossEncoder(n)
		check(t, err)
		got, err := c.Pairs(t.Context(), pairs, nil)
		check(t, err)
		for i, g := range golden {
			want, tokens := g.Logit512, g.Tokens512
			if n == 256 {
				want, tokens = g.Logit256, g.Tokens256
			}
			row, err := m.Pair(scoring.Pair{Query: g.Query, Passage: g.Content}, n)
			check(t, err)
			if k := len(row.IDs); k != tokens {
				t.Errorf("pair %d at %d: %d tokens, want %d", i, n, k, tokens)
			}
			if d := math.Abs(float64(got[i]) - want); d > 1e-4 || math.IsNaN(d) {
				t.Errorf("pair %d at %d: %.6f, want %.6f", i, n, got[i], want)
			} else {
				worst = max(worst, d)
			}
		}
	}
	t.Logf("largest difference %.2g", worst)
}

func TestColBERTEqualsRAGRetrieval(t *testing.T) {
	golden := goldenPairs(t)
	dir := derived(t, "colbert")
	for _, padded := range []bool{false, true} {
		m, err := retriever.Open(t.Context(), dir, retriever.Options{QueryMaxLen: 128, PassageMaxLen: 512, PaddingCompetes: padded})
		check(t, err)
		var queries []retriever.Query
		for _, g := range golden {
			queries = append(queries, retriever.Query{Texts: []string{g.Query}, Documents: []string{g.Content}})
		}
		got, err := scoring.RankAll(t.Context(), m, queries)
		check(t, errors.Join(err, m.Close()))
		worst := 0.0
		for i, g := range golden {
			want := g.Unpadded
			if padded {
				want = g.Padded
			}
			worst = max(worst, math.Abs(float64(got[i][0])-want))
		}
		if !(worst <= 1e-4) {
			t.Errorf("padding competes %v: differs by %g", padded, worst)
		}
	}
}
