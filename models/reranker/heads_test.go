package reranker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

const fixtures = "../encoder/testdata/"

// classifiers are fixtures of scripts/fixtures/make_architectures.py and make_encoders.py: folders with logits.json and gradients.safetensors.
var classifiers = []string{
	"modernbert-reranker-cls", "modernbert-reranker-mean", "qwen3-reranker", "qwen3-causal",
	"gte-reranker", "nomicbert-reranker", "eurobert-reranker", "eurobert-bos-reranker", "llama-reranker", "gemma3-reranker",
}

// scored are rows of token ids and their logits, as transformers gives them.
type scored struct {
	Rows   [][]int64   `json:"rows"`
	Logits [][]float64 `json:"logits"`
}

func (s scored) rows() (out []encoder.Row) {
	for _, ids := range s.Rows {
		out = append(out, encoder.Row{IDs: ids})
	}
	return out
}

func (s scored) compare(t *testing.T, what string, got []float32) {
	t.Helper()
	for i, want := range s.Logits {
		if d := math.Abs(float64(got[i]) - want[0]); !(d <= 1e-5) {
			t.Errorf("%s: row %d has the logit %g, want %g", what, i, got[i], want[0])
		}
	}
}

// classifier opens a fixture. End gives the rows that end with the padding token, where the fixture has such rows.
func classifier(t *testing.T, name string) (m *Model, want, end scored) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(fixtures, name, "logits.json"))
	check(t, err)
	var file struct {
		scored
		End    scored  `json:"pad_at_end"`
		Tokens []int64 `json:"tokens"` // of a language model
	}
	check(t, json.Unmarshal(b, &file))
	dir := filepath.Join(fixtures, name)
	if file.Tokens != nil {
		dir = languageModel(t, name, fmt.Sprintf(`{"true_token_id": %d, "false_token_id": %d}`, file.Tokens[0], file.Tokens[1]), judgeTemplate)
	}
	m, err = Open(dir)
	check(t, err)
	t.Cleanup(func() { check(t, m.Close()) })
	return m, file.scored, file.End
}

// judgeTemplate is the chat template of Qwen3-Reranker's folders in short.
const judgeTemplate = "<|im_start|>system\n" + judgeSystem + "<|im_end|>\n…"

// languageModel is a fixture with sentence-transformers' module LogitScore.
func languageModel(t *testing.T, name, config, template string) (dir string) {
	t.Helper()
	return encodertest.Folder(t, fixtures+name, map[string]string{
		"modules.json": `[{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
			{"path": "1_LogitScore", "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"}]`,
		"1_LogitScore/config.json": config, "chat_template.jinja": template,
		"config_sentence_transformers.json": `{"model_type": "CrossEncoder", "prompts": {"x": "Judge code"}, "default_prompt_name": "x"}`,
	})
}

// The logits are transformers', packed for scoring and padded as other runtimes read the model, also of texts that end
// with the padding token.
func TestClassifiersEqualTransformers(t *testing.T) {
	for _, name := range classifiers {
		m, want, end := classifier(t, name)
		for what, rows := range map[string]scored{"": want, ", the padding token at the end": end} {
			if len(rows.Rows) == 0 {
				continue
			}
			s, err := NewScorer(m, scoring.Options{Options: runtime.Options{Threads: 1}})
			check(t, err)
			got, err := s.session.Run(m.packToScore(rows.rows()), int64(len(rows.Rows)))
			check(t, err)
			rows.compare(t, name+", packed"+what, got)
			check(t, s.Close())
			rows.compare(t, name+", padded"+what, exported(t, m, rows.rows()))
		}
	}
}

// exported runs the exported graph with the folder's weights on rows that are padded at the right.
func exported(t *testing.T, m *Model, rows []encoder.Row) []float32 {
	t.Helper()
	layout, err := flat.NewLayout(m.Params())
	check(t, err)
	buffer := make([]float32, layout.Total)
	check(t, m.Fill(hf.Buffer{Layout: layout, Data: buffer}))
	g := onnx.NewGraph("export")
	m.exportGraph(g, scoring.Constants(g, layout, buffer))
	model, err := g.Bytes()
	check(t, err)
	return runPadded(t, model, m.Encoder, rows)
}

func runPadded(t *testing.T, model []byte, c encoder.Config, rows []encoder.Row) []float32 {
	t.Helper()
	s, err := runtime.NewSession(model, runtime.Options{Threads: 1})
	check(t, err)
	defer s.Close()
	binding, err := s.NewBinding()
	check(t, err)
	defer binding.Close()
	longest := slices.Max(encoder.Lengths(rows)) + 1
	ids, mask := []int64{}, []int64{}
	for _, r := range rows {
		for j := range longest {
			if j < len(r.IDs) {
				ids, mask = append(ids, r.IDs[j]), append(mask, 1)
			} else {
				ids, mask = append(ids, c.PadTokenID), append(mask, 0)
			}
		}
	}
	b, n := ortrain.NewBatch(), int64(len(rows))
	b.Int("input_ids", ids, n, int64(longest))
	b.Int("attention_mask", mask, n, int64(longest))
	if c.HasTypes() {
		b.Int("token_type_ids", make([]int64, len(ids)), n, int64(longest))
	}
	check(t, b.Bind(binding))
	out := make([]float32, n)
	check(t, binding.OutputFloats("logits", out, n, 1))
	check(t, binding.Run())
	return out
}

// fixtureTask trains a model with the fixtures' loss, the sum of C[k]·logit[k].
func fixtureTask(t *testing.T, m *Model, rows []encoder.Row, groups int) (*Task, *ortrain.Trainer, *ortrain.Batch) {
	t.Helper()
	cfg := config.DefaultTrain(modelcard.Reranker)
	m.Encoder.SetDropout(0)
	task := &Task{m: m, c: cfg, loss: loss{graph: func(g *onnx.Graph, scores *onnx.Value) *onnx.Value {
		return g.ReduceSum(g.Mul(scores, g.Input("factors", onnx.Float32, onnx.NamedDim(pairRows))), false)
	}}}
	set, err := artifact.Build(task.model(encoder.Shape{Rows: len(rows), MaxLength: 16, Groups: groups}), optim.DefaultAdamW)
	check(t, err)
	tr, err := ortrain.NewTrainer(set, ortrain.Config{
		Schedule: optim.Schedule{Kind: "constant", Peak: 1e-2, Total: 3}, AdamW: optim.DefaultAdamW, Session: runtime.Options{Threads: 1},
	})
	check(t, err)
	t.Cleanup(func() { check(t, tr.Close()) })
	check(t, tr.Fill(task.Fill))
	b := m.pack(rows, groups)
	b.Rows = 1
	var factors []float32
	for k := range rows {
		factors = append(factors, float32(float64(k*7919%1009)/1009-0.5))
	}
	b.Float("factors", factors, int64(len(rows)))
	return task, tr, b
}

// Every parameter's gradient is torch's.
func TestClassifierGradientsEqualTorchs(t *testing.T) {
	for _, name := range classifiers {
		for _, groups := range []int{1, 3} {
			m, want, _ := classifier(t, name)
			_, tr, b := fixtureTask(t, m, want.rows(), groups)
			loss, grads, err := tr.Gradients(b)
			check(t, err)
			sum := 0.0
			for k, x := range want.Logits {
				sum += float64(b.Floats["factors"].Data[k]) * x[0]
			}
			if math.Abs(loss-sum) > 2e-5 {
				t.Errorf("%s: loss %g, want %g", name, loss, sum)
			}
			compareGradients(t, m, fmt.Sprintf("%s, %d groups", name, groups), filepath.Join(m.Dir, "gradients.safetensors"), tr.Layout(), grads)
		}
	}
}

// compareGradients measures each tensor's difference by its largest element.
func compareGradients(t *testing.T, m *Model, what, path string, l *flat.Layout, grads []float32) {
	t.Helper()
	file, err := hf.OpenFile(path)
	check(t, err)
	defer file.Close()
	naming, err := m.Encoder.Naming(file)
	check(t, err)
	buffer := make([]float32, l.Total)
	check(t, file.Fill(hf.Buffer{Layout: l, Data: buffer}, m.Params(), m.names(naming), nil))
	largest := 0.0
	for _, x := range buffer {
		largest = max(largest, math.Abs(float64(x)))
	}
	check(t, l.Each(buffer, func(p flat.Param, want []float32) error {
		got, err := l.View(grads, p.Name)
		scale, far := 0.0, 0.0
		for i, x := range want {
			scale, far = max(scale, math.Abs(float64(x))), max(far, math.Abs(float64(x-got[i])))
		}
		if !(far <= max(1e-4*scale, 1e-6*largest)) {
			t.Errorf("%s: %s: gradients differ by %g, the largest is %g", what, p.Name, far, scale)
		}
		return err
	}))
}

// A model that is saved after a step has the tensors that the folder had, opens again, and scores as it did in training;
// so does its exported graph.
func TestClassifiersAreSavedAndReadBack(t *testing.T) {
	for _, name := range classifiers {
		m, want, _ := classifier(t, name)
		task, tr, b := fixtureTask(t, m, want.rows(), 1)
		_, err := tr.Step([]*ortrain.Batch{b})
		check(t, err)
		parameters, err := tr.Parameters()
		check(t, err)
		dir := filepath.Join(t.TempDir(), "saved")
		check(t, task.Save(dir, modelcard.Card{BaseModel: name}, tr.Layout(), parameters))
		if kind, err := modelcard.Detect(dir); err != nil || kind != modelcard.Reranker {
			t.Errorf("%s: saved as a model of kind %s, %v", name, kind, err)
		}
		if got, wanted := tensorNames(t, dir), tensorNames(t, m.Dir); !slices.Equal(got, wanted) {
			t.Errorf("%s: saved are the tensors\n%v, want\n%v", name, got, wanted)
		}
		if was, is := settings(t, m.Dir), settings(t, dir); !maps.Equal(was, is) {
			t.Errorf("%s: saved with the config\n%s, was\n%s", name, is, was)
		}
		trained, err := newScorer(m, tr, scoring.Options{Options: runtime.Options{Threads: 1}})
		check(t, err)
		before, err := trained.session.Run(m.packToScore(want.rows()), int64(len(want.Rows)))
		check(t, err)
		check(t, trained.Close())
		if math.Abs(float64(before[2])-want.Logits[2][0]) < 1e-3 {
			t.Errorf("%s: a step changed nothing: %g", name, before[2])
		}
		again, err := Open(dir)
		check(t, err)
		s, err := NewScorer(again, scoring.Options{Options: runtime.Options{Threads: 1}})
		check(t, err)
		after, err := s.session.Run(again.packToScore(want.rows()), int64(len(want.Rows)))
		check(t, err)
		check(t, s.Close())
		model, err := os.ReadFile(filepath.Join(dir, "model.onnx"))
		check(t, err)
		export := runPadded(t, model, again.Encoder, want.rows())
		for i, x := range before {
			if math.Abs(float64(after[i]-x)) > 1e-6 || math.Abs(float64(export[i]-x)) > 1e-5 {
				t.Errorf("%s: row %d scores %g in training, %g from its folder, %g exported", name, i, x, after[i], export[i])
			}
		}
		check(t, again.Close())
	}
}

func tensorNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	x, err := safetensors.Open(filepath.Join(dir, hf.SafetensorsFile))
	check(t, err)
	defer x.Close()
	for _, tensor := range x.Tensors {
		names = append(names, fmt.Sprint(tensor.Name, tensor.Shape))
	}
	slices.Sort(names)
	return names
}

// settings are config.json's values as they are written there: transformers refuses a 2 where it wrote 2.0.
func settings(t *testing.T, dir string) map[string]string {
	t.Helper()
	file, c := map[string]json.RawMessage{}, map[string]string{}
	check(t, hf.ReadJSON(filepath.Join(dir, "config.json"), &file))
	for key, value := range file {
		var compact bytes.Buffer
		check(t, json.Compact(&compact, value))
		c[key] = compact.String()
	}
	return c
}

// A base model's new head starts as transformers starts it; ModernBERT's prediction head is in its own files.
func TestNewHeads(t *testing.T) {
	for name, want := range map[string]map[string]float64{ // each new tensor's largest number
		"modernbert":     {"head.dense.weight": 2 * 0.02 / math.Sqrt(8), "head.norm.weight": 1, "classifier.weight": 2 / math.Sqrt(24), "classifier.bias": 0},
		"modernbert-old": {"classifier.weight": 2 / math.Sqrt(24), "classifier.bias": 0},
		"qwen3":          {"score.weight": 4 * 0.02},
	} {
		m, err := OpenBase(fixtures + name)
		check(t, err)
		layout, err := flat.NewLayout(m.Params())
		check(t, err)
		buffer := make([]float32, layout.Total)
		fresh, err := m.Start(hf.Buffer{Layout: layout, Data: buffer}, 7)
		check(t, err)
		check(t, m.Close())
		if len(fresh) != len(want) {
			t.Errorf("%s: new are %v", name, fresh)
		}
		for _, p := range fresh {
			values, err := layout.View(buffer, p)
			check(t, err)
			largest := 0.0
			for _, x := range values {
				largest = max(largest, math.Abs(float64(x)))
			}
			if largest > want[p]*1.0001 || largest < want[p]/4 || p == "head.norm.weight" && slices.Min(values) != 1 {
				t.Errorf("%s: %s starts with numbers up to %g, want up to %g", name, p, largest, want[p])
			}
		}
	}
}

// What a head's keys say and is not known here is an error that names it.
func TestHeadsOfUnknownKinds(t *testing.T) {
	for change, want := range map[[2]string]string{
		{`"classifier_pooling": "cls"`, `"classifier_pooling": "max"`}:         `classifier_pooling is "max", want cls or mean`,
		{`"classifier_activation": "gelu"`, `"classifier_activation": "mish"`}: `classifier_activation is "mish", want one of: gelu`,
		{`"initializer_cutoff_factor": 2.0`, `"initializer_cutoff_factor": 0`}: `initializer_cutoff_factor is 0, want a positive`,
		{`"classifier_bias": false`, `"classifier_bias": true`}:                "",
		{`"classifier_activation": "gelu"`, `"classifier_activation": "silu"`}: "",
		{`"classifier_pooling": "cls"`, `"id2label_": 0`}:                      "",
	} {
		b, err := os.ReadFile(fixtures + "modernbert-reranker-cls/config.json")
		check(t, err)
		dir := encodertest.Folder(t, fixtures+"modernbert-reranker-cls", map[string]string{"config.json": strings.Replace(string(b), change[0], change[1], 1)})
		m, err := Open(dir)
		if err == nil {
			check(t, m.Close())
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", change[1], err, want)
		}
	}
}

// A language model reads Qwen3-Reranker's prompt, with the folder's default prompt as the instruction and the prompt's end
// behind a passage that is cut; so does what is saved of it. Folders that say something else are refused by name.
func TestLanguageModelFolders(t *testing.T) {
	const tokens = `{"true_token_id": 88, "false_token_id": 77}`
	m, err := Open(languageModel(t, "qwen3-causal", tokens, judgeTemplate))
	check(t, err)
	defer m.Close()
	text := func(passage string) string {
		return "<|im_start|>system\n" + judgeSystem + "<|im_end|>\n<|im_start|>user\n<Instruct>: Judge code\n<Query>: x = 1?\n<Document>: " +
			passage + "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
	}
	whole := m.Tokenizer.IDs(text("it's raining"))
	row, err := m.Pair(scoring.Pair{Query: "x = 1?", Passage: "it's raining"}, 1000)
	check(t, err)
	if !slices.Equal(row.IDs, whole) {
		t.Errorf("a pair reads\n%v, want\n%v", row.IDs, whole)
	}
	spaces, err := m.Pair(scoring.Pair{Query: "x = 1?", Passage: "it's raining\n"}, 1000)
	check(t, err)
	if want := m.Tokenizer.IDs(text("it's raining\n")); !slices.Equal(spaces.IDs, want) {
		t.Errorf("a passage with a line break at its end reads\n%v, want\n%v", spaces.IDs, want)
	}
	own, err := m.Pair(scoring.Pair{Query: "x = 1?", Passage: "it's raining", Prompt: "Judge 2"}, 1000)
	check(t, err)
	if want := m.Tokenizer.IDs(strings.Replace(text("it's raining"), "Judge code", "Judge 2", 1)); !slices.Equal(own.IDs, want) {
		t.Errorf("a pair with its own prompt reads\n%v, want\n%v", own.IDs, want)
	}
	row, err = m.Pair(scoring.Pair{Query: "x = 1?", Passage: strings.Repeat("it's raining ", 30)}, len(whole)-1)
	check(t, err)
	end := m.Tokenizer.IDs(judgeEnd)
	if len(row.IDs) != len(whole)-1 || !slices.Equal(row.IDs[len(row.IDs)-len(end):], end) {
		t.Errorf("a pair that is cut reads %v, want %d tokens that end with %v", row.IDs, len(whole)-1, end)
	}

	layout, err := flat.NewLayout(m.Params())
	check(t, err)
	buffer := make([]float32, layout.Total)
	check(t, m.Fill(hf.Buffer{Layout: layout, Data: buffer}))
	dir := filepath.Join(t.TempDir(), "saved")
	check(t, m.Save(dir, modelcard.Card{BaseModel: "x"}, layout, buffer))
	saved, err := Open(dir)
	check(t, err)
	if saved.Formats != m.Formats || !slices.Equal(saved.head.tokens, m.head.tokens) {
		t.Errorf("saved with %v and %v", saved.Formats, saved.head.tokens)
	}
	check(t, saved.Close())

	for _, c := range []struct{ name, config, template, want string }{
		{"qwen3-causal", tokens, "{{ messages }}", "chat_template.jinja: the chat template is not Qwen3-Reranker's"},
		{"qwen3-causal", tokens, "", "tokenizer_config.json: the chat template is not Qwen3-Reranker's"},
		{"qwen3-causal", `{"true_token_id": 302}`, judgeTemplate, "token 302, want 0 to 301"},
		{"qwen3-causal", `{"false_token_id": 7}`, judgeTemplate, "true_token_id is not there"},
		{"qwen3-causal", `{"true_token_id": 88, "false_token_id": null}`, judgeTemplate, ""},
		{"modernbert-reranker-cls", tokens, judgeTemplate, `LogitScore" is not supported, want Transformer`},
	} {
		m, err := Open(languageModel(t, c.name, c.config, c.template))
		if err == nil {
			check(t, m.Close())
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: %v, want %q", c.name, c.config, err, c.want)
		}
	}
}

// A language model without modules is refused as a reranker with how to make it one. As a base model it gets a new head; the
// padding token that its config does not name is the tokenizer's, in training and in the saved config.
func TestLanguageModelsWithoutModules(t *testing.T) {
	_, err := Open(fixtures + "qwen3-causal")
	if err == nil || !strings.Contains(err.Error(), "is a model of kind embedding, not reranker; a language model such as Qwen3-Reranker") {
		t.Error(err)
	}
	m, err := OpenBase(fixtures + "qwen3-causal")
	check(t, err)
	defer m.Close()
	const pad = 297
	if m.head.class != "Qwen3ForSequenceClassification" || m.head.pad == nil || *m.head.pad != pad {
		t.Errorf("%+v", m.head)
	}
	if at := m.head.last([]int64{1, 2, pad, 3, pad, pad}); at != 3 {
		t.Errorf("token %d is read, want 3", at)
	}
	if at := m.head.last([]int64{pad, pad}); at != 0 {
		t.Errorf("of padding token %d is read, want the first", at)
	}
	dir := t.TempDir()
	check(t, m.writeConfig(dir))
	var c struct {
		Pad int64 `json:"pad_token_id"`
	}
	check(t, hf.ReadJSON(filepath.Join(dir, "config.json"), &c))
	if c.Pad != pad {
		t.Errorf("the config has the padding token %d", c.Pad)
	}
}
