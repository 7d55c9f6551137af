// Package embedding implements embedding models, also called bi-encoders: one vector for each text, compared by cosine. It reads
// and writes sentence-transformers folders, builds the training graph with its losses and batches, and encodes texts.
package embedding

import (
	"fmt"
	"path/filepath"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
)

// Pooling is the way in which a text's token vectors become one vector.
type Pooling string

// The poolings that are supported.
const (
	Mean Pooling = "mean" // the mean over all tokens, special tokens included
	CLS  Pooling = "cls"  // the first token
	Last Pooling = "last" // the last token
)

// Config holds the settings that make an encoder an embedding model.
type Config struct {
	Pooling      Pooling
	Normalize    bool           // vectors are divided by their length
	MaxSeqLength int            // in tokens; the folder's limit for inference
	Dense        []*Dense       // one after the other, behind the pooling
	Formats      prompt.Formats // the prompts around texts
	cosine       bool           // the folder has a module Normalize
}

// SetPrompts replaces the prompts that are not nil.
func (c *Config) SetPrompts(query, passage *string) {
	for to, p := range map[*prompt.Format]*string{&c.Formats.Query: query, &c.Formats.Document: passage} {
		if p != nil {
			to.Before = *p
		}
	}
}

// LoadConfig reads a sentence-transformers folder. For a Hugging Face folder without modules.json it uses mean pooling, as
// sentence-transformers does. Vectors are always normalized, because this package compares them by cosine. hiddenSize is that of
// the encoder, or 0 if it is not known.
func LoadConfig(dir string, maxLength int, hiddenSize int64) (Config, error) {
	c := Config{Pooling: Mean, Normalize: true, MaxSeqLength: maxLength}
	if own, err := hf.ModelMaxLength(dir); err != nil {
		return c, err
	} else if own > 0 {
		c.MaxSeqLength = min(maxLength, own)
	}
	if kind, err := modelcard.Detect(dir); err != nil || kind != modelcard.Embedding {
		return c, err // modules of another kind do not apply to an embedding model
	}
	var err error
	if c.Formats, err = modelcard.Formats(dir, modelcard.Embedding); err != nil {
		return c, err
	}
	modules, err := hf.Modules(dir)
	if err != nil || len(modules) == 0 {
		return c, err
	}
	if err := hf.CheckModules(dir, modules, "Transformer", "Pooling", "Dense", "Normalize"); err != nil {
		return c, err
	}
	c.Pooling = ""
	for _, m := range modules {
		switch m.Name() {
		case "Transformer":
			err = c.readLength(dir, maxLength)
		case "Pooling":
			err = c.readPooling(filepath.Join(dir, m.Path, "config.json"), hiddenSize)
		case "Dense":
			err = c.addDense(dir, m.Path, hiddenSize)
		case "Normalize":
			c.cosine = true
		}
		if err != nil {
			return c, err
		}
	}
	if c.Pooling == "" {
		return c, fmt.Errorf("%s: no module Pooling, which makes a vector of the tokens'", filepath.Join(dir, hf.ModulesFile))
	}
	return c, nil
}

// checkSimilarity fails if the folder's vectors are meant to be compared in another way than by cosine.
func (c Config) checkSimilarity(dir string) error {
	t, err := hf.ReadSentenceTransformersConfig(dir)
	if err != nil {
		return err
	}
	switch t.Similarity {
	case "", "cosine":
		return nil
	case "dot":
		if c.cosine { // the dot product of vectors of length one is their cosine
			return nil
		}
		return fmt.Errorf("%s: similarity_fn_name is dot without a module Normalize: scores here are cosines", dir)
	}
	return fmt.Errorf("%s: similarity_fn_name is %q, want cosine: scores here are cosines", dir, t.Similarity)
}

func (c *Config) readLength(dir string, maxLength int) error {
	path := filepath.Join(dir, "sentence_bert_config.json")
	s, err := hf.ReadSentenceBertConfig(dir)
	if err != nil {
		return err
	}
	if s.MaxSeqLength != nil {
		if *s.MaxSeqLength < 3 || *s.MaxSeqLength > maxLength {
			return fmt.Errorf("%s: max_seq_length is %d, want 3 to %d", path, *s.MaxSeqLength, maxLength)
		}
		c.MaxSeqLength = *s.MaxSeqLength
	}
	return nil
}

// poolingModes lists sentence-transformers' names of poolings: the flag of older versions and the value of pooling_mode. An entry
// without a Pooling is not supported.
var poolingModes = []struct {
	flag, mode string
	pooling    Pooling
}{
	{"pooling_mode_cls_token", "cls", CLS}, {"pooling_mode_mean_tokens", "mean", Mean}, {"pooling_mode_lasttoken", "lasttoken", Last},
	{"pooling_mode_max_tokens", "max", ""}, {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", ""},
	{"pooling_mode_weightedmean_tokens", "weightedmean", ""},
}

// readPooling reads the config of a Pooling module. Older versions have a flag for each mode. sentence-transformers 6 has
// pooling_mode, which overrides the flags.
func (c *Config) readPooling(path string, hiddenSize int64) error {
	var p struct {
		Mode   hf.Strings `json:"pooling_mode"`
		Width  int64      `json:"embedding_dimension"`
		Old    int64      `json:"word_embedding_dimension"`
		Prompt *bool      `json:"include_prompt"`
	}
	flags := map[string]any{}
	for _, to := range []any{&p, &flags} {
		if err := hf.ReadJSON(path, to); err != nil {
			return err
		}
	}
	if p.Mode == nil {
		for _, m := range poolingModes {
			if flags[m.flag] == true {
				p.Mode = append(p.Mode, m.mode)
			}
		}
	}
	if p.Mode == nil {
		p.Mode = hf.Strings{"mean"} // as sentence-transformers does
	}
	for _, m := range poolingModes {
		if len(p.Mode) == 1 && p.Mode[0] == m.mode {
			c.Pooling = m.pooling
		}
	}
	switch width := max(p.Width, p.Old); {
	case c.Pooling == "":
		return fmt.Errorf("%s: the pooling is %q, want mean, cls or lasttoken pooling, alone", path, []string(p.Mode))
	case p.Prompt != nil && !*p.Prompt:
		return fmt.Errorf("%s: include_prompt is false: leaving a prompt out of the pooling is not supported", path)
	case width != 0 && hiddenSize != 0 && width != hiddenSize:
		return fmt.Errorf("%s: the dimension is %d, hidden_size in config.json is %d", path, width, hiddenSize)
	}
	return nil
}
