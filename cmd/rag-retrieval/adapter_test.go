package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/runtime"
)

// An adapter that train saves is a model for the other commands: it is encoded with, evaluated, explained, merged and trained further. One
// whose base is gone fails with a line that says what to do.
func TestAdapters(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	root := t.TempDir()
	base, out := filepath.Join(root, "base"), filepath.Join(root, "out")
	if err := os.CopyFS(base, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	train := []string{"train", "embedding", "--train-dataset", pairs(t, 8), "--max-steps", "2", "--batch-size", "4", "--lr", "1e-2", "--query-max-len", "8", "--passage-max-len", "8", "--lora-rank", "2"}
	call(t, "", append(train, "--model", base, "--output-dir", out)...).ok(t)
	adapter, whole := filepath.Join(out, "model"), filepath.Join(root, "whole")
	encode := func(model string) string {
		return call(t, `{"text": "ab cd"}`, "encode", "--model", model).ok(t).stdout
	}
	if o := call(t, "", "merge", "--model", adapter, "--output", whole).ok(t); o.stdout != whole+"\n" {
		t.Errorf("%q", o.stdout)
	}
	if a, b, c := encode(adapter), encode(base), encode(whole); a == b || a != c {
		t.Errorf("the adapter's vector is %.50s, the base's %.50s, the merged model's %.50s", a, b, c)
	}
	if o := call(t, "", "doctor", "--model", adapter).ok(t); !strings.Contains(o.stdout, "\nadapter: LoRA of rank 2 and alpha 4 (scale alpha / rank) for "+base+", on ") {
		t.Errorf("%s", o.stdout)
	}
	const described = "LoRA of rank 2 and alpha 4 (scale alpha / rank), on " // the same everywhere
	if o := call(t, "", append(train, "--model", adapter, "--output-dir", filepath.Join(root, "further"), "--dry-run")...).ok(t); !strings.Contains(o.stderr, "which is trained further: "+described) {
		t.Errorf("%s", o.stderr)
	}
	if card := readText(t, adapter, "rag_retrieval.json"); !strings.Contains(card, `"adapter": "`+described) {
		t.Errorf("%s", card)
	}
	call(t, "", append(train, "--model", adapter, "--output-dir", filepath.Join(root, "further"), "--lora-alpha", "9")...).fails(t, 1, "which is trained further, but lora_rank is 2, lora_alpha 9")
	call(t, "", "merge", "--model", adapter, "--output", whole).fails(t, 1, "is not empty")
	call(t, "", "merge", "--model", base, "--output", filepath.Join(root, "x")).fails(t, 1, "there is nothing to merge")
	call(t, "", "merge", "--model", adapter).fails(t, 2, "output")
	if err := os.Rename(base, base+"2"); err != nil {
		t.Fatal(err)
	}
	row := write(t, "row.jsonl", `{"query":"ab","positive":["ab"],"negative":["cd"]}`)
	for _, args := range [][]string{{"encode"}, {"rerank"}, {"eval", "--data", row}, {"doctor"}, {"merge", "--output", filepath.Join(root, "y")}} {
		o := call(t, "", append(args, "--model", adapter)...)
		if o.code != 1 || !strings.Contains(o.stderr, "is an adapter for the model "+base+": there is no such folder") || strings.Count(o.stderr, "\n") != 1 {
			t.Errorf("%v: exit %d, %s", args, o.code, o.stderr)
		}
	}
}
