package modelfolder

import (
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/ortrain/flat"
)

// Saver is a model of any kind, which saves its folder.
type Saver interface {
	Params() []flat.Param
	Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error
}

// Trained is a model at the end of its training.
type Trained struct {
	Model   Saver          // as it was trained
	Whole   Saver          // the same model without adapters
	Encoder encoder.Config // of Model
	Merge   bool           // Whole is saved, with the adapters added to its weights
}

// Save writes the folder. l and parameters are Model's.
func (t Trained) Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error {
	if !t.Merge {
		return t.Model.Save(dir, c, l, parameters)
	}
	l, parameters, err := t.Encoder.Merged(t.Whole.Params(), l, parameters)
	if err != nil {
		return err
	}
	return t.Whole.Save(dir, c, l, parameters)
}
