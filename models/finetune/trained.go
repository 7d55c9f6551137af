package finetune

import (
	"fmt"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain/flat"
)

// loraLR is the smallest learning rate at which authors of retrieval models train adapters.
const loraLR = 1e-4

// SetTrained sets what of an encoder is trained, and its dropout.
func SetTrained(c config.Train, e *encoder.Config) error {
	if c.Dropout >= 0 {
		e.SetDropout(c.Dropout)
	}
	embeddings, layers, err := c.Frozen()
	if err != nil {
		return err
	}
	if layers > e.NumHiddenLayers {
		return fmt.Errorf("freeze has layers:%d, but the model has %d layers", layers, e.NumHiddenLayers)
	}
	e.Freeze = encoder.Freeze{Embeddings: embeddings, Layers: layers}
	if c.LoraRank == 0 {
		return nil
	}
	targets := c.LoraTargets.Split()
	if len(targets) == 0 {
		targets = []string{encoder.AllLinear}
	}
	l := encoder.LoRA{
		Rank: int64(c.LoraRank), Alpha: c.Alpha(), Dropout: c.LoraDropout, Targets: targets, RSLoRA: c.UseRSLora, Seed: c.Seed,
	}
	if err := setContinued(c, *e, &l); err != nil {
		return err
	}
	return e.SetLoRA(l)
}

// trainedNotes says how many of the parameters are trained, if not all, and whether the learning rate fits adapters.
func trainedNotes(c config.Train, l *flat.Layout) (notes []string) {
	if l.Trained < l.Total {
		notes = append(notes, parameters(l))
	}
	if c.LoraRank > 0 && c.LR < loraLR {
		notes = append(notes, fmt.Sprintf("lr: %g is a rate for training all parameters; adapters need a larger one, such as 1e-4 to 5e-4", c.LR))
	}
	return notes
}

// parameters says how many parameters are trained.
func parameters(l *flat.Layout) string {
	all, trained := int64(0), int64(0)
	for _, p := range l.Params {
		all += p.Size()
	}
	for _, p := range l.TrainedParams() {
		trained += p.Size()
	}
	if trained == all {
		return fmt.Sprintf("%.1f M parameters", float64(all)/1e6)
	}
	return fmt.Sprintf("%.2f M of %.1f M parameters are trained", float64(trained)/1e6, float64(all)/1e6)
}
