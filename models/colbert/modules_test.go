package colbert

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/runtime"
)

// multivector is a folder of scripts/fixtures/make_multivector.py with the encoder that they share; files are changed in
// it.
func multivector(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	dir := encodertest.Folder(t, "testdata/pylate", nil)
	check(t, os.RemoveAll(filepath.Join(dir, "1_Dense")))
	for _, own := range []string{"modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"} {
		check(t, os.Remove(filepath.Join(dir, own)))
	}
	check(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata/multivector", name))))
	return encodertest.Folder(t, dir, files)
}

// scores are a folder's for some texts.
func scores(t *testing.T, dir string, queries, passages []string) (out [][]float32) {
	t.Helper()
	m, err := Open(dir)
	check(t, err)
	defer m.Close()
	s, err := NewScorer(m, scoring.Options{Options: runtime.Options{Threads: 1}})
	check(t, err)
	defer s.Close()
	q, p := encodings(t, s, queries, passages, m.QueryMaxLen, m.PassageMaxLen)
	for i := range queries {
		row, err := s.MaxSim(q[i], p)
		check(t, err)
		out = append(out, row)
	}
	return out
}

// encodings are the vectors of queries and passages that count.
func encodings(t *testing.T, s *Scorer, queries, passages []string, queryMaxLen, passageMaxLen int) (q, p []Vectors) {
	t.Helper()
	b, err := s.BiEncoder(queryMaxLen, passageMaxLen)
	check(t, err)
	x, _, err := b.Encode(context.Background(), append(prompt.Texts(true, queries...), prompt.Texts(false, passages...)...), scoring.CutEnd, nil)
	check(t, err)
	for i, e := range x {
		if i < len(queries) {
			q = append(q, s.Counted(e, true, queryMaxLen))
		} else {
			p = append(p, s.Counted(e, false, passageMaxLen))
		}
	}
	return q, p
}

// Folders of several Dense modules, with activations and residuals, of masks for queries and passages, prompts and both
// expansions score as in sentence-transformers, also after they were saved; and their projections can be trained.
func TestModules(t *testing.T) {
	folders, err := os.ReadDir("testdata/multivector")
	check(t, err)
	if len(folders) != 6 {
		t.Errorf("%d folders", len(folders))
	}
	for _, f := range folders {
		t.Run(f.Name(), func(t *testing.T) {
			var want struct {
				Queries, Passages []string
				Scores            [][]float64
			}
			b, err := os.ReadFile(filepath.Join("testdata/multivector", f.Name(), "scores.json"))
			check(t, err)
			check(t, json.Unmarshal(b, &want))
			compare := func(got [][]float32) {
				t.Helper()
				for i, row := range want.Scores {
					for j, w := range row {
						if d := math.Abs(float64(got[i][j]) - w); !(d < 2e-5) {
							t.Errorf("query %d, passage %d: %.6f, want %.6f", i, j, got[i][j], w)
						}
					}
				}
			}
			dir := multivector(t, f.Name(), nil)
			compare(scores(t, dir, want.Queries, want.Passages))
			m, err := Open(dir)
			check(t, err)
			defer m.Close()
			layout, err := flat.NewLayout(m.Params())
			check(t, err)
			parameters := make([]float32, layout.Total)
			check(t, m.Fill(hf.Buffer{Layout: layout, Data: parameters}))
			saved := filepath.Join(t.TempDir(), "saved")
			check(t, m.Save(saved, modelcard.Card{QueryMaxLen: m.QueryMaxLen, PassageMaxLen: m.PassageMaxLen}, layout, parameters))
			compare(scores(t, saved, want.Queries, want.Passages))
			again, err := Open(saved)
			check(t, err)
			defer again.Close()
			if !reflect.DeepEqual(again.Rules, m.Rules) || again.Formats != m.Formats {
				t.Errorf("saved with %+v, was %+v", again.Rules, m.Rules)
			}
			cfg := config.DefaultTrain(modelcard.ColBERT)
			cfg.Model, cfg.QueryMaxLen, cfg.PassageMaxLen = dir, 12, 12
			task, err := NewTask(cfg)
			check(t, err)
			defer task.Close()
			_, err = artifact.Build(task.Model(), cfg.AdamW())
			check(t, err)
		})
	}
}

// What a folder names and this package does not do is refused by name.
func TestModulesThatAreNotKnown(t *testing.T) {
	const transformer, dense, mask, normalize = `{"path":"","type":"x.Transformer"}`, `{"path":"1_Dense","type":"x.Dense"}`, `{"path":"2_MultiVectorMask","type":"x.MultiVectorMask"}`, `{"path":"3_Normalize","type":"x.Normalize"}`
	modules := func(all ...string) string { return "[" + strings.Join(all, ",") + "]" }
	for _, c := range []struct{ folder, file, content, want string }{
		{"native-mask", "modules.json", modules(transformer, dense, `{"path":"","type":"x.HierarchicalTokenPooling"}`, mask, normalize), `module "x.HierarchicalTokenPooling" is not supported`},
		{"native-mask", "modules.json", modules(transformer, mask, normalize, dense), `module "x.Dense" after a module Normalize is not supported`},
		{"native-mask", "modules.json", modules(transformer, `{"path":"../1_Dense","type":"x.Dense"}`), "leads out of the folder"},
		{"native-mask", "modules.json", modules(transformer, dense, mask), "no module Normalize"},
		{"native-mask", "modules.json", modules(transformer, mask, normalize), "has no projection"},
		{"native-mask", "2_MultiVectorMask/config.json", `{"keep_only_token_ids":[3]}`, "keep_only_token_ids is not supported"},
		{"native-mask", "3_Normalize/config.json", `{}`, `module_input_name is "", want token_embeddings`},
		{"native-mask", "1_Dense/config.json", `{"in_features":24,"out_features":8,"activation_function":"torch.nn.modules.activation.SiLU"}`, `activation_function is "torch.nn.modules.activation.SiLU"`},
		{"native-mask", "1_Dense/config.json", `{"in_features":20,"out_features":8,"activation_function":"x.ReLU"}`, "in_features is 20, want 24"},
		{"native-mask", "1_Dense/config.json", `{"in_features":24,"out_features":9,"activation_function":"x.ReLU"}`, `has the shape [8 24], want [9 24]`},
		{"native-mask", "1_Dense/config.json", `{"in_features":24,"out_features":8,"bias":false,"activation_function":"x.ReLU"}`, `"linear.bias" is there, but`},
		{"pylate-residual", "2_Dense/config.json", `{"in_features":24,"out_features":10,"bias":false,"activation_function":"x.Identity"}`, `"residual.weight" is there, but`},
		{"pylate-two", "2_Dense/model.safetensors", "", "2_Dense: neither model.safetensors nor"},
		{"native-mask", "config_sentence_transformers.json", `{"model_type":"MultiVectorEncoder","similarity_fn_name":"xtr"}`, `similarity_fn_name is "xtr"`},
		{"native-mask", "sentence_bert_config.json", `{"query_expansion":{"strategy":"more","length":9}}`, `the strategy of query_expansion is "more"`},
		{"native-mask", "sentence_bert_config.json", `{"query_expansion":{"strategy":"min","length":9,"token":"no such token"}}`, "the tokenizer has no token no such token"},
	} {
		m, err := Open(multivector(t, c.folder, map[string]string{c.file: c.content}))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %s: %v, %v; want %q", c.file, c.content, m, err, c.want)
		}
	}
}
