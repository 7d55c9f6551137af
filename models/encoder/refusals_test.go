package encoder_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder"
)

// load reads a folder's config.json with some keys changed.
func load(t *testing.T, name string, changes map[string]any) (encoder.Config, error) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name, "config.json"))
	check(t, err)
	var c map[string]any
	check(t, json.Unmarshal(b, &c))
	for key, value := range changes {
		c[key] = value
	}
	b, err = json.Marshal(c)
	check(t, err)
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644))
	return encoder.LoadConfig(dir)
}

// Rotary embeddings whose scaling is not computed are refused by name in one line, in every spelling.
func TestRopeScalingsAreRefusedByName(t *testing.T) {
	type object = map[string]any
	for _, kind := range []string{"yarn", "ntk", "dynamic", "longrope", "proportional", "mystery"} {
		scaled := object{"rope_type": kind, "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 16}
		plain := object{"rope_type": "default", "rope_theta": 100.0}
		other := fmt.Sprintf("rope_type is %q, want default, linear or llama3: other scalings are not computed here", kind)
		for _, c := range []struct {
			name    string
			changes object
			want    string
		}{
			{"qwen3", object{"rope_parameters": scaled}, "config.json: rope_parameters: " + other},
			{"qwen3", object{"rope_parameters": nil, "rope_theta": 100.0, "rope_scaling": scaled}, "config.json: rope_scaling: " + other},
			{"qwen3", object{"rope_scaling": object{"type": kind, "factor": 4.0}}, "config.json: rope_scaling: " + other},
			{"modernbert", object{"rope_parameters": object{"full_attention": scaled, "sliding_attention": plain}}, "config.json: rope_parameters.full_attention: " + other},
			{"modernbert", object{"rope_parameters": object{"full_attention": plain, "sliding_attention": scaled}}, "config.json: rope_parameters.sliding_attention: " + other},
			{"modernbert-old", object{"rope_scaling": scaled}, fmt.Sprintf("config.json: rope_scaling: rope_type is %q, want default: ModernBERT is not scaled here", kind)},
		} {
			_, err := load(t, c.name, c.changes)
			if err == nil || !strings.HasSuffix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %v: %v, want %q", c.name, c.changes, err, c.want)
			}
		}
	}
	for _, factor := range []float64{0, -1} {
		_, err := load(t, "qwen3", object{"rope_parameters": object{"rope_type": "linear", "rope_theta": 100.0, "factor": factor}})
		if want := fmt.Sprintf("rope_parameters: factor is %g, want a positive number", factor); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("factor %g: %v, want %q", factor, err, want)
		}
	}
}

// What the other families' own code can compute and this package cannot is refused by the key's name in one line.
func TestUncomputedKeysAreRefusedByName(t *testing.T) {
	type object = map[string]any
	for _, x := range []struct {
		name    string
		changes object
		want    string
	}{
		{"nomicbert-old", object{"moe_every_n_layers": 2, "num_experts": 8}, "moe_every_n_layers is 2: a mixture of experts (nomic-embed-text-v2-moe) is not computed here"},
		{"nomicbert-old", object{"prenorm": true}, "prenorm is true, which is not computed here for NomicBERT"},
		{"nomicbert-old", object{"rotary_emb_fraction": 0.5}, "rotary_emb_fraction is 0.5, which is not computed here for NomicBERT"},
		{"nomicbert-old", object{"rotary_scaling_factor": 2.0}, "rotary_scaling_factor is 2, want null: rotary positions that change with the length are not computed here"},
		{"nomicbert-old", object{"activation_function": "geglu"}, "activation_function is geglu, which is not computed here for NomicBERT"},
		{"gte-new", object{"layer_norm_type": "rms_norm"}, `layer_norm_type is "rms_norm", want layer_norm`},
		{"gte-new", object{"logn_attention_scale": true}, "logn_attention_scale is true, want false: scores are not scaled by the length here"},
		{"gte-new", object{"position_embedding_type": "absolute"}, `position_embedding_type is "absolute", want rope`},
		{"gte-new", object{"rope_scaling": object{"type": "ntk"}}, "rope_scaling: factor is 0, want a positive number"},
		{"gemma3", object{"attn_logit_softcapping": 30.0}, "attn_logit_softcapping is 30, want null: capped scores are not computed"},
		{"gemma3", object{"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0, want a positive number"},
		{"gemma3", object{"layer_types": []string{"full_attention"}}, "layer_types has 1 entries for 4 layers"},
		{"llama", object{"rope_parameters": object{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}},
			"rope_parameters: low_freq_factor is 4 and high_freq_factor 1, want positive numbers, the second larger"},
		{"mistral", object{"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"},
	} {
		_, err := load(t, x.name, x.changes)
		if err == nil || !strings.HasSuffix(err.Error(), "config.json: "+x.want) {
			t.Errorf("%s %v: %v, want %q", x.name, x.changes, err, x.want)
		}
	}
}
