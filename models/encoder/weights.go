package encoder

import (
	"fmt"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
)

// Prefix tells what a checkpoint puts before the encoder's own names: nothing for a bare encoder, the architecture's
// name inside a whole model.
func (c Config) Prefix(w *hf.Weights) (string, error) {
	probe := c.sources(c.architecture().names().words)[0]
	for _, p := range []string{"", c.architecture().prefix, "model.", "0.auto_model."} {
		if w.Has(p + probe) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: no tensor %q: not the weights of a %s encoder", w.Path, probe, c.ModelType)
}

// WordTable is the parameter with the word embeddings, [vocab_size, embedding_size].
func (c Config) WordTable() string { return c.architecture().names().words }

// ModelPrefix is what a whole model of this architecture puts before the encoder's names.
func (c Config) ModelPrefix() string { return c.architecture().prefix }

// Names gives the tensors of a checkpoint with that prefix that make up a parameter.
func (c Config) Names(prefix string) hf.Names {
	return func(param string) []string {
		out := c.sources(param)
		for i := range out {
			out[i] = prefix + out[i]
		}
		return out
	}
}

// sources are the checkpoint's tensors of a parameter, laid end to end.
func (c Config) sources(param string) []string {
	if f := c.architecture().sources; f != nil {
		return f(param)
	}
	return []string{param}
}

// ReadWeights fills a flat buffer that holds the encoder's parameters alone from a Hugging Face folder.
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

// WriteWeights writes the folder's own tensors with the encoder's trained ones in their place: those that were not trained
// (an unused pooler) stay as they are.
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
