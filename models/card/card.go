// Package card says what a model folder is: every folder that this project saves has a rag_retrieval.json, and folders of
// others are told apart by their own files.
package card

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rag-retrieval-go/models/hf"
)

// File is the file's name.
const File = "rag_retrieval.json"

// Kind is a kind of retrieval model.
type Kind string

// The kinds.
const (
	Embedding Kind = "embedding"
	ColBERT   Kind = "colbert"
	Reranker  Kind = "reranker"
)

// Kinds lists them.
var Kinds = []Kind{Embedding, ColBERT, Reranker}

// Card is the file's content. What a kind does not have is left out.
type Card struct {
	Kind          Kind    `json:"kind"`
	BaseModel     string  `json:"base_model"`
	Loss          string  `json:"loss,omitempty"`
	Pooling       string  `json:"pooling,omitempty"`
	Normalize     bool    `json:"normalize,omitempty"`
	Dim           int64   `json:"dim,omitempty"`
	QueryMaxLen   int     `json:"query_max_len,omitempty"`
	PassageMaxLen int     `json:"passage_max_len,omitempty"`
	MaxLen        int     `json:"max_len,omitempty"`
	Temperature   float64 `json:"temperature,omitempty"`
	Steps         int     `json:"steps"`
	Version       string  `json:"version"`
}

// Read reads what a folder says of itself; ok is false for folders that this project did not save.
func Read(dir string) (c Card, ok bool, err error) {
	path := filepath.Join(dir, File)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, false, fmt.Errorf("%s: %w", path, err)
	}
	return c, true, nil
}

// Write writes the file into a folder.
func (c Card) Write(dir string) error { return hf.WriteJSON(filepath.Join(dir, File), c) }

// Detect says what kind a folder is. Unknown folders with an encoder are taken for embedding models, as
// sentence-transformers does.
func Detect(dir string) (Kind, error) {
	c, ok, err := Read(dir)
	if err != nil || ok {
		return c.Kind, err
	}
	for _, name := range []string{"colbert_linear.pt", "colbert_linear.safetensors"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return ColBERT, nil
		}
	}
	var modules []struct {
		Type string `json:"type"`
	}
	err = hf.ReadJSON(filepath.Join(dir, "modules.json"), &modules)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, m := range modules {
		if strings.HasSuffix(m.Type, ".MultiVectorMask") || strings.HasPrefix(m.Type, "pylate.") {
			return ColBERT, nil
		}
	}
	if len(modules) > 0 {
		return Embedding, nil
	}
	var config struct {
		Architectures []string `json:"architectures"`
	}
	if err := hf.ReadJSON(filepath.Join(dir, "config.json"), &config); err != nil {
		return "", err
	}
	for _, a := range config.Architectures {
		if strings.HasSuffix(a, "ForSequenceClassification") {
			return Reranker, nil
		}
	}
	return Embedding, nil
}

// Check is an error where a folder is to be used as a kind that it is not.
func Check(dir string, want Kind) error {
	kind, err := Detect(dir)
	if err != nil {
		return err
	}
	if kind != want {
		return fmt.Errorf("%s is a model of kind %s, not %s", dir, kind, want)
	}
	return nil
}
