package finetune_test

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
)

var scored = []mteb.Sample{
	{Query: []string{"how many"}, Positive: []string{"two of them"}, Negative: []string{"a longer text than that", "none"}},
	{Query: []string{"如何重置密码"}, Positive: []string{"在设置页面"}, Negative: []string{"苹果"}},
}

// score scores the samples with the model in a folder.
func score(t *testing.T, kind modelcard.Kind, folder string, session runtime.Options) [][]float32 {
	t.Helper()
	s, done := scorer(t, kind, folder, scoring.Options{Options: session})
	out, err := mteb.ScoreAll(context.Background(), s, scored)
	check(t, errors.Join(err, done()))
	return out
}

func scorer(t *testing.T, kind modelcard.Kind, folder string, o scoring.Options) (s mteb.Scorer, done func() error) {
	t.Helper()
	switch kind {
	case modelcard.Embedding:
		m, err := embedding.Open(folder)
		check(t, err)
		e, err := embedding.NewEncoder(m, o)
		check(t, err)
		b, err := e.BiEncoder(10, 10)
		check(t, err)
		return scoring.SampleScorer{Ranker: b}, e.Close
	case modelcard.ColBERT:
		m, err := colbert.Open(folder)
		check(t, err)
		s, err := colbert.NewScorer(m, o)
		check(t, err)
		b, err := s.BiEncoder(10, 10)
		check(t, err)
		return scoring.SampleScorer{Ranker: b}, s.Close
	}
	m, err := reranker.Open(folder)
	check(t, err)
	r, err := reranker.NewScorer(m, o)
	check(t, err)
	c, err := r.CrossEncoder(20)
	check(t, err)
	return scoring.SampleScorer{Ranker: c}, r.Close
}

// A validation scores with the trainer's current parameters, in host and in device memory. For every kind, the scores equal
// those of the saved folder, and no tensor stays open.
func TestValidationScoresTheTrainersParameters(t *testing.T) {
	for _, f := range fixtures(t) {
		if !slices.Contains([]string{"infonce", "contrastive", "bce"}, f.name) {
			continue
		}
		f.cfg.QueryMaxLen, f.cfg.PassageMaxLen, f.cfg.MaxLen = 10, 10, 20
		for _, device := range []string{"", runtime.CPU} {
			t.Run(f.name+" "+device, func(t *testing.T) {
				task, tr := f.trainer(t, variant{groups: 1, precision: "no", device: device})
				before, err := task.Score(context.Background(), tr, nil, scored)
				check(t, err)
				for range 2 { // the first step's learning rate is 0
					_, err = tr.Step(f.batch(t, task, -1))
					check(t, err)
				}
				open := runtime.OpenTensors()
				got, err := task.Score(context.Background(), tr, nil, scored)
				check(t, err)
				if n := runtime.OpenTensors(); n != open {
					t.Errorf("%d tensors stay open", n-open)
				}
				parameters, err := tr.Parameters()
				check(t, err)
				dir := filepath.Join(t.TempDir(), "model")
				check(t, task.Save(dir, modelcard.Card{}, tr.Layout(), parameters))
				want := score(t, f.cfg.Kind, dir, runtime.Options{Threads: 1})
				moved := 0.0
				for i := range want {
					for j := range want[i] {
						if d := math.Abs(float64(got[i][j] - want[i][j])); !(d <= 1e-5) {
							t.Errorf("sample %d, candidate %d: %g, its folder gives %g", i, j, got[i][j], want[i][j])
						}
						moved = max(moved, math.Abs(float64(got[i][j]-before[i][j])))
					}
				}
				if moved == 0 {
					t.Error("no score moved with the step")
				}
			})
		}
	}
}
