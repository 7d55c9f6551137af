package onnxfile

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/flat"
)

// The exported file of a decoder lays pairs out as its folder says: its scores are those of RAG-Retrieval's own code, see
// scripts/fixtures/make_llm_decoder.py.
func TestExportedDecoderJoinsPairs(t *testing.T) {
	b, err := os.ReadFile("../reranker/testdata/llm_decoder.json")
	check(t, err)
	var file struct {
		Cases []struct {
			Query    string `json:"query_format"`
			Document string `json:"document_format"`
			Seq      string `json:"seq"`
			Special  string `json:"special_token"`
			MaxLen   int    `json:"max_len"`
			Rows     []struct {
				Query, Passage string
				Score          float64
			}
		}
	}
	check(t, json.Unmarshal(b, &file))
	c := file.Cases[1]
	base := "../encoder/testdata/qwen3-reranker"
	own, err := os.ReadFile(filepath.Join(base, "config.json"))
	check(t, err)
	cfg := config.DefaultTrain(modelcard.Reranker)
	cfg.Model = encodertest.Folder(t, base, map[string]string{"config.json": strings.Replace(string(own), `"pad_token_id": 297`, `"pad_token_id": null`, 1)})
	cfg.MaxLen, cfg.QueryFormat, cfg.DocumentFormat, cfg.Seq, cfg.SpecialToken = c.MaxLen, c.Query, c.Document, c.Seq, c.Special
	task, err := reranker.NewTask(cfg)
	check(t, err)
	defer task.Close()
	layout, err := flat.NewLayout(task.Model().Params)
	check(t, err)
	parameters := make([]float32, layout.Total)
	check(t, task.Fill(layout, parameters))
	dir := filepath.Join(t.TempDir(), "model")
	check(t, task.Save(dir, modelcard.Card{BaseModel: "x"}, layout, parameters))
	m, err := Open(filepath.Join(dir, "model.onnx"), modelcard.Reranker, scoring.Options{})
	check(t, err)
	defer m.Close()
	ranker, err := m.CrossEncoder(c.MaxLen)
	check(t, err)
	var pairs []scoring.Pair
	for _, r := range c.Rows {
		pairs = append(pairs, scoring.Pair{Query: r.Query, Passage: r.Passage})
	}
	scores, err := ranker.Pairs(t.Context(), pairs, nil)
	check(t, err)
	for i, r := range c.Rows {
		if d := math.Abs(float64(scores[i]) - r.Score); !(d <= 1e-5) {
			t.Errorf("%q and %q score %g, want %g", r.Query, r.Passage, scores[i], r.Score)
		}
	}
}
