package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync/atomic"
)

// Keys are the API keys that requests must have one of: "Authorization: Bearer KEY". Only their hashes are kept. Set may be called while
// requests are checked.
type Keys struct {
	hashes atomic.Pointer[[][sha256.Size]byte]
}

// NewKeys returns some keys.
func NewKeys(keys ...string) *Keys {
	k := &Keys{}
	k.Set(keys)
	return k
}

// Set replaces the keys.
func (k *Keys) Set(keys []string) {
	var hashes [][sha256.Size]byte
	for _, key := range keys {
		hashes = append(hashes, sha256.Sum256([]byte(key)))
	}
	k.hashes.Store(&hashes)
}

// allow tells whether a request has one of the keys. Its time depends on the number of keys only: hashes have one length, and all are
// compared.
func (k *Keys) allow(h http.Header) bool {
	scheme, key, _ := strings.Cut(h.Get("Authorization"), " ")
	sum, found := sha256.Sum256([]byte(strings.TrimSpace(key))), 0
	for _, hash := range *k.hashes.Load() {
		found |= subtle.ConstantTimeCompare(hash[:], sum[:])
	}
	return found == 1 && strings.EqualFold(scheme, "Bearer")
}

// needsNoKey tells whether a request needs no key: those of load balancers, of Prometheus, whose discovery in Kubernetes has none, and for the
// files of the page, which has a field for the key.
func needsNoKey(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead { // POST / and POST /page/matches ask a model
		return false
	}
	switch r.URL.Path {
	case "/health", "/ready", "/metrics", "/openapi.json", "/":
		return true
	}
	return strings.HasPrefix(r.URL.Path, "/page/")
}

// lacksKey tells whether a request needs a key and has none of the server's.
func (s *Server) lacksKey(r *http.Request) bool {
	return s.o.Keys != nil && !needsNoKey(r) && !s.o.Keys.allow(r.Header)
}

// guarded refuses requests without a key.
func (s *Server) guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case needsNoKey(r):
			h.ServeHTTP(w, r)
		case s.lacksKey(r):
			w.Header().Set("WWW-Authenticate", "Bearer")
			s.refuse(w, r, http.StatusUnauthorized, unauthorized, "the API key is missing or wrong, want the header Authorization: Bearer KEY")
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// refuse answers a request whose body was not read. The connection ends with it: nobody reads the body.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, k kind, message string) {
	w.Header().Set("Connection", "close")
	s.fail(w, r, apiOf(r.URL.Path), &Error{Status: status, Kind: k, Message: message})
}
