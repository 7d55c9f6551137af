package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A library that another user could have put there is not loaded.
func TestTrusted(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode, folder ...os.FileMode) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		for _, m := range folder {
			if err := os.Chmod(filepath.Dir(p), m); err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	link := func(name, target string) string {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	mine := file("mine/lib.so", 0o644)
	open := file("open/lib.so", 0o644, 0o777)
	for name, c := range map[string]struct {
		path, want string // want: in the error; empty: loaded
	}{
		"mine":                   {mine, ""},
		"group":                  {file("group/lib.so", 0o664, 0o775), ""},
		"a file for everybody":   {file("file/lib.so", 0o666), "lib.so can be written to by everybody"},
		"a folder for everybody": {open, "open can be written to by everybody"},
		// The library itself is safe there, but others can put the providers beside it that it loads.
		"in a sticky folder":          {file("sticky/lib.so", 0o644, 0o777|os.ModeSticky), "sticky can be written to by everybody"},
		"below a sticky folder":       {file("sticky/below/lib.so", 0o644), ""},
		"a link to what is mine":      {link("links/lib.so", mine), ""},
		"a link to what is open":      {link("links/open.so", open), "open can be written to by everybody"},
		"a link to a sticky folder":   {link("links/sticky.so", filepath.Join(dir, "sticky/lib.so")), "sticky can be written to by everybody"},
		"a link in an open folder":    {link("open/mine.so", mine), "open can be written to by everybody"},
		"a folder above is everybody": {file("open/below/lib.so", 0o644), "open can be written to by everybody"},
		"nothing":                     {filepath.Join(dir, "none.so"), "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkTrusted(c.path)
			if c.want == "" && err != nil {
				t.Error(err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if os.Geteuid() != 0 {
		return
	}
	theirs := file("theirs/lib.so", 0o644)
	if err := os.Chown(theirs, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if err := checkTrusted(theirs); err == nil || !strings.Contains(err.Error(), "belongs to another user (12345)") {
		t.Errorf("another user's library: %v", err)
	}
}

// A program built with -trimpath does not know its source folder. It must not look in the working folder instead nor, without
// HOME, in the folder for temporary files.
func TestLibraryDirs(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, home := range []string{"", "."} {
		t.Setenv(HomeVariable, "")
		t.Setenv("XDG_CACHE_HOME", home)
		t.Setenv("HOME", home)
		dirs := libraryDirs("/opt/bin/rag-retrieval", "rag-retrieval-go/ortrain/runtime/library.go")
		want := []string{"/opt/bin", "/opt/.rag-retrieval/lib", "/usr/local/lib", "/usr/lib"}
		if !slices.Equal(dirs, want) {
			t.Errorf("HOME=%s: %q, want %q", home, dirs, want)
		}
	}
	t.Setenv("HOME", "/home/a")
	dirs := libraryDirs("/c/bin/rag-retrieval", "/c/ortrain/runtime/library.go")
	want := []string{"/c/bin", "/c/.rag-retrieval/lib", "/home/a/.cache/rag-retrieval/lib", "/usr/local/lib", "/usr/lib"}
	if !slices.Equal(dirs, want) {
		t.Errorf("%q, want %q", dirs, want)
	}
}

// A library that others can change is skipped. If there is no other, the error says why.
func TestFindLibraryPassesOver(t *testing.T) {
	open, mine := t.TempDir(), t.TempDir()
	for _, d := range []string{open, mine} {
		if err := os.WriteFile(filepath.Join(d, "lib.so"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if got, err := findLibrary("lib.so", []string{open, mine}); err != nil || got != filepath.Join(mine, "lib.so") {
		t.Errorf("%q, %v", got, err)
	}
	_, err := findLibrary("lib.so", []string{open})
	if err == nil || !strings.Contains(err.Error(), "not loaded, since others can change it: "+filepath.Join(open, "lib.so")) {
		t.Error(err)
	}
}

func TestHome(t *testing.T) {
	for name, c := range map[string]struct{ variable, xdg, home, want string }{
		"the variable":      {"/a", "/b", "/c", "/a"},
		"XDG":               {"", "/b", "/c", "/b/rag-retrieval"},
		"HOME":              {"", "", "/c", "/c/.cache/rag-retrieval"},
		"a relative XDG":    {"", "b", "/c", "/c/.cache/rag-retrieval"},
		"a relative HOME":   {"", "", "c", ""},
		"none":              {"", "", "", ""},
		"relative variable": {"a", "", "", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(HomeVariable, c.variable)
			t.Setenv("XDG_CACHE_HOME", c.xdg)
			t.Setenv("HOME", c.home)
			got, err := Home()
			if c.want != "" && !filepath.IsAbs(c.want) {
				c.want, _ = filepath.Abs(c.want)
			}
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "HOME is not set; set RAG_RETRIEVAL_HOME") {
				t.Error(err)
			}
		})
	}
}
