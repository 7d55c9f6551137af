package hf

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// What cannot be looked at is an error, not absent. As root no permission is missing: a link to itself stands for it.
func TestExists(t *testing.T) {
	dir := t.TempDir()
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dir: true, filepath.Join(dir, "none"): false} {
		if there, err := Exists(path); there != want || err != nil {
			t.Errorf("%s: %v, %v", path, there, err)
		}
	}
	if there, err := Exists(loop); there || !errors.Is(err, syscall.ELOOP) {
		t.Errorf("%v, %v", there, err)
	}
}

// Configs, tokenizer, weights and the modules' files decide what a model computes; nothing else in its folder does.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	want := []string{"config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "modules.json", "tokenizer.json", "1_Pooling/config.json"}
	for _, name := range append([]string{"result.json", "rows.jsonl", "x/config.json", ".git/config.json", "1_Pooling/sub/config.json"}, want...) {
		write(t, dir, name, "")
	}
	write(t, dir, "modules.json", `[{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Normalize"}, {"path": "../x"}]`)
	files, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i] = filepath.Join(dir, want[i])
	}
	if !reflect.DeepEqual(files, want) {
		t.Errorf("%v, want %v", files, want)
	}
	write(t, dir, "modules.json", `[`)
	if _, err := Files(dir); err == nil {
		t.Error("modules.json is broken, and nobody says so")
	}
}

// A saved folder has weights of float32, whatever the base model's were; else its config stays as it was.
func TestSayFloat32(t *testing.T) {
	for was, want := range map[string]string{
		`{"torch_dtype": "bfloat16", "a": 2.0}`: `"torch_dtype": "float32"`, `{"dtype": "float16", "a": 2.0}`: `"dtype": "float32"`,
		`{"dtype":null, "a":  2.0}`: `{"dtype":null, "a":  2.0}`, `{"a":  2.0}`: `{"a":  2.0}`, `{"dtype":  "float32", "a": 2.0}`: `{"dtype":  "float32", "a": 2.0}`,
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "config.json")
		if err := os.WriteFile(path, []byte(was), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := SetConfigFloat32(dir); err != nil {
			t.Fatal(err)
		}
		if is, err := os.ReadFile(path); err != nil || !strings.Contains(string(is), want) || !strings.Contains(string(is), "2.0") {
			t.Errorf("%s became %s, %v", was, is, err)
		}
	}
}
