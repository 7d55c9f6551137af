package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/progress"
	"rag-retrieval-go/models/card"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/refs"
	"rag-retrieval-go/ortrain"
)

// Files of a run's output folder that this command writes.
const (
	logFile     = "metrics.jsonl"
	summaryFile = "train.json"
)

func trainCommand() *cli.Command {
	return &cli.Command{
		Name: "train", Usage: "fine-tune a model",
		HideHelpCommand: true,
		Description: `Examples:
  rag-retrieval train embedding --model MODEL --train-dataset pairs.jsonl --output-dir out
  rag-retrieval train --config run.yaml      # the file's key "kind" says which
  rag-retrieval train reranker --help        # rows, losses and keys of a kind`,
		Flags: runFlags(""),
		Subcommands: kindCommands(func(k card.Kind, x kind) *cli.Command {
			return &cli.Command{
				Name: string(k), Usage: x.usage,
				Description: x.describe() + fmt.Sprintf(`

The output folder gets model/ (loads in sentence-transformers and transformers; with model.onnx), artifacts/ (the
training graphs and the checkpoint), config.yaml, metrics.jsonl and train.json.

Examples:
  rag-retrieval train %[1]s --model MODEL %[2]s --output-dir out
  rag-retrieval train %[1]s --config run.yaml --lr 5e-5 --epochs 1
  rag-retrieval train %[1]s --config run.yaml --resume`, k, x.example),
				Flags: runFlags(k), OnUsageError: onUsageError, Action: func(c *cli.Context) error { return train(c, k) },
			}
		}),
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			switch {
			case c.Args().Present():
				return noKind(c)
			case !c.IsSet("config"):
				return cli.ShowSubcommandHelp(c)
			}
			return train(c, "")
		},
	}
}

// runFlags are the configuration's keys of a kind, all of them for none, and how to run.
func runFlags(k card.Kind) []cli.Flag {
	return append(trainFlags(k),
		&cli.BoolFlag{Name: "resume", Usage: "go on from the checkpoint in the output folder"},
		&cli.BoolFlag{Name: "dry-run", Usage: "check everything and say what would run; write nothing"})
}

// train trains a model of kind k, or of the kind that the configuration file names.
func train(c *cli.Context, k card.Kind) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	cfg, err := trainConfig(c, k)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return dryRun(c.Context, cfg)
	}
	run, err := finetune.Prepare(c.Context, cfg, kinds[cfg.Kind].newTask, version)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	sayBadRows(run)
	if c.Bool("resume") {
		err = run.Resume(func(damaged error) { fmt.Fprintln(os.Stderr, damaged) })
	} else {
		err = run.Start()
	}
	if err != nil {
		return err
	}
	h := &trainLog{dir: cfg.OutputDir, interval: cfg.LogInterval}
	err = run.Train(c.Context, h.validated, h)
	if errors.Is(err, ortrain.ErrInterrupted) {
		fmt.Fprintf(os.Stderr, "stopped after step %d; go on with: %s --resume\n", run.Trainer.StepsDone(), commandLine())
	}
	if err != nil {
		return err
	}
	return h.finish(run.ModelPath())
}

func sayBadRows(run *finetune.Run) {
	if run.Data.Skipped > 0 {
		fmt.Fprintf(os.Stderr, "%d bad rows were left out; the first: %s\n", run.Data.Skipped, run.Data.FirstBad)
	}
}

// dryRun checks model, data and settings, and says what would run, or what would have to be fetched first.
func dryRun(ctx context.Context, cfg config.Train) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	remote, missing := 0, 0
	for _, ref := range append(append([]string{cfg.Model}, cfg.TrainDataset...), cfg.ValDataset...) {
		if refs.Remote(ref) {
			fmt.Printf("would be fetched from the hub: %s\n", ref)
			remote++
		} else if _, err := os.Stat(ref); errors.Is(err, fs.ErrNotExist) {
			fmt.Printf("not there: %s\n", ref)
			missing++
		} else if err != nil {
			return err
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d files or folders are not there; the settings are valid", missing)
	}
	if remote > 0 {
		fmt.Println("the settings are valid; nothing was written")
		return nil
	}
	run, err := finetune.Prepare(ctx, cfg, kinds[cfg.Kind].newTask, version)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	sayBadRows(run)
	plan, err := run.Plan()
	if err != nil {
		return err
	}
	fmt.Print(plan)
	fmt.Println("nothing was written")
	return nil
}

// commandLine is how this run was started, without --resume.
func commandLine() string {
	var words []string
	for _, w := range os.Args {
		if w == "--resume" || w == "-resume" {
			continue
		}
		if strings.ContainsAny(w, " \t\"'$&|;<>()*?\\") || w == "" {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// trainLog shows a run's progress and writes its log.
type trainLog struct {
	dir      string
	interval int

	bar    *progress.Bar
	file   *os.File
	begun  time.Time
	ended  time.Time // of the last step: what follows is saving
	first  int       // steps done before this run
	tokens int
	rows   int
	smooth float64 // the loss, smoothed for showing
	last   ortrain.Step
}

// logRow is a line of metrics.jsonl.
type logRow struct {
	Step     int     `json:"step"`
	Loss     float64 `json:"loss"`
	GradNorm float64 `json:"grad_norm"`
	LR       float64 `json:"lr"`
	Tokens   int     `json:"tokens"`
	Seconds  float64 `json:"seconds"`
}

func (l *trainLog) OnStart(t *ortrain.Trainer) (err error) {
	l.first, l.begun = t.StepsDone(), time.Now()
	l.ended = l.begun // a finished run that is resumed has no further step
	l.bar = progress.New("training", t.Total(), l.interval)
	l.bar.Start(l.first)
	path := filepath.Join(l.dir, logFile)
	if err := keepSteps(path, l.first); err != nil {
		return err
	}
	l.file, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	return err
}

// keepSteps leaves the rows of the first steps in a log: a run that was killed had gone on after its last checkpoint.
func keepSteps(path string, steps int) error {
	f, err := jsonl.Open(path)
	if err != nil {
		return nil // no log yet, or none of its rows was written
	}
	defer f.Close()
	var kept []logRow
	for i := range f.Len() {
		var row logRow
		if err := f.Row(i, &row); err != nil && i < f.Len()-1 {
			return err
		} else if err != nil || row.Step > steps {
			break // the last row may be cut short
		}
		kept = append(kept, row)
	}
	return jsonl.Write(path, kept)
}

func (l *trainLog) OnStep(_ *ortrain.Trainer, s ortrain.Step) error {
	if s.Step == l.first+1 {
		l.smooth = s.Loss
	}
	l.tokens, l.rows, l.last, l.ended = l.tokens+s.Tokens, l.rows+s.Rows, s, time.Now()
	l.smooth += 0.1 * (s.Loss - l.smooth)
	spent := l.ended.Sub(l.begun).Seconds()
	l.bar.Set(s.Step, fmt.Sprintf("loss %.4f  lr %.2g  %.0f tokens/s", l.smooth, s.LearningRate, float64(l.tokens)/spent))
	b, err := json.Marshal(logRow{s.Step, s.Loss, s.GradNorm, s.LearningRate, s.Tokens, spent})
	if err != nil {
		return err
	}
	_, err = l.file.Write(append(b, '\n'))
	return err
}

// validated shows a validation.
func (l *trainLog) validated(v finetune.Validation) {
	l.begun = l.begun.Add(time.Since(l.ended)) // it is no training
	best := ""
	if v.Best {
		best = "  (best so far)"
	}
	l.bar.Say(fmt.Sprintf("validation at step %d: loss %.4f  MAP %.2f  MRR@10 %.2f%s", v.Step, v.Loss, 100*v.MAP, 100*v.MRR, best))
}

func (l *trainLog) OnEnd(_ *ortrain.Trainer, _ error) error {
	if l.bar != nil {
		l.bar.Done()
	}
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// finish writes the summary and says where the model lies.
func (l *trainLog) finish(model string) error {
	if l.tokens == 0 {
		fmt.Fprintln(os.Stderr, "all steps were done before")
		fmt.Println(model)
		return nil
	}
	seconds := l.ended.Sub(l.begun).Seconds()
	summary := map[string]any{
		"model": model, "steps": l.last.Step, "loss": l.smooth, "seconds": seconds, "tokens": l.tokens,
		"tokens_per_second": float64(l.tokens) / seconds,
	}
	b, err := json.MarshalIndent(summary, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(l.dir, summaryFile), append(b, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d examples in %.0f s, %.0f tokens/s, loss %.4f\n", l.rows, seconds, float64(l.tokens)/seconds, l.smooth)
	fmt.Println(model)
	return nil
}
