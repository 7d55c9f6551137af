package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder/encodertest"
)

// tokenizerWith is the tiny model's tokenizer.json, changed.
func tokenizerWith(t *testing.T, change func(file map[string]any)) string {
	t.Helper()
	file := map[string]any{}
	readJSON(t, filepath.Join(tiny, "tokenizer.json"), &file)
	change(file)
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Ids beyond the embedding table, and types beyond theirs, are named when the model is opened: of a vocabulary with gaps,
// of added tokens and of the special tokens around a text.
func TestIDsBeyondTheTable(t *testing.T) {
	processor := func(file map[string]any) map[string]any { return file["post_processor"].(map[string]any) }
	special := func(file map[string]any, ids ...any) {
		processor(file)["special_tokens"].(map[string]any)["[SEP]"] = map[string]any{"id": "[SEP]", "ids": ids, "tokens": []any{"[SEP]"}}
	}
	for want, change := range map[string]func(file map[string]any){
		"the tokenizer has the token id 61, but vocab_size in config.json is 61": func(file map[string]any) {
			vocab := file["model"].(map[string]any)["vocab"].(map[string]any)
			vocab["##z"] = 61 // as many tokens as before, with a gap
		},
		"the tokenizer has the token id 70000, but vocab_size in config.json is 61": func(file map[string]any) {
			file["added_tokens"] = []any{map[string]any{
				"id": 70000, "content": "[NEW]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false,
			}}
		},
		"the tokenizer's post_processor has the token id 500, but vocab_size": func(file map[string]any) { special(file, 500) },
		"the tokenizer's post_processor has the token type 7, but type_vocab_size in config.json is 2": func(file map[string]any) {
			for _, x := range processor(file)["single"].([]any) {
				for _, piece := range x.(map[string]any) {
					piece.(map[string]any)["type_id"] = 7
				}
			}
		},
	} {
		dir := encodertest.Folder(t, tiny, map[string]string{"tokenizer.json": tokenizerWith(t, change)})
		call(t, `{"text":"a"}`, "encode", "--model", dir).fails(t, 1, dir, want)
		call(t, "", "train", "reranker", "--model", dir, "--train-dataset", pairs(t, 4), "--output-dir", filepath.Join(t.TempDir(), "out"), "--max-len", "20").fails(t, 1, want)
	}
}

// A text of which the tokenizer leaves nothing is named with its file and line wherever it is read, whatever the pooling.
func TestTextsWithoutTokens(t *testing.T) {
	bare := tokenizerWith(t, func(file map[string]any) {
		p := file["post_processor"].(map[string]any)
		for _, key := range []string{"single", "pair"} { // no special tokens
			p[key] = []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}}
		}
		p["pair"] = append(p["pair"].([]any), map[string]any{"Sequence": map[string]any{"id": "B", "type_id": 1}})
	})
	for _, pooling := range []string{"lasttoken", "cls", "mean"} {
		dir := encodertest.Folder(t, tiny, map[string]string{
			"tokenizer.json":        bare,
			"modules.json":          `[{"path":"","type":"sentence_transformers.models.Transformer"},{"path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]`,
			"1_Pooling/config.json": `{"pooling_mode":"` + pooling + `"}`,
		})
		const blank = `"\u200b"`
		rows := write(t, "rows.jsonl", `{"query":"a","pos":"b"}`+"\n"+`{"query":`+blank+`,"pos":"c"}`+"\n")
		passages := write(t, "passages.jsonl", `{"query":"a","pos":"b"}`+"\n"+`{"query":"c","pos":`+blank+"}\n")
		good := pairs(t, 4)
		run := func(data string, more ...string) output {
			return call(t, "", append([]string{"train", "embedding", "--model", dir, "--train-dataset", data, "--output-dir", filepath.Join(t.TempDir(), "out"),
				"--query-max-len", "10", "--passage-max-len", "12", "--max-steps", "2", "--threads", "1"}, more...)...)
		}
		run(rows).fails(t, 1, `rows.jsonl:2: the query "\u200b" has no token`)
		run(passages).fails(t, 1, `passages.jsonl:2: the passage "\u200b" has no token`)
		run(good, "--val-dataset", rows).fails(t, 1, `rows.jsonl:2: the query "\u200b" has no token`)
		test := write(t, "test.jsonl", `{"query":"a","positive":["a"],"negative":["b"]}`+"\n"+`{"query":"a","positive":["a"],"negative":[`+blank+"]}\n")
		o := call(t, "", "eval", "--model", dir, "--data", test)
		if o.code != 1 || !strings.Contains(o.stderr, `test.jsonl:2: the passage "\u200b" has no token`) {
			t.Errorf("eval: exit %d, %s", o.code, o.stderr)
		}
		call(t, `{"text":"a"}`+"\n\n"+`{"text":""}`, "encode", "--model", dir).fails(t, 1, `stdin:3: the passage "" has no token`)
		o = call(t, `{"query":"a","documents":["a",""]}`+"\n"+`{"query":"a","documents":["a"]}`, "rerank", "--model", dir)
		lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
		if o.code != 1 || len(lines) != 2 || !strings.Contains(lines[0], `stdin:1: the passage \"\" has no token`) || !strings.Contains(lines[1], `"scores":[`) {
			t.Errorf("rerank: exit %d, %s%s", o.code, o.stdout, o.stderr)
		}
	}
	dir := encodertest.Folder(t, fixtures+"bert-reranker", map[string]string{"vocab.txt": "", "tokenizer.json": bare})
	o := call(t, `{"query":"a","documents":["b"]}`+"\n"+`{"query":"","documents":["a",""]}`, "rerank", "--model", dir)
	if lines := strings.Split(strings.TrimSpace(o.stdout), "\n"); o.code != 1 || len(lines) != 2 || !strings.Contains(lines[1], "stdin:2: the pair of the query") {
		t.Errorf("rerank: exit %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "vocab.txt")); err == nil {
		t.Error("vocab.txt is still there")
	}
}
