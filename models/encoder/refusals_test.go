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

// Rotary embeddings that are scaled otherwise than linearly are refused by name in one line, in every spelling.
func TestRopeScalingsAreRefusedByName(t *testing.T) {
	type object = map[string]any
	for _, kind := range []string{"yarn", "llama3", "dynamic", "longrope", "proportional", "mystery"} {
		scaled := object{"rope_type": kind, "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 16}
		plain := object{"rope_type": "default", "rope_theta": 100.0}
		other := fmt.Sprintf("rope_type is %q, want default or linear: other scalings are not computed here", kind)
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
		if want := fmt.Sprintf("rope_parameters: rope_theta is 100 and factor %g, want positive numbers", factor); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("factor %g: %v, want %q", factor, err, want)
		}
	}
}
