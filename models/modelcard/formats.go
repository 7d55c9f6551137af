package modelcard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/prompt"
)

// transformersFile is the file in which sentence-transformers keeps a model's prompts.
const transformersFile = "config_sentence_transformers.json"

// transformersTypes are the values of model_type in that file.
var transformersTypes = map[Kind]string{Embedding: "SentenceTransformer", ColBERT: "MultiVectorEncoder", Reranker: "CrossEncoder"}

// Formats reads a folder's formats from rag_retrieval.json, or else from sentence-transformers' prompts. For a reranker the default
// prompt stands before the query. For other kinds the prompt "query" stands before queries, and the first of "document", "passage"
// and "corpus" before passages.
func Formats(dir string, k Kind) (prompt.Formats, error) {
	c, _, err := Read(dir)
	if err != nil {
		return prompt.Formats{}, err
	}
	if c.QueryFormat != "" || c.DocumentFormat != "" || c.Seq != "" || c.SpecialToken != "" {
		return c.formats(filepath.Join(dir, File))
	}
	var file struct {
		Prompts map[string]*string `json:"prompts"`
		Default *string            `json:"default_prompt_name"`
	}
	if err := hf.ReadJSON(filepath.Join(dir, transformersFile), &file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return prompt.Formats{}, err
	}
	first := func(names ...string) prompt.Format {
		for _, name := range names {
			if p := file.Prompts[name]; p != nil && *p != "" {
				return prompt.Prefix(*p)
			}
		}
		return prompt.Format{}
	}
	if k != Reranker {
		return prompt.Formats{Query: first("query"), Document: first("document", "passage", "corpus")}, nil
	}
	modules, err := hf.Exists(filepath.Join(dir, "modules.json"))
	if err != nil || file.Default == nil || !modules {
		return prompt.Formats{}, err // CrossEncoder reads prompts only from folders with modules.json
	}
	return prompt.Formats{Query: first(*file.Default)}, nil
}

// formats parses the card's formats. path names the card in errors.
func (c Card) formats(path string) (f prompt.Formats, err error) {
	f.Seq, f.SpecialToken = c.Seq, c.SpecialToken
	for _, k := range []struct {
		key, value string
		to         *prompt.Format
	}{{"query_format", c.QueryFormat, &f.Query}, {"document_format", c.DocumentFormat, &f.Document}} {
		if k.value == "" {
			continue
		}
		if *k.to, err = prompt.Parse(k.value); err != nil {
			return f, fmt.Errorf("%s: %s: %w", path, k.key, err)
		}
	}
	return f, nil
}

// SaveFormats writes a model's formats into a folder. Where sentence-transformers' prompts can express them they are written as
// prompts, so that the Python peer gives the same scores; otherwise they are written into the card as well.
func (c *Card) SaveFormats(dir string, f prompt.Formats) error {
	c.QueryFormat, c.DocumentFormat, c.Seq, c.SpecialToken = "", "", "", ""
	if err := c.removeBaseSettings(dir); err != nil {
		return err
	}
	if known, err := Formats(dir, c.Kind); err != nil || known == f {
		return err
	}
	config := map[string]any{}
	c.Seq, c.SpecialToken = f.Seq, f.SpecialToken
	if c.QueryFormat, c.DocumentFormat = f.Query.String(), f.Document.String(); c.Kind == Reranker {
		return nil // CrossEncoder reads no prompts from a folder without modules.json
	}
	path := filepath.Join(dir, transformersFile)
	if err := hf.ReadJSON(path, &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if config["model_type"] == nil {
		config["model_type"] = transformersTypes[c.Kind]
	}
	config["default_prompt_name"] = nil
	config["prompts"] = map[string]string{"query": f.Query.Before, "document": f.Document.Before}
	if f.Query.After == "" && f.Document.After == "" {
		c.QueryFormat, c.DocumentFormat = "", ""
	}
	return hf.WriteJSON(path, config)
}

// removeBaseSettings removes settings of the base model from sentence-transformers' file that do not hold for this model. If the
// base model was of another kind, the whole file is removed. The similarity of an embedding model becomes cosine.
func (c *Card) removeBaseSettings(dir string) error {
	path := filepath.Join(dir, transformersFile)
	config := map[string]any{}
	if err := hf.ReadJSON(path, &config); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	kind, similarity := config["model_type"], config["similarity_fn_name"]
	if kind != nil && kind != transformersTypes[c.Kind] && (c.Kind != ColBERT || kind != "ColBERT") || kind == nil && c.Kind == Reranker {
		return os.Remove(path)
	}
	if c.Kind != Embedding || similarity == nil || similarity == "cosine" || similarity == "dot" {
		return nil
	}
	config["similarity_fn_name"] = "cosine"
	return hf.WriteJSON(path, config)
}
