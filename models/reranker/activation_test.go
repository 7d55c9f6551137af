package reranker

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The activation is the one that sentence-transformers' CrossEncoder would apply.
func TestActivation(t *testing.T) {
	const own, config = "config_sentence_transformers.json", "config.json"
	sigmoid := float32(1 / (1 + math.Exp(-2)))
	for name, x := range map[string]struct {
		files map[string]string
		want  float32 // of 2
	}{
		"none named":     {map[string]string{config: `{}`}, sigmoid},
		"no files":       {nil, sigmoid},
		"identity":       {map[string]string{config: `{"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}`}, 2},
		"before 4":       {map[string]string{config: `{"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}`}, 2},
		"the newest one": {map[string]string{own: `{"activation_fn": "torch.nn.modules.activation.Tanh"}`, config: `{"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}`}, float32(math.Tanh(2))},
	} {
		f, err := Activation(folderOf(t, x.files))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := f(2); got != x.want {
			t.Errorf("%s: %g, want %g", name, got, x.want)
		}
	}
	for want, files := range map[string]map[string]string{
		`activation_fn is "my.Function"`: {own: `{"activation_fn": "my.Function"}`},
		"config.json":                    {config: `{`},
	} {
		if _, err := Activation(folderOf(t, files)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// folderOf makes a folder of files.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
