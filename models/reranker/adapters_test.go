package reranker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/runtime"
)

// Every folder of PEFT with a head: the model that is opened for it has PEFT's logits, for scoring and for other runtimes.
func TestPEFTFoldersEqualPEFT(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	paths, err := filepath.Glob(fixtures + "lora/*/logits.json")
	check(t, err)
	if len(paths) < 6 {
		t.Fatalf("%d folders", len(paths))
	}
	for _, path := range paths {
		name := filepath.Base(filepath.Dir(path))
		b, err := os.ReadFile(path)
		check(t, err)
		var file struct {
			scored
			Tokens []int64 `json:"tokens"` // of a language model
		}
		check(t, json.Unmarshal(b, &file))
		dir := filepath.Dir(path)
		if file.Tokens != nil {
			dir = languageModelAdapter(t, dir, file.Tokens)
		}
		view, err := resolve.Resolver{}.Model(t.Context(), dir)
		check(t, err)
		m, err := Open(view)
		check(t, err)
		s, err := NewScorer(m, scoring.Options{Options: runtime.Options{Threads: 1}})
		check(t, err)
		got, err := s.session.Run(m.packToScore(file.rows()), int64(len(file.Rows)))
		check(t, err)
		file.compare(t, name+", packed", got)
		check(t, s.Close())
		file.compare(t, name+", padded", exported(t, m, file.rows()))
		check(t, m.Close())
	}
}

// languageModelAdapter is a folder of PEFT with sentence-transformers' module LogitScore.
func languageModelAdapter(t *testing.T, dir string, tokens []int64) string {
	t.Helper()
	var config map[string]any
	b, err := os.ReadFile(filepath.Join(dir, "adapter_config.json"))
	check(t, err)
	check(t, json.Unmarshal(b, &config))
	base, err := filepath.Abs(filepath.Join(dir, config["base_model_name_or_path"].(string)))
	check(t, err)
	config["base_model_name_or_path"] = base
	b, err = json.Marshal(config)
	check(t, err)
	return encodertest.Folder(t, dir, map[string]string{
		"modules.json": `[{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
			{"path": "1_LogitScore", "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"}]`,
		"1_LogitScore/config.json": fmt.Sprintf(`{"true_token_id": %d, "false_token_id": %d}`, tokens[0], tokens[1]),
		"adapter_config.json":      string(b), "rag_retrieval.json": `{"kind": "reranker", "query_format": "{}", "document_format": "{}"}`,
	})
}
