package hf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// descriptions are the files by which a folder says what kind of model it is, and how its parts behind the encoder are built.
var descriptions = []string{
	ModulesFile, "config_sentence_transformers.json", "sentence_bert_config.json", "rag_retrieval.json", "colbert_linear.safetensors", "colbert_linear.pt",
}

// vocabularies are the files of which a tokenizer has one at least.
var vocabularies = []string{"tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model"}

// AdapterFiles returns the files and folders of a model that consists of an adapter and its base: paths by their names in a folder that
// shows both as one. Config and weights are the base's. The tokenizer is the adapter's, if it has one. So is the description of modules,
// prompts and lengths; an adapter without one is for the base as it is described, or for its encoder only if bare is set.
func AdapterFiles(adapterDir, baseDir string, bare bool) (map[string]string, error) {
	own, err := fileNames(adapterDir)
	if err != nil {
		return nil, err
	}
	base, err := fileNames(baseDir)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range base {
		if name == "config.json" || isWeights(name) && !slices.Contains(descriptions, name) {
			out[name] = filepath.Join(baseDir, name)
		}
	}
	take := func(dir string, from, names []string) {
		for _, name := range from {
			if slices.Contains(names, name) {
				out[name] = filepath.Join(dir, name)
			}
		}
	}
	take(adapterDir, own, []string{AdapterConfigFile, AdapterFile, AdapterTorchFile})
	if containsAny(own, vocabularies) {
		take(adapterDir, own, tokenizerFiles())
	} else {
		take(baseDir, base, tokenizerFiles())
	}
	if !containsAny(own, descriptions) {
		if bare {
			return out, nil
		}
		adapterDir, own = baseDir, base
	}
	take(adapterDir, own, descriptions)
	return out, addModules(out, adapterDir)
}

// Origin is where a link leads that AdapterFiles describes. Any other path stays as it is, such as that of a link in a snapshot of Hugging
// Face's cache, which leads to a file of another name.
func Origin(path string) string {
	if to, err := os.Readlink(path); err == nil && filepath.IsAbs(to) && filepath.Base(to) == filepath.Base(path) {
		return to
	}
	return path
}

// NameOf is how messages name a model's folder: for one of links to an adapter and its base it is the adapter's.
func NameOf(dir string) string {
	config := filepath.Join(dir, AdapterConfigFile)
	if to := Origin(config); to != config {
		return filepath.Dir(to)
	}
	return dir
}

// addModules adds the folders of a folder's modules.
func addModules(to map[string]string, dir string) error {
	modules, err := Modules(dir)
	if err != nil {
		return err
	}
	for _, m := range modules {
		name, _, _ := strings.Cut(filepath.ToSlash(filepath.Clean(m.Path)), "/")
		path := filepath.Join(dir, name)
		if !filepath.IsLocal(m.Path) || name == "." {
			continue
		}
		if there, err := Exists(path); err != nil {
			return err
		} else if there { // a module without files may have no folder
			to[name] = path
		}
	}
	return nil
}

// tokenizerFiles are the copied files that are neither the config nor a description.
func tokenizerFiles() (out []string) {
	for _, name := range copiedFiles {
		if name != "config.json" && !slices.Contains(descriptions, name) {
			out = append(out, name)
		}
	}
	return out
}

// isWeights reports whether a file has weights, or is an index of such files.
func isWeights(name string) bool {
	return slices.Contains([]string{".safetensors", ".bin", ".pt"}, filepath.Ext(name)) || strings.HasSuffix(name, ".index.json")
}

// HasWeights reports whether a folder has a model's own weights.
func HasWeights(dir string) (bool, error) {
	for _, name := range []string{SafetensorsFile, SafetensorsIndex, TorchFile, TorchIndex} {
		if there, err := Exists(filepath.Join(dir, name)); there || err != nil {
			return there, err
		}
	}
	return false, nil
}

func containsAny(names, of []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(of, name) })
}

// fileNames lists a folder's files, without the folders in it.
func fileNames(dir string) (out []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		st, err := os.Stat(filepath.Join(dir, e.Name())) // of what a link points to
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		if !st.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, err
}
