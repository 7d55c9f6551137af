package main

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rag-retrieval-go/internal/atomicdir"
)

// rewrite puts other bytes of the same size into a file and restores its time of change.
func rewrite(t *testing.T, path, from, to string) (undo func()) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(b), from) || len(from) != len(to) {
		t.Fatalf("%s: %v", path, err)
	}
	put := func(content []byte) {
		time.Sleep(20 * time.Millisecond) // a tick of the file system's clock
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	put([]byte(strings.Replace(string(b), from, to, 1)))
	return func() { put(b) }
}

// Files that changed since the checkpoint are refused by name, those of validation too; put back, the run goes on.
func TestResumeWithOtherFiles(t *testing.T) {
	data, val, out := pairs(t, 40), pairs(t, 20), filepath.Join(t.TempDir(), "out")
	args := trainRun(data, out, "--val-dataset", val)
	call(t, "", args...).ok(t)
	resume := append(args, "--resume")
	for key, path := range map[string]string{"train_dataset": data, "val_dataset": val} {
		undo := rewrite(t, path, "the a of a", "the b of a")
		call(t, "", resume...).fails(t, 1, "was made with other data: "+key+" "+path+" was ", " bytes with SHA-256 ", ", is ")
		undo()
		call(t, "", resume...).ok(t)
	}
	f, err := os.OpenFile(data, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if _, err := f.WriteString(`{"query": "a", "pos": "b"}` + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	call(t, "", resume...).fails(t, 1, "train_dataset "+data+" was ", "the run had 10 steps, has 12")
}

// A teacher's vectors are training data too.
func TestResumeWithAnotherTeacher(t *testing.T) {
	rows := write(t, "q.jsonl", strings.Repeat(`{"query": "the a of b"}`+"\n"+`{"query": "er"}`+"\n", 4))
	vectors := make([]byte, 8*4*32)
	for i := range len(vectors) / 4 {
		binary.LittleEndian.PutUint32(vectors[4*i:], math.Float32bits(float32(i%7)-3))
	}
	teacher, out := write(t, "vectors", string(vectors)), filepath.Join(t.TempDir(), "out")
	args := trainRun(rows, out, "--loss-type", "stella", "--teacher-embeddings", teacher, "--teacher-embedding-dim", "32")
	o := call(t, "", args...)
	if o.code != 0 {
		t.Fatal(o.stderr)
	}
	three, four := string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(3))), string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(4)))
	rewrite(t, teacher, three, four)
	call(t, "", append(args, "--resume")...).fails(t, 1, "teacher_embeddings "+teacher+" was 1024 bytes")
}

// A checkpoint from before files had sums goes on, with a warning.
func TestResumeOldCheckpoint(t *testing.T) {
	data, out := pairs(t, 40), filepath.Join(t.TempDir(), "out")
	call(t, "", trainRun(data, out)...).ok(t)
	path := filepath.Join(out, lastCheckpoint(t, out), "state.json")
	var state map[string]any
	readJSON(t, path, &state)
	host := state["host"].(map[string]any)
	if host["run_files"] == nil || host["run_steps"] != 10.0 {
		t.Errorf("the checkpoint keeps %v, %v", host["run_files"], host["run_steps"])
	}
	delete(host, "run_files")
	delete(host, "run_steps")
	b, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if o := call(t, "", trainRun(data, out, "--resume")...).ok(t); !strings.Contains(o.stderr, "was made by an earlier version") {
		t.Errorf("no warning: %s", o.stderr)
	}
}

// What cannot be opened now is not taken for damaged or absent: neither a checkpoint nor the log of validations is left
// out, and nothing is removed.
func TestResumeWithUnreadableFiles(t *testing.T) {
	data, out := pairs(t, 40), filepath.Join(t.TempDir(), "out")
	args := trainRun(data, out, "--val-dataset", pairs(t, 20), "--save-steps", "4")
	call(t, "", args...).ok(t)
	newest := filepath.Join(out, lastCheckpoint(t, out))
	for _, path := range []string{filepath.Join(newest, "state.json"), filepath.Join(newest, "state.safetensors"), filepath.Join(out, "validation.jsonl")} {
		if err := os.Rename(path, path+".kept"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, path); err != nil { // a link to itself: even root cannot open it
			t.Fatal(err)
		}
		o := call(t, "", append(args, "--resume")...)
		if o.code != 1 || !strings.Contains(o.stderr, "too many levels of symbolic links") {
			t.Errorf("%s: exit %d: %s", path, o.code, o.stderr)
		}
		if err := os.Rename(path+".kept", path); err != nil {
			t.Fatal(err)
		}
	}
	call(t, "", append(args, "--resume")...).ok(t)
}

// A model whose run died while it replaced it is read from where it lies, and put back by --resume.
func TestModelPutAside(t *testing.T) {
	data, out := pairs(t, 40), filepath.Join(t.TempDir(), "out")
	args := trainRun(data, out, "--val-dataset", pairs(t, 20))
	call(t, "", args...).ok(t)
	model := filepath.Join(out, "model")
	encode := func() string {
		return call(t, `{"text":"the a"}`+"\n", "encode", "--model", model).ok(t).stdout
	}
	want := encode()
	if err := os.Rename(model, model+atomicdir.PreviousSuffix); err != nil {
		t.Fatal(err)
	}
	if got := encode(); got != want {
		t.Errorf("encodes to %s, want %s", got, want)
	}
	call(t, "", append(args, "--resume")...).ok(t)
	if _, err := os.Stat(model + atomicdir.PreviousSuffix); err == nil || encode() != want {
		t.Error("not put back")
	}
}

// What a resumed run says of itself covers the whole run, also where its last step was done before and no summary was written.
func TestResumedSummary(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	args := trainRun(pairs(t, 40), out, "--save-steps", "4")
	call(t, "", args...).ok(t)
	type summary struct {
		Steps, Tokens   int
		Loss, Seconds   float64
		TokensPerSecond float64 `json:"tokens_per_second"`
		PeakMemory      float64 `json:"peak_memory_mb"`
	}
	path := filepath.Join(out, "train.json")
	var whole, resumed, again summary
	readJSON(t, path, &whole)
	if err := os.RemoveAll(filepath.Join(out, lastCheckpoint(t, out))); err != nil { // of step 10: that of step 8 is left
		t.Fatal(err)
	}
	o := call(t, "", append(args, "--resume", "--log-interval", "1")...).ok(t)
	for _, want := range []string{"going on after step 8: ", "training 9/10  loss ", "80 examples in ", "of these in this part: 2 steps in "} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("%q is not in: %s", want, o.stderr)
		}
	}
	readJSON(t, path, &resumed)
	if resumed.Steps != 10 || resumed.Tokens != whole.Tokens || resumed.Loss != whole.Loss || resumed.Seconds <= 0 || resumed.PeakMemory <= 0 {
		t.Errorf("resumed %+v, whole %+v", resumed, whole)
	}
	closeTo(t, "tokens/s", resumed.TokensPerSecond, float64(resumed.Tokens)/resumed.Seconds, 1e-9)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if o := call(t, "", append(args, "--resume")...).ok(t); !strings.Contains(o.stderr, "all steps were done before") {
		t.Error(o.stderr)
	}
	if readJSON(t, path, &again); again.Steps != 10 || again.Loss != whole.Loss || again.Tokens != whole.Tokens {
		t.Errorf("written again %+v, whole %+v", again, whole)
	}
}

// A run that was killed before its first checkpoint: with and without --resume, the advice is to remove its folder, and that helps.
func TestKilledBeforeTheFirstCheckpoint(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	args := trainRun(pairs(t, 40), out)
	killed := running(t, nil, func() bool { return readAll(t, filepath.Join(out, "metrics.jsonl")) != "" }, slices.Concat(args, []string{"--epochs", "100000"})...)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // killed
	for _, more := range [][]string{nil, {"--dry-run"}} {
		call(t, "", slices.Concat(args, more)...).fails(t, 1, "output_dir "+out+" is not empty: the run in it has no checkpoint (save_steps): name a new folder, or remove this one if the run has ended")
		call(t, "", slices.Concat(args, more, []string{"--resume"})...).fails(t, 1, "no checkpoint in "+out, "the run was stopped before its first one (save_steps): remove the folder "+out+", or name a new one, and start again without --resume")
	}
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	call(t, "", args...).ok(t)
	call(t, "", args...).fails(t, 1, "is not empty: name a new folder, or continue the run in it with --resume")
}

// A dry run of --resume checks what --resume checks, says where it would go on, and changes nothing.
func TestResumeDryRun(t *testing.T) {
	data, out := pairs(t, 40), filepath.Join(t.TempDir(), "out")
	args := slices.Clip(trainRun(data, out, "--val-dataset", pairs(t, 20), "--save-steps", "4"))
	resume, dry := slices.Clip(append(args, "--resume")), slices.Clip(append(args, "--resume", "--dry-run"))
	call(t, "", dry...).fails(t, 1, "no checkpoint in "+out)
	call(t, "", args...).ok(t)
	call(t, "", append(args, "--dry-run")...).fails(t, 1, "output_dir "+out+" is not empty")
	if o := call(t, "", dry...).ok(t); !strings.Contains(o.stdout, "all 10 steps are done: nothing is left to train\n") {
		t.Error(o.stdout)
	}
	newest := filepath.Join(out, lastCheckpoint(t, out))
	if err := os.Rename(newest, newest+atomicdir.PreviousSuffix); err != nil { // as a killed run may leave it
		t.Fatal(err)
	}
	if o := call(t, "", dry...).ok(t); !strings.Contains(o.stdout, "all 10 steps are done") {
		t.Error(o.stdout)
	}
	if err := os.RemoveAll(newest + atomicdir.PreviousSuffix); err != nil { // the checkpoint of step 8 is left
		t.Fatal(err)
	}
	before := filesOf(t, out)
	if o := call(t, "", dry...).ok(t); !strings.Contains(o.stdout, "would go on after step 8 of 10, from "+filepath.Join(out, "artifacts", "checkpoint", "step-00000008")+"\nnothing was written\n") {
		t.Error(o.stdout)
	}
	undo := rewrite(t, data, "the a of a", "the b of a")
	for _, wrong := range [][]string{nil, {"--lr", "0.5"}, {"--epochs", "3"}} {
		a, b := call(t, "", append(dry, wrong...)...), call(t, "", append(resume, wrong...)...)
		if a.fails(t, 1, "the checkpoint in "+out+" was made with "); a.stderr != b.stderr {
			t.Errorf("%v: a dry run says %sthe run %s", wrong, a.stderr, b.stderr)
		}
	}
	undo()
	if after := filesOf(t, out); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("a dry run left %v, was %v", after, before)
	}
	if o := mpirun(t, 2, append(dry, "--batch-size", "4", "--threads", "1")...).ok(t); !strings.Contains(o.stdout, "would go on after step 8 of 10, ") {
		t.Errorf("%s%s", o.stdout, o.stderr)
	}
	call(t, "", resume...).ok(t)
}

// filesOf lists the files below a folder with their times of change.
func filesOf(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, st os.FileInfo, err error) error {
		if err == nil && !st.IsDir() {
			files = append(files, path+" "+st.ModTime().String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
