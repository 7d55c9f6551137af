package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The configuration's formats are saved with a model of each kind, whether sentence-transformers' prompts can tell them or
// not, and every command puts them around texts: as a folder without formats that is given the whole texts.
func TestFormatsGoWithTheModel(t *testing.T) {
	var rows strings.Builder
	for i := range 8 {
		fmt.Fprintf(&rows, `{"query":"%c","pos":"%c b","neg":["%c c"]}`+"\n", 'a'+i, 'a'+i, 'b'+i)
	}
	data := write(t, "rows.jsonl", rows.String())
	for kind, format := range map[string][2]string{"embedding": {"q {{ {}", "d {}"}, "colbert": {"q {} y", "{}"}, "reranker": {"q {}", "d {} z"}} {
		t.Run(kind, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			config := write(t, "run.yaml", fmt.Sprintf("kind: %s\nmodel_name_or_path: %s\ntrain_dataset: %s\noutput_dir: %s\nquery_format: %q\nmax_steps: 1\nbatch_size: 4\n",
				kind, fixtures+"bert", data, out, format[0]))
			args := []string{"train", "--config", config, "--document-format", format[1], "--threads", "1"}
			if kind == "reranker" {
				args = append(args, "--max-len", "18")
			} else {
				args = append(args, "--query-max-len", "12", "--passage-max-len", "12")
			}
			call(t, "", args...).ok(t)
			model := filepath.Join(out, "model")
			got := call(t, `{"query":"a","documents":["b c","f"]}`, "rerank", "--model", model).ok(t).stdout
			if kind != "colbert" { // the exported file beside them reads the same texts
				file := filepath.Join(model, "model.onnx")
				exported := call(t, `{"query":"a","documents":["b c","f"]}`, "rerank", "--model", file, "--kind", kind).ok(t).stdout
				if d := scoreDifference(t, exported, got); d > 1e-5 {
					t.Errorf("model.onnx: %s, want %s", exported, got)
				}
				call(t, `{"query":"a","documents":["b"]}`, "rerank", "--model", file, "--kind", kind, "--max-len", "1", "--query-max-len", "1").fails(t, 1, "is 1, want at least")
			}
			put := func(k int, text string) string {
				return strings.NewReplacer("{{", "{", "{}", text).Replace(format[k])
			}
			forgetFormats(t, model)
			row, err := json.Marshal(map[string]any{"query": put(0, "a"), "documents": []string{put(1, "b c"), put(1, "f")}})
			if err != nil {
				t.Fatal(err)
			}
			want := call(t, string(row), "rerank", "--model", model).ok(t).stdout
			plain := call(t, `{"query":"a","documents":["b c","f"]}`, "rerank", "--model", model).ok(t).stdout
			if got != want || got == plain {
				t.Errorf("scores %s, want %s; without formats %s", got, want, plain)
			}
		})
	}
	call(t, "", trainRun(data, filepath.Join(t.TempDir(), "out"), "--query-format", "{0}")...).fails(t, 1, `query_format: "{0}" has a '{' at byte 1`)
	call(t, "", trainRun(data, filepath.Join(t.TempDir(), "out"), "--document-format", "passage: ")...).fails(t, 1, `document_format: "passage: " has 0 places for the text, want one {}`)
}

// scoreDifference is the largest difference of two rows of rerank.
func scoreDifference(t *testing.T, a, b string) float64 {
	t.Helper()
	var x, y struct{ Scores []float64 }
	if err := errors.Join(json.Unmarshal([]byte(a), &x), json.Unmarshal([]byte(b), &y)); err != nil || len(x.Scores) != len(y.Scores) {
		t.Fatal(a, b, err)
	}
	worst := 0.0
	for i := range x.Scores {
		worst = max(worst, math.Abs(x.Scores[i]-y.Scores[i]))
	}
	return worst
}

// forgetFormats takes out of a folder what says what stands around its texts.
func forgetFormats(t *testing.T, dir string) {
	t.Helper()
	for name, keys := range map[string][]string{"rag_retrieval.json": {"query_format", "document_format"}, "config_sentence_transformers.json": {"prompts", "default_prompt_name"}} {
		path := filepath.Join(dir, name)
		content := map[string]any{}
		if _, err := os.Stat(path); os.IsNotExist(err) {
			continue
		}
		readJSON(t, path, &content)
		for _, key := range keys {
			delete(content, key)
		}
		b, err := json.Marshal(content)
		if err == nil {
			err = os.WriteFile(path, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
