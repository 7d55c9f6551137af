package reranker

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"

	"rag-retrieval-go/models/hf"
)

// outputFunctions are the functions that sentence-transformers' CrossEncoder may apply to a score, by the names in its configs.
var outputFunctions = map[string]func(score float32) float32{
	"torch.nn.modules.activation.Sigmoid": sigmoidOf,
	"torch.nn.modules.activation.Tanh":    func(x float32) float32 { return float32(math.Tanh(float64(x))) },
	"torch.nn.modules.linear.Identity":    func(x float32) float32 { return x },
}

func sigmoidOf(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

// Activation returns the function that sentence-transformers' CrossEncoder.predict applies to the scores of the model in a folder:
// the one that the folder names, or the sigmoid. This program's own scores are without it. Limits of scores for mining are meant
// for scores with it.
func Activation(dir string) (func(score float32) float32, error) {
	var own struct {
		Name string `json:"activation_fn"`
	}
	var config struct {
		New struct {
			Name string `json:"activation_fn"`
		} `json:"sentence_transformers"`
		Old string `json:"sbert_ce_default_activation_function"` // before version 4
	}
	for file, to := range map[string]any{"config_sentence_transformers.json": &own, "config.json": &config} {
		if err := hf.ReadJSON(filepath.Join(dir, file), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, name := range []string{own.Name, config.New.Name, config.Old} {
		if name == "" {
			continue
		}
		f := outputFunctions[name]
		if f == nil {
			return nil, fmt.Errorf("%s: activation_fn is %q: want Sigmoid, Tanh or Identity of torch.nn", dir, name)
		}
		return f, nil
	}
	return sigmoidOf, nil
}
