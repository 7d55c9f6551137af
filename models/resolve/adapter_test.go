package resolve

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/runtime"
)

// writeFiles writes a folder of files with some content.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// adapterFor is an adapter_config.json.
func adapterFor(base, task string) string {
	b, err := json.Marshal(map[string]string{"peft_type": "LORA", "base_model_name_or_path": base, "task_type": task})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// shown returns where the names of a folder of links lead, relative to root.
func shown(t *testing.T, root, view string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(view)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(view, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if out[e.Name()], err = filepath.Rel(root, to); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// baseFiles are those of an embedding model.
var baseFiles = map[string]string{
	"config.json": `{"architectures": ["BertModel"]}`, "model.safetensors": "w", "tokenizer.json": "{}", "vocab.txt": "a", "special_tokens_map.json": "{}",
	"modules.json": `[{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]`, "1_Pooling/config.json": "{}",
	"config_sentence_transformers.json": `{"prompts": {}}`, "README.md": "base", "notes.jsonl": "", "onnx/model.onnx": "",
}

// An adapter's folder and its base are shown as one. Each of three groups of files comes from one of them: config and weights, the tokenizer,
// and the description of modules.
func TestAdapterView(t *testing.T) {
	encoder := map[string]string{"config.json": "base/config.json", "model.safetensors": "base/model.safetensors", "adapter_config.json": "adapter/adapter_config.json", "adapter_model.safetensors": "adapter/adapter_model.safetensors"}
	baseTokenizer := map[string]string{"tokenizer.json": "base/tokenizer.json", "vocab.txt": "base/vocab.txt", "special_tokens_map.json": "base/special_tokens_map.json"}
	ownTokenizer := map[string]string{"tokenizer.json": "adapter/tokenizer.json", "tokenizer_config.json": "adapter/tokenizer_config.json"}
	baseModules := map[string]string{"modules.json": "base/modules.json", "1_Pooling": "base/1_Pooling", "config_sentence_transformers.json": "base/config_sentence_transformers.json"}
	for name, c := range map[string]struct {
		task string
		own  map[string]string
		want []map[string]string
	}{
		"peft's":                  {want: []map[string]string{encoder, baseTokenizer, baseModules}},
		"peft's reranker":         {task: "SEQ_CLS", want: []map[string]string{encoder, baseTokenizer}},
		"with a tokenizer":        {own: map[string]string{"tokenizer.json": "{}", "tokenizer_config.json": "{}"}, want: []map[string]string{encoder, ownTokenizer, baseModules}},
		"with half a tokenizer":   {own: map[string]string{"tokenizer_config.json": "{}"}, want: []map[string]string{encoder, baseTokenizer, baseModules}},
		"with a useless config":   {own: map[string]string{"config.json": "{}", "README.md": ""}, want: []map[string]string{encoder, baseTokenizer, baseModules}},
		"saved here":              {own: map[string]string{"rag_retrieval.json": `{"kind": "reranker"}`}, want: []map[string]string{encoder, baseTokenizer, {"rag_retrieval.json": "adapter/rag_retrieval.json"}}},
		"sentence-transformers's": {own: map[string]string{"modules.json": `[{"path": "", "type": "x.Transformer"}, {"path": "1_Dense", "type": "x.Dense"}, {"path": "2_Normalize", "type": "x.Normalize"}]`, "1_Dense/config.json": "{}"}, want: []map[string]string{encoder, baseTokenizer, {"modules.json": "adapter/modules.json", "1_Dense": "adapter/1_Dense"}}},
	} {
		root := t.TempDir()
		t.Setenv(runtime.HomeVariable, filepath.Join(root, "home"))
		base, dir := filepath.Join(root, "base"), filepath.Join(root, "adapter")
		writeFiles(t, base, baseFiles)
		writeFiles(t, dir, map[string]string{"adapter_config.json": adapterFor(base, c.task), "adapter_model.safetensors": "a"})
		writeFiles(t, dir, c.own)
		view, err := Resolver{}.Model(t.Context(), dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := map[string]string{}
		for _, files := range c.want {
			for name, path := range files {
				want[name] = path
			}
		}
		if got := shown(t, root, view); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%v, want\n%v", name, got, want)
		}
		if again, err := (Resolver{}).Model(t.Context(), dir); again != view || err != nil {
			t.Errorf("%s: opened again: %s, %v, want %s", name, again, err, view)
		}
	}
}

// The view is the same for everyone who opens the adapter at once, and follows what changes in either folder.
func TestAdapterViewFollows(t *testing.T) {
	root := t.TempDir()
	t.Setenv(runtime.HomeVariable, filepath.Join(root, "home"))
	base, dir := filepath.Join(root, "base"), filepath.Join(root, "adapter")
	writeFiles(t, base, baseFiles)
	writeFiles(t, dir, map[string]string{"adapter_config.json": adapterFor("../base", ""), "adapter_model.safetensors": "a"})
	views := make([]string, 8)
	var all sync.WaitGroup
	for i := range views {
		all.Go(func() {
			var err error
			if views[i], err = (Resolver{}).Model(t.Context(), dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, v := range views {
		if v != views[0] {
			t.Fatalf("%v", views)
		}
	}
	writeFiles(t, dir, map[string]string{"tokenizer.json": "{}"})
	writeFiles(t, base, map[string]string{"config.json": "changed"})
	view, err := Resolver{}.Model(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if to := shown(t, root, view)["tokenizer.json"]; view != views[0] || to != "adapter/tokenizer.json" {
		t.Errorf("%s leads to %s", view, to)
	}
	if b, err := os.ReadFile(filepath.Join(view, "config.json")); string(b) != "changed" {
		t.Errorf("%s, %v", b, err)
	}
	files, err := hf.Files(view)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors", "1_Pooling/config.json"} {
		if !strings.Contains(strings.Join(files, " "), filepath.Join(view, name)) {
			t.Errorf("%s is not among the files that decide what the model computes: %v", name, files)
		}
	}
}

// Without a cache folder that can be written to, links are made in a folder for temporary files.
func TestAdapterWithoutCache(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"home": "a file"})
	t.Setenv(runtime.HomeVariable, filepath.Join(root, "home"))
	t.Setenv("TMPDIR", filepath.Join(root, "tmp"))
	base, dir := filepath.Join(root, "base"), filepath.Join(root, "adapter")
	writeFiles(t, base, baseFiles)
	writeFiles(t, dir, map[string]string{"adapter_config.json": adapterFor(base, ""), "adapter_model.safetensors": "a"})
	if _, err := (Resolver{}).Model(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "a folder of links") {
		t.Errorf("no folder for temporary files: %v", err)
	}
	if err := os.Mkdir(filepath.Join(root, "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	view, err := Resolver{}.Model(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if shown(t, root, view)["config.json"] != "base/config.json" {
		t.Errorf("%s: %v", view, shown(t, root, view))
	}
	if err := os.Chmod(filepath.Dir(view), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := (Resolver{}).Model(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "only this user can write to") {
		t.Errorf("a folder that others can write to: %v", err)
	}
}

// What is wrong with a base is said in one line, which says what to do.
func TestAdapterBases(t *testing.T) {
	root := t.TempDir()
	t.Setenv(runtime.HomeVariable, filepath.Join(root, "home"))
	t.Setenv("HF_ENDPOINT", "http://127.0.0.1:9") // nobody listens there
	t.Chdir(root)
	writeFiles(t, filepath.Join(root, "base"), baseFiles)
	writeFiles(t, filepath.Join(root, "org", "local"), baseFiles)
	writeFiles(t, filepath.Join(root, "a", "inner"), baseFiles)
	writeFiles(t, filepath.Join(root, "first"), map[string]string{"adapter_config.json": adapterFor("base", ""), "adapter_model.safetensors": "a"})
	writeFiles(t, filepath.Join(root, "both"), baseFiles)
	writeFiles(t, filepath.Join(root, "both"), map[string]string{"adapter_config.json": adapterFor("base", ""), "adapter_model.safetensors": "a"})
	writeFiles(t, filepath.Join(root, "file"), nil)
	for base, want := range map[string]string{
		"base": "", filepath.Join(root, "base"): "", "org/local": "", "inner": "", "../base": "", // beside the adapter: a/inner, a/../base
		"none":                      "there is no such folder, neither from the working directory nor beside the adapter (a/none), and it is no hub id (org/name): put the model there, or change base_model_name_or_path in a/adapter_config.json",
		filepath.Join(root, "gone"): "there is no such folder, and it is no hub id",
		"org/none":                  "a is an adapter for the model org/none: org/none: ",
		"first":                     "which has an adapter itself: merge that one into its base first",
		"both":                      "which has an adapter itself: merge that one into its base first",
		"a/adapter_config.json":     "is no folder",
	} {
		writeFiles(t, filepath.Join(root, "a"), map[string]string{"adapter_config.json": adapterFor(base, ""), "adapter_model.safetensors": "a"})
		_, err := Resolver{}.Model(t.Context(), "a")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", base, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than a line: %v", base, err)
		}
	}
}

// A whole model with an adapter in one folder is opened as it is, whatever base the adapter names.
func TestAdapterInModel(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, baseFiles)
	writeFiles(t, dir, map[string]string{"adapter_config.json": adapterFor("nowhere", ""), "adapter_model.safetensors": "a"})
	var notes []string
	got, err := Resolver{Note: func(line string) { notes = append(notes, line) }}.Model(t.Context(), dir)
	if got != dir || err != nil || len(notes) != 1 || !strings.Contains(notes[0], "holds a whole model and an adapter") {
		t.Errorf("%s, %v, notes %q", got, err, notes)
	}
}

// An adapter on the hub is fetched, and its base at the revision that it names.
func TestAdapterFromHub(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	config := strings.Replace(adapterFor("org/base", ""), "{", `{"revision": "v2", `, 1)
	mux := http.NewServeMux()
	for repo, files := range map[string]map[string]string{
		"org/adapter/main": {"adapter_config.json": config, "adapter_model.safetensors": "a", "README.md": "x"},
		"org/base/v2":      {"config.json": "{}", "model.safetensors": "w", "tokenizer.json": "{}"},
	} {
		id, revision := filepath.Dir(repo), filepath.Base(repo)
		var siblings []any
		for name, content := range files {
			siblings = append(siblings, map[string]any{"rfilename": name, "size": len(content)})
			mux.HandleFunc("/"+id+"/resolve/abc/"+name, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, content) })
		}
		mux.HandleFunc("/api/models/"+id+"/revision/"+revision, func(w http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(w).Encode(map[string]any{"sha": "abc", "siblings": siblings})
		})
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Setenv("HF_ENDPOINT", s.URL)
	view, err := Resolver{}.Model(t.Context(), "org/adapter")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"adapter_config.json": config, "adapter_model.safetensors": "a", "config.json": "{}", "model.safetensors": "w", "tokenizer.json": "{}"} {
		if b, err := os.ReadFile(filepath.Join(view, name)); string(b) != want {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
}
