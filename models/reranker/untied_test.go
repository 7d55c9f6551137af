package reranker

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/runtime"
)

// untied is the language model of the fixtures with a head of its own, which is its word embeddings times scale, in that type.
func untied(t *testing.T, scale float32, bfloat16 bool) string {
	t.Helper()
	dir := languageModel(t, "qwen3-causal", `{"true_token_id": 88, "false_token_id": 77}`, judgeTemplate)
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(strings.Replace(string(config), `"tie_word_embeddings": true`, `"tie_word_embeddings": false`, 1)), 0o600))
	path := filepath.Join(dir, hf.SafetensorsFile)
	file, err := hf.OpenFile(filepath.Join(fixtures, "qwen3-causal", hf.SafetensorsFile))
	check(t, err)
	defer file.Close()
	words, _ := file.Tensor("model.embed_tokens.weight")
	values, err := words.Float32()
	check(t, err)
	for i := range values {
		values[i] *= scale
	}
	head := safetensors.FromFloat32(lmHead, values, words.Shape...)
	if bfloat16 {
		half := safetensors.Tensor{Name: lmHead, DType: "BF16", Shape: words.Shape}
		for i := 0; i < len(head.Data); i += 4 {
			half.Data = append(half.Data, head.Data[i+2], head.Data[i+3])
		}
		head = half
	}
	check(t, os.Remove(path))
	check(t, hf.WriteWeights(path, nil, append(slices.Clone(file.Tensors), head)))
	return dir
}

// A language model whose head is not its word embeddings scores by the head's two rows and trains them alone; the folder that is
// saved has the whole head.
func TestUntiedHeads(t *testing.T) {
	_, want, _ := classifier(t, "qwen3-causal")
	score := func(m *Model, tr *ortrain.Trainer) []float32 {
		s, err := newScorer(m, tr, scoring.Options{Options: runtime.Options{Threads: 1}})
		check(t, err)
		defer s.Close()
		got, err := s.session.Run(m.packToScore(want.rows()), int64(len(want.Rows)))
		check(t, err)
		return got
	}
	for _, bfloat16 := range []bool{false, true} {
		m, err := Open(untied(t, 3, bfloat16))
		check(t, err)
		defer m.Close()
		near := 3e-5
		if bfloat16 {
			near = 0.05
		}
		for i, x := range score(m, nil) {
			if d := math.Abs(float64(x) - 3*want.Logits[i][0]); !(d <= near) {
				t.Errorf("row %d has the logit %g, want 3 x %g", i, x, want.Logits[i][0])
			}
		}
		task, tr, b := fixtureTask(t, m, want.rows(), 1)
		_, err = tr.Step([]*ortrain.Batch{b})
		check(t, err)
		trained := score(m, tr)
		parameters, err := tr.Parameters()
		check(t, err)
		dir := filepath.Join(t.TempDir(), "saved")
		check(t, task.Save(dir, modelcard.Card{BaseModel: "x"}, tr.Layout(), parameters))
		if got, wanted := tensorNames(t, dir), tensorNames(t, m.Dir); !slices.Equal(got, wanted) {
			t.Errorf("saved are the tensors\n%v, want\n%v", got, wanted)
		}
		before, after := headOfFile(t, m.Dir), headOfFile(t, dir)
		for row := range before {
			if moved := !slices.Equal(before[row], after[row]); moved != (row == 88 || row == 77) {
				t.Errorf("row %d of the head was trained: %v", row, moved)
			}
		}
		again, err := Open(dir)
		check(t, err)
		for i, x := range score(again, nil) {
			if math.Abs(float64(x-trained[i])) > 1e-6 {
				t.Errorf("row %d scores %g in training and %g from its folder", i, trained[i], x)
			}
		}
		if d := again.Describe(); !strings.HasSuffix(d, "the logit of token 88 less that of token 77, by their rows of lm_head.weight") {
			t.Error(d)
		}
		check(t, again.Close())
	}
	dir := untied(t, 1, false)
	check(t, os.Remove(filepath.Join(dir, hf.SafetensorsFile)))
	check(t, hf.CopyFile(filepath.Join(fixtures, "qwen3-causal", hf.SafetensorsFile), filepath.Join(dir, hf.SafetensorsFile)))
	m, err := Open(dir)
	check(t, err)
	defer m.Close()
	if _, err := NewScorer(m, scoring.Options{}); err == nil || !strings.Contains(err.Error(), `model.safetensors: no tensor "lm_head.weight"`) {
		t.Error(err)
	}
}

// headOfFile are the rows of a folder's head.
func headOfFile(t *testing.T, dir string) (rows [][]float32) {
	t.Helper()
	file, err := hf.OpenWeights(dir)
	check(t, err)
	defer file.Close()
	head, ok := file.Tensor(lmHead)
	if !ok {
		t.Fatal(fmt.Errorf("%s has no head", dir))
	}
	values, err := head.Float32()
	check(t, err)
	return slices.Collect(slices.Chunk(values, int(head.Shape[1])))
}
