package page

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w
}

func TestHandler(t *testing.T) {
	w := get("GET", "/")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" || !strings.HasPrefix(w.Body.String(), "<!doctype html>") {
		t.Fatalf("%d %v %.80s", w.Code, w.Header(), w.Body)
	}
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("Content-Security-Policy: %s", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	etag := w.Header().Get("ETag")
	if again := get("GET", "/", "If-None-Match", etag); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("with the ETag: %d, %d bytes", again.Code, again.Body.Len())
	}
	if head := get("HEAD", "/"); head.Code != http.StatusOK || head.Body.Len() != 0 || head.Header().Get("ETag") != etag {
		t.Errorf("HEAD: %d, %d bytes, ETag %s", head.Code, head.Body.Len(), head.Header().Get("ETag"))
	}
	for _, path := range []string{"/page/", "/page/index.html", "/page/none.js", "/page/../page.go", "/page/static/main.js"} {
		if w := get("GET", path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// Every file that the page and its scripts name is there with its type, and nothing comes from elsewhere or stands inline.
func TestFiles(t *testing.T) {
	html := get("GET", "/").Body.String()
	if m := regexp.MustCompile(`<style|\sstyle=|\son[a-z]+=|<script(?:\s[^>]*)?>[^<]`).FindString(html); m != "" {
		t.Errorf("the policy forbids %q", m)
	}
	var links []string

	for _, m := range regexp.MustCompile(`(?:href|src)="(page/[^"]+)"`).FindAllStringSubmatch(html, -1) {
		links = append(links, "/"+m[1])
	}
	seen := map[string]bool{}
	for len(links) > 0 {
		path := links[0]
		links = links[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		w := get("GET", path)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d %q", path, w.Code, w.Header().Get("Content-Type"))
		}
		for _, m := range regexp.MustCompile(`from "\./([^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1) {
			links = append(links, "/page/"+m[1])
		}
		if m := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|DOMParser`).FindString(w.Body.String()); m != "" {
			t.Errorf("%s: %s may make HTML of a text", path, m)
		}
		for _, m := range regexp.MustCompile(`https?://[^\s"'<>)]+`).FindAllString(w.Body.String(), -1) {
			if m != "http://www.w3.org/2000/svg" {
				t.Errorf("%s: names %s", path, m)
			}
		}
	}
	if len(seen) < 4 {
		t.Errorf("the page names %v", seen)
	}
}
