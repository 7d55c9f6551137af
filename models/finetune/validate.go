package finetune

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/dist"
)

// ValidationFile has one row for each validation of a run.
const ValidationFile = "validation.jsonl"

// Validation is the result of one validation.
type Validation struct {
	Step int     `json:"step"`
	Loss float64 `json:"loss"`
	// NoLoss says that the loss is not known: a teacher has vectors only for the training rows.
	NoLoss bool    `json:"no_loss,omitempty"`
	MAP    float64 `json:"map"`  // as a fraction
	MRR    float64 `json:"mrr"`  // MRR@10, as a fraction
	Best   bool    `json:"best"` // the best so far by MAP, then by loss; its model was saved
	// Warning says what cannot be right, and what to check. A run has one for each such problem, at the first validation with it.
	Warning string `json:"warning,omitempty"`
	// Collapsed says that the scores do not tell passages apart: MAP and MRR mean nothing.
	Collapsed bool `json:"collapsed,omitempty"`
}

// better says whether v is better than the best validation so far.
func (v Validation) better(best Validation) bool {
	if best.Step > 0 && v.Collapsed != best.Collapsed {
		return best.Collapsed
	}
	return best.Step == 0 || v.MAP > best.MAP || v.MAP == best.MAP && v.Loss < best.Loss
}

// LossText returns the loss as text, or "unknown".
func (v Validation) LossText() string {
	if v.NoLoss {
		return "unknown"
	}
	return fmt.Sprintf("%.4f", v.Loss)
}

// errEarlyStop ends a run early, without being an error of Train.
var errEarlyStop = fmt.Errorf("%w: the last early_stop validations were not better", ortrain.ErrStopped)

// validator is a hook that validates every eval_steps, saves the best model, and stops the run by early_stop. The ranks of a job
// share a validation. All of them have its result and decide alike; rank 0 writes.
type validator struct {
	r            *Run
	ranks        *dist.Dealer
	ctx          context.Context
	data         *data.Dataset
	samples      []mteb.Sample
	before       *Validation // of the base model
	best         Validation
	warnings     []string // of the validations so far
	sinceBest    int      // number of validations since the best one
	onValidation func(Validation) error
}

// openValidation reads the validation file, if there is one.
func (r *Run) openValidation(ctx context.Context) error {
	c := r.Config
	if len(c.ValDataset) == 0 {
		return nil
	}
	o := r.rowOptions()
	o.Form, o.FormKey = rowForms[c.ValDatasetType], "val_dataset_type"
	if c.ValLabelKey != "" {
		o.LabelKey = c.ValLabelKey
	}
	d, err := r.openRows(ctx, c.ValDataset, o)
	if err != nil {
		return fmt.Errorf("val_dataset: %w", err)
	}
	r.validation = &validator{r: r, ranks: dist.NewDealer(r.comm), ctx: ctx, data: d}
	r.validation.samples, err = rerankingSamples(d, c.MinLabel)
	if err != nil {
		return fmt.Errorf("val_dataset: %w", err)
	}
	return nil
}

// OnStart validates the base model. In a resumed run it reads the earlier validations instead, and validates only if the
// run was stopped between the last step and its validation.
func (v *validator) OnStart(t *ortrain.Trainer) error {
	step := t.StepsDone()
	if step == 0 {
		return v.validate(t, 0)
	}
	earlier, err := v.restore(step)
	if err != nil {
		return err
	}
	if v.due(step, t.TotalSteps()) && (len(earlier) == 0 || earlier[len(earlier)-1].Step != step) {
		return v.validate(t, step)
	}
	return v.checkEarlyStop()
}

// restore recalls the validations up to a step, from rank 0's file.
func (v *validator) restore(step int) (earlier []Validation, err error) {
	if v.r.isFirst() {
		earlier, err = v.read(step)
	}
	if err := v.ranks.Agree(err); err != nil {
		return nil, err
	}
	if err := v.fromFirst(&earlier); err != nil {
		return nil, err
	}
	for i := range earlier {
		v.remember(&earlier[i])
	}
	return earlier, nil
}

// fromFirst gives all ranks rank 0's validations.
func (v *validator) fromFirst(rows *[]Validation) error {
	b, err := json.Marshal(*rows)
	if err != nil || !v.ranks.Shares() {
		return err
	}
	all, err := v.r.comm.AllGather(b)
	if err != nil {
		return err
	}
	return json.Unmarshal(all[0], rows)
}

// read reads the validations up to a step. It drops later ones from the file: the stopped run went further than its last
// checkpoint.
func (v *validator) read(step int) (earlier []Validation, err error) {
	earlier, err = v.earlier(step)
	if err != nil || earlier == nil { // nil: the run was stopped before the first validation
		return nil, err
	}
	return earlier, jsonl.Write(v.path(), earlier)
}

// earlier returns the validations up to a step, or nil if there is no file of them.
func (v *validator) earlier(step int) ([]Validation, error) {
	rows, err := jsonl.ReadLog[Validation](v.path())
	for i, x := range rows {
		if x.Step > step {
			return rows[:i], err
		}
	}
	return rows, err
}

func (v *validator) path() string { return filepath.Join(v.r.Config.OutputDir, ValidationFile) }

// remember updates the best validation. The base model, at step 0, is not a candidate for the best model.
func (v *validator) remember(x *Validation) {
	v.warnings = append(v.warnings, x.Warning)
	if x.Step == 0 {
		v.before = x
		return
	}
	if x.Best = x.better(v.best); x.Best {
		v.best, v.sinceBest = *x, 0
	} else {
		v.sinceBest++
	}
}

// checkEarlyStop returns errEarlyStop if the last early_stop validations were not better.
func (v *validator) checkEarlyStop() error {
	if n := v.r.Config.EarlyStop; n > 0 && v.sinceBest >= n {
		return errEarlyStop
	}
	return nil
}

// OnStep validates every eval_steps and after the last step.
func (v *validator) OnStep(t *ortrain.Trainer, s ortrain.Step) error {
	if !v.due(s.Step, s.Total) {
		return nil
	}
	return v.validate(t, s.Step)
}

// due says whether there is a validation after a step.
func (v *validator) due(step, total int) bool {
	every := v.r.Config.EvalSteps
	return step == total || every > 0 && step%every == 0
}

// validate measures the model after a step, and saves the model if it is the best one. An error of one rank's writing ends the
// others too, because hooks run in step.
func (v *validator) validate(t *ortrain.Trainer, step int) error {
	x, err := v.measure(t, step)
	if err != nil {
		return fmt.Errorf("validation at step %d: %w", step, err)
	}
	v.remember(&x)
	if v.r.isFirst() {
		if err := v.write(x); err != nil {
			return err
		}
	}
	return v.checkEarlyStop()
}

// write writes a validation, and the model if it is the best one.
func (v *validator) write(x Validation) error {
	if x.Best {
		if err := v.r.saveModel(v.before, &x); err != nil {
			return err
		}
	}
	if err := v.appendRow(x); err != nil {
		return err
	}
	if v.onValidation != nil {
		return v.onValidation(x)
	}
	return nil
}

// OnEnd does nothing.
func (v *validator) OnEnd(*ortrain.Trainer, error) error { return nil }

func (v *validator) appendRow(x Validation) (err error) {
	f, err := os.OpenFile(v.path(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if _, err = f.Write(append(b, '\n')); err != nil {
		return err
	}
	return f.Sync() // after a power cut, a checkpoint must still find its validations
}

// measure computes loss and metrics with the current parameters, after a step.
func (v *validator) measure(t *ortrain.Trainer, step int) (x Validation, err error) {
	x.Step = step
	equal := 0.0
	if x.NoLoss = v.r.Config.LossType == "stella"; !x.NoLoss {
		if x.Loss, equal, err = v.loss(t); err != nil {
			return x, err
		}
	}
	scores, err := v.r.task.Score(v.ctx, t, v.ranks, v.samples)
	if err != nil {
		return x, err
	}
	m, err := mteb.Evaluate(mteb.Rule1, v.samples, scores)
	x.MAP, x.MRR = m.AP, m.RR
	s := spreadOf(scores)
	x.Collapsed = s.flat()
	if problems := slices.DeleteFunc(v.r.problems(x, equal, s), v.warnedOf); len(problems) > 0 {
		x.Warning = v.r.warning(problems[0], x, equal, s)
	}
	return x, err
}

// warnedOf says whether an earlier validation has a warning of this problem.
func (v *validator) warnedOf(problem string) bool {
	return slices.ContainsFunc(v.warnings, func(w string) bool { return strings.Contains(w, problem) })
}

// loss computes the mean loss over all validation rows, in order and without dropout, and the loss of equal scores; see
// ortrain.Batch.EqualScoresLoss. The ranks share its batches, which are those of one rank.
func (v *validator) loss(t *ortrain.Trainer) (loss, equal float64, err error) {
	size := v.r.Config.BatchSize
	if v.r.gather { // as in training, a query is compared with the passages of as many queries as all ranks have
		size *= v.r.comm.Size()
	}
	inOrder := data.Batching{BatchSize: size, Accumulation: 1, MinBatch: v.r.task.MinBatch()}
	source := v.data.Source(inOrder, v.r.collate)
	costs := make([]float64, inOrder.StepsPerEpoch(v.data.Len()))
	for i := range costs {
		costs[i] = 1
	}
	results, err := v.ranks.Deal(v.ctx, costs, func(i int) ([]byte, error) {
		batches, err := source(i)
		if err != nil {
			return nil, err
		}
		return evalLosses(t, batches)
	})
	if err != nil {
		return 0, 0, err
	}
	rows := 0.0
	for _, b := range results { // in the same order on all ranks, for the same sum
		for ; len(b) >= batchLossLen; b = b[batchLossLen:] {
			n := float64From(b[8:])
			loss, equal, rows = loss+float64From(b)*n, equal+float64From(b[16:])*n, rows+n
		}
	}
	return loss / max(1, rows), equal / max(1, rows), nil // rows with a constant loss do not count
}

// batchLossLen is the length of what one rank tells the others of a micro-batch: loss, rows, loss of equal scores.
const batchLossLen = 3 * 8

// evalLosses computes the losses of micro-batches. It returns the loss, the number of rows and the loss of equal scores of each.
func evalLosses(t *ortrain.Trainer, batches []*ortrain.Batch) ([]byte, error) {
	var out []byte
	for _, b := range batches {
		loss, err := t.EvalLoss(b)
		if err != nil {
			return nil, err
		}
		for _, x := range []float64{loss, float64(b.Rows), equalScoresLoss([]*ortrain.Batch{b})} {
			out = binary.LittleEndian.AppendUint64(out, math.Float64bits(x))
		}
	}
	return out, nil
}

func float64From(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) }
