package finetune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
)

// ValidationFile has a row for each validation of a run.
const ValidationFile = "validation.jsonl"

// Validation is one measurement on the validation file.
type Validation struct {
	Step int     `json:"step"`
	Loss float64 `json:"loss"`
	// NoLoss says that the loss cannot be told: a teacher has vectors of the training rows only.
	NoLoss bool    `json:"no_loss,omitempty"`
	MAP    float64 `json:"map"`
	MRR    float64 `json:"mrr"`
	Best   bool    `json:"best"` // by MAP, by loss where it is equal; its model was saved
}

// better says whether v is to be preferred to the best one so far.
func (v Validation) better(best Validation) bool {
	return best.Step == 0 || v.MAP > best.MAP || v.MAP == best.MAP && v.Loss < best.Loss
}

// LossText is the loss for showing.
func (v Validation) LossText() string {
	if v.NoLoss {
		return "unknown"
	}
	return fmt.Sprintf("%.4f", v.Loss)
}

// errStopped ends a run early.
var errStopped = errors.New("no better validation for early_stop times")

// validator measures every eval_steps, keeps the best model, and stops a run that gets no better.
type validator struct {
	r       *Run
	ctx     context.Context
	data    *data.Dataset
	samples []mteb.Sample
	before  *Validation // of the base model
	best    Validation
	stale   int // validations since the best one
	tell    func(Validation) error
}

// openValidation reads the validation file, if there is one.
func (r *Run) openValidation(ctx context.Context) error {
	c := r.Config
	if len(c.ValDataset) == 0 {
		return nil
	}
	o := r.rowOptions()
	o.Form, o.FormKey = forms[c.ValDatasetType], "val_dataset_type"
	if c.ValLabelKey != "" {
		o.LabelKey = c.ValLabelKey
	}
	d, err := r.openRows(ctx, c.ValDataset, o)
	if err != nil {
		return fmt.Errorf("val_dataset: %w", err)
	}
	r.validation = &validator{r: r, ctx: ctx, data: d}
	r.validation.samples, err = samples(d, c.MinLabel)
	if err != nil {
		return fmt.Errorf("val_dataset: %w", err)
	}
	return nil
}

// others is how many other rows' positives stand in for negatives where a row has none.
const others = 19

// samples makes reranking samples of training rows: positives are "pos", or passages with a label above low; negatives
// "neg", or the other passages. Passages of rows with the same query belong together. Where no row has negatives, the
// positives of other rows are.
func samples(d *data.Dataset, low float64) ([]mteb.Sample, error) {
	var out []mteb.Sample
	index := map[prompt.Text]int{}
	for i := range d.Len() {
		if d.Item(i) > 0 {
			continue // of a row that was read
		}
		e, err := d.Example(i)
		if err != nil {
			return nil, err
		}
		text := e.Row.QueryText()
		k, ok := index[text]
		if !ok {
			k = len(out)
			index[text] = k
			out = append(out, mteb.Sample{ID: fmt.Sprint(k), Query: []string{text.Text}, Prompt: text.Own, From: d.Place(i)})
		}
		addPassages(&out[k], e.Row, low)
	}
	if !slices.ContainsFunc(out, func(s mteb.Sample) bool { return len(s.Negative) > 0 }) {
		borrowNegatives(out)
	}
	kept := out[:0]
	for _, s := range out {
		if len(s.Positive) > 0 && len(s.Negative) > 0 {
			kept = append(kept, s)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("%s: no query has both a positive and a negative passage", d.Name())
	}
	return kept, nil
}

// borrowNegatives gives each sample the first positives of the samples behind it.
func borrowNegatives(samples []mteb.Sample) {
	for i := range samples {
		s := &samples[i]
		for j := 1; j <= min(others, len(samples)-1); j++ {
			other := samples[(i+j)%len(samples)].Positive
			if len(other) > 0 && !slices.Contains(s.Positive, other[0]) {
				s.Negative = append(s.Negative, other[0])
			}
		}
	}
}

func addPassages(s *mteb.Sample, r data.Row, low float64) {
	add := func(text string, label float64) {
		if label > low {
			s.Positive = append(s.Positive, text)
		} else {
			s.Negative = append(s.Negative, text)
		}
	}
	switch r.Form() {
	case data.Labeled:
		add(*r.Content, *r.Label)
	case data.Grouped:
		for _, h := range r.Hits {
			add(*h.Content, *h.Label)
		}
	case data.Scored: // a teacher's best passage counts as the positive one
		best := 0
		for i, x := range r.Scores {
			if x > r.Scores[best] {
				best = i
			}
		}
		for i, text := range r.Pos {
			add(text, map[bool]float64{true: low + 1, false: low}[i == best])
		}
	default:
		s.Positive = append(s.Positive, r.Pos...)
		s.Negative = append(s.Negative, r.Neg...)
	}
}

// OnStart validates the base model, or takes up what an earlier run found and validates where that was stopped before
// it could.
func (v *validator) OnStart(t *ortrain.Trainer) error {
	step := t.StepsDone()
	if step == 0 {
		return v.validate(t, 0)
	}
	kept, err := v.restore(step)
	if err != nil {
		return err
	}
	if v.due(step, t.TotalSteps()) && (len(kept) == 0 || kept[len(kept)-1].Step != step) {
		return v.validate(t, step)
	}
	return v.stop()
}

// restore reads the validations up to a step, and drops later ones from the log: those of a run that went further than
// its checkpoint.
func (v *validator) restore(step int) (kept []Validation, err error) {
	path := filepath.Join(v.r.Config.OutputDir, ValidationFile)
	rows, err := jsonl.ReadLog[Validation](path)
	if err != nil || rows == nil { // nil: the run was stopped before the first validation
		return nil, err
	}
	for _, x := range rows {
		if x.Step > step {
			break
		}
		v.count(&x)
		kept = append(kept, x)
	}
	return kept, jsonl.Write(path, kept)
}

// count remembers a validation. The base model's is there to compare with.
func (v *validator) count(x *Validation) {
	if x.Step == 0 {
		v.before = x
		return
	}
	if x.Best = x.better(v.best); x.Best {
		v.best, v.stale = *x, 0
	} else {
		v.stale++
	}
}

func (v *validator) stop() error {
	if n := v.r.Config.EarlyStop; n > 0 && v.stale >= n {
		return errStopped
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

// due says whether a step is followed by a validation.
func (v *validator) due(step, total int) bool {
	every := v.r.Config.EvalSteps
	return step == total || every > 0 && step%every == 0
}

// validate measures the model after a step, and keeps it if it is the best one.
func (v *validator) validate(t *ortrain.Trainer, step int) error {
	x, err := v.measure(t)
	if err != nil {
		return fmt.Errorf("validation at step %d: %w", step, err)
	}
	x.Step = step
	if v.count(&x); x.Best {
		if err := v.r.saveModel(v.before, &x); err != nil {
			return err
		}
	}
	if err := v.log(x); err != nil {
		return err
	}
	if v.tell != nil {
		if err := v.tell(x); err != nil {
			return err
		}
	}
	return v.stop()
}

// OnEnd has nothing to do.
func (v *validator) OnEnd(*ortrain.Trainer, error) error { return nil }

func (v *validator) log(x Validation) (err error) {
	f, err := os.OpenFile(filepath.Join(v.r.Config.OutputDir, ValidationFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
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
	return f.Sync() // a checkpoint that lasts through a power cut must find its best validation
}

// measure gives the loss and the metrics of the model as it is.
func (v *validator) measure(t *ortrain.Trainer) (x Validation, err error) {
	if x.NoLoss = v.r.Config.LossType == "stella"; !x.NoLoss {
		if x.Loss, err = v.loss(t); err != nil {
			return x, err
		}
	}
	scores, err := v.r.task.Score(v.ctx, t, v.samples)
	if err != nil {
		return x, err
	}
	m, err := mteb.Evaluate(mteb.Rule1, v.samples, scores)
	x.MAP, x.MRR = m.AP, m.RR
	return x, err
}

// loss is the mean loss without dropout over the file's rows in order.
func (v *validator) loss(t *ortrain.Trainer) (float64, error) {
	sum, rows := 0.0, 0
	inOrder := data.Batching{BatchSize: v.r.Config.BatchSize, Accumulation: 1, MinBatch: v.r.task.MinBatch()}
	source := v.data.Source(inOrder, v.r.collate)
	for i := range inOrder.StepsPerEpoch(v.data.Len()) {
		batches, err := source(i)
		if err != nil {
			return 0, err
		}
		for _, b := range batches {
			loss, err := t.EvalLoss(b)
			if err != nil {
				return 0, err
			}
			sum += loss * float64(b.Rows)
			rows += b.Rows
		}
	}
	return sum / float64(max(1, rows)), nil // groups without a difference do not count
}
