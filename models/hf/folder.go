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

// kept are the files of a folder that go along unchanged when a fine-tuned model is saved: configs and tokenizer, no
// weights.
var kept = []string{
	"config.json", "config_sentence_transformers.json", "sentence_bert_config.json", "special_tokens_map.json",
	"tokenizer.json", "tokenizer_config.json", "vocab.txt", "added_tokens.json", "sentencepiece.bpe.model",
	"vocab.json", "merges.txt", "chat_template.jinja",
}

// CopyFiles copies a folder's configs and tokenizer.
func CopyFiles(from, to string) error {
	for _, name := range kept {
		if err := CopyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// SayFloat32 writes into a folder's config.json that its weights are float32, where it names another type: transformers
// rounds them to the type that stands there when it loads them.
func SayFloat32(dir string) error {
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

// Exists says whether something is at path. That it cannot be looked at is an error: what is taken for absent is replaced
// by a default, silently.
func Exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// decisive are the files of a folder that decide what a model computes, besides its weights and its modules' files.
var decisive = append([]string{"modules.json", "rag_retrieval.json"}, kept...)

// Files lists the files that decide what the model in a folder computes: configs, tokenizer, weights, and all that lies in
// its modules' folders. Other files and folders are not looked at, however many there are.
func Files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		weights := slices.Contains([]string{".safetensors", ".bin", ".pt"}, filepath.Ext(e.Name()))
		if !e.IsDir() && (weights || strings.HasSuffix(e.Name(), ".index.json") || slices.Contains(decisive, e.Name())) {
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
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a module without a file of its own may have no folder
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
