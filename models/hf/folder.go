package hf

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// copiedFiles are the files that a saved fine-tuned model has unchanged from its base model: configs and tokenizer, not
// weights.
var copiedFiles = []string{
	"config.json", "config_sentence_transformers.json", "sentence_bert_config.json", "special_tokens_map.json",
	"tokenizer.json", "tokenizer_config.json", "vocab.txt", "added_tokens.json", "sentencepiece.bpe.model",
	"vocab.json", "merges.txt", "chat_template.jinja",
}

// CopyFiles copies a folder's configs and tokenizer.
func CopyFiles(from, to string) error {
	for _, name := range copiedFiles {
		if err := CopyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// SetConfigFloat32 sets the type of the weights in a folder's config.json to float32, if it has another one. transformers
// rounds the weights to this type when it loads them.
func SetConfigFloat32(dir string) error {
	path, c, changed := filepath.Join(dir, "config.json"), map[string]json.RawMessage{}, false
	if err := ReadJSON(path, &c); err != nil {
		return err
	}
	for _, key := range []string{"dtype", "torch_dtype"} {
		if raw, ok := c[key]; ok && string(raw) != `"float32"` && string(raw) != "null" {
			c[key], changed = json.RawMessage(`"float32"`), true
		}
	}
	if !changed {
		return nil
	}
	return WriteJSON(path, c)
}

// CopyFile copies one file.
func CopyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// Exists reports whether there is a file or folder at path. It returns an error if this cannot be found out: callers
// use defaults in place of an absent file, and must not do so for one that they cannot read.
func Exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// definingFiles are the files that decide what a model computes, except weights and the files of modules.
var definingFiles = append([]string{"modules.json", "rag_retrieval.json", AdapterConfigFile}, copiedFiles...)

// Files returns the files that decide what the model in a folder computes: configs, tokenizer, weights, and all files in its
// modules' folders. It ignores all other files and folders.
func Files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		weights := slices.Contains([]string{".safetensors", ".bin", ".pt"}, filepath.Ext(e.Name()))
		if !e.IsDir() && (weights || strings.HasSuffix(e.Name(), ".index.json") || slices.Contains(definingFiles, e.Name())) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	var modules []struct{ Path string }
	if err := ReadJSON(filepath.Join(dir, "modules.json"), &modules); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, m := range modules {
		if !filepath.IsLocal(m.Path) || filepath.Clean(m.Path) == "." {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(dir, m.Path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a module without files may have no folder
			return nil, err
		}
		for _, e := range entries {
			if !e.IsDir() {
				out = append(out, filepath.Join(dir, m.Path, e.Name()))
			}
		}
	}
	return out, nil
}
