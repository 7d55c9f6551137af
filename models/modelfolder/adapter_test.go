package modelfolder

import (
	"os"
	"path/filepath"
	"testing"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/ortrain/runtime"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// writeBase writes what of a model is looked at.
func writeBase(t *testing.T, dir string) {
	t.Helper()
	check(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"config.json", "tokenizer.json"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600))
	}
}

// An adapter that was trained further names a base that is there: a folder by its absolute path, also where the first adapter named it by a
// path that looks like a hub's id, or it is a snapshot of links.
func TestBaseOfAnAdapter(t *testing.T) {
	root := t.TempDir()
	t.Setenv(runtime.HomeVariable, filepath.Join(root, "home"))
	t.Chdir(root)
	dir := filepath.Join(root, "runs", "adapter")
	check(t, os.MkdirAll(filepath.Join(root, "snapshot"), 0o755))
	writeBase(t, filepath.Join(root, "org", "base"))
	writeBase(t, filepath.Join(dir, "beside", "base"))
	writeBase(t, filepath.Join(root, "blobs"))
	for _, name := range []string{"config.json", "tokenizer.json"} {
		check(t, os.Symlink("../blobs/"+name, filepath.Join(root, "snapshot", name)))
	}
	for base, want := range map[string]string{
		"org/base": filepath.Join(root, "org", "base"), "beside/base": filepath.Join(dir, "beside", "base"), filepath.Join(root, "snapshot"): filepath.Join(root, "snapshot"),
	} {
		check(t, hf.WriteAdapter(dir, hf.AdapterConfig{Base: base, Rank: 1, Alpha: 1, Revision: "v1"}, nil, nil))
		view, err := resolve.Resolver{}.Model(t.Context(), dir)
		check(t, err)
		if got, revision, err := baseOf(view, dir); got != want || revision != "" || err != nil {
			t.Errorf("%s: %s, %q, %v, want %s", base, got, revision, err, want)
		}
		if c, err := hf.ReadAdapterConfig(view); err != nil || c.Path != filepath.Join(dir, hf.AdapterConfigFile) {
			t.Errorf("messages name %s, %v, want the adapter's folder %s", c.Path, err, dir)
		}
		if got := hf.NameOf(view); got != dir {
			t.Errorf("messages name %s, want the adapter's folder %s", got, dir)
		}
	}
}

// A base in the cache of the hub is named by its id and a revision: that of the first adapter, or else the commit in the cache.
func TestBaseOnTheHub(t *testing.T) {
	root := t.TempDir()
	t.Setenv(runtime.HomeVariable, filepath.Join(root, "home"))
	commit := filepath.Join(root, "home", "hub", "models--org--base", "abc")
	writeBase(t, commit)
	if base, revision, err := baseOf(commit, "org/base"); base != "org/base" || revision != "abc" || err != nil {
		t.Errorf("%s, %q, %v", base, revision, err)
	}
	for named, want := range map[string]string{"": "abc", "v1": "v1"} {
		view := filepath.Join(root, "view"+named)
		check(t, os.MkdirAll(view, 0o755))
		check(t, os.Symlink(filepath.Join(commit, "config.json"), filepath.Join(view, "config.json")))
		check(t, hf.WriteAdapter(view, hf.AdapterConfig{Base: "org/base", Rank: 1, Alpha: 1, Revision: named}, nil, nil))
		if base, revision, err := baseOf(view, "adapter"); base != "org/base" || revision != want || err != nil {
			t.Errorf("%s, %q, %v, want the revision %s", base, revision, err, want)
		}
	}
}
