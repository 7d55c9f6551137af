package finetune

import (
	"fmt"

	"rag-retrieval-go/models/config"
)

// division says how the examples of a step are divided. In order, the examples of a step are those of its first micro-batch, and
// of a micro-batch those of rank 0 first.
type division struct {
	ranks, batchSize, accumulation int
	// compares is set if the loss of an example depends on other examples of the micro-batch, gathers if on those of all ranks.
	compares, gathers bool
}

func divisionOf(c config.Train, ranks int) division {
	return division{
		ranks: ranks, batchSize: c.BatchSize, accumulation: c.GradientAccumulationSteps,
		compares: c.ComparesExamples(), gathers: c.Gathers(ranks),
	}
}

// global is the number of examples of a step.
func (d division) global() int { return d.ranks * d.batchSize * d.accumulation }

// compared is the number of examples that the loss compares with one another.
func (d division) compared() int {
	switch {
	case d.gathers:
		return d.ranks * d.batchSize
	case d.compares:
		return d.batchSize
	}
	return 1
}

func (d division) String() string {
	return fmt.Sprintf("%d ranks x batch_size %d x gradient_accumulation_steps %d", d.ranks, d.batchSize, d.accumulation)
}

// equals returns nil if a run that divides its steps as d learns the same as one that divides them as now: the same examples in
// each step, and each compared with the same others. An epoch has so many examples.
func (d division) equals(now division, examples int, loss string) error {
	switch {
	case d.global() != now.global():
		return fmt.Errorf("a step had %d examples (%v), has %d (%v)", d.global(), d, now.global(), now)
	case d.compared() != now.compared():
		return fmt.Errorf("loss_type %s compared %s (%v), now %s (%v)", loss, d.comparison(), d, now.comparison(), now)
	case d != now && (d.splits() || now.splits()) && examples%now.global() != 0:
		return fmt.Errorf("loss_type %s compares the examples of each rank with one another, and the last step of an epoch of %d examples is not full: "+
			"%v divide it otherwise than %v", loss, examples, now, d)
	}
	return nil
}

// splits says whether a micro-batch has several parts, of which each is compared only with itself. They are smaller where an
// epoch's last micro-batch is not full.
func (d division) splits() bool { return d.compares && !d.gathers && d.ranks > 1 }

func (d division) comparison() string {
	if d.gathers {
		return fmt.Sprintf("%d examples, of all ranks", d.compared())
	}
	return fmt.Sprintf("%d examples, of one rank", d.compared())
}
