package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rag-retrieval-go/models/index/pgvector/pgtest"
)

// documents is a file of n documents over the small models' letters, in two languages.
func documents(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"_id": "d%d", "title": "%c", "text": "%s%d", "lang": %q}`+"\n", i, 'a'+i%26, strings.Repeat("the er ", i%5), 7*i%103, []string{"zh", "en"}[i%2])
	}
	return write(t, "docs.jsonl", b.String())
}

// answers are the rows that a search prints.
func answers(t *testing.T, stdout string) (rows []found) {
	t.Helper()
	for d := json.NewDecoder(strings.NewReader(stdout)); d.More(); {
		var row found
		if err := d.Decode(&row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

// A folder and a database find the same documents in every way, and a moved model is found by --model.
func TestIndexAndSearch(t *testing.T) {
	model, docs, dir := copyTiny(t), documents(t, 60), filepath.Join(t.TempDir(), "index")
	make := []string{"index", "--model", model, "--corpus", docs, "--passage-max-len", "16", "--threads", "1"}
	call(t, "", append(make, "--output", dir)...).ok(t)
	places := map[string][]string{"folder": {"--index", dir}}
	t.Run("store", func(t *testing.T) {
		url := pgtest.URL(t)
		call(t, "", append(make, "--store", url, "--ann", "exact")...).ok(t)
		places["store"] = []string{"--store", url}
		one := write(t, "one.jsonl", `{"_id": "one", "text": "the a"}`) // the URL has the parameter host
		call(t, "", "index", "--model", model, "--corpus", one, "--store", url+"&collection=news").ok(t)
		if rows := answers(t, call(t, "", "search", "--store", url+"&collection=news", "the a").ok(t).stdout); len(rows) != 1 || len(rows[0].Hits) != 1 {
			t.Errorf("a collection of its own: %+v", rows)
		}
		call(t, "", "search", "--store", url+"?collection=news", "the a").fails(t, 1, "the store's URL has a second ?: parameters are joined by &")
	})
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(model, moved); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"vectors":  {},
		"bm25":     {"--by", "bm25"},
		"hybrid":   {"--by", "hybrid"},
		"filter":   {"--filter", "lang=en"},
		"reranked": {"--by", "hybrid", "--rerank", oneOf["reranker"], "--candidates", "20"},
	} {
		var first []found
		for _, place := range []string{"folder", "store"} {
			if places[place] == nil {
				continue
			}
			all := append(append([]string{"search", "--top-k", "5", "--threads", "1"}, places[place]...), args...)
			if name != "bm25" {
				call(t, "", append(all, "the a")...).fails(t, 1, "the model of the index", model)
				all = append(all, "--model", moved)
			}
			rows := answers(t, call(t, "", append(all, "the a of 7", "er 14")...).ok(t).stdout)
			if len(rows) != 2 || rows[0].Query != "the a of 7" || len(rows[0].Hits) != 5 {
				t.Fatalf("%s in a %s: %+v", name, place, rows)
			}
			for i := range rows {
				for j, h := range rows[i].Hits {
					if h.Title == "" || h.Text == "" || !strings.Contains(string(h.Metadata), "lang") || j > 0 && h.Score > rows[i].Hits[j-1].Score {
						t.Errorf("%s in a %s: %+v", name, place, rows[i].Hits)
					}
					if name == "filter" && !strings.Contains(string(h.Metadata), "en") {
						t.Errorf("a document that does not meet the filter: %+v", h)
					}
				}
				for j := range rows[i].Hits {
					rows[i].Hits[j].Score, rows[i].Hits[j].Metadata = 0, nil // in another spelling, and rounded differently
				}
			}
			if first == nil {
				first = rows
			} else if !reflect.DeepEqual(rows, first) {
				t.Errorf("%s: the folder finds %+v, the store %+v", name, first, rows)
			}
		}
	}
	for _, place := range places {
		all := append([]string{"search", "--by", "bm25"}, place...)
		call(t, "", append(all, "--filter", "lang=en", "--filter", "long=en", "the a")...).fails(t, 2, `no document has the field "long" (did you mean lang?); the fields are lang`)
		if rows := answers(t, call(t, "", append(all, "--filter", "lang=fr", "the a")...).ok(t).stdout); len(rows) != 1 || len(rows[0].Hits) != 0 {
			t.Errorf("a value that no document has: %+v", rows)
		}
	}
	piped := call(t, `{"query": "the a of 7"}`+"\n\n"+`{"query": "er 14"}`, "search", "--index", dir, "--by", "bm25", "--top-k", "5").ok(t)
	if direct := call(t, "", "search", "--index", dir, "--by", "bm25", "--top-k", "5", "the a of 7", "er 14").ok(t); piped.stdout != direct.stdout {
		t.Errorf("rows of stdin give %s, arguments %s", piped.stdout, direct.stdout)
	}
	if o := call(t, "", "search", "--index", dir, "--by", "bm25", "--format", "table", "er 14").ok(t); !strings.Contains(o.stdout, "document") || !strings.Contains(o.stdout, "rank") {
		t.Errorf("%s", o.stdout)
	}
}

// A model that has changed since, and an index of something else, are noticed.
func TestIndexOfSomethingElse(t *testing.T) {
	model, docs, dir := copyTiny(t), documents(t, 20), filepath.Join(t.TempDir(), "index")
	call(t, "", "index", "--model", model, "--corpus", docs, "--output", dir).ok(t)
	call(t, "", "index", "--model", model, "--corpus", documents(t, 21), "--output", dir).fails(t, 1, "other documents (20; now there are 21)", "--fresh")
	call(t, "", "index", "--model", model, "--corpus", docs, "--output", dir, "--query-max-len", "9").fails(t, 1, "other options", "--fresh")
	call(t, "", "index", "--model", model, "--corpus", documents(t, 21), "--output", dir, "--fresh").ok(t)
	config := filepath.Join(model, "tokenizer.json")
	b, err := os.ReadFile(config)
	if err == nil {
		err = os.WriteFile(config, append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	call(t, "", "search", "--index", dir, "a").fails(t, 1, "has changed since", "--model")
}

// Ranks make the same index as one process.
func TestRanksIndex(t *testing.T) {
	docs, one, two := documents(t, 70), filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	mpirun(t, 1, "index", "--model", tiny, "--corpus", docs, "--output", one, "--threads", "1").ok(t)
	if o := mpirun(t, 2, "index", "--model", tiny, "--corpus", docs, "--output", two, "--threads", "1").ok(t); strings.Count(o.stderr, "an index of") != 1 {
		t.Errorf("what is told once: %s", o.stderr)
	}
	files, err := filepath.Glob(filepath.Join(one, "*"))
	if err != nil || len(files) != 7 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		a, errA := os.ReadFile(f)
		b, errB := os.ReadFile(filepath.Join(two, filepath.Base(f)))
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s differs: %v %v", filepath.Base(f), errA, errB)
		}
	}
}

func TestBadIndexCalls(t *testing.T) {
	docs, dir := documents(t, 5), t.TempDir()
	for words, args := range map[string][]string{
		"want either --output or --store":  {"index", "--model", tiny, "--corpus", docs},
		`--ann is "tree", want hnsw or`:    {"index", "--model", tiny, "--corpus", docs, "--store", "postgres://x/y", "--ann", "tree"},
		"--ann goes with --store":          {"index", "--model", tiny, "--corpus", docs, "--output", dir, "--ann", "exact"},
		"--dimension is 9999":              {"index", "--model", tiny, "--corpus", docs, "--output", dir, "--dimension", "9999"},
		"want either --index or --store":   {"search", "x"},
		"--by is \"magic\"":                {"search", "--index", dir, "--by", "magic", "x"},
		"--top-k is 0":                     {"search", "--index", dir, "--top-k", "0", "x"},
		"--candidates goes with --rerank":  {"search", "--index", dir, "--candidates", "5", "x"},
		"--candidates is 0":                {"search", "--index", dir, "--by", "hybrid", "--candidates", "0", "x"},
		"--filter: the filter is \"lang\"": {"search", "--index", dir, "--filter", "lang", "x"},
		"--format is \"xml\"":              {"search", "--index", dir, "--format", "xml", "x"},
		"--model goes with vectors":        {"search", "--index", dir, "--by", "bm25", "--model", tiny, "x"},
	} {
		call(t, "", args...).fails(t, exitUsage, words)
	}
	for words, args := range map[string][]string{
		"has no whole index":          {"search", "--index", dir, "x"},
		"docs.jsonl:2: \"text\" of":   {"index", "--model", tiny, "--corpus", write(t, "docs.jsonl", `{"_id": "a", "text": "b"}`+"\n"+`{"_id": "c"}`), "--output", dir},
		"absent.jsonl":                {"index", "--model", tiny, "--corpus", "absent.jsonl", "--output", dir},
		"the store 127.0.0.1:1/nodb:": {"search", "--store", "postgres://me:secret@127.0.0.1:1/nodb", "x"},
	} {
		if o := call(t, "", args...); !strings.Contains(o.stderr, words) || strings.Contains(o.stderr, "secret") {
			t.Errorf("%v: %s, want %s", args, o.stderr, words)
		}
	}
	index := filepath.Join(t.TempDir(), "index")
	call(t, "", "index", "--model", tiny, "--corpus", docs, "--output", index).ok(t)
	wrong := call(t, `{"query": "a"}`+"\n"+`{"text": "a"}`, "search", "--index", index)
	if wrong.fails(t, 1, `stdin:2: "query" is missing`); len(answers(t, wrong.stdout)) != 1 {
		t.Errorf("the row before a wrong one has no answer: %s", wrong.stdout)
	}
	call(t, "", "search", "--index", filepath.Join(dir, "absent"), "x").fails(t, 1, "absent", "no such")
	call(t, "", "search", "--index", index).fails(t, 1, "stdin", "no rows")
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("a wrong call left %v", left)
	}
}
