package embedding

import (
	"errors"
	"fmt"
	"path/filepath"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/flat"
)

// Model is an open folder of an embedding model: its configs and tokenizer. Fill reads the weights.
type Model struct {
	Dir       string
	Encoder   encoder.Config
	Config    Config
	Tokenizer *tokenizer.Tokenizer
}

// Open reads the folder of an embedding model.
func Open(dir string) (*Model, error) {
	if err := modelcard.Check(dir, modelcard.Embedding); err != nil {
		return nil, err
	}
	m, err := OpenBase(dir)
	if err != nil {
		return nil, err
	}
	if err := m.Config.checkSimilarity(dir); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// OpenBase reads a folder of any kind, to train an embedding model from its encoder.
func OpenBase(dir string) (*Model, error) {
	enc, t, err := encoder.Open(dir)
	if err != nil {
		return nil, err
	}
	c, err := LoadConfig(dir, enc.MaxLength(), enc.HiddenSize)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return &Model{dir, enc, c, t}, nil
}

// Close frees the tokenizer.
func (m *Model) Close() error { return m.Tokenizer.Close() }

// Width is the length of the model's vectors.
func (m *Model) Width() int64 {
	if d := m.Config.Dense; len(d) > 0 {
		return d[len(d)-1].Out
	}
	return m.Encoder.HiddenSize
}

// Params lists the trainable tensors.
func (m *Model) Params() []flat.Param {
	params := m.Encoder.Params()
	for _, d := range m.Config.Dense {
		params = append(params, d.params()...)
	}
	return params
}

// Fill reads the parameters from the folder. A new dense layer starts at seeded random numbers, with torch.nn.Linear's
// distribution.
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
	params := m.Encoder.Params()
	for _, d := range m.Config.Dense {
		if d.Path == "" {
			params = append(params, d.params()...)
		} else if err := d.fill(filepath.Join(m.Dir, d.Path), to); err != nil {
			return err
		}
	}
	return w.Fill(to, params, naming.Tensors, m.startDense(w, naming))
}

// rows tokenizes a text, see scoring.Rows. Training, scoring and encoding all use it.
func (m *Model) rows(x prompt.Text, maxLen int, long scoring.LongText) ([]encoder.Row, error) {
	return scoring.Rows(m.Tokenizer, m.Config.Formats, x, maxLen, long)
}

// row tokenizes a text without windows.
func (m *Model) row(x prompt.Text, maxLen int) (encoder.Row, error) {
	rows, err := m.rows(x, maxLen, scoring.CutEnd)
	if err != nil {
		return encoder.Row{}, err
	}
	return rows[0], nil
}

// checkLengths fails if texts of n tokens do not fit the model. key names the length in the error.
func (m *Model) checkLengths(key string, n int) error {
	low, high := m.Tokenizer.SpecialTokens()+1, m.Encoder.MaxLength()
	if n < low || n > high {
		return fmt.Errorf("%s is %d, want %d to %d for the model %s", key, n, low, high, hf.NameOf(m.Dir))
	}
	return nil
}
