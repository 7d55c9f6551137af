// Package hub downloads models and data sets from the Hugging Face hub, or from a mirror that HF_ENDPOINT names, into a
// cache. It resumes interrupted downloads and checks sizes and checksums; an incomplete file never has its final name. If
// two processes fetch the same repository, one waits for the other.
//
//	c := hub.New(cacheDir)
//	dir, err := c.Model(ctx, "BAAI/bge-base-zh-v1.5", keep)      // a folder with the files that keep selects
//	path, err := c.DataFile(ctx, "org/name", "train.jsonl")
//
// Protocol: https://huggingface.co/docs/hub/api. The Go libraries found for it neither resume nor compare checksums.
package hub

import (
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/filelock"
)

// Environment variables that Hugging Face's own programs use too.
const (
	EndpointVariable = "HF_ENDPOINT"
	TokenVariable    = "HF_TOKEN"
)

// DefaultEndpoint is the hub itself.
const DefaultEndpoint = "https://huggingface.co"

// attempts is how often a download is tried before its error is returned.
const attempts = 4

// Client fetches from one endpoint.
type Client struct {
	Endpoint, Token string
	Cache           string        // folder
	Wait            time.Duration // before the second attempt of a download; doubles for each further one
	// Progress is called with the number of bytes of a file that have arrived. It may be nil.
	Progress func(file string, done, total int64)
	// Waiting is called if another process is fetching the repository. It may be nil.
	Waiting func(id string, holder filelock.Holder)
	// Offline is called if a repository is taken from the cache because there is no connection. It may be nil.
	Offline func(id string, err error)

	http http.Client
}

// New makes a client with the endpoint and token of the environment variables.
func New(cache string) *Client {
	c := &Client{Endpoint: DefaultEndpoint, Token: os.Getenv(TokenVariable), Cache: cache, Wait: time.Second}
	if e := os.Getenv(EndpointVariable); e != "" {
		c.Endpoint = strings.TrimSuffix(e, "/")
	}
	return c
}

// File is a file of a repository.
type File struct {
	Name string `json:"rfilename"`
	Size int64  `json:"size"`
	Blob string `json:"blobId"` // git's checksum
	LFS  *struct {
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size"`
	} `json:"lfs"`
}

// repository is the hub's description of a repository at one revision.
type repository struct {
	Commit string `json:"sha"`
	Files  []File `json:"siblings"`
}

// IsID says whether a reference has the form of a repository's id, owner/name.
func IsID(ref string) bool {
	owner, name, ok := strings.Cut(ref, "/")
	return ok && isPlainName(owner) && isPlainName(name)
}

func isPlainName(s string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)) {
			return false
		}
	}
	return s != "" && s != "." && s != ".."
}

// Model fetches the files of a model that keep selects, and returns their folder.
func (c *Client) Model(ctx context.Context, id string, keep func(files []File) []File) (string, error) {
	return c.ModelAt(ctx, id, MainBranch, keep)
}

// ModelAt is Model at a revision: a commit, tag or branch. Empty means MainBranch.
func (c *Client) ModelAt(ctx context.Context, id, revision string, keep func(files []File) []File) (string, error) {
	return c.fetch(ctx, "models", id, cmp.Or(revision, MainBranch), "", keep)
}

// Dataset fetches the files of a data set that keep selects, at a revision (a commit, tag or branch). It returns their
// folder.
func (c *Client) Dataset(ctx context.Context, id, revision string, keep func(files []File) []File) (string, error) {
	return c.fetch(ctx, "datasets", id, revision, "datasets/", keep)
}

// MainBranch is the revision of a repository that is not pinned.
const MainBranch = "main"

// DataFile fetches one file of a data set and returns its path.
func (c *Client) DataFile(ctx context.Context, id, name string) (string, error) {
	dir, err := c.fetch(ctx, "datasets", id, MainBranch, "datasets/", func(files []File) []File {
		for _, f := range files {
			if f.Name == name {
				return []File{f}
			}
		}
		return nil
	})
	return filepath.Join(dir, filepath.FromSlash(name)), err
}

// Commit returns the commit of a model whose folder in a cache is dir; "" if dir is not such a folder.
func Commit(cache, id, dir string) string {
	if !IsID(id) || filepath.Dir(dir) != filepath.Join(cache, folderName("models", id)) {
		return ""
	}
	return filepath.Base(dir)
}

// folderName is the name of a repository's folder in the cache.
func folderName(kind, id string) string { return kind + "--" + strings.ReplaceAll(id, "/", "--") }

// fetch downloads the selected files of a repository's revision into the cache, unless they are there already.
func (c *Client) fetch(ctx context.Context, kind, id, revision, prefix string, keep func([]File) []File) (string, error) {
	home, known := c.places(kind, id, revision)
	repo, err := c.describe(ctx, kind, id, revision)
	if err != nil {
		// Without a connection, use the files that were fetched before.
		if commit, readErr := fetchedBefore(home, known, revision); readErr == nil && !errors.As(err, new(*statusError)) && ctx.Err() == nil {
			if c.Offline != nil {
				c.Offline(id, err)
			}
			return filepath.Join(home, commit), nil
		}
		return "", fmt.Errorf("%s: %w", id, err)
	}
	if !isPlainName(repo.Commit) {
		return "", fmt.Errorf("%s: %s names the commit %.60q", id, c.Endpoint, repo.Commit)
	}
	files := keep(repo.Files)
	if len(files) == 0 {
		return "", fmt.Errorf("%s: the repository on %s has none of the needed files (it has %d others)", id, c.Endpoint, len(repo.Files))
	}
	dir := filepath.Join(home, repo.Commit)
	for _, f := range files {
		if !filepath.IsLocal(f.Name) {
			return "", fmt.Errorf("%s: a file named %q", id, f.Name)
		}
	}
	if b, err := os.ReadFile(known); err == nil && string(b) == repo.Commit && allFetched(dir, files) {
		return dir, nil
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", err
	}
	lock, err := filelock.Wait(ctx, filepath.Join(home, ".lock"), func(h filelock.Holder) {
		if c.Waiting != nil {
			c.Waiting(id, h)
		}
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w", id, err)
	}
	for _, f := range files {
		at := fmt.Sprintf("%s/%s%s/resolve/%s/%s", c.Endpoint, prefix, id, repo.Commit, escape(f.Name))
		if err := c.download(ctx, at, filepath.Join(dir, filepath.FromSlash(f.Name)), f); err != nil {
			return "", errors.Join(fmt.Errorf("%s: %s: %w", id, f.Name, err), lock.Close())
		}
	}
	return dir, errors.Join(atomicdir.WriteFile(known, []byte(repo.Commit)), lock.Close())
}

// HasModel says whether a model was fetched at a revision, as for ModelAt. The hub may have a newer one.
func (c *Client) HasModel(id, revision string) bool {
	home, known := c.places("models", id, cmp.Or(revision, MainBranch))
	_, err := fetchedBefore(home, known, revision)
	return err == nil
}

// places returns the folder of a repository in the cache, and the file there that holds the commit that was fetched for a revision.
func (c *Client) places(kind, id, revision string) (home, known string) {
	home = filepath.Join(c.Cache, folderName(kind, id))
	if revision == MainBranch {
		return home, filepath.Join(home, revision)
	}
	return home, filepath.Join(home, "ref-"+url.PathEscape(revision)) // a commit's folder has the name of the commit
}

// fetchedBefore returns the commit that was fetched for a revision. The file known names it; a revision may also be the commit itself that
// the main branch was at.
func fetchedBefore(home, known, revision string) (string, error) {
	commit, err := os.ReadFile(known)
	if errors.Is(err, fs.ErrNotExist) {
		if main, mainErr := os.ReadFile(filepath.Join(home, MainBranch)); mainErr == nil && string(main) == revision {
			return revision, nil
		}
	}
	return string(commit), err
}

// allFetched says whether a folder has all these files.
func allFetched(dir string, files []File) bool {
	for _, f := range files {
		if !f.isAt(filepath.Join(dir, filepath.FromSlash(f.Name))) {
			return false
		}
	}
	return true
}

// isAt says whether the file is at path. It gets its final name only after it was checked, so comparing sizes is enough.
func (f File) isAt(path string) bool {
	st, err := os.Stat(path)
	return err == nil && (f.Size == 0 || st.Size() == f.Size)
}

func escape(name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// describe asks the hub for a repository's commit and files.
func (c *Client) describe(ctx context.Context, kind, id, revision string) (repository, error) {
	var r repository
	at := fmt.Sprintf("%s/api/%s/%s/revision/%s?blobs=true", c.Endpoint, kind, id, url.PathEscape(revision))
	resp, err := c.get(ctx, at, 0)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&r); err != nil {
		return r, fmt.Errorf("the answer of %s: %w", c.Endpoint, err)
	}
	return r, nil
}

// statusError is an HTTP answer other than success.
type statusError struct {
	code     int
	endpoint string
	token    bool
}

func (e *statusError) Error() string {
	switch e.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		if e.token {
			return fmt.Sprintf("%s refuses access (%d): check that the token in %s may read the repository", e.endpoint, e.code, TokenVariable)
		}
		return fmt.Sprintf("%s wants a token (%d): the repository does not exist, is private or gated; set %s", e.endpoint, e.code, TokenVariable)
	case http.StatusNotFound:
		return fmt.Sprintf("not found on %s (404); set %s to use another endpoint", e.endpoint, EndpointVariable)
	}
	return fmt.Sprintf("%s answers %d %s", e.endpoint, e.code, http.StatusText(e.code))
}

// get requests a URL, starting at byte from.
func (c *Client) get(ctx context.Context, at string, from int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token) // net/http drops it on a redirect to another host
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no connection to %s: %w", c.Endpoint, errors.Unwrap(err))
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		resp.Body.Close()
		return nil, &statusError{resp.StatusCode, c.Endpoint, c.Token != ""}
	}
	return resp, nil
}

// download fetches a file unless it is there. The part that has arrived is kept in a file beside it, so that an interrupted
// download is resumed.
func (c *Client) download(ctx context.Context, at, to string, f File) error {
	if f.isAt(to) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	part := to + ".part"
	wait := c.Wait
	for try := 1; ; try++ {
		err := c.continueDownload(ctx, at, part, f)
		if err == nil {
			break
		}
		var status *statusError
		if ctx.Err() != nil || errors.As(err, &status) && status.code < 500 || try == attempts {
			return err
		}
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := f.check(part); err != nil {
		return errors.Join(err, os.Remove(part)) // a wrong file cannot be resumed
	}
	return os.Rename(part, to)
}

// continueDownload appends the missing bytes of a file to its part.
func (c *Client) continueDownload(ctx context.Context, at, part string, f File) (err error) {
	out, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	done, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if f.Size > 0 && done == f.Size {
		return nil
	}
	if f.Size > 0 && done > f.Size { // too long: start again
		if err := out.Truncate(0); err != nil {
			return err
		}
		if done, err = out.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	resp, err := c.get(ctx, at, done)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if done > 0 && resp.StatusCode != http.StatusPartialContent { // the server ignored the range
		if done, err = 0, out.Truncate(0); err == nil {
			_, err = out.Seek(0, io.SeekStart)
		}
		if err != nil {
			return err
		}
	}
	counter := &progressWriter{c: c, file: f.Name, done: done, total: f.Size}
	if _, err := io.Copy(io.MultiWriter(out, counter), resp.Body); err != nil {
		return fmt.Errorf("the connection was cut after %d of %d bytes: %w", counter.done, f.Size, err)
	}
	if f.Size > 0 && counter.done < f.Size {
		return fmt.Errorf("the connection ended after %d of %d bytes", counter.done, f.Size)
	}
	return out.Sync()
}

// progressWriter counts bytes and reports them as progress.
type progressWriter struct {
	c           *Client
	file        string
	done, total int64
}

func (w *progressWriter) Write(b []byte) (int, error) {
	w.done += int64(len(b))
	if w.c.Progress != nil {
		w.c.Progress(w.file, w.done, w.total)
	}
	return len(b), nil
}

// check compares the size and the checksum of a complete file with the hub's.
func (f File) check(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if f.Size > 0 && st.Size() != f.Size {
		return fmt.Errorf("%d bytes arrived, the hub says %d", st.Size(), f.Size)
	}
	var sum hash.Hash
	want := f.Blob
	switch {
	case f.LFS != nil && f.LFS.SHA256 != "":
		sum, want = sha256.New(), f.LFS.SHA256
	case want != "":
		sum = sha1.New()
		fmt.Fprintf(sum, "blob %d\x00", st.Size())
	default:
		return nil
	}
	if _, err := io.Copy(sum, in); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return fmt.Errorf("the downloaded file has the checksum %s, the hub says %s", got, want)
	}
	return nil
}
