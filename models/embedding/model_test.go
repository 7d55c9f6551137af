package embedding

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
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
			check(t, m.Save(dir, Card{Version: "test"}, tr.Layout(), tr.Parameters()))
			saved, err := Open(dir)
			check(t, err)
			defer saved.Close()
			if !reflect.DeepEqual(saved.Config.Pooling, pooling) {
				t.Fatalf("saved as %v", saved.Config)
			}
			encode := func(m *Model, texts ...string) [][]float32 {
				e, err := NewEncoder(m, runtime.Options{Threads: 2})
				check(t, err)
				defer e.Close()
				v, err := e.Encode(context.Background(), texts, 20, nil)
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
			card, ok, err := ReadCard(dir)
			if err != nil || !ok || card.Kind != Kind || card.Pooling != pooling {
				t.Errorf("card %+v, %v, %v", card, ok, err)
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
	check(t, m.Save(dir, Card{}, tr.Layout(), tr.Parameters()))
	a, err := os.ReadFile(filepath.Join(f.dir, hf.SafetensorsFile))
	check(t, err)
	b, err := os.ReadFile(filepath.Join(dir, hf.SafetensorsFile))
	check(t, err)
	tail := len(a) - 60_000 // the headers may differ in spaces, the data may not
	if string(a[len(a)-tail:]) != string(b[len(b)-tail:]) {
		t.Error("an untrained model's weights changed in saving")
	}
}

func writeRows(t *testing.T, rows ...string) *Dataset {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	check(t, os.WriteFile(path, []byte(strings.Join(rows, "\n")), 0o600))
	d, err := OpenDataset(path, strings.Contains(rows[0], "neg"))
	check(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// Batches are a pure function of the step; every example comes once an epoch, in another order the next.
func TestSourceIsAFunctionOfTheStep(t *testing.T) {
	m := loadFixture(t).model(t, Mean)
	var rows []string
	for i := 0; i < 11; i++ {
		rows = append(rows, fmt.Sprintf(`{"query":"%c","pos":["%c a","%c b"],"neg":["x","y","z"]}`, 'a'+i, 'a'+i, 'a'+i))
	}
	d := writeRows(t, rows...)
	b := Batching{BatchSize: 4, Accumulation: 2, NegNums: 4, QueryMaxLen: 8, PassageMaxLen: 8, Groups: 2, Shuffle: true, Seed: 1}
	if d.Len() != 22 || b.StepsPerEpoch(22) != 3 {
		t.Fatalf("%d examples, %d steps", d.Len(), b.StepsPerEpoch(22))
	}
	collect := func(first int) (ids []string, queries int) {
		s, err := m.Source(d, b)
		check(t, err)
		for step := first; step < 6; step++ {
			batches, err := s(step)
			check(t, err)
			for _, x := range batches {
				ids = append(ids, fmt.Sprint(step, x.Ints["input_ids"].Data))
				queries += x.Rows
			}
		}
		return ids, queries
	}
	all, queries := collect(0)
	if queries != 44 || len(all) != 12 {
		t.Errorf("%d queries in %d batches, want 44 in 12", queries, len(all))
	}
	later, _ := collect(4)
	if !reflect.DeepEqual(all[8:], later) {
		t.Error("a source started at step 4 gives other batches than one that came there")
	}
	if strings.TrimPrefix(all[0], "0") == strings.TrimPrefix(all[6], "3") {
		t.Error("the second epoch is the first again")
	}
}

func TestLastMicroBatch(t *testing.T) {
	b := Batching{BatchSize: 4, Accumulation: 1}
	for examples, want := range map[int]int{8: 2, 9: 2, 10: 3, 3: 1} {
		if got := b.StepsPerEpoch(examples); got != want {
			t.Errorf("%d examples: %d steps, want %d", examples, got, want)
		}
	}
	b.NegNums = 1
	if got := b.StepsPerEpoch(9); got != 3 {
		t.Errorf("with negatives: %d steps, want 3", got)
	}
}

// Fewer negatives than asked for repeat, each as often as the others or once more.
func TestDrawnNegatives(t *testing.T) {
	s := &source{b: Batching{NegNums: 7, Seed: 3}}
	count := map[string]int{}
	for _, n := range s.draw(5, []string{"x", "y", "z"}) {
		count[n]++
	}
	for _, n := range []string{"x", "y", "z"} {
		if count[n] < 2 || count[n] > 3 {
			t.Errorf("drawn %v", count)
		}
	}
	if !reflect.DeepEqual(s.draw(5, []string{"x", "y", "z"}), s.draw(5, []string{"x", "y", "z"})) {
		t.Error("two draws for one epoch differ")
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
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		return dir
	}
	for _, c := range []struct{ file, content, want string }{
		{"modules.json", `[{"path":"2_Dense","type":"sentence_transformers.models.Dense"}]`, `module "sentence_transformers.models.Dense" is not supported`},
		{"modules.json", `{`, "modules.json: "},
		{"1_Pooling/config.json", `{"pooling_mode_max_tokens":true}`, "want mean or cls pooling"},
		{"1_Pooling/config.json", `{"pooling_mode":["mean","cls"]}`, "pooling_mode is"},
		{"sentence_bert_config.json", `{"max_seq_length":25}`, "max_seq_length is 25, want 3 to 24"},
	} {
		if m, err := Open(write(c.file, c.content)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, %v; want %q", c.file, c.content, m, err, c.want)
		}
	}
	m, err := Open(write("sentence_bert_config.json", `{"max_seq_length":20}`))
	check(t, err)
	defer m.Close()
	if m.Config != (Config{CLS, true, 20}) {
		t.Errorf("%+v", m.Config)
	}
	m, err = Open(write("1_Pooling/config.json", `{"pooling_mode":"mean"}`))
	check(t, err)
	defer m.Close()
	if m.Config.Pooling != Mean {
		t.Errorf("%+v", m.Config)
	}
}
