// Package page is the web page of a server: it asks the server's own routes, so it knows no model. Its files are in the binary, and the
// browser fetches nothing from elsewhere.
//
//	mux.Handle("GET /{$}", page.Handler())   // the page
//	mux.Handle("GET /page/", page.Handler()) // its style and scripts
//
// The page calls GET /v1/models, POST /rerank, POST /page/matches and GET /metrics, by addresses relative to its own: it works behind a
// proxy that puts a path before them. Texts come into the document as text nodes only, never as HTML.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed static
var static embed.FS

// ContentSecurityPolicy lets the page load its own files and call its own server, and nothing else: no inline script or style, no
// frame around it, no form that is sent elsewhere.
const ContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file is one of the page's files.
type file struct {
	content           []byte
	etag, contentType string
}

// contentTypes are those of the page's files. The operating system's table, which mime uses, may have others.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// Handler answers GET and HEAD of the page at / and of its files below /page/. It is for routes of these methods alone.
func Handler() http.Handler {
	files := map[string]file{}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := static.ReadFile(name)
		sum := sha256.Sum256(b)
		contentType, ok := contentTypes[path.Ext(name)]
		if !ok {
			contentType = mime.TypeByExtension(path.Ext(name))
		}
		files["/page/"+path.Base(name)] = file{b, `"` + hex.EncodeToString(sum[:8]) + `"`, contentType}
		return err
	})
	files["/"] = files["/page/index.html"]
	delete(files, "/page/index.html")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[r.URL.Path]
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case !ok:
			http.NotFound(w, r)
		default:
			f.serve(w, r)
		}
	})
}

// serve writes a file, or 304 where the browser has it. A browser always asks whether its copy is still the one, so that it never runs
// the scripts of an older server.
func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Security-Policy", ContentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
