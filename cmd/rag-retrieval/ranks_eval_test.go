package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/dist/disttest"
)

// oneOf each kind, small.
var oneOf = map[string]string{
	"embedding": tiny, "colbert": "../../models/colbert/testdata/pylate", "reranker": fixtures + "bert-reranker",
}

// samples is a task of n queries with twenty candidates each, some of which several queries share.
func samples(t *testing.T, n int) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for i := range n {
		s := map[string][]string{"query": {fmt.Sprintf("the %c of %d", 'a'+i%26, i)}}
		for j := range 20 {
			key := "negative"
			if j == i%20 {
				key = "positive"
			}
			s[key] = append(s[key], strings.Repeat("a the er ", (i+j)%9)+fmt.Sprint((7*i+11*j)%(13*n)))
		}
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
	}
	return write(t, "task.jsonl", b.String())
}

// evaluated is what eval gives, with the time left out.
type evaluated struct{ stdout, report, scores string }

// evaluateOn evaluates as a job of n ranks.
func evaluateOn(t *testing.T, n int, args ...string) evaluated {
	t.Helper()
	report, scores := filepath.Join(t.TempDir(), "report.json"), filepath.Join(t.TempDir(), "scores.jsonl")
	o := mpirun(t, n, append(append([]string{"eval"}, args...), "--format", "json", "--threads", "1", "--json", report, "--save-scores", scores)...).ok(t)
	r, err := mteb.ReadReport(report)
	if err != nil {
		t.Fatal(err)
	}
	var printed mteb.Report
	if err := json.Unmarshal([]byte(o.stdout), &printed); err != nil {
		t.Fatalf("%v: %s", err, o.stdout)
	}
	for i := range r.Results {
		r.Results[i].Seconds, printed.Results[i].Seconds = 0, 0
	}
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	b, err := os.ReadFile(scores)
	if err != nil {
		t.Fatal(err)
	}
	return evaluated{text(printed), text(r), string(b)}
}

// Results and scores are those of one rank, to the bit, for any number of ranks and every kind of model.
func TestRanksEvaluateAsOne(t *testing.T) {
	data, few := samples(t, 105), samples(t, 1) // more than a block of texts
	for kind, more := range map[string][]string{
		"embedding": {"--int8", "--int8-check", "3"}, "colbert": {"--long-docs", "max-window", "--passage-max-len", "12"}, "reranker": nil,
	} {
		args := append([]string{"--model", oneOf[kind], "--kind", kind, "--data", data, "--data", few}, more...)
		one := evaluateOn(t, 1, args...)
		for _, n := range []int{2, 3} {
			if many := evaluateOn(t, n, args...); many != one {
				t.Errorf("%s: %d ranks differ from one", kind, n)
			}
		}
	}
}

// Tables of models and tasks, result files, and sources that are no models.
func TestRanksEvaluateTables(t *testing.T) {
	data, other := samples(t, 12), samples(t, 7)
	for name, args := range map[string][]string{
		"models": {"eval", "--model", tiny, "--model", "none/at/all", "--model", fixtures + "bert", "--kind", "embedding", "--data", data, "--data", other, "--format", "csv"},
		"bm25":   {"eval", "--kind", "bm25", "--data", data, "--format", "markdown"},
	} {
		one := mpirun(t, 1, args...)
		many := mpirun(t, 2, args...)
		if name == "bm25" { // its last column has the seconds
			one.stdout, many.stdout = withoutLastColumn(one.stdout), withoutLastColumn(many.stdout)
		}
		if one.stdout != many.stdout || one.stderr != withoutRanks(many.stderr) || one.code != many.code || one.stdout == "" {
			t.Errorf("%s: one rank: %v\ntwo ranks: %v", name, one, many)
		}
	}
	model, dir := filepath.Join(t.TempDir(), "model"), t.TempDir()
	if err := os.CopyFS(model+atomicdir.PreviousSuffix, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	args := []string{"eval", "--model", model, "--data", data, "--mteb-dir", dir}
	if o := mpirun(t, 3, args...).ok(t); strings.Count(o.stderr, "is taken: a run was stopped while it replaced") != 1 {
		t.Errorf("all ranks find the same, and do not say it once: %s", o.stderr)
	}
	if o := mpirun(t, 2, args...).ok(t); strings.Count(o.stderr, "was measured before") != 1 {
		t.Errorf("stderr: %s", o.stderr)
	}
}

// withoutRanks leaves out of messages which ranks have them.
func withoutRanks(stderr string) string {
	return strings.NewReplacer("all ranks: ", "", "rank 0: ", "").Replace(stderr)
}

func withoutLastColumn(table string) string {
	var b strings.Builder
	for line := range strings.Lines(table) {
		b.WriteString(line[:strings.LastIndex(strings.TrimRight(line, "|\n "), "|")+1] + "\n")
	}
	return b.String()
}

// A job that is interrupted or killed leaves the scores that it had. Another number of ranks goes on from them, to the same bits.
func TestRanksGoOn(t *testing.T) {
	const queries = 1000 // enough to be stopped in between, on a fast machine too
	model, data := encodertest.Wide(t, fixtures+"bert/vocab.txt"), samples(t, queries)
	args := []string{"--model", model, "--kind", "embedding", "--data", data}
	whole := evaluateOn(t, 1, args...)
	for n, stop := range map[int]os.Signal{3: os.Interrupt, 1: os.Kill} {
		home := t.TempDir()
		t.Setenv("RAG_RETRIEVAL_HOME", home)
		kept := stopped(t, home, stop, append([]string{"eval", "--threads", "1"}, args...))
		if kept == 0 || kept >= queries {
			t.Fatalf("%v: the journal has %d rows", stop, kept)
		}
		if went := evaluateOn(t, n, args...); went != whole {
			t.Errorf("%v after %d rows: %d ranks do not end as one that was never stopped", stop, kept, n)
		}
		if left, _ := filepath.Glob(filepath.Join(home, "scores", "*.jsonl")); len(left) > 0 {
			t.Errorf("%v: left %v", stop, left)
		}
	}
}

// stopped starts two ranks and stops them as soon as the journal has rows. It returns how many it kept.
func stopped(t *testing.T, home string, stop os.Signal, args []string) int {
	t.Helper()
	return stoppedAfter(t, filepath.Join(home, "scores"), stop, args, func() int {
		files, _ := filepath.Glob(filepath.Join(home, "scores", "*.jsonl"))
		n := 0
		for _, f := range files {
			b, _ := os.ReadFile(f)
			n += bytes.Count(b, []byte("\n"))
		}
		return n
	})
}

// stoppedAfter starts two ranks and stops them as soon as they have kept something. dir has the lock file of rank 0.
func stoppedAfter(t *testing.T, dir string, stop os.Signal, args []string, kept func() int) int {
	t.Helper()
	c := disttest.Command(t, 2, os.Args[0], args...)
	c.Env = append(c.Env, asProgram+"=1")
	c.WaitDelay = time.Minute
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); kept() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			_, _ = c.Process.Kill(), c.Wait()
			t.Fatalf("nothing was kept: %s", stderr.String())
		}
	}
	p := c.Process
	if stop == os.Kill { // rank 0: the launcher ends the other
		var holder filelock.Holder
		locks, _ := filepath.Glob(filepath.Join(dir, "*.lock"))
		readJSON(t, locks[0], &holder)
		var err error
		if p, err = os.FindProcess(holder.PID); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Signal(stop); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // its exit code tells
	if stop == os.Interrupt && (c.ProcessState.ExitCode() != exitInterrupted || strings.Count(stderr.String(), "rag-retrieval: interrupted: the same command goes on: ") != 1) {
		t.Errorf("exit %d: %s", c.ProcessState.ExitCode(), stderr.String())
	}
	return kept()
}

// Only rank 0 has a journal. If it cannot remove the file, the others end with it before the next task.
func TestRankCannotEndItsJournal(t *testing.T) {
	home := t.TempDir()
	t.Setenv("RAG_RETRIEVAL_HOME", home)
	ended, removed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(removed)
		for {
			select {
			case <-ended:
				return
			case <-time.After(time.Millisecond):
			}
			files, _ := filepath.Glob(filepath.Join(home, "scores", "*.jsonl"))
			for _, f := range files {
				if st, err := os.Stat(f); err == nil && st.Size() > 0 {
					_ = os.Remove(f)
				}
			}
		}
	}()
	o := mpirun(t, 2, "eval", "--model", tiny, "--data", samples(t, 300), "--data", samples(t, 3), "--threads", "1")
	close(ended)
	<-removed
	if o.code == 0 || strings.Count(o.stderr, "rank 0: remove ") != 1 || strings.Contains(strings.ToLower(o.stderr), "mpi_abort") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}

// Ranks encode and rank rows from stdin in their order, with the bits and the messages of one rank.
func TestRanksEncodeAndRerank(t *testing.T) {
	var texts, rows strings.Builder
	for i := range 2500 { // two chunks and a half
		fmt.Fprintf(&texts, `{"text":"%s%d"}`+"\n", strings.Repeat("the er ", i%7), i%2000)
	}
	for i := range 300 {
		fmt.Fprintf(&rows, `{"query":"the %d","documents":["er %[1]d","%s","of"]}`+"\n", i, strings.Repeat("the er ", i%7))
	}
	bad := strings.Replace(rows.String(), `"query":"the 70"`, `"no query":"the 70"`, 1)
	long, few := write(t, "texts.jsonl", texts.String()), `{"text":"of er"}`+"\n\n"+`{"text":"the er"}`
	for name, x := range map[string]struct {
		ranks int
		args  []string
		stdin string // MPICH's mpirun breaks off at one that does not fit into a pipe
	}{
		"encode":       {3, []string{"encode", "--model", tiny, "--threads", "1", long, write(t, "few.jsonl", few)}, ""},
		"encode stdin": {2, []string{"encode", "--model", tiny, "--threads", "1"}, few},
		"encode a bad": {2, []string{"encode", "--model", tiny, "--threads", "1"}, few + "\n" + `{"txt":"a"}`},
		"rerank":       {2, []string{"rerank", "--model", fixtures + "bert-reranker", "--threads", "1"}, rows.String()},
		"rerank a bad": {3, []string{"rerank", "--model", tiny, "--threads", "1"}, bad},
		"rerank one":   {2, []string{"rerank", "--model", tiny, "--threads", "1", "--query", "the", "--format", "table"}, "er\nof the\n"},
		"no such file": {3, []string{"rerank", "--model", tiny, "none.jsonl"}, ""},
	} {
		one := call(t, x.stdin, x.args...)
		many := mpirunWith(t, x.ranks, x.stdin, x.args...)
		if many.stderr = withoutRanks(many.stderr); many != one {
			t.Errorf("%s: %d ranks: exit %d, %d bytes, %q; one: exit %d, %d bytes, %q",
				name, x.ranks, many.code, len(many.stdout), many.stderr, one.code, len(one.stdout), one.stderr)
		}
	}
}

// Whatever differs between ranks is refused, and a mistake is told once.
func TestRanksRefuseToEvaluate(t *testing.T) {
	data := samples(t, 3)
	mpirun(t, 2, "eval", "--model", tiny, "--data", "none.jsonl").fails(t, exitError, "none.jsonl")
	mpirun(t, 2, "eval", "--model", tiny, "--data", data, "--rule", "x").fails(t, exitUsage, `--rule is "x"`)
	mpirun(t, 2, "encode", "--model", "none").fails(t, exitError, "none is no folder")
	c := disttest.Command(t, 1, os.Args[0], "eval", "--model", tiny, "--data", data)
	c.Args = append(c.Args, ":", "-n", "1", os.Args[0], "eval", "--model", tiny, "--data", samples(t, 4))
	c.Env = append(c.Env, asProgram+"=1")
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "rank 1: it was started in another way: the command is eval") {
		t.Errorf("%v: %s", err, out)
	}
}

// What comes from the hub is fetched by one rank; the others find it in the cache.
func TestRanksFetchOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(samples(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rows.jsonl"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	fetched, files := hubAt(t, dir, "org/name", "main"), 0
	t.Setenv("RAG_RETRIEVAL_HOME", t.TempDir())
	if o := mpirun(t, 3, "eval", "--model", "org/name", "--data", "org/name/rows.jsonl", "--format", "csv").ok(t); strings.Contains(o.stderr, "waiting for") {
		t.Error(o.stderr)
	}
	fetched.Range(func(path, n any) bool {
		if files++; n.(*atomic.Int64).Load() != 1 {
			t.Errorf("%v was fetched %d times", path, n.(*atomic.Int64).Load())
		}
		return true
	})
	if files < 5 {
		t.Errorf("%d files were fetched", files)
	}
}
