// Package record shows a run while it trains and keeps what was measured: metrics.jsonl, TensorBoard's event files,
// train.json and report.html.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
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

// Row is a line of metrics.jsonl: one step.
type Row struct {
	Step     int     `json:"step"`
	Loss     float64 `json:"loss"`
	GradNorm float64 `json:"grad_norm"`
	LR       float64 `json:"lr"`
	Rows     int     `json:"rows"`
	Tokens   int     `json:"tokens"`
	Seconds  float64 `json:"seconds"`   // since the process began to train, validations not counted
	MemoryMB float64 `json:"memory_mb"` // resident after the step
	// Of float16 training: the scale, and how many steps of the run have overflowed so far and changed nothing.
	LossScale float64 `json:"loss_scale,omitempty"`
	Skipped   int     `json:"skipped_steps,omitempty"`
}

// Summary is train.json: the run as a whole, or since it was resumed.
type Summary struct {
	Model           string  `json:"model"`
	Steps           int     `json:"steps"`
	Loss            float64 `json:"loss"` // smoothed
	Seconds         float64 `json:"seconds"`
	Tokens          int     `json:"tokens"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	PeakMemoryMB    float64 `json:"peak_memory_mb"`
}

// Log is a hook that shows and keeps every step.
type Log struct {
	dir      string
	interval int

	bar    *progress.Bar
	file   *os.File
	events *tfevents.Writer
	begun  time.Time
	ended  time.Time // of the last step: what follows is saving
	first  int       // steps done before this run
	tokens int
	rows   int
	smooth float64 // the loss, smoothed for showing
	last   ortrain.Step
	idle   bool // a batch in which there was nothing to tell apart was spoken of
}

// NewLog keeps a run in its output folder. Without a terminal it writes a line every interval steps.
func NewLog(dir string, interval int) *Log { return &Log{dir: dir, interval: interval} }

// OnStart opens the files; of a resumed run, steps after its checkpoint are dropped from them.
func (l *Log) OnStart(t *ortrain.Trainer) (err error) {
	l.first, l.begun = t.StepsDone(), time.Now()
	l.ended = l.begun // a finished run that is resumed has no further step
	l.bar = progress.New("training", t.TotalSteps(), l.interval)
	l.bar.Start(l.first)
	path := filepath.Join(l.dir, MetricsFile)
	if err := keepSteps(path, l.first); err != nil {
		return err
	}
	if l.file, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	l.events, err = tfevents.Create(filepath.Join(l.dir, TensorBoardDir), l.first)
	return err
}

// keepSteps leaves the rows of the first steps in a log: a run that was killed had gone on after its last checkpoint.
func keepSteps(path string, steps int) error {
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

// OnStep shows and keeps a step.
func (l *Log) OnStep(_ *ortrain.Trainer, s ortrain.Step) error {
	if s.Step == l.first+1 {
		l.smooth = s.Loss
	}
	if s.ConstantLossRow != "" && !l.idle {
		l.idle = true
		l.bar.Say(fmt.Sprintf("step %d: the loss of the batch with %s taught nothing: no passages of it are to be told apart (said once)", s.Step, s.ConstantLossRow))
	}
	seconds := time.Since(l.ended).Seconds()
	l.tokens, l.rows, l.last, l.ended = l.tokens+s.Tokens, l.rows+s.Rows, s, time.Now()
	l.smooth += 0.1 * (s.Loss - l.smooth)
	spent, held := l.ended.Sub(l.begun).Seconds(), float64(memory.Resident())/1e6
	l.bar.Set(s.Step, fmt.Sprintf("loss %.4f  lr %.2g  norm %.3g  %.0f tokens/s  %.2f GB",
		l.smooth, s.LearningRate, s.GradNorm, float64(l.tokens)/spent, held/1e3)+skipped(s))
	b, err := json.Marshal(Row{s.Step, s.Loss, s.GradNorm, s.LearningRate, s.Rows, s.Tokens, spent, held, s.LossScale, s.Skipped})
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

// skipped tells of steps that changed nothing.
func skipped(s ortrain.Step) string {
	if s.Skipped == 0 {
		return ""
	}
	return fmt.Sprintf("  %d skipped, scale %g", s.Skipped, s.LossScale)
}

// Validated shows a validation.
func (l *Log) Validated(v finetune.Validation) error {
	now := time.Now() // a validation is no training
	spent := now.Sub(l.ended)
	l.begun, l.ended = l.begun.Add(spent), now
	l.bar.Skip(spent)
	best := ""
	if v.Best {
		best = "  (best so far)"
	}
	l.bar.Say(fmt.Sprintf("validation at step %d: loss %s  MAP %.2f  MRR@10 %.2f%s", v.Step, v.LossText(), 100*v.MAP, 100*v.MRR, best))
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

// Finish writes train.json and report.html of a run that is done, and says on stderr how it went.
func (l *Log) Finish(run *finetune.Run) error {
	if l.tokens == 0 {
		fmt.Fprintln(os.Stderr, "all steps were done before")
	} else if err := l.summarize(run.ModelPath()); err != nil {
		return err
	}
	if err := WriteReport(run); err != nil {
		return fmt.Errorf("%s: %w", ReportFile, err)
	}
	fmt.Fprintf(os.Stderr, "report: %s\n", filepath.Join(l.dir, ReportFile))
	return nil
}

func (l *Log) summarize(model string) error {
	seconds := l.ended.Sub(l.begun).Seconds()
	err := atomicdir.WriteJSON(filepath.Join(l.dir, SummaryFile), Summary{
		Model: model, Steps: l.last.Step, Loss: l.smooth, Seconds: seconds, Tokens: l.tokens,
		TokensPerSecond: float64(l.tokens) / seconds, PeakMemoryMB: float64(memory.Peak()) / 1e6,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d examples in %.0f s, %.0f tokens/s, loss %.4f, at most %.2f GB\n",
		l.rows, seconds, float64(l.tokens)/seconds, l.smooth, float64(memory.Peak())/1e9)
	return nil
}
