// Package colbert is the late-interaction model: one vector per token, compared by MaxSim. It reads RAG-Retrieval's and
// BAAI/bge-m3's folders, sentence-transformers' MultiVectorEncoder's and PyLate's, gives the trainer its losses and
// batches, and scores queries against passages.
package colbert

import (
	"errors"
	"fmt"
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
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
	Rules     Rules
	Formats   prompt.Formats // what stands around texts: the prompts

	QueryMaxLen, PassageMaxLen int         // that it was trained with, or the folder's own
	layers                     []layer     // the projection
	modules                    []hf.Module // of a ColBERT folder of sentence-transformers or PyLate
	pylate                     bool        // the folder is PyLate's
	seed                       uint64      // of a new projection
}

// linear is the projection's name among the parameters.
const linear = "colbert_linear"

// Open reads the folder of a ColBERT model.
func Open(dir string) (*Model, error) {
	if err := modelcard.Check(dir, modelcard.ColBERT); err != nil {
		return nil, err
	}
	m, err := OpenBase(dir, 0, 0)
	if err != nil {
		return nil, err
	}
	if m.fresh() {
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
	own, err := enc.OwnLength(dir)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	m := &Model{
		Dir: dir, Encoder: enc, Tokenizer: t, Dim: dim, Rules: Rules{Mean: true}, seed: seed,
		QueryMaxLen: own, PassageMaxLen: own,
	}
	if err := m.open(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return m, nil
}

func (m *Model) open() error {
	kind, err := modelcard.Detect(m.Dir)
	if err != nil {
		return err
	}
	if kind == modelcard.ColBERT { // modules and prompts of another kind say nothing of this one
		if m.modules, err = hf.Modules(m.Dir); err != nil {
			return err
		}
		if err := hf.CheckModules(m.Dir, m.modules, "Transformer", "Dense", "MultiVectorMask", "Normalize"); err != nil {
			return err
		}
		if m.Formats, err = modelcard.Formats(m.Dir, modelcard.ColBERT); err != nil {
			return err
		}
	}
	if err := m.findLayers(); err != nil {
		return err
	}
	if len(m.layers) == 0 {
		m.layers = []layer{newLayer(m.Encoder.HiddenSize, m.Dim)}
	}
	if kind == modelcard.ColBERT {
		if err := m.readRules(); err != nil {
			return err
		}
	}
	c, ok, err := modelcard.Read(m.Dir)
	if err == nil && ok && c.Kind == modelcard.ColBERT {
		m.QueryMaxLen, m.PassageMaxLen = c.QueryMaxLen, c.PassageMaxLen
	}
	return err
}

// fresh says that the folder has no projection yet.
func (m *Model) fresh() bool { return m.layers[0].file == "" }

// Close frees the tokenizer.
func (m *Model) Close() error { return m.Tokenizer.Close() }

// Params lists the trainable tensors.
func (m *Model) Params() []flat.Param {
	params := m.Encoder.Params()
	for _, x := range m.layers {
		params = append(params, x.params()...)
	}
	return params
}

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
	if !m.fresh() {
		params = m.Encoder.Params()
		for _, x := range m.layers {
			if err := x.fill(to); err != nil {
				return err
			}
		}
	}
	names := m.Encoder.Names(prefix)
	return w.Fill(to, params, names, func(p flat.Param, values []float32) error {
		if !strings.HasPrefix(p.Name, linear+".") {
			return fmt.Errorf("%s: no tensor %q", w.Path, names(p.Name)[0])
		}
		hf.InitUniform(values, m.seed, p.Name, m.Encoder.HiddenSize)
		return nil
	})
}
