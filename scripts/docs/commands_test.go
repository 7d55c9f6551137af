package docs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A block of commands is one in the language sh. Every such block of every document runs, as it is printed, unless the
// comment before it is
//
//	<!-- not run in tests: REASON -->
//
// with one of these reasons.
var reasons = []string{
	"hub",       // it fetches a model or data from a hub
	"GPU",       // it needs a GPU
	"benchmark", // it takes minutes, or needs PyTorch beside it
}

// languages are those of blocks that are not commands.
var languages = []string{"sh", "go", "json", "yaml", "text", "mermaid"}

// What is shortened, and how. The commands of a document run one after the other in a folder that looks like the checkout:
// its entries are links to the checkout's, and what the commands write stays in the folder. In it
//   - .rag-retrieval/models/all-MiniLM-L6-v2 is the real model cut to its first layer and its first 4,000 tokens;
//   - scripts/godocpairs reads only the packages below net, and writes 16 training rows and 6 test queries;
//   - scripts/demo.sh is the demo without its set-up, on as few rows;
//   - scripts/postgres.sh keeps its database in the tests' folder;
//   - port 8080 is another one that is free, and what a block leaves running in the background ends with it;
//   - blocks with curl run where it is installed;
//   - scripts/setup.sh, which has run, and scripts/test.sh, inside which this test runs, do nothing;
//   - "go run PACKAGE" builds the package in the checkout and runs it in the folder; other go commands run in the checkout.
const (
	fewRows    = "--train-rows 16 --test-queries 6"
	blockLimit = 5 * time.Minute // of a block of commands on a busy machine; alone, all of them take about a minute
)

// check says what is wrong with a block's language or mark; run says whether it has to run.
func (b block) check() (run bool, err error) {
	if !slices.Contains(languages, b.language) {
		return false, fmt.Errorf("the block's language is %q, want one of %s", b.language, strings.Join(languages, ", "))
	}
	if b.language != "sh" {
		return false, nil
	}
	reason, marked := strings.CutPrefix(b.note, "not run in tests: ")
	switch {
	case !marked && strings.Contains(b.note, "not run"):
		return false, fmt.Errorf("the mark is %q, want \"not run in tests: REASON\"", b.note)
	case marked && !slices.Contains(reasons, reason):
		return false, fmt.Errorf("the mark's reason is %q, want one of %s", reason, strings.Join(reasons, ", "))
	}
	return !marked, nil
}

// Every block of commands runs, in its document's order.
func TestCommands(t *testing.T) {
	w := needWorkshop(t)
	wanted := 0
	for _, d := range documents(t) {
		if !d.hasCommands() {
			continue
		}
		var commands []block
		for _, b := range d.blocks() {
			run, err := b.check()
			if err != nil {
				t.Errorf("%s:%d: %v", d.path, b.line, err)
			}
			if run {
				commands = append(commands, b)
			}
		}
		wanted += len(commands)
		t.Run(d.path, func(t *testing.T) {
			folder := w.folder(t)
			for _, b := range commands {
				if _, err := exec.LookPath("curl"); err != nil && strings.Contains(b.text, "curl ") {
					t.Logf("%s:%d: not run, since curl is not installed", d.path, b.line)
					continue
				}
				begun := time.Now()
				if out, err := w.run(folder, b.text); err != nil {
					t.Fatalf("%s:%d: %v\n%s", d.path, b.line, err, out)
				}
				t.Logf("%s:%d: %.1f s", d.path, b.line, time.Since(begun).Seconds())
			}
		})
	}
	if wanted < 15 {
		t.Errorf("%d blocks of commands are to run, want at least 15: are they still found?", wanted)
	}
}

func (d document) hasCommands() bool {
	return slices.ContainsFunc(d.blocks(), func(b block) bool { return b.language == "sh" || !slices.Contains(languages, b.language) })
}

// A command that fails, a mark with another reason and a block without a language are found.
func TestBrokenCommands(t *testing.T) {
	w := needWorkshop(t)
	folder := w.folder(t)
	for _, commands := range []string{
		"bin/rag-retrieval eval --no-such-flag",
		"bin/rag-retrieval version\nfalse\nbin/rag-retrieval version",
		"bin/rag-retrieval encode --model nowhere | cat",
		"echo $UNSET",
		"go run ./scripts/nothing",
	} {
		var exit *exec.ExitError
		if out, err := w.run(folder, commands); !errors.As(err, &exit) {
			t.Errorf("%q did not fail: %v\n%s", commands, err, out)
		}
	}
	d := parse("x.md", []byte("```\nfalse\n```\n\n<!-- not run in tests: too long -->\n```sh\nfalse\n```\n\n<!-- not run -->\n```sh\nfalse\n```\n\n"+
		"<!-- not run in tests: GPU -->\n\n```sh\nfalse\n```\n\n- item\n\n  ```sh\n  true\n  ```\n"))
	blocks := d.blocks()
	for i, want := range []struct{ run, fails bool }{{false, true}, {false, true}, {false, true}, {false, false}, {true, false}} {
		if run, err := blocks[i].check(); run != want.run || (err != nil) != want.fails {
			t.Errorf("block %d: run %v, error %v", i, run, err)
		}
	}
	if len(blocks) != 5 || blocks[4].text != "true\n" || blocks[4].line != 24 {
		t.Errorf("blocks: %+v", blocks)
	}
}

// workshop is what all documents share: the program, a model, and the folder of the wrappers.
type workshop struct {
	checkout, dir string
	env           []string
}

var shared *workshop // made by the first test that needs it, removed by TestMain

func TestMain(m *testing.M) {
	code := m.Run()
	if shared != nil {
		_ = shared.postgres("stop").Run() // a block that failed may have left it running
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// needWorkshop skips the test with -short, and where the model is missing.
func needWorkshop(t *testing.T) *workshop {
	t.Helper()
	if testing.Short() {
		t.Skip("the commands of the documents take about a minute")
	}
	if shared != nil {
		return shared
	}
	checkout, err := filepath.Abs(root)
	check(t, err)
	model := filepath.Join(checkout, ".rag-retrieval", "models", "all-MiniLM-L6-v2")
	if _, err := os.Stat(filepath.Join(model, "model.safetensors")); err != nil {
		t.Skipf("the commands need all-MiniLM-L6-v2: run scripts/setup.sh without --no-model (%v)", err)
	}
	dir, err := os.MkdirTemp("", "rag-retrieval-docs-*")
	check(t, err)
	shared = &workshop{checkout: checkout, dir: dir}
	shared.fill(t, model)
	return shared
}

// fill makes the model, the wrappers and the program.
func (w *workshop) fill(t *testing.T, model string) {
	t.Helper()
	checkout := w.checkout
	realGo, err := exec.LookPath("go")
	check(t, err)
	out, err := exec.Command(realGo, "env", "GOROOT").Output()
	check(t, err)
	few := fewRows + " --src '" + filepath.Join(strings.TrimSpace(string(out)), "src", "net") + "'"
	cutModel(t, model, filepath.Join(w.dir, "models", "all-MiniLM-L6-v2"))
	w.program(t, "path/go", `
if [ "${1:-}" = run ]; then
  package=$2
  shift 2
  [ "$package" != ./scripts/godocpairs ] || set -- "$@" `+few+`
  (cd '`+checkout+`' && '`+realGo+`' build -o '`+w.dir+`/built/' "$package")
  exec '`+w.dir+`/built/'"${package##*/}" "$@"
fi
cd '`+checkout+`' && exec '`+realGo+`' "$@"
`)
	w.program(t, "scripts/demo.sh", `exec go run ./scripts/demo --out demo "$@" `+fewRows)
	w.program(t, "scripts/postgres.sh", fmt.Sprintf(`exec "%s"`, strings.Join(w.postgres("$1").Args, `" "`)))
	check(t, os.Chmod(w.dir, 0o711)) // for root, the server runs as another user
	w.program(t, "scripts/setup.sh", "exit 0")
	w.program(t, "scripts/test.sh", "exit 0")
	check(t, os.MkdirAll(filepath.Join(w.dir, "built"), 0o755))
	build := exec.Command(realGo, "build", "-o", filepath.Join(w.dir, "bin", "rag-retrieval"), "./cmd/rag-retrieval")
	build.Dir = checkout
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.env = append(os.Environ(), "PATH="+filepath.Join(w.dir, "path")+string(os.PathListSeparator)+os.Getenv("PATH"),
		"RAG_RETRIEVAL_HOME="+filepath.Join(w.dir, "home")) // nothing of the tests stays in the user's cache
}

// postgres is a command of scripts/postgres.sh for the workshop's own database.
func (w *workshop) postgres(action string) *exec.Cmd {
	return exec.Command(filepath.Join(w.checkout, "scripts", "postgres.sh"), action, filepath.Join(w.dir, "database"))
}

// program writes a shell script below the workshop's folder.
func (w *workshop) program(t *testing.T, name, script string) {
	t.Helper()
	path := filepath.Join(w.dir, name)
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte("#!/bin/sh\nset -eu\n"+script+"\n"), 0o755))
}

// linkAll makes a link in a folder for each entry of another, less those named.
func linkAll(t *testing.T, from, to string, without ...string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	check(t, err)
	for _, e := range entries {
		if !slices.Contains(without, e.Name()) {
			check(t, os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())))
		}
	}
}

// folder makes a folder that looks like the checkout.
func (w *workshop) folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	linkAll(t, w.checkout, dir, ".git", ".rag-retrieval", "bin", "scripts")
	for _, name := range []string{"bin", "scripts", ".rag-retrieval/models"} {
		check(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	linkAll(t, filepath.Join(w.checkout, "scripts"), filepath.Join(dir, "scripts"), "demo.sh", "postgres.sh", "setup.sh", "test.sh")
	linkAll(t, filepath.Join(w.dir, "scripts"), filepath.Join(dir, "scripts"))
	linkAll(t, filepath.Join(w.dir, "models"), filepath.Join(dir, ".rag-retrieval", "models"))
	linkAll(t, filepath.Join(w.dir, "bin"), filepath.Join(dir, "bin"))
	return dir
}

// freePort is ":PORT" for a port of this machine that is free now.
func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ":8080"
	}
	defer l.Close()
	return fmt.Sprintf(":%d", l.Addr().(*net.TCPAddr).Port)
}

// run runs commands in a folder, and stops at the first one that fails.
func (w *workshop) run(folder, commands string, env ...string) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), blockLimit)
	defer cancel()
	commands = strings.ReplaceAll(commands, ":8080", freePort())
	const traps = `trap 'echo "this command failed: $BASH_COMMAND" >&2' ERR; trap 'jobs -p | xargs -r kill; wait' EXIT`
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", traps+"\n"+commands)
	c.Dir, c.Env, c.WaitDelay = folder, append(slices.Clone(w.env), env...), 10*time.Second
	out, err := c.CombinedOutput()
	return string(out), err
}
