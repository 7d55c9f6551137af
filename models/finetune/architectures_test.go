package finetune_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/ortrain/runtime"
)

// architectureFolders are small models of the architectures that have no fixture of every loss.
var architectureFolders = []struct {
	name  string
	kinds []modelcard.Kind
}{
	{"modernbert", []modelcard.Kind{modelcard.Embedding, modelcard.ColBERT, modelcard.Reranker}}, {"modernbert-bias", []modelcard.Kind{modelcard.Embedding, modelcard.ColBERT}},
	{"modernbert-reranker-mean", []modelcard.Kind{modelcard.Reranker}},
	{"qwen3", []modelcard.Kind{modelcard.Embedding, modelcard.ColBERT, modelcard.Reranker}}, {"qwen3-options", []modelcard.Kind{modelcard.Embedding, modelcard.ColBERT}},
	{"qwen3-reranker", []modelcard.Kind{modelcard.Reranker}},
}

// Every architecture trains as a model of each kind: whole batches, chunks and recomputed layers have the
// same gradients, steps lower the loss, and the saved folder scores as the trainer does.
func TestArchitecturesTrain(t *testing.T) {
	var rows []data.Row
	for _, x := range [][3]string{{"reset password", "the reset page", "rain"}, {"weather", "rain tomorrow", "login"}, {"apple", "a fruit", "market"}} {
		rows = append(rows, data.Row{Query: &x[0], Pos: jsonl.Strings{x[1]}, Neg: jsonl.Strings{x[2]}})
	}
	for _, folder := range architectureFolders {
		for _, kind := range folder.kinds {
			t.Run(fmt.Sprint(folder.name, " ", kind), func(t *testing.T) {
				f := fixture{name: folder.name, cfg: config.DefaultTrain(kind), rows: rows, losses: make([]float64, 12)}
				f.cfg.Model = filepath.Join("../encoder/testdata", folder.name)
				f.cfg.QueryMaxLen, f.cfg.PassageMaxLen, f.cfg.ColBERTDim, f.cfg.LR, f.cfg.Dropout = 10, 10, 8, 3e-3, 0
				if kind == modelcard.Reranker {
					f.cfg.MaxLen, f.cfg.LossType = 20, "listwise_ce"
				}
				task, tr := f.trainer(t, variant{groups: 1, precision: "no"})
				loss, want, err := tr.Gradients(f.batch(t, task, -1)...)
				check(t, err)
				for _, v := range []variant{{groups: 2, chunkTokens: 12, precision: "no"}, {groups: 3, checkpointing: true, precision: "no"}} {
					other, chunked := f.trainer(t, v)
					again, got, err := chunked.Gradients(f.batch(t, other, -1)...)
					check(t, err)
					if math.Abs(again-loss) > 1e-5*math.Abs(loss) {
						t.Errorf("%+v: loss %g, want %g", v, again, loss)
					}
					for i, x := range want {
						if math.Abs(float64(got[i]-x)) > 1e-4*largest(want) {
							t.Fatalf("%+v: gradient %d is %g, want %g", v, i, got[i], x)
						}
					}
				}
				var last float64
				for range len(f.losses) {
					s, err := tr.Step(f.batch(t, task, -1))
					check(t, err)
					last = s.Loss
				}
				if last >= loss {
					t.Errorf("the loss was %g and is %g", loss, last)
				}
				got, err := task.Score(context.Background(), tr, scored)
				check(t, err)
				parameters, err := tr.Parameters()
				check(t, err)
				dir := filepath.Join(t.TempDir(), "model")
				check(t, task.Save(dir, modelcard.Card{}, tr.Layout(), parameters))
				for i, scores := range score(t, kind, dir, runtime.Options{Threads: 1}) {
					for j, x := range scores {
						if d := math.Abs(float64(got[i][j] - x)); !(d <= 1e-5) {
							t.Errorf("sample %d, candidate %d: %g, its folder gives %g", i, j, got[i][j], x)
						}
					}
				}
			})
		}
	}
}
