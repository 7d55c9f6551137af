package encoder

import (
	"fmt"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
)

// Prefix is what a checkpoint puts before the names of the encoder's tensors: nothing for an encoder, and the architecture's
// prefix inside a whole model.
func (c Config) Prefix(w *hf.Weights) (string, error) {
	probe := c.sources(c.architecture().names().words)[0]
	for _, p := range []string{"", c.architecture().prefix, "model.", "0.auto_model."} {
		if w.Has(p + probe) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: no tensor %q: not the weights of a %s encoder", w.Path, probe, c.ModelType)
}

// WordTable is the name of the word embeddings, [vocab_size, embedding_size].
func (c Config) WordTable() string { return c.architecture().names().words }

// ModelPrefix is what a whole model of this architecture puts before the names of the encoder's tensors.
func (c Config) ModelPrefix() string { return c.architecture().prefix }

// Names gives for a parameter the tensors that it is made of in a checkpoint with that prefix.
func (c Config) Names(prefix string) hf.TensorNames {
	return func(param string) []string {
		out := c.sources(param)
		for i := range out {
			out[i] = prefix + out[i]
		}
		return out
	}
}

// sources gives for a parameter the tensors of a checkpoint, without prefix, whose rows laid end to end are the parameter.
func (c Config) sources(param string) []string {
	if f := c.architecture().sources; f != nil {
		return f(param)
	}
	return []string{param}
}

// ReadWeights fills a flat buffer of the encoder's parameters from a Hugging Face folder.
func (c Config) ReadWeights(dir string, l *flat.Layout, buffer []float32) error {
	w, err := hf.OpenWeights(dir)
	if err != nil {
		return err
	}
	defer w.Close()
	prefix, err := c.Prefix(w)
	if err != nil {
		return err
	}
	return w.Fill(hf.Buffer{Layout: l, Data: buffer}, c.Params(), c.Names(prefix), nil)
}

// WriteWeights writes the tensors of the folder from, with the encoder's trained parameters in their places. Tensors that were
// not trained, such as an unused pooler, stay as they are.
func (c Config) WriteWeights(path, from string, l *flat.Layout, parameters []float32) error {
	w, err := hf.OpenWeights(from)
	if err != nil {
		return err
	}
	defer w.Close()
	prefix, err := c.Prefix(w)
	if err != nil {
		return err
	}
	trained, err := hf.FromLayout(l, parameters, c.Params(), c.Names(prefix))
	if err != nil {
		return err
	}
	return hf.WriteWeights(path, w.Metadata, w.Replace(trained))
}
