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

// Summary is the content of train.json. It covers the run since it was started or last resumed.
type Summary struct {
	Model           string  `json:"model"`
	Steps           int     `json:"steps"`
	Loss            float64 `json:"loss"` // smoothed over the last steps
	Seconds         float64 `json:"seconds"`
	Tokens          int     `json:"tokens"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	PeakMemoryMB    float64 `json:"peak_memory_mb"`
	Precision       string  `json:"precision"` // of the encoder's products: fp32, bf16-amx, bf16-avx512, …, or on cuda fp16, bf16
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
	stepsBefore          int       // steps done before a resume
	tokens               int
	rows                 int
	smoothedLoss         float64 // an exponential moving average
	last                 ortrain.Step
	warning              string
	constantLossReported bool // the message about a batch with a constant loss is shown only once
}

// NewLog records a run in its output folder dir, and shows progress and messages on out. On a terminal, progress is a bar;
// otherwise it is one line every interval steps.
func NewLog(dir string, interval int, out io.Writer) *Log {
	return &Log{dir: dir, interval: interval, out: out}
}

// OnStart opens the files. In a resumed run it first removes the steps after the checkpoint from them.
func (l *Log) OnStart(t *ortrain.Trainer) (err error) {
	l.stepsBefore, l.started = t.StepsDone(), time.Now()
	l.lastStepEnd = l.started // a finished run that is resumed has no further step
	l.bar = progress.New(l.out, "training", t.TotalSteps(), l.interval)
	l.bar.Start(l.stepsBefore)
	path := filepath.Join(l.dir, MetricsFile)
	if err := dropLaterSteps(path, l.stepsBefore); err != nil {
		return err
	}
	if l.file, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	l.events, err = tfevents.Create(filepath.Join(l.dir, TensorBoardDir), l.stepsBefore)
	return err
}

// dropLaterSteps removes the rows after a step from a metrics file. A killed run may have gone further than its last
// checkpoint.
func dropLaterSteps(path string, steps int) error {
	rows, err := jsonl.ReadLog[Row](path)
	if err != nil {
		return err
	}
	for len(rows) > 0 && rows[len(rows)-1].Step > steps {
		rows = rows[:len(rows)-1]
	}
	if rows == nil {
		return nil
	}
	return jsonl.Write(path, rows)
}

// Warn implements finetune.Warner: it shows the message at once and records it with the next step.
func (l *Log) Warn(message string) error {
	l.bar.Print(message)
	l.warning = message
	return nil
}

// OnStep shows and records a step.
func (l *Log) OnStep(_ *ortrain.Trainer, s ortrain.Step) error {
	if s.Step == l.stepsBefore+1 {
		l.smoothedLoss = s.Loss
	}
	if s.ConstantLossRow != "" && !l.constantLossReported {
		l.constantLossReported = true
		l.bar.Print(fmt.Sprintf("step %d: the batch with %s taught nothing: its passages do not differ for the loss (reported once)", s.Step, s.ConstantLossRow))
	}
	seconds := time.Since(l.lastStepEnd).Seconds()
	l.tokens, l.rows, l.last, l.lastStepEnd = l.tokens+s.Tokens, l.rows+s.Rows, s, time.Now()
	l.smoothedLoss += 0.1 * (s.Loss - l.smoothedLoss)
	spent, held := l.lastStepEnd.Sub(l.started).Seconds(), float64(memory.Resident())/1e6
	l.bar.Set(s.Step, fmt.Sprintf("loss %.4f  lr %.2g  norm %.3g  %.0f tokens/s  %.2f GB",
		l.smoothedLoss, s.LearningRate, s.GradNorm, float64(l.tokens)/spent, held/1e3)+skippedText(s))
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
	if l.tokens == 0 {
		fmt.Fprintln(l.out, "all steps were done before")
	} else if err := l.summarize(run); err != nil {
		return err
	}
	if err := WriteReport(run); err != nil {
		return fmt.Errorf("%s: %w", ReportFile, err)
	}
	fmt.Fprintf(l.out, "report: %s\n", filepath.Join(l.dir, ReportFile))
	return nil
}

func (l *Log) summarize(run *finetune.Run) error {
	seconds := l.lastStepEnd.Sub(l.started).Seconds()
	err := atomicdir.WriteJSON(filepath.Join(l.dir, SummaryFile), Summary{
		Model: run.ModelPath(), Precision: run.Precision(), Steps: l.last.Step, Loss: l.smoothedLoss, Seconds: seconds, Tokens: l.tokens,
		TokensPerSecond: float64(l.tokens) / seconds, PeakMemoryMB: float64(memory.Peak()) / 1e6,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(l.out, "%d examples in %.0f s, %.0f tokens/s, loss %.4f, at most %.2f GB\n",
		l.rows, seconds, float64(l.tokens)/seconds, l.smoothedLoss, float64(memory.Peak())/1e9)
	return nil
}
