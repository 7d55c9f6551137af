// Command demo shows the program from end to end: it evaluates a model, fine-tunes it, evaluates it again, and prints one
// table. It calls the program's own commands. scripts/demo.sh runs it after the set-up.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/mteb"
)

const program = "bin/rag-retrieval"

// lengths are the flags for text lengths in training and in both evaluations.
var lengths = []string{"--query-max-len", "128", "--passage-max-len", "128"}

// metrics holds the results of one evaluation, as fractions.
type metrics struct {
	MAP     float64 `json:"map"`
	MRR     float64 `json:"mrr"`
	seconds float64
}

// result is the content of result.json.
type result struct {
	Before          metrics `json:"before"`
	After           metrics `json:"after"`
	TrainSeconds    float64 `json:"train_seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	Model           string  `json:"model"`

	out string
}

func main() {
	out := flag.String("out", "", "output folder (default: demo in the cache folder, replaced each time)")
	model := flag.String("model", ".rag-retrieval/models/all-MiniLM-L6-v2", "model to fine-tune")
	rows := flag.Int("train-rows", 2048, "training rows")
	queries := flag.Int("test-queries", 400, "test queries")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Usage of demo.sh:")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 || *rows < 1 || *queries < 1 {
		fmt.Fprintln(os.Stderr, "demo: want options only, and at least one training row and test query; see demo.sh --help")
		os.Exit(2)
	}
	if err := run(*out, *model, *rows, *queries); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) { // the command has printed its error
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(out, model string, rows, queries int) error {
	begun := time.Now()
	if err := prepare(out); err != nil {
		return err
	}
	data, run := filepath.Join(out, "data"), filepath.Join(out, "run")
	train, test := filepath.Join(data, "train.jsonl"), filepath.Join(data, "test.jsonl")
	if err := command("go", "run", "./scripts/godocpairs", "--out", data,
		"--train-rows", fmt.Sprint(rows), "--test-queries", fmt.Sprint(queries)); err != nil {
		return err
	}
	r := result{out: out}
	var err error
	if r.Before, err = measure(model, test, filepath.Join(out, "before.json")); err != nil {
		return err
	}
	args := append([]string{"train", "embedding", "--model", model, "--train-dataset", train, "--output-dir", run,
		"--epochs", "1", "--lr", "5e-5", "--seed", "42"}, lengths...)
	if err := command(program, args...); err != nil {
		return err
	}
	r.Model = filepath.Join(run, "model")
	if r.After, err = measure(r.Model, test, filepath.Join(out, "after.json")); err != nil {
		return err
	}
	if err := r.readTraining(filepath.Join(run, "train.json")); err != nil {
		return err
	}
	if err := atomicdir.WriteJSON(filepath.Join(out, "result.json"), r); err != nil {
		return err
	}
	return r.show(filepath.Base(model), rows, time.Since(begun))
}

// prepare removes the files of an earlier demo from the folder. Any other folder that is not empty is an error.
func prepare(out string) error {
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(out, "data", "train.jsonl")); err != nil {
			return fmt.Errorf("%s is neither empty nor the folder of an earlier demo", out)
		}
		for _, name := range []string{"data", "run", "before.json", "after.json", "result.json"} {
			if err := os.RemoveAll(filepath.Join(out, name)); err != nil {
				return err
			}
		}
	}
	return os.MkdirAll(out, 0o755)
}

// command prints and runs a command. Its output goes to stderr, so that stdout has only the table.
func command(name string, args ...string) error {
	fmt.Fprintln(os.Stderr, "$", name, strings.Join(args, " "))
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	return c.Run()
}

func measure(model, test, to string) (metrics, error) {
	if err := command(program, append([]string{"eval", "--model", model, "--data", test, "--json", to}, lengths...)...); err != nil {
		return metrics{}, err
	}
	var report mteb.Report
	if err := readJSON(to, &report); err != nil {
		return metrics{}, err
	}
	if len(report.Results) != 1 {
		return metrics{}, fmt.Errorf("%s has %d results, want 1", to, len(report.Results))
	}
	x := report.Results[0]
	return metrics{x.MAP, x.MRR, x.Seconds}, nil
}

func (r *result) readTraining(path string) error {
	var summary struct {
		Seconds         float64
		TokensPerSecond float64 `json:"tokens_per_second"`
	}
	if err := readJSON(path, &summary); err != nil {
		return err
	}
	r.TrainSeconds, r.TokensPerSecond = summary.Seconds, summary.TokensPerSecond
	return nil
}

// show prints the table and commands to try next.
func (r result) show(name string, rows int, total time.Duration) error {
	percent := func(x float64) string { return fmt.Sprintf("%.2f", 100*x) }
	gain := func(x float64) string { return fmt.Sprintf("%+.2f", 100*x) }
	seconds := func(x float64) string { return fmt.Sprintf("%.0f", x) }
	table := [][]string{
		{name, percent(r.Before.MAP), "", percent(r.Before.MRR), "", seconds(r.Before.seconds)},
		{fmt.Sprintf("fine-tuned on %d pairs", rows), percent(r.After.MAP), gain(r.After.MAP - r.Before.MAP),
			percent(r.After.MRR), gain(r.After.MRR - r.Before.MRR), seconds(r.After.seconds)},
	}
	if err := eval.WriteTable(os.Stdout, "table", []string{"model", "MAP", "gain", "MRR@10", "gain", "seconds"}, table); err != nil {
		return err
	}
	fmt.Printf(`
Training took %.0f s at %.0f tokens/s; everything together %.0f s.
The fine-tuned model: %s
Its curves and settings: %s
Query by query: %s compare %s %s
Try it:
  echo '{"text": "reverses the order of the elements"}' | %s encode --model %s --as query
`, r.TrainSeconds, r.TokensPerSecond, total.Seconds(), r.Model, filepath.Join(filepath.Dir(r.Model), "report.html"),
		program, filepath.Join(r.out, "before.json"), filepath.Join(r.out, "after.json"), program, r.Model)
	return nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
