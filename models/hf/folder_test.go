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

// write writes a file of a folder and makes the folders on its path.
func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// A path that cannot be examined is an error, not absent. The test may run as root, who may read everything. Therefore a
// symbolic link to itself takes the place of a folder without permissions.
func TestExists(t *testing.T) {
	dir := t.TempDir()
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dir: true, filepath.Join(dir, "none"): false} {
		if exists, err := Exists(path); exists != want || err != nil {
			t.Errorf("%s: %v, %v", path, exists, err)
		}
	}
	if exists, err := Exists(loop); exists || !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link to itself: %v, %v, want ELOOP", exists, err)
	}
}

// Files returns configs, tokenizer, weights and the modules' files, and nothing else in the folder.
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
		t.Error("a broken modules.json is no error")
	}
}

// SetConfigFloat32 changes the type of the weights in config.json, and leaves the file as it is if there is nothing to change.
func TestSetConfigFloat32(t *testing.T) {
	for before, want := range map[string]string{
		`{"torch_dtype": "bfloat16", "a": 2.0}`: `"torch_dtype": "float32"`, `{"dtype": "float16", "a": 2.0}`: `"dtype": "float32"`,
		`{"dtype":null, "a":  2.0}`: `{"dtype":null, "a":  2.0}`, `{"a":  2.0}`: `{"a":  2.0}`, `{"dtype":  "float32", "a": 2.0}`: `{"dtype":  "float32", "a": 2.0}`,
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "config.json")
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := SetConfigFloat32(dir); err != nil {
			t.Fatal(err)
		}
		if after, err := os.ReadFile(path); err != nil || !strings.Contains(string(after), want) || !strings.Contains(string(after), "2.0") {
			t.Errorf("%s became %s, %v", before, after, err)
		}
	}
}
