// Package record shows the progress of a training run and writes its measurements: metrics.jsonl, TensorBoard's event
// files, train.json and report.html. It shows progress only on the writer that the caller gives.
//
//	log := record.NewLog(outputDir, 10, os.Stderr)
//	err = run.Train(ctx, log.Validated, log)
//	err = log.Finish(run)
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/memory"
	"rag-retrieval-go/internal/progress"
	"rag-retrieval-go/internal/tfevents"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/ortrain"
)

// Names in a run's output folder.
const (
	MetricsFile    = "metrics.jsonl"
	SummaryFile    = "train.json"
	TensorBoardDir = "tensorboard"
)

// Row is a line of metrics.jsonl. There is one for each step.
type Row struct {
	Step     int     `json:"step"`
	Loss     float64 `json:"loss"`
	GradNorm float64 `json:"grad_norm"`
	LR       float64 `json:"lr"`
	Rows     int     `json:"rows"`
	Tokens   int     `json:"tokens"`
	Seconds  float64 `json:"seconds"`   // of training in this process so far, without validations
	MemoryMB float64 `json:"memory_mb"` // resident memory after the step
	// The times of this step, see ortrain.Times. The seconds that it took, less those in graph and optimizer, passed outside of kernels.
	GraphSeconds     float64 `json:"graph_seconds"`
	OptimizerSeconds float64 `json:"optimizer_seconds"`
	BatchWaitSeconds float64 `json:"batch_wait_seconds"`
	PreparingSeconds float64 `json:"preparing_cpu_seconds"` // of making its batches, in another thread, while earlier steps computed
	// TransferSeconds and WaitingSeconds are those of a job's ranks in collective operations, in the steps before this one in
	// this process: see ortrain.Step.
	TransferSeconds float64 `json:"transfer_seconds,omitempty"`
	WaitingSeconds  float64 `json:"waiting_seconds,omitempty"`
	// LossScale and Skipped are set in float16 training. Skipped counts the steps that overflowed so far.
	LossScale float64 `json:"loss_scale,omitempty"`
	Skipped   int     `json:"skipped_steps,omitempty"`
	Warning   string  `json:"warning,omitempty"` // what cannot be right in the first step, without validation data
}

// Summary is the content of train.json. It covers the whole run, also where it was resumed: the steps before come from
// metrics.jsonl.
type Summary struct {
	Model           string  `json:"model"`
	Steps           int     `json:"steps"`
	Loss            float64 `json:"loss"`    // smoothed over the last steps
	Seconds         float64 `json:"seconds"` // of training, without validations and without steps that were lost in a crash
	Tokens          int     `json:"tokens"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	PeakMemoryMB    float64 `json:"peak_memory_mb"` // of the parts before the last resume, only the most after a step
	Precision       string  `json:"precision"`      // of the encoder's products: fp32, bf16-amx, bf16-avx512, …, or on cuda fp16, bf16
}

// Log is a hook that shows and records every step.
type Log struct {
	dir      string
	interval int
	out      io.Writer

	bar                  *progress.Bar
	file                 *os.File
	events               *tfevents.Writer
	started              time.Time
	lastStepEnd          time.Time // the time since then went into saving
	before               totals    // of the steps before a resume
	all                  totals    // of all steps; its seconds are those of before
	warning              string
	constantLossReported bool // the message about a batch with a constant loss is shown only once
}

// totals sum up steps.
type totals struct {
	steps, rows, tokens int
	loss                float64 // an exponential moving average
	seconds             float64
	memoryMB            float64 // the most after a step
}

// add adds a step.
func (t *totals) add(loss float64, rows, tokens int) {
	if t.steps == 0 {
		t.loss = loss
	}
	t.steps, t.rows, t.tokens = t.steps+1, t.rows+rows, t.tokens+tokens
	t.loss += 0.1 * (loss - t.loss)
}

// totalsOf sums up the steps of a metrics file.
func totalsOf(rows []Row) (t totals) {
	for i, r := range rows {
		t.add(r.Loss, r.Rows, r.Tokens)
		t.seconds, t.memoryMB = t.seconds+stepSeconds(rows, i), max(t.memoryMB, r.MemoryMB)
	}
	return t
}

// NewLog records a run in its output folder dir, and shows progress and messages on out. On a terminal, progress is a bar;
// otherwise it is one line every interval steps.
func NewLog(dir string, interval int, out io.Writer) *Log {
	return &Log{dir: dir, interval: interval, out: out}
}

// OnStart opens the files. In a resumed run it first removes the steps after the checkpoint from them.
func (l *Log) OnStart(t *ortrain.Trainer) (err error) {
	done := t.StepsDone()
	path := filepath.Join(l.dir, MetricsFile)
	rows, err := dropLaterSteps(path, done)
	if err != nil {
		return err
	}
	if l.before = totalsOf(rows); l.before.steps < done {
		fmt.Fprintf(l.out, "%s has %d of the %d steps before: loss, tokens and seconds of the whole run do without the others\n", path, l.before.steps, done)
	}
	if l.all = l.before; done > 0 && done < t.TotalSteps() {
		fmt.Fprintf(l.out, "going on after step %d: the loss below is that of the whole run, tokens/s are those of this part\n", done)
	}
	l.started = time.Now()
	l.lastStepEnd = l.started // a finished run that is resumed has no further step
	l.bar = progress.New(l.out, "training", t.TotalSteps(), l.interval)
	l.bar.Start(done)
	if l.file, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	l.events, err = tfevents.Create(filepath.Join(l.dir, TensorBoardDir), done)
	return err
}

// dropLaterSteps removes the rows after a step from a metrics file, and returns the others. A killed run may have gone further than
// its last checkpoint.
func dropLaterSteps(path string, steps int) ([]Row, error) {
	rows, err := jsonl.ReadLog[Row](path)
	if err != nil || rows == nil {
		return nil, err
	}
	for len(rows) > 0 && rows[len(rows)-1].Step > steps {
		rows = rows[:len(rows)-1]
	}
	return rows, jsonl.Write(path, rows)
}

// Warn implements finetune.Warner: it shows the message at once and records it with the next step.
func (l *Log) Warn(message string) error {
	l.bar.Print(message)
	l.warning = message
	return nil
}

// OnStep shows and records a step.
func (l *Log) OnStep(_ *ortrain.Trainer, s ortrain.Step) error {
	if s.ConstantLossRow != "" && !l.constantLossReported {
		l.constantLossReported = true
		l.bar.Print(fmt.Sprintf("step %d: the batch with %s taught nothing: its passages do not differ for the loss (reported once)", s.Step, s.ConstantLossRow))
	}
	seconds := time.Since(l.lastStepEnd).Seconds()
	l.lastStepEnd = time.Now()
	l.all.add(s.Loss, s.Rows, s.Tokens)
	spent, held := l.seconds(), float64(memory.Resident())/1e6
	l.bar.Set(s.Step, fmt.Sprintf("loss %.4f  lr %.2g  norm %.3g  %.0f tokens/s  %.2f GB",
		l.all.loss, s.LearningRate, s.GradNorm, float64(l.all.tokens-l.before.tokens)/spent, held/1e3)+skippedText(s))
	b, err := json.Marshal(Row{
		Step: s.Step, Loss: s.Loss, GradNorm: s.GradNorm, LR: s.LearningRate, Rows: s.Rows, Tokens: s.Tokens, Seconds: spent, MemoryMB: held,
		GraphSeconds: s.Times.Graph, OptimizerSeconds: s.Times.Optimizer, BatchWaitSeconds: s.Times.Waiting, PreparingSeconds: s.Times.Preparing,
		TransferSeconds: s.Transfer, WaitingSeconds: s.Waiting, LossScale: s.LossScale, Skipped: s.Skipped, Warning: l.warning,
	})
	l.warning = ""
	if err != nil {
		return err
	}
	if _, err := l.file.Write(append(b, '\n')); err != nil {
		return err
	}
	return l.events.Scalars(s.Step,
		tfevents.Scalar{Tag: "train/loss", Value: s.Loss}, tfevents.Scalar{Tag: "train/learning_rate", Value: s.LearningRate},
		tfevents.Scalar{Tag: "train/grad_norm", Value: s.GradNorm},
		tfevents.Scalar{Tag: "train/tokens_per_second", Value: float64(s.Tokens) / seconds},
		tfevents.Scalar{Tag: "train/memory_mb", Value: held})
}

// seconds are those of training in this process, up to its last step.
func (l *Log) seconds() float64 { return l.lastStepEnd.Sub(l.started).Seconds() }

// skippedText says how many steps overflowed and so changed nothing.
func skippedText(s ortrain.Step) string {
	if s.Skipped == 0 {
		return ""
	}
	return fmt.Sprintf("  %d skipped, scale %g", s.Skipped, s.LossScale)
}

// Validated shows and records a validation. Its time does not count as training time.
func (l *Log) Validated(v finetune.Validation) error {
	now := time.Now()
	spent := now.Sub(l.lastStepEnd)
	l.started, l.lastStepEnd = l.started.Add(spent), now
	l.bar.Skip(spent)
	best := ""
	if v.Best {
		best = "  (best so far)"
	}
	l.bar.Print(fmt.Sprintf("validation at step %d: loss %s  MAP %.2f  MRR@10 %.2f%s", v.Step, v.LossText(), 100*v.MAP, 100*v.MRR, best))
	if v.Warning != "" {
		l.bar.Print(v.Warning)
	}
	scalars := []tfevents.Scalar{{Tag: "validation/map", Value: v.MAP}, {Tag: "validation/mrr", Value: v.MRR}}
	if !v.NoLoss {
		scalars = append(scalars, tfevents.Scalar{Tag: "validation/loss", Value: v.Loss})
	}
	return l.events.Scalars(v.Step, scalars...)
}

// OnEnd closes the files.
func (l *Log) OnEnd(_ *ortrain.Trainer, _ error) error {
	if l.bar != nil {
		l.bar.Done()
	}
	var errs []error
	if l.file != nil {
		errs = append(errs, l.file.Close())
	}
	if l.events != nil {
		errs = append(errs, l.events.Close())
	}
	return errors.Join(errs...)
}

// Finish writes train.json and report.html after the last step, and shows a summary.
func (l *Log) Finish(run *finetune.Run) error {
	_, err := os.Stat(filepath.Join(l.dir, SummaryFile))
	if l.all.steps == l.before.steps {
		fmt.Fprintln(l.out, "all steps were done before")
	}
	if l.all.steps > l.before.steps || err != nil { // a run may have been stopped between its last step and the summary
		if err := l.summarize(run); err != nil {
			return err
		}
	}
	if err := WriteReport(run); err != nil {
		return fmt.Errorf("%s: %w", ReportFile, err)
	}
	fmt.Fprintf(l.out, "report: %s\n", filepath.Join(l.dir, ReportFile))
	return nil
}

func (l *Log) summarize(run *finetune.Run) error {
	part := l.seconds()
	seconds, peak := l.before.seconds+part, max(float64(memory.Peak())/1e6, l.before.memoryMB)
	s := Summary{
		Model: run.ModelPath(), Precision: run.Precision(), Steps: run.Trainer.StepsDone(), Loss: l.all.loss, Seconds: seconds, Tokens: l.all.tokens, PeakMemoryMB: peak,
	}
	if seconds > 0 { // JSON has no NaN
		s.TokensPerSecond = float64(l.all.tokens) / seconds
	}
	if err := atomicdir.WriteJSON(filepath.Join(l.dir, SummaryFile), s); err != nil {
		return err
	}
	fmt.Fprintf(l.out, "%d examples in %.0f s, %.0f tokens/s, loss %.4f, at most %.2f GB\n", l.all.rows, seconds, s.TokensPerSecond, s.Loss, peak/1e3)
	if steps := l.all.steps - l.before.steps; l.before.steps > 0 && steps > 0 {
		fmt.Fprintf(l.out, "of these in this part: %d steps in %.0f s, %.0f tokens/s\n", steps, part, float64(l.all.tokens-l.before.tokens)/part)
	}
	return nil
}
