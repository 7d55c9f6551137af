package finetune

import (
	"slices"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/modelcard"
)

// differences names settings that change the training, but not settings of logging or of other kinds.
func TestDifferences(t *testing.T) {
	saved := config.DefaultTrain(modelcard.Reranker)
	now := saved
	now.LR, now.Seed = 1e-3, 7
	now.SaveSteps, now.OutputDir, now.ChunkTokens = 3, "elsewhere", 0
	now.NegNums, now.UseMRL = 2, true // an embedding model's
	if got, want := differences(saved, now, freeKeys, "%s was %v, is %v"), []string{"lr was 5e-05, is 0.001", "seed was 666, is 7"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Scores that collapsed have a MAP and an MRR by chance: they are better than nothing, and never better than others.
func TestCollapsedIsNotBest(t *testing.T) {
	ordinary, collapsed := Validation{Step: 4, MAP: 0.2}, Validation{Step: 8, MAP: 0.9, Collapsed: true}
	if collapsed.better(ordinary) || !ordinary.better(collapsed) || !collapsed.better(Validation{}) {
		t.Error("a validation with collapsed scores counts as an ordinary one")
	}
	if better := (Validation{Step: 8, MAP: 0.3}); !better.better(ordinary) || ordinary.better(better) {
		t.Error("the larger MAP is not better")
	}
}
