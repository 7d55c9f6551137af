// Package colbert implements ColBERT models, also called late-interaction or multi-vector models: one vector for each token,
// compared by MaxSim. It reads folders of RAG-Retrieval, BAAI/bge-m3, sentence-transformers' MultiVectorEncoder and PyLate, builds
// the training graph with its losses and batches, and scores passages for queries.
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

// Model is an open folder of a ColBERT model: its configs and tokenizer. Fill reads the weights.
type Model struct {
	Dir       string
	Encoder   encoder.Config
	Tokenizer *tokenizer.Tokenizer
	Dim       int64 // of a token's vector
	Rules     Rules
	Formats   prompt.Formats // the prompts around texts

	QueryMaxLen, PassageMaxLen int         // the lengths that it was trained with, or those of its folder
	layers                     []layer     // the projection
	modules                    []hf.Module // the modules of a folder of sentence-transformers or PyLate
	pylate                     bool        // PyLate wrote the folder
	seed                       uint64      // for the weights of a new projection
}

// linear is the prefix of the projection's parameters.
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

// OpenBase reads a folder of any kind, to train a ColBERT model from its encoder. If the folder has no projection, a new one of
// width dim starts at random numbers from seed.
func OpenBase(dir string, dim int64, seed uint64) (*Model, error) {
	enc, t, err := encoder.Open(dir)
	if err != nil {
		return nil, err
	}
	own, err := enc.OwnLength(dir)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	_, _, leads := t.First()
	m := &Model{
		Dir: dir, Encoder: enc, Tokenizer: t, Dim: dim, Rules: Rules{Mean: true, KeepFirst: !leads}, seed: seed,
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
	if kind == modelcard.ColBERT { // modules and prompts of another kind do not apply
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

// fresh reports that the folder has no projection, so that a new one is made.
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

// Fill reads the parameters from the folder.
func (m *Model) Fill(to hf.Target) error {
	w, err := hf.OpenWeights(m.Dir)
	if err != nil {
		return err
	}
	defer w.Close()
	naming, err := m.Encoder.Naming(w)
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
	return w.Fill(to, params, naming.Tensors, func(p flat.Param, values []float32) error {
		if m.Encoder.StartAdapter(p, values) {
			return nil
		}
		if !strings.HasPrefix(p.Name, linear+".") {
			return fmt.Errorf("%s: no tensor %q", w.Path, naming.Tensors(p.Name)[0])
		}
		hf.InitUniform(values, m.seed, p.Name, m.Encoder.HiddenSize)
		return nil
	})
}
