package mteb

import (
	"encoding/json"

	"rag-retrieval-go/internal/atomicdir"
)

// Result is one model's metrics on one task, as fractions.
type Result struct {
	Task    string  `json:"task"`
	Rule    Rule    `json:"rule"`
	Queries int     `json:"queries"`
	MAP     float64 `json:"map"`
	MRR     float64 `json:"mrr"`
	Seconds float64 `json:"seconds"`
}

// Report is what eval --json writes.
type Report struct {
	Model   string   `json:"model"`
	Kind    string   `json:"kind"`
	Results []Result `json:"results"`
}

// Write writes a report; path is never half-written.
func (r Report) Write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return atomicdir.WriteFile(path, append(b, '\n'))
}
