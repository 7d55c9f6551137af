package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// server is a hub that can misbehave in several ways.
type server struct {
	files    map[string]string
	commit   string
	cut      int  // answers that end early
	ranges   int  // answers to requests for the rest of a file
	refuse   int  // status of every answer; 0: none
	lie      bool // about checksums
	grow     int  // added to every size
	requests int
	token    string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests++
	if s.refuse != 0 {
		w.WriteHeader(s.refuse)
		return
	}
	if s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api/") {
		if !strings.Contains(r.URL.Path, "/org/name/revision/main") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		repo := map[string]any{"sha": s.commit}
		var files []any
		for name, content := range s.files {
			git := sha1.Sum([]byte(fmt.Sprintf("blob %d\x00%s", len(content), content)))
			f := map[string]any{"rfilename": name, "size": len(content) + s.grow, "blobId": hex.EncodeToString(git[:])}
			if strings.HasSuffix(name, ".bin") {
				big := sha256.Sum256([]byte(content))
				if s.lie {
					big[0]++
				}
				f["lfs"] = map[string]any{"sha256": hex.EncodeToString(big[:]), "size": len(content)}
			}
			files = append(files, f)
		}
		repo["siblings"] = files
		json.NewEncoder(w).Encode(repo)
		return
	}
	_, name, _ := strings.Cut(r.URL.Path, "/resolve/"+s.commit+"/")
	content, ok := s.files[name]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	from := 0
	if r.Header.Get("Range") != "" {
		s.ranges++
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	}
	rest := content[from:]
	if s.cut > 0 && strings.HasSuffix(name, ".bin") {
		s.cut--
		w.Write([]byte(rest[:len(rest)/2])) // less than Content-Length: the connection is dropped
		return
	}
	w.Write([]byte(rest))
}

func start(t *testing.T) (*server, *Client) {
	t.Helper()
	s := &server{commit: "abc123", files: map[string]string{
		"config.json": `{"a": 1}`, "model.bin": strings.Repeat("weights ", 10_000), "sub/x.txt": "x", "README.md": "no",
	}}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	t.Setenv(EndpointVariable, h.URL+"/")
	t.Setenv(TokenVariable, "")
	c := New(t.TempDir())
	c.Wait = time.Millisecond
	return s, c
}

func most(files []File) []File {
	var out []File
	for _, f := range files {
		if f.Name != "README.md" {
			out = append(out, f)
		}
	}
	return out
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A model is fetched only once, interrupted downloads are resumed, and without a network the cache is used.
func TestModel(t *testing.T) {
	s, c := start(t)
	s.cut = 2
	var told int64
	c.Progress = func(_ string, done, _ int64) { told = max(told, done) }
	dir, err := c.Model(context.Background(), "org/name", most)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.json", "model.bin", "sub/x.txt"} {
		if content(t, filepath.Join(dir, name)) != s.files[name] {
			t.Errorf("%s differs", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "README.md")); err == nil {
		t.Error("a file that nobody wants was fetched")
	}
	if s.ranges != 2 || told != 80_000 {
		t.Errorf("%d downloads were gone on from, want 2; told of %d bytes", s.ranges, told)
	}
	before := s.requests
	if again, err := c.Model(context.Background(), "org/name", most); err != nil || again != dir || s.requests != before+1 {
		t.Errorf("again: %s, %v, %d requests", again, err, s.requests-before)
	}
	c.Endpoint = "http://127.0.0.1:1"
	offline := ""
	c.Offline = func(id string, _ error) { offline = id }
	if again, err := c.Model(context.Background(), "org/name", most); err != nil || again != dir {
		t.Errorf("without a network: %s, %v", again, err)
	}
	if again, err := c.ModelAt(context.Background(), "org/name", filepath.Base(dir), most); err != nil || again != dir {
		t.Errorf("its commit without a network: %s, %v", again, err)
	}
	if commit := Commit(c.Cache, "org/name", dir); commit != filepath.Base(dir) || Commit(c.Cache, "org/other", dir) != "" {
		t.Errorf("the commit is %q", commit)
	}
	if offline != "org/name" {
		t.Error("nobody was told that there is no network")
	}
}

func TestFaults(t *testing.T) {
	for name, x := range map[string]struct {
		fault func(s *server, c *Client)
		id    string
		want  string
	}{
		"not found":      {func(*server, *Client) {}, "org/other", "not found on http"},
		"no token":       {func(s *server, _ *Client) { s.token = "secret" }, "org/name", "set HF_TOKEN"},
		"a wrong token":  {func(s *server, c *Client) { s.token, c.Token = "secret", "other" }, "org/name", "check that the token in HF_TOKEN may read the repository"},
		"a server error": {func(s *server, _ *Client) { s.refuse = 503 }, "org/name", "answers 503"},
		"cut for ever":   {func(s *server, _ *Client) { s.cut = 100 }, "org/name", "model.bin: the connection was cut after"},
		"a wrong sum":    {func(s *server, _ *Client) { s.lie = true }, "org/name", "model.bin: the downloaded file has the checksum"},
		"a wrong size":   {func(s *server, _ *Client) { s.grow = 5 }, "org/name", "bytes"},
		"no network":     {func(_ *server, c *Client) { c.Endpoint = "http://127.0.0.1:1" }, "org/name", "no connection to http://127.0.0.1:1"},
		"an odd commit":  {func(s *server, _ *Client) { s.commit = "../x" }, "org/name", "names the commit"},
		"an odd name":    {func(s *server, _ *Client) { s.files["../../x"] = "x" }, "org/name", `a file named "../../x"`},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := start(t)
			x.fault(s, c)
			_, err := c.Model(context.Background(), x.id, most)
			if err == nil || !strings.Contains(err.Error(), x.want) || !strings.HasPrefix(err.Error(), x.id+": ") {
				t.Errorf("%v, want %q", err, x.want)
			}
			found, _ := filepath.Glob(filepath.Join(c.Cache, "*", "*", "model.bin"))
			if len(found) > 0 && name != "an odd name" {
				t.Errorf("left behind: %v", found)
			}
		})
	}
}

// DataFile sends the token with every request, and resumes a download that an earlier run began.
func TestDataFile(t *testing.T) {
	s, c := start(t)
	s.token, c.Token = "secret", "secret"
	path, err := c.DataFile(context.Background(), "org/name", "sub/x.txt")
	if err != nil || content(t, path) != "x" {
		t.Fatalf("%s, %v", path, err)
	}
	if _, err := c.DataFile(context.Background(), "org/name", "none.jsonl"); err == nil || !strings.Contains(err.Error(), "has none of the needed files") {
		t.Errorf("a file that is not there: %v", err)
	}
	s.cut = attempts
	if _, err := c.Model(context.Background(), "org/name", most); err == nil {
		t.Error("cut each time, and no error")
	}
	ranges := s.ranges
	if _, err := c.Model(context.Background(), "org/name", most); err != nil || s.ranges != ranges+1 {
		t.Errorf("the next run: %v, %d requests for the rest", err, s.ranges-ranges)
	}
}

func TestIsID(t *testing.T) {
	for ref, want := range map[string]bool{"BAAI/bge-base-zh-v1.5": true, "out/model/x": false, "model": false, "./model": false, "../x": false, "/abs": false, "a/..": false} {
		if IsID(ref) != want {
			t.Errorf("%s: %v", ref, !want)
		}
	}
}

// A part that is longer than the file is downloaded again: two programs wrote it, or it is from another commit.
func TestPartTooLong(t *testing.T) {
	s, c := start(t)
	part := filepath.Join(c.Cache, "models--org--name", s.commit, "model.bin.part")
	if err := os.MkdirAll(filepath.Dir(part), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(part, make([]byte, 90_000), 0o644); err != nil {
		t.Fatal(err)
	}
	dir, err := c.Model(context.Background(), "org/name", most)
	if err != nil || content(t, filepath.Join(dir, "model.bin")) != s.files["model.bin"] {
		t.Error(err)
	}
}
