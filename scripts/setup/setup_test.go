// Package setup tests what setup.sh says and does on machines that lack something: made-up PATHs with made-up tools,
// without the network. scripts/bare.sh tries the real thing.
package setup

import (
	"archive/zip"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
)

// machine is a folder of tools that stands for a machine's PATH.
type machine struct {
	t         *testing.T
	bin, home string
	dir       string // the working folder; empty: this one
	env       []string
}

// newMachine has what every system has, and a user's number.
func newMachine(t *testing.T, uid int) *machine {
	t.Helper()
	m := &machine{t: t, bin: t.TempDir(), home: filepath.Join(t.TempDir(), "home")}
	for _, tool := range []string{"bash", "sh", "dirname", "sed", "mktemp", "rm", "grep", "tail", "cut", "chmod", "mkdir", "cat", "mv"} {
		m.borrow(tool)
	}
	m.tool("uname", `case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac`)
	m.tool("id", fmt.Sprintf("echo %d", uid))
	return m
}

func (m *machine) borrow(tool string) {
	m.t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(m.bin, tool)); err != nil {
		m.t.Fatal(err)
	}
}

// tool adds a command to the machine.
func (m *machine) tool(name, script string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.bin, name), []byte("#!/bin/bash\n"+script+"\n"), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// all adds everything that set-up needs.
func (m *machine) all() {
	m.tool("go", `echo "go version go1.26.0 linux/amd64"`)
	m.tool("gcc", "cat >/dev/null")
	m.tool("cc", "cat >/dev/null")
	m.tool("cargo", `echo "cargo 1.85.1 (abc 2025-01-01)"`)
	m.tool("python3", `echo "pip 23.0.1 from /usr/lib (python 3.11)"`)
}

// run runs a script of this folder there, and gives what it printed and its exit status.
func (m *machine) run(command ...string) (out, errs string, code int) {
	m.t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append([]string{"PATH=" + m.bin, "HOME=" + m.home, "OS_RELEASE=" + filepath.Join(m.bin, "os-release")}, m.env...)
	cmd.Dir = m.dir
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	_ = cmd.Run() // the status says it
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

func linuxOnly(t *testing.T) {
	t.Helper()
	if goruntime.GOOS != "linux" {
		t.Skip("the made-up machines are Linux machines")
	}
}

// Everything that is missing or too old is named in one message, with one command, before anything is done.
func TestNeeds(t *testing.T) {
	linuxOnly(t)
	const user, root = 1000, 0
	for name, c := range map[string]struct {
		uid     int
		args    string
		machine func(m *machine)
		want    []string // in the message
		not     string
		code    int
	}{
		"all there": {user, "cc cargo pip", func(m *machine) { m.all() }, nil, "setup.sh", 0},
		"newer ones": {user, "cc cargo pip", func(m *machine) {
			m.all()
			m.tool("go", `echo "go version go1.27rc1 linux/amd64"`)
			m.tool("cargo", `echo "cargo 2.0.0"`)
		}, nil, "setup.sh", 0},
		"nothing there": {user, "cc cargo pip", func(m *machine) { m.tool("apt-get", "exit 9") }, []string{
			"Go 1.26.0 or newer: there is none", "there is no gcc", "cargo 1.78 or newer, which builds the tokenizer library: there is none",
			"python3, which downloads: there is none", "pip 20.3 or newer",
			"as root: apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev cargo python3 python3-pip",
			"Go is fetched then, without root",
		}, "fetching", 1},
		"Debian 12's": {user, "cc cargo pip", func(m *machine) {
			m.all()
			m.tool("apt-get", "exit 9")
			m.tool("go", `echo "go version go1.19.8 linux/amd64"`)
			m.tool("cargo", `echo "cargo 1.65.0"`)
			m.tool("python3", "exit 1")
			check(t, os.WriteFile(filepath.Join(m.bin, "os-release"), []byte("NAME=Debian\nVERSION_CODENAME=bookworm\n"), 0o644))
		}, []string{"/go is 1.19.8", "/cargo is 1.65.0", "/python3: there is none", "recommends cargo-web python3-pip\n"}, "gcc", 1},
		"no C library": {user, "cc", func(m *machine) { m.all(); m.tool("apt-get", ""); m.tool("gcc", "exit 1") }, []string{"gcc cannot make a program", "gcc libc6-dev"}, "cargo", 1},
		"clang alone":  {user, "cc", func(m *machine) { m.all(); check(t, os.Remove(filepath.Join(m.bin, "gcc"))); m.tool("dnf", "") }, []string{"there is no gcc", "as root: dnf install -y gcc\n"}, "", 1},
		"clang, named by CC": {user, "cc", func(m *machine) {
			m.all()
			check(t, os.Rename(m.bin+"/gcc", m.bin+"/clang"))
			m.env = []string{"CC=clang -O1"}
		}, nil, "setup.sh", 0},
		"a compiler of two words": {user, "cc", func(m *machine) {
			m.all()
			m.tool("ccache", `[ "$1" = gcc ] && cat >/dev/null`)
			m.env = []string{"CC=ccache gcc"}
		}, nil, "setup.sh", 0},
		"macOS's manager":     {user, "cargo", func(m *machine) { m.all(); check(t, os.Remove(m.bin+"/cargo")); m.tool("brew", "exit 9") }, []string{"install them: brew install rust\n"}, "as root", 1},
		"not for this set-up": {user, "cc", func(m *machine) { m.all(); check(t, os.Remove(filepath.Join(m.bin, "cargo"))) }, nil, "setup.sh", 0},
		"an old pip":          {user, "pip", func(m *machine) { m.all(); m.tool("python3", `echo "pip 19.3 from /x"`); m.tool("apk", "") }, []string{"which has 19.3", "as root: apk add py3-pip"}, "", 1},
		"no manager":          {user, "cc pip", func(m *machine) {}, []string{"no apt, dnf, apk or brew here"}, "as root", 1},
		"root, refused":       {root, "--no-install cc", func(m *machine) { m.all(); check(t, os.Remove(m.bin+"/cc")); m.tool("apt-get", "exit 9") }, []string{"there is no cc", "as root: apt-get"}, "installing", 1},
		"Go, refused":         {root, "--no-install cc", func(m *machine) { m.all(); check(t, os.Remove(m.bin+"/go")) }, []string{"install Go, or leave --no-install away"}, "fetching", 1},
		"a check":             {root, "--check cc pip", func(m *machine) { m.all(); check(t, os.Remove(m.bin+"/go")) }, []string{"Go 1.26.8 would be fetched into"}, "fetching", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, c.uid)
			c.machine(m)
			out, errs, code := m.run(append([]string{"./needs.sh"}, strings.Fields(c.args)...)...)
			if code != c.code || out != "" {
				t.Errorf("exit %d, want %d; printed %q", code, c.code, out)
			}
			for _, want := range c.want {
				if !strings.Contains(errs, want) {
					t.Errorf("%q is not in:\n%s", want, errs)
				}
			}
			if c.not != "" && strings.Contains(errs, c.not) {
				t.Errorf("%q is in:\n%s", c.not, errs)
			}
			if _, err := os.Stat(m.home); err == nil {
				t.Error("something was put into the home folder")
			}
		})
	}
}

// setup runs setup.sh there from a folder of its own.
func (m *machine) setup(args ...string) (errs string, code int) {
	m.t.Helper()
	script, err := filepath.Abs("../setup.sh")
	check(m.t, err)
	_, errs, code = m.run(append([]string{script}, args...)...)
	return errs, code
}

// Relative paths count from where setup.sh was called, not from the checkout.
func TestRelativePaths(t *testing.T) {
	linuxOnly(t)
	m := newMachine(t, 1000)
	m.all()
	m.dir = t.TempDir()
	for _, name := range []string{"ort.so", "tok.a"} {
		check(t, os.WriteFile(filepath.Join(m.dir, name), nil, 0o644))
	}
	m.env = []string{"RAG_RETRIEVAL_ORT_LIB=ort.so", "RAG_RETRIEVAL_TOKENIZERS_LIB=tok.a"}
	errs, code := m.setup("--check", "--no-model")
	if want := fmt.Sprintf("have    %[1]s/ort.so\nhave    %[1]s/tok.a\n", m.dir); errs != want || code != 0 {
		t.Errorf("exit %d: %s\nwant %s", code, errs, want)
	}
	for _, c := range []struct{ env, want string }{
		{"RAG_RETRIEVAL_HOME=cache", "missing " + m.dir + "/cache/onnxruntime-"},
		{"XDG_CACHE_HOME=cache", "missing " + m.home + "/.cache/rag-retrieval/onnxruntime-"}, // as the program has it
		{"HOME=", "no folder for the cache: HOME is not set; set RAG_RETRIEVAL_HOME to a folder of yours"},
	} {
		m.env = []string{c.env}
		if errs, code := m.setup("--check", "--no-model"); !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit %d: %s\nwant %s", c.env, code, errs, c.want)
		}
	}
}

// --check says what is missing, --dry-run how it would come. Both name the parts that the other flags want, and change nothing.
func TestDryRun(t *testing.T) {
	linuxOnly(t)
	m := newMachine(t, 1000)
	m.all()
	m.dir = t.TempDir()
	home := filepath.Join(m.dir, "cache")
	m.env = []string{"RAG_RETRIEVAL_HOME=" + home, "MPICC=none"}
	parts := []string{"--mpi", "--postgres", "--openvino"}
	library := filepath.Join(home, "models", "all-MiniLM-L6-v2", "model.safetensors")
	for flag, want := range map[string][]string{
		"--check": {"missing " + home + "/onnxruntime-", "missing " + home + "/tokenizers-", "missing " + library, "missing " + home + "/mpich-", "missing " + home + "/pgserver-", "missing " + home + "/onnxruntime-ep-openvino-"},
		"--dry-run": {
			"would download ONNX Runtime ", "would build the tokenizer library (1 to 3 minutes): " + home + "/tokenizers-", "would download all-MiniLM-L6-v2 (80 MB): " + library,
			"would download MPICH (10 MB)", "would download PostgreSQL with pgvector (25 MB)", "would download OpenVINO's plug-in (53 MB)", "would build bin/rag-retrieval; nothing was changed",
		},
	} {
		errs, code := m.setup(append(parts, flag)...)
		for _, line := range want {
			if strings.Count(errs, line) == 0 || code != 0 {
				t.Errorf("%s: exit %d: %s\nwant %s", flag, code, errs, line)
			}
		}
		if flag == "--check" == strings.Contains(errs, "would") {
			t.Errorf("%s: %s", flag, errs)
		}
	}
	if errs, _ := m.setup("--dry-run", "--no-model"); strings.Contains(errs, "MiniLM") || strings.Contains(errs, "MPICH") {
		t.Errorf("what is not wanted: %s", errs)
	}
	check(t, os.MkdirAll(filepath.Dir(library), 0o755))
	check(t, os.WriteFile(library, nil, 0o644))
	if errs, _ := m.setup("--dry-run"); !strings.Contains(errs, "have    "+library+"\n") {
		t.Errorf("what is there: %s", errs)
	}
	if made, _ := os.ReadDir(home); len(made) != 1 {
		t.Errorf("made %v", made)
	}
}

// ONNX Runtime does not load with musl, whose ldd tells its name and fails.
func TestMusl(t *testing.T) {
	linuxOnly(t)
	m := newMachine(t, 1000)
	m.all()
	m.tool("ldd", `echo "musl libc (x86_64)" >&2; exit 1`)
	if errs, code := m.setup("--check"); code != 1 || !strings.Contains(errs, "does not load with musl") || strings.Contains(errs, "missing") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// Root's packages are installed after it was said; what is still missing then, or fails, ends it.
func TestNeedsInstalls(t *testing.T) {
	linuxOnly(t)
	install := func(m *machine) string { // what a manager's package brings
		return fmt.Sprintf(`echo "$0 $*" >>%[1]s/log; case "$*" in *install*|*add*) for c in cc gcc; do printf '#!/bin/bash\ncat >/dev/null\n' >%[1]s/$c; chmod +x %[1]s/$c; done ;; esac`, m.bin)
	}
	for manager, want := range map[string]string{
		"apt-get": "apt-get update\napt-get install -y --no-install-recommends gcc libc6-dev\n",
		"dnf":     "dnf install -y gcc\n",
		"apk":     "apk add build-base\n",
	} {
		m := newMachine(t, 0)
		m.all()
		check(t, os.Remove(filepath.Join(m.bin, "gcc")))
		m.tool(manager, install(m))
		_, errs, code := m.run("./needs.sh", "cc")
		if code != 0 || !strings.Contains(errs, "installing, as root: "+manager) {
			t.Errorf("%s: exit %d: %s", manager, code, errs)
		}
		log, _ := os.ReadFile(filepath.Join(m.bin, "log"))
		if got := strings.ReplaceAll(string(log), m.bin+"/", ""); got != want {
			t.Errorf("%s: ran %q, want %q", manager, got, want)
		}
	}

	m := newMachine(t, 0)
	m.all()
	m.env = []string{"TMPDIR=" + t.TempDir()}
	check(t, os.Remove(filepath.Join(m.bin, "gcc")))
	m.tool("apt-get", "echo 'E: Unable to locate package gcc'; exit 100")
	if _, errs, code := m.run("./needs.sh", "cc"); code != 1 || !strings.Contains(errs, "the packages were not installed: E: Unable to locate package gcc\nthe whole output: ") {
		t.Errorf("exit %d: %s", code, errs)
	}
	m.tool("apt-get", "exit 0")
	if _, errs, code := m.run("./needs.sh", "cc"); code != 1 || !strings.Contains(errs, "still missing or too old after that:\n  a C compiler") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// A failing build shows the line that tells why, and where the rest is.
func TestLogged(t *testing.T) {
	for name, c := range map[string]struct{ output, want string }{
		"no C++ compiler": {"   Compiling esaxx-rs v0.1.10\nerror: failed to run custom build command for `esaxx-rs v0.1.10`\n\nCaused by:\n  process didn't exit successfully\n" +
			"  --- stderr\n\n  error occurred in cc-rs: failed to find tool \"c++\": No such file or directory (os error 2)\n\n\nwarning: build failed, waiting for other jobs to finish...\n",
			"error occurred in cc-rs: failed to find tool \"c++\": No such file or directory (os error 2)"},
		"Rust":    {"error[E0432]: unresolved import `x`\n --> src/lib.rs:1:5\n\nerror: could not compile `tokenizers` (lib) due to 1 previous error\n", "error[E0432]: unresolved import `x`"},
		"a link":  {"# rag-retrieval-go/cmd\n/usr/bin/ld: cannot find -lstdc++: No such file or directory\ncollect2: error: ld returned 1 exit status\n", "/usr/bin/ld: cannot find -lstdc++: No such file or directory"},
		"network": {"error: failed to get `libc`\n\nCaused by:\n  [6] Could not resolve host: index\n", "[6] Could not resolve host: index"},
		"other":   {"one\ntwo\n\n", "two"},
		"none":    {"", "exit status 3, nothing printed"},
	} {
		t.Run(name, func(t *testing.T) {
			log, text := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "text")
			check(t, os.WriteFile(text, []byte(c.output), 0o644))
			cmd := exec.Command("./logged.sh", log, "it was not built", "sh", "-c", "cat "+text+"; exit 3")
			out, _ := cmd.CombinedOutput()
			if want := "setup.sh: it was not built: " + c.want + "\nthe whole output: " + log + "\n"; string(out) != want || cmd.ProcessState.ExitCode() != 3 {
				t.Errorf("exit %d: %s\nwant %s", cmd.ProcessState.ExitCode(), out, want)
			}
			if whole, err := os.ReadFile(log); err != nil || string(whole) != c.output {
				t.Errorf("the log: %q, %v", whole, err)
			}
		})
	}
	log := filepath.Join(t.TempDir(), "log")
	if out, err := exec.Command("./logged.sh", log, "it was not built", "echo", "fine").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(log); err == nil {
		t.Error("the log of what went well is still there")
	}
}

// A toolchain comes from the proxy that GOPROXY names, only with its pinned bytes, whole, and as the go command unpacks it.
func TestGo(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	const module = "golang.org/toolchain@v0.0.1-go1.26.8.linux-amd64/"
	proxy := t.TempDir()
	archive := filepath.Join(proxy, "golang.org", "toolchain", "@v", "v0.0.1-go1.26.8.linux-amd64.zip")
	check(t, os.MkdirAll(filepath.Dir(archive), 0o755))
	f, err := os.Create(archive)
	check(t, err)
	z := zip.NewWriter(f)
	for _, name := range []string{"bin/go", "pkg/tool/linux_amd64/vet", "src/_go.mod", "src/cmd/_go.mod", "VERSION"} {
		w, err := z.Create(module + name)
		check(t, err)
		_, err = w.Write([]byte(name))
		check(t, err)
	}
	check(t, z.Close())
	check(t, f.Close())
	b, err := os.ReadFile(archive)
	check(t, err)
	list := filepath.Join(t.TempDir(), "go.txt")
	pin := func(sum string) {
		check(t, os.WriteFile(list, []byte("version 1.26.8\nlinux-amd64 "+sum+" h1:x\n"), 0o644))
	}
	home := t.TempDir()
	folder := filepath.Join(home, "cache", "go-1.26.8")
	fetch := func(from string) (string, error) {
		cmd := exec.Command(python, "go.py", list, "linux-amd64", folder)
		cmd.Env = append(os.Environ(), "GOPROXY="+from)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}

	pin(strings.Repeat("0", 64))
	if out, err := fetch("file://" + proxy); err == nil || !strings.Contains(out, "could not fetch Go: SHA-256 is ") {
		t.Errorf("other bytes: %v: %s", err, out)
	}
	if out, err := fetch("off"); err == nil || !strings.Contains(out, "GOPROXY names no proxy") {
		t.Errorf("GOPROXY=off: %v: %s", err, out)
	}
	if left, _ := os.ReadDir(filepath.Join(home, "cache")); len(left) > 0 {
		t.Errorf("a failed fetch left %v", left)
	}
	pin(fmt.Sprintf("%x", sha256.Sum256(b)))
	if out, err := fetch("file:///nothing/there|file://" + proxy + ",direct"); err != nil || out != "" {
		t.Fatalf("%v: %s", err, out)
	}
	for name, mode := range map[string]os.FileMode{"bin/go": 0o111, "pkg/tool/linux_amd64/vet": 0o111, "src/go.mod": 0, "src/cmd/go.mod": 0, "VERSION": 0} {
		if st, err := os.Stat(filepath.Join(folder, name)); err != nil || st.Mode()&0o111 != mode {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}

	// needs.sh then uses it.
	linuxOnly(t)
	m := newMachine(t, 1000)
	m.all()
	check(t, os.Remove(filepath.Join(m.bin, "go")))
	there := filepath.Join(m.home, ".cache", "rag-retrieval", "go-1.26.8-linux-amd64")
	check(t, os.MkdirAll(filepath.Dir(there), 0o755))
	check(t, os.Rename(folder, there))
	if out, errs, code := m.run("./needs.sh", "cc", "cargo", "pip"); out != there || errs != "" || code != 0 {
		t.Errorf("exit %d: %q %s", code, out, errs)
	}
}

// A script that setup.sh put the fetched Go first in PATH for may run setup.sh again: the Go stays the fetched one, and so
// its link in the checkout.
func TestFetchedGoInPath(t *testing.T) {
	linuxOnly(t)
	checkout := t.TempDir()
	folder := filepath.Join(checkout, "scripts", "setup")
	check(t, os.MkdirAll(folder, 0o755))
	for from, to := range map[string]string{"needs.sh": folder, "home.sh": folder, "go.txt": folder, "../../go.mod": checkout} {
		b, err := os.ReadFile(from)
		check(t, err)
		check(t, os.WriteFile(filepath.Join(to, filepath.Base(from)), b, 0o755))
	}
	m := newMachine(t, 1000)
	m.borrow("readlink")
	m.all()
	fetched := filepath.Join(m.home, "fetched")
	check(t, os.MkdirAll(filepath.Join(fetched, "bin"), 0o755))
	check(t, os.Rename(filepath.Join(m.bin, "go"), filepath.Join(fetched, "bin", "go")))
	check(t, os.Mkdir(filepath.Join(checkout, ".rag-retrieval"), 0o755))
	link := filepath.Join(checkout, ".rag-retrieval", "go")
	check(t, os.Symlink(fetched, link))
	m.env = []string{"PATH=" + filepath.Join(link, "bin") + ":" + m.bin}
	if out, errs, code := m.run(filepath.Join(folder, "needs.sh"), "cc"); out != fetched || errs != "" || code != 0 {
		t.Errorf("exit %d: %q, want %q; %s", code, out, fetched, errs)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
