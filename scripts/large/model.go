package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
)

// A size is a model's config.json and what it is trained with.
type size struct {
	config        map[string]any
	batch, length int  // examples of a step, tokens of a text
	checkpointed  bool // train only with --gradient-checkpointing
	lastToken     bool // pool the last token for embeddings, instead of the mean
}

// sizes are the models by name.
var sizes = map[string]size{
	"minilm": {batch: 8, length: 64, config: map[string]any{
		"model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
		"intermediate_size": 1536, "max_position_embeddings": 512, "type_vocab_size": 2,
	}},
	"bert-base": {batch: 8, length: 64, config: map[string]any{
		"model_type": "bert", "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
		"intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2,
	}},
	"xlmr-large": {batch: 8, length: 64, config: map[string]any{
		"model_type": "xlm-roberta", "vocab_size": 250002, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
		"intermediate_size": 4096, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1,
	}},
	"qwen3-0.6b": {batch: 4, length: 128, checkpointed: true, lastToken: true, config: map[string]any{
		"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
		"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6,
		"rope_theta": 1000000, "tie_word_embeddings": true, "pad_token_id": 1,
	}},
}

// special are the first tokens of the vocabulary, with XLM-RoBERTa's ids.
var special = []string{"<s>", "<pad>", "</s>", "<unk>"}

// makeModel writes the folder of an encoder of one of the sizes with random weights, and a Unigram tokenizer whose
// vocabulary is as large as the model's.
func makeModel(dir, name string) error {
	size, ok := sizes[name]
	if !ok {
		return unknownSize(name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := hf.WriteJSON(filepath.Join(dir, "config.json"), size.config); err != nil {
		return err
	}
	if size.lastToken {
		if err := writeModules(dir, size.config["hidden_size"].(int)); err != nil {
			return err
		}
	}
	c, err := encoder.LoadConfig(dir)
	if err != nil {
		return err
	}
	if err := writeTokenizer(filepath.Join(dir, "tokenizer.json"), int(c.VocabSize)); err != nil {
		return err
	}
	layout, err := flat.NewLayout(c.Params())
	if err != nil {
		return err
	}
	buffer := make([]float32, layout.Total)
	random := rand.New(rand.NewPCG(1, 2))
	if err := layout.Each(buffer, func(p flat.Param, values []float32) error {
		fill(p, values, random)
		return nil
	}); err != nil {
		return err
	}
	tensors, err := hf.FromLayout(layout, buffer, c.Params(), c.NewNaming().Tensors)
	if err != nil {
		return err
	}
	return safetensors.Write(filepath.Join(dir, hf.SafetensorsFile), map[string]string{"format": "pt"}, tensors)
}

// unknownSize returns an error that lists the known sizes.
func unknownSize(name string) error {
	return fmt.Errorf("no size %q: want one of %s", name, strings.Join(slices.Sorted(maps.Keys(sizes)), ", "))
}

// writeModules writes sentence-transformers' modules for an embedding model that pools the last token.
func writeModules(dir string, width int) error {
	const pooling = "1_Pooling"
	return errors.Join(
		hf.WriteJSON(filepath.Join(dir, hf.ModulesFile), []map[string]any{
			{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
			{"idx": 1, "name": "1", "path": pooling, "type": "sentence_transformers.models.Pooling"},
			{"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
		}),
		os.MkdirAll(filepath.Join(dir, pooling), 0o755),
		hf.WriteJSON(filepath.Join(dir, pooling, "config.json"), map[string]any{"word_embedding_dimension": width, "pooling_mode_lasttoken": true}),
	)
}

// countParameters counts the numbers of the encoder in a folder.
func countParameters(dir string) (n int64, err error) {
	c, err := encoder.LoadConfig(dir)
	for _, p := range c.Params() {
		n += p.Size()
	}
	return n, err
}

// fill initializes a parameter as transformers does: norms 1 and 0, biases 0, all others normal with deviation 0.02.
func fill(p flat.Param, values []float32, random *rand.Rand) {
	start := float32(0)
	if !p.Decay && strings.HasSuffix(p.Name, ".weight") {
		start = 1
	}
	for i := range values {
		values[i] = start
		if p.Decay {
			values[i] = float32(random.NormFloat64() * 0.02)
		}
	}
}

// word returns the i-th word of the vocabulary.
func word(i int) string {
	letters := []byte{}
	for ; i > 0 || len(letters) < 3; i /= 26 {
		letters = append(letters, byte('a'+i%26))
	}
	return string(letters)
}

func writeTokenizer(path string, vocabulary int) error {
	type piece [2]any
	pieces := []piece{}
	added := []map[string]any{}
	for id, s := range special {
		pieces = append(pieces, piece{s, 0.0})
		added = append(added, map[string]any{
			"id": id, "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
		})
	}
	for i := len(pieces); i < vocabulary; i++ {
		pieces = append(pieces, piece{"▁" + word(i), -float64(i) / 1e4})
	}
	token := func(s string) map[string]any {
		return map[string]any{"SpecialToken": map[string]any{"id": s, "type_id": 0}}
	}
	sequence := func(id string) map[string]any {
		return map[string]any{"Sequence": map[string]any{"id": id, "type_id": 0}}
	}
	specials := map[string]any{}
	for _, id := range []int{0, 2} {
		specials[special[id]] = map[string]any{"id": special[id], "ids": []int{id}, "tokens": []string{special[id]}}
	}
	b, err := json.Marshal(map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil, "decoder": nil,
		"pre_tokenizer": map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
		"post_processor": map[string]any{
			"type": "TemplateProcessing", "special_tokens": specials,
			"single": []any{token("<s>"), sequence("A"), token("</s>")},
			"pair":   []any{token("<s>"), sequence("A"), token("</s>"), token("</s>"), sequence("B"), token("</s>")},
		},
		"model": map[string]any{"type": "Unigram", "unk_id": 3, "vocab": pieces, "byte_fallback": false},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

// makeRows writes training rows, and the same rows as an MTEB test file. A row has a query, a positive and three negative
// passages of words from the vocabulary.
func makeRows(train, test string, rows, words, vocabulary int) error {
	random := rand.New(rand.NewPCG(3, 4))
	text := func(n int) string {
		out := make([]string, n)
		for i := range out {
			out[i] = word(len(special) + random.IntN(vocabulary-len(special)))
		}
		return strings.Join(out, " ")
	}
	var a, b strings.Builder
	for range rows {
		query, pos, neg := text(words/4), text(words), []string{text(words), text(words), text(words)}
		row := func(to *strings.Builder, v any) error {
			line, err := json.Marshal(v)
			fmt.Fprintln(to, string(line))
			return err
		}
		if err := row(&a, map[string]any{"query": query, "pos": []string{pos}, "neg": neg}); err != nil {
			return err
		}
		if err := row(&b, map[string]any{"query": query, "positive": []string{pos}, "negative": neg}); err != nil {
			return err
		}
	}
	if err := os.WriteFile(train, []byte(a.String()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(test, []byte(b.String()), 0o644)
}
