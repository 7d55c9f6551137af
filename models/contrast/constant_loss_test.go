package contrast

import (
	"testing"

	"rag-retrieval-go/ortrain"
)

// The loss of a batch is constant if no query's denominator has a passage that differs from its positive.
func TestConstantLoss(t *testing.T) {
	all := Denominator{}
	unique := Denominator{MaskDuplicates: true}
	hardUnique := Denominator{HardOnly: true, MaskDuplicates: true}
	for _, c := range []struct {
		d                 Denominator
		queries, passages []string
		want              bool
	}{
		{unique, []string{"q", "r"}, []string{"a", "b"}, false},
		{unique, []string{"q"}, []string{"a"}, true},           // a batch of one
		{unique, []string{"q", "r"}, []string{"a", "a"}, true}, // equal passages
		{all, []string{"q", "r"}, []string{"a", "a"}, true},    // in the denominator, but with equal scores
		{unique, []string{"q", "q"}, []string{"a", "b"}, true}, // both are positives of one query
		{all, []string{"q", "q"}, []string{"a", "b"}, false},
		{unique, []string{"q"}, []string{"a", "n"}, false},
		{hardUnique, []string{"q"}, []string{"a", "a"}, true},
		{hardUnique, []string{"q", "r"}, []string{"a", "b", "b", "b"}, false},
	} {
		positives := []int{0, 1}[:len(c.queries)]
		if got := c.d.Candidates(c.queries, c.passages, positives, nil).ConstantLoss(); got != c.want {
			t.Errorf("%+v: the loss is constant: %v", c, got)
		}
	}
	b := ortrain.NewBatch()
	if BindKL(b, [][]float64{{1, 0}, {1, 0}}, []string{"a", "a", "b", "b"}); !b.ConstantLoss {
		t.Error("equal passages in each group: the loss is not constant")
	}
	if BindKL(b, [][]float64{{1, 0}, {1, 0}}, []string{"a", "a", "b", "c"}); b.ConstantLoss {
		t.Error("different passages in a group: the loss is constant")
	}
}
