package finetune

import (
	"strings"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/modelcard"
)

// Another number of ranks is accepted where the steps have the same examples, and each is compared with the same others.
func TestDivisions(t *testing.T) {
	type run struct{ ranks, batchSize, accumulation int }
	reranker := func(c *config.Train) { *c = config.DefaultTrain(modelcard.Reranker) }
	all := func(c *config.Train) { c.LossType = "infonce" }
	own := func(c *config.Train) { c.LossType, c.AllGather = "infonce", false }
	hard := func(c *config.Train) { c.LossType, c.AllGather, c.NegNums, c.Negatives = "infonce", false, 2, "hard" }
	cosent := func(c *config.Train) { c.LossType = "cosent" }
	for _, x := range []struct {
		loss     func(*config.Train)
		was, is  run
		examples int
		refused  string // a part of the error; "" if it is accepted
	}{
		{reranker, run{1, 8, 1}, run{2, 4, 1}, 21, ""},
		{reranker, run{2, 4, 1}, run{1, 2, 4}, 21, ""},
		{reranker, run{2, 4, 1}, run{4, 4, 1}, 21, "a step had 8 examples (2 ranks x batch_size 4 x gradient_accumulation_steps 1), has 16 ("},
		{reranker, run{1, 8, 1}, run{1, 4, 1}, 21, "a step had 8 examples"},
		{all, run{1, 8, 1}, run{4, 2, 1}, 21, ""},
		{all, run{4, 2, 3}, run{2, 4, 3}, 21, ""},
		{all, run{2, 4, 1}, run{2, 2, 2}, 21, "loss_type infonce compared 8 examples, of all ranks"},
		{all, run{1, 8, 1}, run{1, 4, 2}, 16, "loss_type infonce compared 8 examples, of one rank"},
		{own, run{1, 8, 1}, run{2, 4, 1}, 16, "loss_type infonce compared 8 examples, of one rank (1 ranks"},
		{own, run{2, 4, 1}, run{1, 4, 2}, 16, ""},
		{own, run{2, 4, 1}, run{1, 4, 2}, 21, "the last step of an epoch of 21 examples is not full"},
		{own, run{2, 4, 2}, run{2, 4, 2}, 21, ""},
		{hard, run{2, 4, 1}, run{1, 4, 2}, 16, ""},
		{hard, run{2, 4, 1}, run{1, 4, 2}, 21, "the last step of an epoch of 21 examples is not full"},
		{hard, run{2, 4, 1}, run{4, 2, 1}, 21, "loss_type infonce compared 4 examples, of one rank"},
		{cosent, run{2, 4, 1}, run{1, 4, 2}, 16, ""},
		{cosent, run{2, 4, 1}, run{1, 8, 1}, 16, "loss_type cosent compared 4 examples"},
	} {
		of := func(r run) (division, string) {
			c := config.DefaultTrain(modelcard.Embedding)
			x.loss(&c)
			c.BatchSize, c.GradientAccumulationSteps = r.batchSize, r.accumulation
			return divisionOf(c, r.ranks), c.LossType
		}
		was, loss := of(x.was)
		is, _ := of(x.is)
		err := was.equals(is, x.examples, loss)
		if x.refused == "" && err != nil || x.refused != "" && (err == nil || !strings.Contains(err.Error(), x.refused)) {
			t.Errorf("%s, %v, then %v: %v, want %q", loss, was, is, err, x.refused)
		}
	}
}
