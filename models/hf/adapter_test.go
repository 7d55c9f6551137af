package hf

import (
	"encoding/json"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/flat"
)

// adapterConfig is a config of PEFT with some keys changed.
func adapterConfig(changes map[string]any) map[string]any {
	c := map[string]any{
		"peft_type": "LORA", "base_model_name_or_path": "org/name", "bias": "none", "r": 2, "lora_alpha": 4, "use_dora": false, "fan_in_fan_out": false,
		"loftq_config": map[string]any{}, "rank_pattern": map[string]any{}, "alpha_pattern": map[string]any{}, "init_lora_weights": true, "revision": nil,
		"target_modules": []string{"query"}, "peft_version": "0.21.2", "inference_mode": true, "layer_replication": nil, "target_parameters": []string{},
	}
	maps.Copy(c, changes)
	return c
}

func writeAdapter(t *testing.T, dir string, changes map[string]any, tensors ...safetensors.Tensor) {
	t.Helper()
	check(t, WriteJSON(filepath.Join(dir, AdapterConfigFile), adapterConfig(changes)))
	if tensors != nil {
		check(t, WriteWeights(filepath.Join(dir, AdapterFile), nil, tensors))
	}
}

// What PEFT would compute and this program does not is refused by the name of its key.
func TestAdapterRefusals(t *testing.T) {
	for want, changes := range map[string]map[string]any{
		"":                                   {"future_key": nil, "other_key": []int{}, "use_rslora": true, "init_lora_weights": "gaussian"},
		"peft_type is IA3, want LORA":        {"peft_type": "IA3"},
		"bias is all, want none":             {"bias": "all"},
		"base_model_name_or_path is not":     {"base_model_name_or_path": nil},
		"r is 0, want a positive number":     {"r": 0},
		"use_dora is true":                   {"use_dora": true},
		"fan_in_fan_out is true":             {"fan_in_fan_out": true},
		"lora_bias is true":                  {"lora_bias": true},
		`target_parameters is ["a"]`:         {"target_parameters": []string{"a"}},
		"trainable_token_indices is [1]":     {"trainable_token_indices": []int{1}},
		"layer_replication is [[0,4]]":       {"layer_replication": [][]int{{0, 4}}},
		"alora_invocation_tokens is [7]":     {"alora_invocation_tokens": []int{7}},
		"init_lora_weights is pissa_niter_4": {"init_lora_weights": "pissa_niter_4"},
		"future_key is 3: this key of PEFT":  {"future_key": 3},
		"lora_alpha is \"x\"":                {"lora_alpha": "x"},
		"rank_pattern: error parsing regexp": {"rank_pattern": map[string]int{"(": 3}},
		"alpha_pattern: q: json":             {"alpha_pattern": map[string]string{"q": "x"}},
		"rank_pattern is [3], want an obj":   {"rank_pattern": []int{3}},
	} {
		dir := t.TempDir()
		writeAdapter(t, dir, changes)
		_, err := ReadAdapterConfig(dir)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v: %v, want %q", changes, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("more than a line: %v", err)
		}
	}
}

// A pattern holds for modules whose path it matches as a whole or behind a dot; the first that matches counts.
func TestAdapterScale(t *testing.T) {
	var c AdapterConfig
	var file map[string]json.RawMessage
	check(t, json.Unmarshal([]byte(`{"peft_type": "LORA", "base_model_name_or_path": "x", "r": 4, "lora_alpha": 8, "target_modules": "all-linear",
		"rank_pattern": {"layer.0.*query": 2, "query": 16, "^a.b$": 9}, "alpha_pattern": {"ense": 99, "dense": 3}}`), &file))
	check(t, c.read(file))
	if !c.TargetPattern {
		t.Error("all-linear is taken for a list")
	}
	for module, want := range map[string]struct {
		rank  int64
		scale float64
	}{
		"encoder.layer.0.self.query": {2, 4}, "encoder.layer.1.self.query": {16, 0.5}, "x.key": {4, 2}, "x.dense": {4, 0.75}, "a.b": {9, 8.0 / 9}, "x.a.b": {4, 2},
	} {
		if got, err := c.scale(module, want.rank); err != nil || math.Abs(got-want.scale) > 1e-12 {
			t.Errorf("%s: %g, %v, want %g", module, got, err, want.scale)
		}
	}
	if _, err := c.scale("x.key", 3); err == nil || !strings.Contains(err.Error(), `module "x.key" has rank 3`) {
		t.Errorf("a wrong rank: %v", err)
	}
	c.RSLoRA = true
	if got, err := c.scale("x.key", 4); err != nil || got != 4 {
		t.Errorf("rsLoRA: %g, %v, want 8/√4", got, err)
	}
}

// joined is a parameter of a checkpoint's tensors q and k.
var joined = flat.Param{Name: "qk.weight", Dims: []int64{4, 3}}

// fillAdapter fills qk.weight of q.weight and k.weight, bias, and a head score.weight that only adapters have, with the adapter of a folder.
func fillAdapter(dir string) (map[string][]float32, error) {
	params := []flat.Param{joined, {Name: "bias", Dims: []int64{2}}, {Name: "score.weight", Dims: []int64{1, 3}}}
	l, err := flat.NewLayout(params)
	if err != nil {
		return nil, err
	}
	w, err := OpenWeights(dir)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	w.NameAdapter(func(param string) [][]string {
		if param == "qk.weight" {
			return [][]string{{"m.q.weight", "m.k.weight"}, {"old.qk.weight"}}
		}
		return [][]string{{"m." + param}}
	})
	b := Buffer{l, make([]float32, l.Total)}
	err = w.Fill(b, params, func(p string) []string {
		if p == "qk.weight" {
			return []string{"q.weight", "k.weight"}
		}
		return []string{p}
	}, func(p flat.Param, values []float32) error { values[0] = -1; return nil })
	if err != nil {
		return nil, err
	}
	out := map[string][]float32{}
	for _, p := range params {
		if out[p.Name], err = b.Values(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tensor is a tensor of a small file.
func tensor(name string, dims []int64, values ...float32) safetensors.Tensor {
	return safetensors.FromFloat32(name, values, dims...)
}

// OpenWeights merges a folder's adapter: into parts of joined parameters, in another spelling than the base's, and heads that only the
// adapter has. A tensor that belongs nowhere is an error that names it.
func TestMerge(t *testing.T) {
	const p = adapterPrefix
	low := func(module string, out int) []safetensors.Tensor {
		b := make([]float32, out*2)
		for i := range b {
			b[i] = float32(i)
		}
		return []safetensors.Tensor{tensor(p+module+".lora_A.weight", []int64{2, 3}, 1, 0, 2, 0, 1, 0), tensor(p+module+".lora_B.weight", []int64{int64(out), 2}, b...)}
	}
	for name, c := range map[string]struct {
		tensors []safetensors.Tensor
		qk      []float32 // scale 2
		bias    float32
		score   float32
		err     string
	}{
		"a part":         {tensors: low("m.k", 2), qk: []float32{1, 1, 1, 1, 1, 1, 2, 4, 2, 6, 8, 10}, bias: 5, score: -1},
		"both":           {tensors: append(low("m.k", 2), low("m.q", 2)...), qk: []float32{1, 3, 1, 5, 7, 9, 2, 4, 2, 6, 8, 10}, bias: 5, score: -1},
		"as the base's":  {tensors: low("k", 2), qk: []float32{1, 1, 1, 1, 1, 1, 2, 4, 2, 6, 8, 10}, bias: 5, score: -1},
		"joined":         {tensors: low("old.qk", 4), qk: []float32{1, 3, 1, 5, 7, 9, 10, 12, 18, 14, 16, 26}, bias: 5, score: -1},
		"saved":          {tensors: []safetensors.Tensor{tensor(p+"m.bias", []int64{2}, 9, 8), tensor(p+"score.modules_to_save.default.weight", []int64{1, 3}, 7, 7, 7)}, qk: []float32{1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2}, bias: 9, score: 7},
		"a pooler":       {tensors: low("m.pooler.dense", 2), qk: []float32{1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2}, bias: 5, score: -1},
		"another layer":  {tensors: low("m.layers.9.k", 2), err: `"m.layers.9.k" is not a part of the base model org/name`},
		"lm_head":        {tensors: low("lm_head", 2), err: `"lm_head" is not a part of`},
		"another saved":  {tensors: []safetensors.Tensor{tensor(p+"m.norm.weight", []int64{2}, 9, 8)}, err: `"m.norm.weight" is not a part of`},
		"a wider layer":  {tensors: low("m.k", 3), err: `module "m.k" has lora_A of shape [2 3] and lora_B of shape [3 2], the base's weight has [2 3]`},
		"a wider head":   {tensors: []safetensors.Tensor{tensor(p+"score.weight", []int64{2, 3}, 1, 2, 3, 4, 5, 6)}, err: `tensor "base_model.model.score.weight" has the shape [2 3]`},
		"no B":           {tensors: low("m.k", 2)[:1], err: `module "m.k" has lora_A of shape [2 3] and lora_B of shape []`},
		"DoRA's":         {tensors: append(low("m.k", 2), tensor(p+"m.k.lora_magnitude_vector", []int64{2}, 1, 1)), err: `lora_magnitude_vector" is not read`},
		"not a number":   {tensors: []safetensors.Tensor{low("m.k", 2)[0], tensor(p+"m.k.lora_B.weight", []int64{2, 2}, 1, float32(math.NaN()), 1, 1)}, err: "m.k.lora_B.weight"},
		"another rank":   {tensors: []safetensors.Tensor{tensor(p+"m.k.lora_A.weight", []int64{1, 3}, 1, 0, 2), tensor(p+"m.k.lora_B.weight", []int64{2, 1}, 1, 2)}, err: "has rank 1"},
		"no adapter":     {err: "has no weights of the adapter: want adapter_model.safetensors or adapter_model.bin"},
		"an embedding's": {tensors: []safetensors.Tensor{tensor(p+"m.words.lora_embedding_A", []int64{2, 3}, 1, 0, 2, 0, 1, 0)}, err: `lora_embedding_A" is not read`},
	} {
		dir := t.TempDir()
		check(t, WriteWeights(filepath.Join(dir, SafetensorsFile), nil, []safetensors.Tensor{
			tensor("q.weight", []int64{2, 3}, 1, 1, 1, 1, 1, 1), tensor("k.weight", []int64{2, 3}, 2, 2, 2, 2, 2, 2), tensor("bias", []int64{2}, 5, 6),
		}))
		writeAdapter(t, dir, nil, c.tensors...)
		got, err := fillAdapter(dir)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, want := range c.qk {
			if got["qk.weight"][i] != want {
				t.Errorf("%s: %v, want %v", name, got["qk.weight"], c.qk)
				break
			}
		}
		if got["bias"][0] != c.bias || got["score.weight"][0] != c.score {
			t.Errorf("%s: bias %v and score %v, want %g and %g", name, got["bias"], got["score.weight"], c.bias, c.score)
		}
	}
}

// A row of a tensor is merged as the whole tensor is.
func TestMergeRows(t *testing.T) {
	dir := t.TempDir()
	check(t, WriteWeights(filepath.Join(dir, SafetensorsFile), nil, []safetensors.Tensor{tensor("lm_head.weight", []int64{3, 2}, 1, 1, 2, 2, 3, 3)}))
	writeAdapter(t, dir, nil, tensor("base_model.model.lm_head.lora_A.weight", []int64{2, 2}, 1, 2, 3, 4), tensor("base_model.model.lm_head.lora_B.weight", []int64{3, 2}, 0, 0, 0, 0, 1, 1))
	w, err := OpenWeights(dir)
	check(t, err)
	defer w.Close()
	check(t, w.AddRows("lm_head.weight", []int64{2, 0}))
	for name, want := range map[string]float32{"lm_head.weight[2]": 3 + 2*(2+4), "lm_head.weight[0]": 1} {
		x, ok := w.Tensor(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		values, err := x.Float32()
		check(t, err)
		if values[1] != want {
			t.Errorf("%s is %v, want %g last", name, values, want)
		}
	}
}

// An adapter is trained further where its matrices are among the parameters. A head is merged and saved whole, but what it changes of frozen
// parameters and rows would be lost, and is refused.
func TestFillToTrainFurther(t *testing.T) {
	const p = adapterPrefix
	low := func(module string, out int64) []safetensors.Tensor {
		return []safetensors.Tensor{tensor(p+module+LoraA, []int64{1, 2}, 1, 1), tensor(p+module+LoraB, []int64{out, 1}, slices.Repeat([]float32{1}, int(out))...)}
	}
	for i, c := range []struct {
		more []safetensors.Tensor
		err  string
	}{
		{nil, ""},
		{low("m.norm2", 2), `"m.norm2" is not a part of`},
		{[]safetensors.Tensor{tensor(p+"m.norm.weight", []int64{2}, 9, 8)}, `"m.norm.weight" replaces the base's (modules_to_save), but is frozen here, so that training the adapter further would lose it: merge it first with rag-retrieval merge`},
		{low("m.v", 2), `"m.v" has an adapter, but is not among lora_targets, so that training the adapter further would lose it: merge it first with rag-retrieval merge`},
		{low("lm_head", 3), `"lm_head" has an adapter, but is not among lora_targets`},
		{[]safetensors.Tensor{tensor(p+"lm_head.weight", []int64{3, 2}, 1, 2, 3, 4, 5, 6)}, `"lm_head.weight" replaces the base's`},
	} {
		dir := t.TempDir()
		check(t, WriteWeights(filepath.Join(dir, SafetensorsFile), nil, []safetensors.Tensor{
			tensor("q.weight", []int64{2, 2}, 1, 1, 1, 1), tensor("v.weight", []int64{2, 2}, 1, 1, 1, 1), tensor("norm.weight", []int64{2}, 1, 1),
			tensor("lm_head.weight", []int64{3, 2}, 1, 1, 2, 2, 3, 3), tensor("head.weight", []int64{1, 2}, 1, 1),
		}))
		head := []safetensors.Tensor{tensor(p+"head.lora_A.weight", []int64{1, 2}, 1, 2), tensor(p+"head.lora_B.weight", []int64{1, 1}, 3)}
		q := []safetensors.Tensor{tensor(p+"m.q.lora_A.weight", []int64{1, 2}, 4, 5), tensor(p+"m.q.lora_B.weight", []int64{2, 1}, 6, 7)}
		writeAdapter(t, dir, map[string]any{"r": 1, "lora_alpha": 1}, slices.Concat(q, head, c.more)...)
		params := []flat.Param{
			{Name: "q.weight", Dims: []int64{2, 2}, Frozen: true}, {Name: "v.weight", Dims: []int64{2, 2}, Frozen: true}, {Name: "norm.weight", Dims: []int64{2}, Frozen: true},
			{Name: "rows", Dims: []int64{1, 2}, Frozen: true}, {Name: "q" + LoraA, Dims: []int64{1, 2}}, {Name: "q" + LoraB, Dims: []int64{2, 1}}, {Name: "head.weight", Dims: []int64{1, 2}},
		}
		l, err := flat.NewLayout(params)
		check(t, err)
		b := Buffer{l, make([]float32, l.Total)}
		w, err := OpenWeights(dir)
		check(t, err)
		w.NameAdapter(func(param string) [][]string { return [][]string{{"m." + param}} })
		check(t, w.AddRows("lm_head.weight", []int64{2}))
		err = w.Fill(b, params, func(param string) []string {
			if param == "rows" {
				return []string{RowName("lm_head.weight", 2)}
			}
			return []string{param}
		}, nil)
		check(t, w.Close())
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%d: %v, want %q", i, err, c.err)
			}
			continue
		}
		check(t, err)
		for name, want := range map[string][]float32{"q.weight": {1, 1, 1, 1}, "q" + LoraA: {4, 5}, "q" + LoraB: {6, 7}, "head.weight": {1 + 3, 1 + 6}, "rows": {3, 3}} {
			if got, err := b.Values(params[slices.IndexFunc(params, func(p flat.Param) bool { return p.Name == name })]); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s is %v, %v, want %v", name, got, err, want)
			}
		}
	}
}
