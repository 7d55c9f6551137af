package ortrain

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/dist/disttest"
)

// The rank that waits least says what a transfer takes.
func TestCollectiveTime(t *testing.T) {
	var x Trainer
	x.addCollectiveTime([]float64{0.3, 0.1})
	x.addCollectiveTime([]float64{0.2, 0.6})
	if math.Abs(x.transfer-0.3) > 1e-12 || math.Abs(x.waiting-0.3) > 1e-12 {
		t.Errorf("transfer %g, waiting %g, want 0.3 each", x.transfer, x.waiting)
	}
}

// A rank that cannot take the sum of the gradients, for example into a GPU's memory, ends all ranks before the update.
func TestSumFailsOnOneRank(t *testing.T) {
	for rank, err := range disttest.Ranks(2, func(comm dist.Comm) (err error) {
		tr, err := vectorJob(comm, false)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, tr.Close()) }()
		var failed error
		if comm.Rank() == 1 {
			failed = errors.New("no copy")
		}
		before := fmt.Sprint(tr.parameters.Host())
		err = tr.update(tr.gradients, &Step{Loss: 1}, row(), failed)
		if fmt.Sprint(tr.parameters.Host()) != before {
			err = errors.Join(err, errors.New("the parameters were changed"))
		}
		return err
	}) {
		if err == nil || err.Error() != "rank 1: no copy" {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}
