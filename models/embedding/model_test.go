package embedding

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/runtime"
)

// texts of many lengths over the tiny model's letters, a repeated one, an empty one and one that is cut.
var texts = []string{"a", "the of", "ab cd ef", "zz.", "a", "", strings.Repeat("a b ", 30), "\u4e2d\u6587 caf\u00e9", "qwerty uiop as df gh"}

// padded runs the exported model.onnx on all texts as one padded batch.
func padded(t *testing.T, path string, rows []encoder.Row, hidden int) [][]float32 {
	t.Helper()
	s, err := runtime.OpenSession(path, runtime.Options{Threads: 1})
	check(t, err)
	defer s.Close()
	b, err := s.NewBinding()
	check(t, err)
	defer b.Close()
	length := 0
	for _, r := range rows {
		length = max(length, len(r.IDs))
	}
	ids, mask := make([]int64, len(rows)*length), make([]int64, len(rows)*length)
	for i, r := range rows {
		for j, id := range r.IDs {
			ids[i*length+j], mask[i*length+j] = id, 1
		}
	}
	n, l := int64(len(rows)), int64(length)
	check(t, b.Ints("input_ids", ids, n, l))
	check(t, b.Ints("attention_mask", mask, n, l))
	check(t, b.Ints("token_type_ids", make([]int64, len(ids)), n, l))
	out, tokens := make([]float32, len(rows)*hidden), make([]float32, len(ids)*hidden)
	for name, x := range map[string]struct {
		data []float32
		dims []int64
	}{"sentence_embedding": {out, []int64{n, int64(hidden)}}, "token_embeddings": {tokens, []int64{n, l, int64(hidden)}}} {
		v, err := runtime.NewTensor(x.data, x.dims...)
		check(t, err)
		defer v.Close()
		check(t, b.Output(name, v))
	}
	check(t, b.Run())
	var vectors [][]float32
	for i := range rows {
		vectors = append(vectors, out[i*hidden:(i+1)*hidden])
	}
	return vectors
}

func largestDifference(a, b [][]float32) float64 {
	worst := 0.0
	for i := range a {
		for j := range a[i] {
			worst = math.Max(worst, math.Abs(float64(a[i][j]-b[i][j])))
		}
	}
	return worst
}

// The same texts give the same vectors through the packed scoring graph, one by one and together, and through the
// padded model.onnx; and a saved folder gives those of the model it was saved from.
func TestPackedPaddedAndSavedAgree(t *testing.T) {
	f := loadFixture(t)
	for _, pooling := range []Pooling{Mean, CLS} {
		t.Run(string(pooling), func(t *testing.T) {
			m := f.model(t, pooling)
			tr := f.trainer(t, m, 1)
			dir := filepath.Join(t.TempDir(), "saved")
			parameters, err := tr.Parameters()
			check(t, err)
			check(t, m.Save(dir, modelcard.Card{Version: "test"}, tr.Layout(), parameters))
			saved, err := Open(dir)
			check(t, err)
			defer saved.Close()
			if !reflect.DeepEqual(saved.Config.Pooling, pooling) {
				t.Fatalf("saved as %v", saved.Config)
			}
			encode := func(m *Model, texts ...string) [][]float32 {
				e, err := NewEncoder(m, scoring.Options{Options: runtime.Options{Threads: 2}})
				check(t, err)
				defer e.Close()
				v, err := e.Encode(context.Background(), texts, false, 20, nil)
				check(t, err)
				return v
			}
			want := encode(m, texts...)
			var alone [][]float32
			var rows []encoder.Row
			for _, text := range texts {
				alone = append(alone, encode(m, text)...)
				rows = append(rows, encoder.Row{IDs: m.Tokenizer.Encode(text, 20)})
			}
			for name, got := range map[string][][]float32{
				"alone": alone, "saved": encode(saved, texts...),
				"model.onnx": padded(t, filepath.Join(dir, "model.onnx"), rows, int(m.Encoder.HiddenSize)),
			} {
				if d := largestDifference(want, got); d > 1e-5 || math.IsNaN(d) {
					t.Errorf("%s: differs by %g", name, d)
				}
			}
			norm := 0.0
			for _, x := range want[2] {
				norm += float64(x) * float64(x)
			}
			if math.Abs(norm-1) > 1e-5 {
				t.Errorf("a vector of length %g", math.Sqrt(norm))
			}
			c, ok, err := modelcard.Read(dir)
			if err != nil || !ok || c.Kind != modelcard.Embedding || c.Pooling != string(pooling) {
				t.Errorf("card %+v, %v, %v", c, ok, err)
			}
		})
	}
}

// The weights that are not trained, here the pooler's, are written back untouched; all others survive exactly.
func TestSaveKeepsEveryTensor(t *testing.T) {
	f := loadFixture(t)
	m := f.model(t, Mean)
	tr := f.trainer(t, m, 1)
	dir := filepath.Join(t.TempDir(), "saved")
	parameters, err := tr.Parameters()
	check(t, err)
	check(t, m.Save(dir, modelcard.Card{}, tr.Layout(), parameters))
	a, err := os.ReadFile(filepath.Join(f.dir, hf.SafetensorsFile))
	check(t, err)
	b, err := os.ReadFile(filepath.Join(dir, hf.SafetensorsFile))
	check(t, err)
	tail := len(a) - 60_000 // the headers may differ in spaces, the data may not
	if string(a[len(a)-tail:]) != string(b[len(b)-tail:]) {
		t.Error("an untrained model's weights changed in saving")
	}
}

func TestFoldersOfOtherKinds(t *testing.T) {
	write := func(name, content string) string {
		dir := t.TempDir()
		for _, n := range []string{"config.json", "tokenizer.json"} {
			b, err := os.ReadFile(filepath.Join(tiny, n))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(dir, n), b, 0o600))
		}
		check(t, os.MkdirAll(filepath.Join(dir, "1_Pooling"), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, "modules.json"), []byte(`[{"path":"","type":"sentence_transformers.models.Transformer"},{"path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]`), 0o600))
		check(t, os.WriteFile(filepath.Join(dir, "1_Pooling", "config.json"), []byte(`{"pooling_mode_cls_token":true}`), 0o600))
		if strings.HasPrefix(name, "2_Dense") {
			check(t, os.MkdirAll(filepath.Join(dir, "2_Dense"), 0o755))
			check(t, os.WriteFile(filepath.Join(dir, "modules.json"), []byte(`[{"path":"","type":"x.Transformer"},{"path":"1_Pooling","type":"x.Pooling"},{"path":"2_Dense","type":"x.Dense"}]`), 0o600))
		}
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		return dir
	}
	for _, c := range []struct{ file, content, want string }{
		{"modules.json", `[{"path":"2_LSTM","type":"sentence_transformers.models.LSTM"}]`, `module "sentence_transformers.models.LSTM" is not supported`},
		{"rag_retrieval.json", `{"kind":"reranker"}`, "is a model of kind reranker, not embedding"},
		{"modules.json", `{`, "modules.json: "},
		{"1_Pooling/config.json", `{`, "1_Pooling/config.json: unexpected end of JSON input"},
		{"1_Pooling/config.json", `{"pooling_mode_max_tokens":true}`, "want mean, cls or lasttoken pooling"},
		{"1_Pooling/config.json", `{"pooling_mode":["mean","cls"]}`, `the pooling is ["mean" "cls"]`},
		{"1_Pooling/config.json", `{"pooling_mode_mean_tokens":true,"pooling_mode_max_tokens":true}`, `the pooling is ["mean" "max"]`},
		{"1_Pooling/config.json", `{"pooling_mode":"weightedmean"}`, `the pooling is ["weightedmean"]`},
		{"1_Pooling/config.json", `{"pooling_mode":"mean","include_prompt":false}`, "include_prompt is false"},
		{"1_Pooling/config.json", `{"pooling_mode":"mean","word_embedding_dimension":768}`, "the dimension is 768, hidden_size in config.json is 36"},
		{"modules.json", `[{"path":"","type":"x.Transformer"},{"path":"2_Normalize","type":"x.Normalize"}]`, "no module Pooling"},
		{"modules.json", `[{"path":"","type":"x.Transformer"},{"path":"2_Normalize","type":"x.Normalize"},{"path":"1_Pooling","type":"x.Pooling"}]`, `module "x.Pooling" after a module Normalize is not supported`},
		{"modules.json", `[{"path":"0_Transformer","type":"x.Transformer"}]`, `the Transformer's path is "0_Transformer"`},
		{"modules.json", `[{"path":"","type":"x.Transformer"},{"path":"1_Pooling","type":"x.Pooling"},{"path":"2_D","type":"x.Dropout"}]`, `module "x.Dropout" is not supported`},
		{"2_Dense/config.json", `{"in_features":36,"out_features":4,"activation_function":"torch.nn.modules.activation.GELU"}`, `activation_function is "torch.nn.modules.activation.GELU"`},
		{"2_Dense/config.json", `{"in_features":36,"out_features":4,"activation_function":"x.Tanh","use_residual":true}`, "use_residual is true"},
		{"2_Dense/config.json", `{"in_features":36,"out_features":4,"activation_function":"x.Tanh","module_input_name":"token_embeddings"}`, "module_input_name is \"token_embeddings\""},
		{"2_Dense/config.json", `{"in_features":35,"out_features":4,"activation_function":"x.Tanh"}`, "in_features is 35, hidden_size in config.json is 36"},
		{"config_sentence_transformers.json", `{"similarity_fn_name":"dot"}`, "similarity_fn_name is dot without a module Normalize"},
		{"config_sentence_transformers.json", `{"similarity_fn_name":"euclidean"}`, `similarity_fn_name is "euclidean", want cosine`},
		{"config_sentence_transformers.json", `{"model_type":"SparseEncoder"}`, `model_type is "SparseEncoder"`},
		{"sentence_bert_config.json", `{"max_seq_length":25}`, "max_seq_length is 25, want 3 to 24"},
	} {
		if m, err := Open(write(c.file, c.content)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %s: %v, %v; want %q", c.file, c.content, m, err, c.want)
		}
	}
	m, err := Open(write("sentence_bert_config.json", `{"max_seq_length":20}`))
	check(t, err)
	defer m.Close()
	if !reflect.DeepEqual(m.Config, Config{Pooling: CLS, Normalize: true, MaxSeqLength: 20}) {
		t.Errorf("%+v", m.Config)
	}
	for _, c := range []struct {
		tokenizer, backbone string
		want                int
	}{{`{"model_max_length":9}`, `{}`, 9}, {`{"model_max_length":9}`, `{"max_seq_length":20}`, 20}, {`{"model_max_length":1e30}`, `{}`, 24}, {`{"model_max_length":512}`, `{}`, 24}} {
		dir := write("tokenizer_config.json", c.tokenizer)
		check(t, os.WriteFile(filepath.Join(dir, "sentence_bert_config.json"), []byte(c.backbone), 0o600))
		m, err := Open(dir)
		check(t, err)
		defer m.Close()
		if m.Config.MaxSeqLength != c.want { // as sentence-transformers
			t.Errorf("%s, %s: texts of %d tokens, want %d", c.tokenizer, c.backbone, m.Config.MaxSeqLength, c.want)
		}
	}
	m, err = Open(write("1_Pooling/config.json", `{"pooling_mode":"mean"}`))
	check(t, err)
	defer m.Close()
	if m.Config.Pooling != Mean {
		t.Errorf("%+v", m.Config)
	}
}
