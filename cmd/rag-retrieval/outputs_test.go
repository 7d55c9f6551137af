package main

import (
	"os"
	"path/filepath"
	"testing"
)

// Files and folders that cannot be written are refused before the work: nothing is measured, encoded or mined.
func TestOutputsAreCheckedFirst(t *testing.T) {
	samples := write(t, "test.jsonl", `{"query": "the a", "positive": ["a er"], "negative": ["b er"]}`+"\n")
	docs, data, file, folder := documents(t, 9), pairs(t, 9), write(t, "file", ""), t.TempDir()
	none := filepath.Join(folder, "none", "out")
	eval := []string{"eval", "--model", tiny, "--data", samples}
	retrieval := []string{"eval", "--model", tiny, "--retrieval", folder}
	index := []string{"index", "--model", tiny, "--corpus", docs}
	mine := []string{"mine", "--model", tiny, "--train-dataset", data}
	for _, c := range []struct {
		call []string
		want string
	}{
		{append(eval, "--json", none), "--json: no file can be made in " + filepath.Dir(none) + ": no such file or directory"},
		{append(eval, "--json", folder), "--json " + folder + " is a folder, want a file"},
		{append(eval, "--json", none+"/"), "--json " + none + "/ is the name of a folder, want a file"},
		{append(eval, "--save-scores", none), "--save-scores: no file can be made in "},
		{append(eval, "--mteb-dir", file), "--mteb-dir " + file + " is a file, want a folder"},
		{append(eval, "--mteb-dir", filepath.Join(file, "a", "b")), "--mteb-dir: no file can be made in " + file + ": not a directory"},
		{append(retrieval, "--save-run", none), "--save-run: no file can be made in "},
		{append(index, "--output", file), "--output " + file + " is a file, want a folder"},
		{append(mine, "--output", none), "--output: no file can be made in "},
		{append(mine, "--output", "mined.jsonl", "--json", none), "--json: no file can be made in "},
		{append(mine, "--output", "mined.jsonl", "--vectors", file), "--vectors " + file + " is a file, want a folder"},
	} {
		o := call(t, "", c.call...)
		if o.fails(t, exitError, c.want); o.stdout != "" {
			t.Errorf("%v: %s", c.call, o.stdout)
		}
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	mpirun(t, 2, append(eval, "--json", none)...).fails(t, exitError, "--json: no file can be made in ")
	call(t, "", append(eval, "--mteb-dir", filepath.Join(folder, "new", "results"))...).ok(t)
}
