package serve

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/goccy/go-yaml"
)

//go:embed openapi.yaml
var openAPIFile []byte

// openAPIJSON is the file as JSON.
var openAPIJSON = sync.OnceValues(func() (json.RawMessage, error) {
	b, err := yaml.YAMLToJSON(openAPIFile)
	if err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	return b, nil
})

// openAPI answers GET /openapi.json: what every route takes and gives, for those who make clients and tests of it.
func (s *Server) openAPI(w http.ResponseWriter, r *http.Request) {
	b, err := openAPIJSON()
	if err == nil {
		err = writeJSON(w, http.StatusOK, b)
	}
	if err != nil {
		s.fail(w, r, pageAPI, err)
	}
}
