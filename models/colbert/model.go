// Package colbert is the late-interaction model: one vector per token, compared by MaxSim. It reads RAG-Retrieval's and
// BAAI/bge-m3's folders, sentence-transformers' MultiVectorEncoder's and PyLate's, gives the trainer its losses and
// batches, and scores queries against passages.
package colbert

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rag-retrieval-go/models/card"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/flat"
)

// Model is a ColBERT model's folder, opened: its configs and tokenizer, not its weights.
type Model struct {
	Dir       string
	Encoder   encoder.Config
	Tokenizer *tokenizer.Tokenizer
	Dim       int64 // of a token's vector
	Bias      bool  // of the projection
	Rules     Rules
	Formats   prompt.Formats // what stands around texts: the prompts

	QueryMaxLen, PassageMaxLen int    // that it was trained with, or the encoder's own limit
	projection                 string // file of the projection's weights; empty: it is new
	seed                       uint64 // of a new one
}

// linear is the projection's name among the parameters.
const linear = "colbert_linear"

// Open reads the folder of a ColBERT model.
func Open(dir string) (*Model, error) {
	if err := card.Check(dir, card.ColBERT); err != nil {
		return nil, err
	}
	m, err := OpenBase(dir, 0, 0)
	if err != nil {
		return nil, err
	}
	if m.projection == "" {
		err := fmt.Errorf("%s has no projection: want colbert_linear.safetensors, colbert_linear.pt or a Dense module", dir)
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// OpenBase reads a folder of any kind for its encoder. A projection that it lacks has the width dim and starts at seeded
// random numbers.
func OpenBase(dir string, dim int64, seed uint64) (*Model, error) {
	enc, t, err := encoder.Open(dir)
	if err != nil {
		return nil, err
	}
	m := &Model{
		Dir: dir, Encoder: enc, Tokenizer: t, Dim: dim, Bias: true, Rules: Rules{Mean: true}, seed: seed,
		QueryMaxLen: enc.MaxLength(), PassageMaxLen: enc.MaxLength(),
	}
	if err := m.open(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return m, nil
}

func (m *Model) open() error {
	if err := m.findProjection(); err != nil {
		return err
	}
	if err := m.readRules(); err != nil {
		return err
	}
	if kind, err := card.Detect(m.Dir); err == nil && kind == card.ColBERT { // prompts of another kind say nothing of this one
		if m.Formats, err = card.Formats(m.Dir, card.ColBERT); err != nil {
			return err
		}
	}
	c, ok, err := card.Read(m.Dir)
	if err == nil && ok && c.Kind == card.ColBERT {
		m.QueryMaxLen, m.PassageMaxLen = c.QueryMaxLen, c.PassageMaxLen
	}
	return err
}

// findProjection finds the projection's weights: a file of RAG-Retrieval's name, or a Dense module's.
func (m *Model) findProjection() error {
	for _, name := range []string{linear + ".safetensors", linear + ".pt"} {
		if there, err := hf.Exists(filepath.Join(m.Dir, name)); err != nil {
			return err
		} else if there {
			return m.useProjection(filepath.Join(m.Dir, name))
		}
	}
	var modules []struct{ Path, Type string }
	if err := hf.ReadJSON(filepath.Join(m.Dir, "modules.json"), &modules); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	kind, err := card.Detect(m.Dir)
	if err != nil || kind != card.ColBERT {
		return err // an embedding model's dense layer is none of ours
	}
	for _, module := range modules {
		if !strings.HasSuffix(module.Type, ".Dense") {
			continue
		}
		for _, name := range []string{hf.SafetensorsFile, hf.TorchFile} {
			path := filepath.Join(m.Dir, module.Path, name)
			if _, err := os.Stat(path); err == nil {
				return m.useProjection(path)
			}
		}
	}
	return nil
}

func (m *Model) useProjection(path string) error {
	w, err := hf.OpenFile(path)
	if err != nil {
		return err
	}
	defer w.Close()
	t, ok := w.Tensor(projectionPrefix(w) + "weight")
	if !ok || len(t.Shape) != 2 || t.Shape[1] != m.Encoder.HiddenSize {
		return fmt.Errorf("%s: want a weight of shape [dim, %d], found %v", path, m.Encoder.HiddenSize, t.Shape)
	}
	m.Dim, m.Bias, m.projection = t.Shape[0], w.Has(projectionPrefix(w)+"bias"), path
	return nil
}

// projectionPrefix is what stands before "weight" in the projection's file.
func projectionPrefix(w *hf.Weights) string {
	for _, p := range []string{"linear.", linear + "."} {
		if w.Has(p + "weight") {
			return p
		}
	}
	return ""
}

// Close frees the tokenizer.
func (m *Model) Close() error { return m.Tokenizer.Close() }

func (m *Model) linearParams() []flat.Param {
	p := encoder.Linear(linear, m.Dim, m.Encoder.HiddenSize)
	if !m.Bias {
		p = p[:1]
	}
	return p
}

// Params lists the trainable tensors.
func (m *Model) Params() []flat.Param { return append(m.Encoder.Params(), m.linearParams()...) }

// Fill hands over the parameters of the folder.
func (m *Model) Fill(to hf.Target) error {
	w, err := hf.OpenWeights(m.Dir)
	if err != nil {
		return err
	}
	defer w.Close()
	prefix, err := m.Encoder.Prefix(w)
	if err != nil {
		return err
	}
	params := m.Params()
	if m.projection != "" {
		params = m.Encoder.Params()
		if err := m.fillProjection(to); err != nil {
			return err
		}
	}
	names := m.Encoder.Names(prefix)
	return w.Fill(to, params, names, func(p flat.Param, values []float32) error {
		if !strings.HasPrefix(p.Name, linear+".") {
			return fmt.Errorf("%s: no tensor %q", w.Path, names(p.Name)[0])
		}
		hf.Uniform(values, m.seed, p.Name, m.Encoder.HiddenSize)
		return nil
	})
}

func (m *Model) fillProjection(to hf.Target) error {
	w, err := hf.OpenFile(m.projection)
	if err != nil {
		return err
	}
	defer w.Close()
	return w.Fill(to, m.linearParams(), func(param string) []string {
		return []string{projectionPrefix(w) + strings.TrimPrefix(param, linear+".")}
	}, nil)
}
