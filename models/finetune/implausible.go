package finetune

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/ortrain"
)

// A run whose numbers cannot be right goes on, but says so once: a loss that is far worse than that of equal scores, or scores that do
// not tell a query's passages apart. Without the words, both look like a hard task, and days are spent on them.

// A loss is far too high if it is more than highFactor times that of equal scores and more than highMargin above it. Measured with
// all-MiniLM-L6-v2 on documentation comments and functions of Go's library, as a multiple of the loss of equal scores (3.5 or 5.1):
//
//	as it is, temperature 0.01 to 0.02               0.07 to 0.45   ColBERT with a new projection  0.06 to 0.22
//	another pooling: first token, last token         0.30, 0.69     its first 1, 3, 5 layers       0.80, 1.04 to 1.6, 0.58
//	random weights                                   0.95           ColBERT of random weights      0.89
//	weights drowned in as much noise                 1.8 to 3.3     the same as ColBERT            2.5
//	"pos" and the first of four "neg" swapped        2.3 (of one: 1.75)
//	"pos" of other rows, temperature 0.02 and 0.05   4.1 to 5.7, 2.35
//
// The margin is for losses whose equal scores cost little, such as log 2: a good reranker may be sure and wrong about hard negatives.
const (
	highFactor = 2
	highMargin = 3
)

// farTooHigh says whether a loss is far above equal, that of equal scores. 0 means that the loss has no such value.
func farTooHigh(loss, equal float64) bool {
	return equal > 0 && loss > highFactor*equal && loss > equal+highMargin
}

// Scores are flat if in the median query the largest and the smallest differ by at most flatShare of the largest score's size.
// Measured with MiniLM's size: trained models 0.3 to 0.5, random weights 1e-2, new heads 0.1 and more; models that a learning rate of
// 0.01 broke in 8 steps: a reranker 4e-7 and an embedding model 1e-6, which is the rounding of fp32, ColBERT 1e-4 and 0 in the next 8.
const flatShare = 1e-3

// Scores of a reranker are saturated if all their sigmoids are within 1e-4 of 0, or all of 1: from this logit on.
const saturationLogit = 9.21

// spread summarizes the scores of a validation.
type spread struct {
	low, high float64 // of all scores
	gap       float64 // the largest score of a query less its smallest, in the median query
	count     int     // of scores
}

func spreadOf(scores [][]float32) spread {
	s := spread{low: math.Inf(1), high: math.Inf(-1)}
	var gaps []float64
	for _, ofQuery := range scores {
		if len(ofQuery) == 0 {
			continue
		}
		low, high := float64(slices.Min(ofQuery)), float64(slices.Max(ofQuery))
		s.low, s.high, s.count = min(s.low, low), max(s.high, high), s.count+len(ofQuery)
		gaps = append(gaps, high-low)
	}
	if len(gaps) > 0 {
		slices.Sort(gaps)
		s.gap = gaps[len(gaps)/2]
	}
	return s
}

// flat says that the scores do not tell a query's passages apart.
func (s spread) flat() bool {
	return s.count > 0 && s.gap <= flatShare*max(math.Abs(s.low), math.Abs(s.high))
}

// saturation says at which end the sigmoid of all scores is: "1", "0", or "" if it is at neither.
func (s spread) saturation() string {
	switch {
	case s.count > 0 && s.low > saturationLogit:
		return "1"
	case s.count > 0 && s.high < -saturationLogit:
		return "0"
	}
	return ""
}

// The problems that a warning names, each once in a run.
const (
	collapsed = "collapsed"
	saturated = "saturated"
	tooHigh   = "far too high"
)

// problems returns what cannot be right in a validation, the gravest first. equal is the loss of equal scores.
func (r *Run) problems(x Validation, equal float64, s spread) (out []string) {
	if s.flat() {
		out = append(out, collapsed)
	} else if r.Config.Kind == modelcard.Reranker && s.saturation() != "" {
		out = append(out, saturated)
	}
	if !x.NoLoss && farTooHigh(x.Loss, equal) {
		out = append(out, tooHigh)
	}
	return out
}

// warning says a problem of a validation in a line, with what to check.
func (r *Run) warning(problem string, x Validation, equal float64, s spread) string {
	about := "of the base model"
	if x.Step > 0 {
		about = fmt.Sprintf("after step %d", x.Step)
	}
	switch problem {
	case collapsed:
		return fmt.Sprintf("the scores %s %s: a query's passages differ by %.2g in the median query, and all %d scores are from %.6g to %.6g; their order means nothing, whatever MAP and MRR@10 say. Check %s",
			about, collapsed, s.gap, s.count, s.low, s.high, r.scoreChecks(x.Step))
	case saturated:
		return fmt.Sprintf("the scores %s are %s: all %d are from %.4g to %.4g, so that their sigmoid is %s for every pair. Check %s",
			about, saturated, s.count, s.low, s.high, s.saturation(), r.scoreChecks(x.Step))
	}
	return r.highLoss("validation loss "+about, x.Step, x.Loss, equal)
}

func (r *Run) highLoss(what string, step int, loss, equal float64) string {
	return fmt.Sprintf("the %s is %s: %.4g, while equal scores for all passages would give %.4g. Check %s", what, tooHigh, loss, equal, r.lossChecks(step))
}

// lossChecks says what to check if the loss after a step is far too high.
func (r *Run) lossChecks(step int) string {
	checks := []string{r.rowsCheck()}
	if step == 0 {
		checks = append(checks, r.modelChecks()...)
	} else {
		checks = append(r.rateChecks(), checks...)
	}
	return listed(append(checks, r.temperatureCheck()...))
}

// scoreChecks says what to check if the scores after a step are all alike.
func (r *Run) scoreChecks(step int) string {
	if step == 0 {
		return listed(append([]string{"that the folder has the weights of a trained model"}, r.modelChecks()...))
	}
	checks := append(r.rateChecks(), r.temperatureCheck()...)
	if r.Config.Kind == modelcard.Reranker {
		checks = append(checks, "that the rows have several negatives for each positive, hard ones too")
	}
	return listed(append(checks, r.rowsCheck()))
}

// rowsCheck says what to check in the rows of the loss.
func (r *Run) rowsCheck() string {
	c := r.Config
	switch {
	case c.Kind == modelcard.Reranker && strings.HasPrefix(c.LossType, "pointwise"):
		return fmt.Sprintf("that labels are not swapped (%g counts as 1, %g as 0)", c.MaxLabel, c.MinLabel)
	case c.Kind == modelcard.Reranker:
		return "that the better passage has the larger label"
	case c.Contrastive():
		return `that "pos" and "neg" are not swapped and belong to their queries`
	}
	return "that the scores belong to their rows, the larger ones to better passages"
}

// modelChecks says what to check of the base model.
func (r *Run) modelChecks() []string {
	makes := "vectors"
	if r.Config.Kind == modelcard.Reranker {
		makes = "scores"
	}
	return []string{
		fmt.Sprintf("that the model makes %s as in its training (now: %s)", makes, r.task.Describe()), "that query_format and document_format are those of its training",
	}
}

// rateChecks says what decides how far the parameters moved.
func (r *Run) rateChecks() []string {
	c := r.Config
	out := []string{fmt.Sprintf("that lr (%g) is small enough", c.LR), fmt.Sprintf("that warmup_proportion (%g) is large enough", c.WarmupProportion)}
	if l := r.task.Encoder().LoRA; l != nil {
		out = append(out, fmt.Sprintf("that lora_alpha (%g, with lora_rank %d) is not too large", l.Alpha, l.Rank))
	}
	return out
}

// temperatureCheck names the temperature, if the loss has one.
func (r *Run) temperatureCheck() []string {
	if c := r.Config; c.Kind != modelcard.Reranker && c.LossType != "cosine" && c.LossType != "stella" {
		return []string{fmt.Sprintf("that temperature (%g) is not too small", c.Temperature)}
	}
	return nil
}

// listed joins parts as in a sentence.
func listed(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], "; ") + "; and " + parts[len(parts)-1]
}

// equalScoresLoss returns the mean loss of micro-batches under equal scores, or 0 if their loss has no such value.
func equalScoresLoss(batches []*ortrain.Batch) float64 {
	sum, rows := 0.0, 0
	for _, b := range batches {
		if b.EqualScoresLoss == nil {
			return 0
		}
		sum, rows = sum+b.EqualScoresLoss()*float64(b.Rows), rows+b.Rows
	}
	return sum / float64(max(1, rows))
}

// Warner is a hook that is told what looks wrong in a run without validation data. With them, Validation.Warning says it.
type Warner interface{ Warn(message string) error }

// firstLoss is a hook that looks at the loss of the first step, which is that of the base model. It must come before the hooks that it
// tells. A resumed run has no first step.
type firstLoss struct {
	r     *Run
	equal float64 // the first step's loss if all scores were equal
	tell  []Warner
}

// source notes the loss of equal scores for the first step.
func (f *firstLoss) source(step int) ([]*ortrain.Batch, error) {
	batches, err := f.r.source(step)
	if step == 0 && err == nil && len(f.tell) > 0 {
		f.equal = equalScoresLoss(batches)
	}
	return batches, err
}

// OnStart does nothing.
func (f *firstLoss) OnStart(*ortrain.Trainer) error { return nil }

// OnStep warns of a first loss that is far too high.
func (f *firstLoss) OnStep(_ *ortrain.Trainer, s ortrain.Step) error {
	if s.Step != 1 || !farTooHigh(s.Loss, f.equal) {
		return nil
	}
	for _, w := range f.tell {
		if err := w.Warn(f.r.highLoss("loss of the first step", 0, s.Loss, f.equal)); err != nil {
			return err
		}
	}
	return nil
}

// OnEnd does nothing.
func (f *firstLoss) OnEnd(*ortrain.Trainer, error) error { return nil }
