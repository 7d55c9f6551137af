package encoder

import (
	"fmt"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
)

// Naming is how a checkpoint names the encoder's tensors.
type Naming struct {
	// Prefix stands before the names: nothing for an encoder, and Config.Prefix inside a whole model.
	Prefix  string
	sources spelling
}

// Naming finds out how a checkpoint names the encoder's tensors, and tells it how an adapter in its folder may name them.
func (c Config) Naming(w *hf.Weights) (Naming, error) {
	words := c.architecture().names().words
	for _, s := range c.spellings() {
		for _, p := range []string{"", c.Prefix, "model.", "0.auto_model."} {
			if w.Has(p+s(words)[0]) && w.Has(p+s(c.layer(0).attentionOutput + ".weight")[0]) {
				w.NameAdapter(c.adapterNames)
				return Naming{p, s}, nil
			}
		}
	}
	return Naming{}, fmt.Errorf("%s: no tensor %q: not the weights of a %s encoder", w.Path, c.spellings()[0](words)[0], c.ModelType)
}

// adapterNames are the ways in which an adapter may name a parameter's tensors: in every spelling, as a part of the bare encoder or of a
// whole model. They need not be those of the base's checkpoint.
func (c Config) adapterNames(param string) (out [][]string) {
	for _, s := range c.spellings() {
		for _, prefix := range []string{"", c.Prefix, c.architecture().prefix} {
			out = append(out, Naming{prefix, s}.Tensors(param))
		}
	}
	return out
}

// NewNaming is how the tensors of an encoder are named that are written anew.
func (c Config) NewNaming() Naming { return Naming{sources: c.spellings()[0]} }

// WholeNaming is how transformers names the tensors of an encoder in its class of a whole model, such as
// BertForSequenceClassification.
func (c Config) WholeNaming() Naming { return Naming{c.architecture().prefix, c.spellings()[0]} }

func (c Config) spellings() []spelling {
	if s := c.architecture().spellings; s != nil {
		return s
	}
	return []spelling{sameName}
}

// Tensors gives the tensors, with prefix, that a parameter is made of.
func (n Naming) Tensors(param string) []string {
	var out []string
	for _, name := range n.sources(param) {
		out = append(out, n.Prefix+name)
	}
	return out
}

// WordTable is the name of the word embeddings, [vocab_size, embedding_size].
func (c Config) WordTable() string { return c.architecture().names().words }

// ReadWeights fills a flat buffer of the encoder's parameters from a Hugging Face folder. New adapters start as StartAdapter says.
func (c Config) ReadWeights(dir string, l *flat.Layout, buffer []float32) error {
	w, err := hf.OpenWeights(dir)
	if err != nil {
		return err
	}
	defer w.Close()
	naming, err := c.Naming(w)
	if err != nil {
		return err
	}
	return w.Fill(hf.Buffer{Layout: l, Data: buffer}, c.Params(), naming.Tensors, func(p flat.Param, values []float32) error {
		if !c.StartAdapter(p, values) {
			return fmt.Errorf("%s: no tensor %q", w.Path, naming.Tensors(p.Name)[0])
		}
		return nil
	})
}

// WriteWeights writes the tensors of the folder from, with the encoder's trained parameters in their places. Tensors that were
// not trained, such as an unused pooler, stay as they are.
func (c Config) WriteWeights(path, from string, l *flat.Layout, parameters []float32) error {
	w, err := hf.OpenWeights(from)
	if err != nil {
		return err
	}
	defer w.Close()
	naming, err := c.Naming(w)
	if err != nil {
		return err
	}
	trained, err := hf.FromLayout(l, parameters, c.Params(), naming.Tensors)
	if err != nil {
		return err
	}
	return hf.WriteWeights(path, w.Metadata, w.Replace(trained))
}
