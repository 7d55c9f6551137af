package encoder_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/encoder/encodertest"
)

// loadChanged loads a folder's config.json with other values; nil takes a key out.
func loadChanged(t *testing.T, dir string, change map[string]any) (encoder.Config, error) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	check(t, err)
	config := map[string]any{}
	check(t, json.Unmarshal(b, &config))
	for key, value := range change {
		if config[key] = value; value == nil {
			delete(config, key)
		}
	}
	b, err = json.Marshal(config)
	check(t, err)
	return encoder.LoadConfig(encodertest.Folder(t, dir, map[string]string{"config.json": string(b)}))
}

// What an architecture computes, and what of its config was understood and ignored, is told in words.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		dir         string
		change      map[string]any
		want, never []string
	}{
		{
			dir: "../finetune/testdata/bert", change: map[string]any{"use_cache": true, "pooler_type": "first_token_transform", "magic": 3, "position_embedding_type": nil},
			want: []string{
				"architecture: bert: 2 layers, hidden size 24, 3 heads of 8, intermediate size 40; learned positions, at most 20 tokens; attention to both sides; LayerNorm (eps 1e-12) after each block; gelu; vocabulary 138, 2 token types; dropout 0.1, of attention 0.1\n",
				" hidden_size=24,", " type_vocab_size=2,", "ignored: use_cache=true: for generating text only\n",
				"ignored: pooler_type=\"first_token_transform\": for the first BERT's code only\n", "ignored: magic=3: not known to this program\n",
			},
			never: []string{"position_embedding_type", "embedding_size=", "head_dim"},
		},
		{
			dir: "../finetune/testdata/xlmr", change: map[string]any{"vocab": map[string]any{"a": 1, "b": map[string]any{"c": 2}}, "label2id": map[string]int{"A": 0, "B": 1}},
			want: []string{
				"architecture: xlm-roberta: ", "at most 20 tokens", "vocabulary 134; dropout", " max_position_embeddings=22,", " pad_token_id=1,",
				"ignored: vocab={…}: not known to this program\n", "ignored: label2id={…}: the names of labels\n", "ignored: bos_token_id=0: the tokenizer's files say it\n",
			},
		},
		{
			dir: "testdata/modernbert", want: []string{
				"architecture: modernbert: ", "rotary positions of base 160 in 2 of 4 layers, base 10 in 2 of 4 layers, at most 64 tokens",
				"attention to both sides, in 2 of 4 layers at most 3 tokens to either side", "LayerNorm (eps 1e-05) before each block", "gelu with a gate",
				" local_attention=6,", " rope_parameters.full_attention.rope_theta=160,", "ignored: classifier_pooling=\"cls\": for a classifier's head only\n",
				"ignored: tie_word_embeddings=true: for a language model's head only\n",
			},
		},
		{
			dir: "testdata/qwen3-options", change: map[string]any{"rope_scaling": map[string]any{"type": "linear", "factor": 2.0, "beta": 3}, "partial_rotary_factor": 0.5},
			want: []string{
				"architecture: qwen3: 2 layers, hidden size 24, 4 heads of 10 over 2 key-value heads, intermediate size 36; rotary positions of base 100 (linear scaling by 2), at most 64 tokens; causal attention, in 1 of 2 layers at most 3 tokens back; RMSNorm (eps 1e-06) before each block, and of queries and keys; silu with a gate; vocabulary 302\n",
				" rope_scaling.factor=2,", "ignored: rope_scaling.beta=3: not known to this program\n", "ignored: partial_rotary_factor=0.5: not known",
				"ignored: torch_dtype=\"float32\": weights are read",
			},
		},
		{dir: "testdata/qwen3-bidirectional", want: []string{"attention to both sides;", " use_bidirectional_attention=true,", " is_causal=false,"}},
	} {
		config, err := loadChanged(t, c.dir, c.change)
		check(t, err)
		got := config.Explain()
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is not in:\n%s", c.dir, want, got)
			}
		}
		for _, never := range c.never {
			if strings.Contains(got, never) {
				t.Errorf("%s: %q is in:\n%s", c.dir, never, got)
			}
		}
	}
}

// Every key of a file is either understood or ignored, in every folder of the fixtures.
func TestEveryKeyIsAccountedFor(t *testing.T) {
	paths, err := filepath.Glob("../*/testdata/*/config.json")
	check(t, err)
	if len(paths) < 15 {
		t.Fatalf("%d folders", len(paths))
	}
	for _, path := range paths {
		c, err := encoder.LoadConfig(filepath.Dir(path))
		check(t, err)
		told := map[string]int{}
		top := func(key string) string { name, _, _ := strings.Cut(key, "."); return name }
		for _, s := range c.Keys.Understood() {
			key, _, _ := strings.Cut(s, "=")
			told[top(key)]++
		}
		for _, k := range c.Keys.Ignored() {
			told[top(k.Key)]++
		}
		b, err := os.ReadFile(path)
		check(t, err)
		file := map[string]any{}
		check(t, json.Unmarshal(b, &file))
		for key := range file {
			if told[key] == 0 {
				t.Errorf("%s: %s is neither understood nor ignored", path, key)
			}
		}
	}
}

// A head's keys count once a head has read them.
func TestKeysOfAHead(t *testing.T) {
	c, err := encoder.LoadConfig("testdata/modernbert-reranker-cls")
	check(t, err)
	ignored := func() bool {
		return slices.ContainsFunc(c.Keys.Ignored(), func(k encoder.IgnoredKey) bool { return k.Key == "classifier_pooling" })
	}
	if !ignored() {
		t.Error("classifier_pooling was not read, but is not ignored")
	}
	var x struct {
		Pooling string `json:"classifier_pooling"`
	}
	check(t, c.Keys.Read(&x))
	if ignored() || x.Pooling != "cls" {
		t.Errorf("classifier_pooling was read as %q, but is ignored", x.Pooling)
	}
}

// What is no config of a known architecture is an error that says what it found.
func TestConfigsOfOthersAndDamagedOnes(t *testing.T) {
	for text, want := range map[string]string{
		`{"model_type": "gpt2"}`:  `config.json: model_type is "gpt2", want one of: bert, `,
		`{}`:                      `config.json: model_type is "", want one of: bert, `,
		`{"model_type": "bert", `: `config.json: unexpected end of JSON input`,
		`[1]`:                     `config.json: json: cannot unmarshal array`,
		`null`:                    `model_type is ""`,
		`{"model_type": "qwen3", "head_dim": "x"}`:     `config.json: head_dim is of the kind string, want a whole number`,
		`{"model_type": "qwen3", "rope_scaling": 3}`:   `config.json: rope_scaling is of the kind number, want an object`,
		`{"model_type": "qwen3", "head_dim": 1.5}`:     `config.json: head_dim is of the kind number 1.5, want a whole number`,
		`{"model_type": "bert", "layer_norm_eps": []}`: `config.json: layer_norm_eps is of the kind array, want a number`,
		`{"model_type": "bert", "hidden_size": -1}`:    `vocab_size is 0, want a positive number`,
		`{"model_type": "bert", "is_decoder": true}`:   `is_decoder is true`,
	} {
		_, err := encoder.LoadConfig(encodertest.Folder(t, "testdata/qwen3", map[string]string{"config.json": text}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
