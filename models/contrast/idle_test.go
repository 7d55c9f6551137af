package contrast

import (
	"testing"

	"rag-retrieval-go/ortrain"
)

// A batch is idle where no query's positive is told from another passage.
func TestIdle(t *testing.T) {
	all, hard, plain := Denominator{MaskDuplicates: true}, Denominator{HardOnly: true, MaskDuplicates: true}, Denominator{}
	for _, c := range []struct {
		d                 Denominator
		queries, passages []string
		want              bool
	}{
		{all, []string{"q", "r"}, []string{"a", "b"}, false},
		{all, []string{"q"}, []string{"a"}, true},             // a batch of one
		{all, []string{"q", "r"}, []string{"a", "a"}, true},   // equal passages
		{plain, []string{"q", "r"}, []string{"a", "a"}, true}, // they count, but their scores are equal
		{all, []string{"q", "q"}, []string{"a", "b"}, true},   // both positives of one query
		{plain, []string{"q", "q"}, []string{"a", "b"}, false},
		{all, []string{"q"}, []string{"a", "n"}, false},
		{hard, []string{"q"}, []string{"a", "a"}, true},
		{hard, []string{"q", "r"}, []string{"a", "b", "b", "b"}, false},
	} {
		b := ortrain.NewBatch()
		if c.d.Bind(b, c.queries, c.passages, nil); b.ConstantLoss != c.want {
			t.Errorf("%+v: idle is %v", c, b.ConstantLoss)
		}
	}
	b := ortrain.NewBatch()
	if BindKL(b, [][]float64{{1, 0}, {1, 0}}, []string{"a", "a", "b", "b"}); !b.ConstantLoss {
		t.Error("groups of equal passages are not idle")
	}
	if BindKL(b, [][]float64{{1, 0}, {1, 0}}, []string{"a", "a", "b", "c"}); b.ConstantLoss {
		t.Error("groups of different passages are idle")
	}
}
