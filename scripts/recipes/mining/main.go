// Command mining measures what hard negatives are worth: it mines them, trains on them and measures the model, and prints one table.
// It calls the program's own commands. scripts/recipes/mining.sh runs it after the set-up.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/mteb"
)

const program = "bin/rag-retrieval"

// settings are what all results of a folder have in common.
type settings struct {
	Model       string `json:"model"`
	TrainRows   int    `json:"train_rows"`
	TestQueries int    `json:"test_queries"`
	Steps       int    `json:"steps"`
	BatchSize   int    `json:"batch_size"`
	NegNums     int    `json:"neg_nums"`
	Length      int    `json:"length"`
}

// arm is one way to get negatives. mine has the flags of the command; nil: in-batch negatives only.
type arm struct {
	name, title string
	mine        []string
}

func (x study) arms() []arm {
	byModel := []string{"--model", x.Model, "--vectors", x.path("vectors")} // encoded once
	return []arm{
		{"in-batch", "in-batch negatives only", nil},
		{"bm25", "BM25 negatives", []string{"--kind", "bm25"}},
		{"mined", "mined negatives", byModel},
		// A wide range: a query whose positive has a low score finds negatives below it only far down.
		{"margin", "mined, relative_margin 0.05", append([]string{"--relative-margin", "0.05", "--range-max", "500"}, byModel...)},
	}
}

// result is an arm's result with one seed, as fractions.
type result struct {
	MAP  float64 `json:"map"`
	NDCG float64 `json:"ndcg_at_10"`
}

func main() {
	var s settings
	out := flag.String("out", "", "folder for data, negatives and results")
	seeds := flag.Int("seeds", 3, "trainings of each arm")
	flag.StringVar(&s.Model, "model", ".rag-retrieval/models/all-MiniLM-L6-v2", "model to mine with and to fine-tune")
	flag.IntVar(&s.TrainRows, "train-rows", 2048, "training rows")
	flag.IntVar(&s.TestQueries, "test-queries", 400, "test queries")
	flag.IntVar(&s.Steps, "steps", 40, "training steps")
	flag.IntVar(&s.BatchSize, "batch-size", 32, "queries of a step")
	flag.IntVar(&s.NegNums, "neg-nums", 1, "hard negatives of a query in a step, of 4 that are mined")
	flag.IntVar(&s.Length, "length", 96, "tokens of a passage in training")
	flag.Parse()
	if err := run(*out, s, *seeds); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) { // the command has printed its error
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "mining:", err)
		os.Exit(1)
	}
}

// study is a folder with results.
type study struct {
	settings
	out string
}

func run(out string, s settings, seeds int) error {
	if out == "" || seeds < 1 {
		return errors.New("want --out DIR, and --seeds of at least 1")
	}
	x := study{s, out}
	if err := x.prepare(); err != nil {
		return err
	}
	base, err := x.measured("base", s.Model)
	if err != nil {
		return err
	}
	rows := [][]string{{filepath.Base(s.Model), "", percent([]float64{base.MAP}), percent([]float64{base.NDCG})}}
	for _, a := range x.arms() {
		data, err := x.negatives(a)
		if err != nil {
			return err
		}
		n, err := countRows(data)
		if err != nil {
			return err
		}
		var maps, ndcgs []float64
		for seed := 1; seed <= seeds; seed++ {
			r, err := x.trained(a, data, seed)
			if err != nil {
				return err
			}
			maps, ndcgs = append(maps, r.MAP), append(ndcgs, r.NDCG)
		}
		rows = append(rows, []string{a.title, strconv.Itoa(n), percent(maps), percent(ndcgs)})
	}
	return eval.WriteTable(os.Stdout, "markdown", []string{"negatives", "rows", "MAP", "nDCG@10"}, rows)
}

// prepare makes the data, and refuses a folder with results of other settings.
func (x study) prepare() error {
	path := filepath.Join(x.out, "settings.json")
	var found settings
	switch err := readJSON(path, &found); {
	case err == nil && found != x.settings:
		return fmt.Errorf("%s has results of other settings: %+v", x.out, found)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, dir := range []string{"", "results", "runs"} {
		if err := os.MkdirAll(filepath.Join(x.out, dir), 0o755); err != nil {
			return err
		}
	}
	err := command("go", "run", "./scripts/godocpairs", "--out", x.path("data"), "--train-rows", strconv.Itoa(x.TrainRows), "--test-queries", strconv.Itoa(x.TestQueries))
	if err != nil {
		return err
	}
	return atomicdir.WriteJSON(path, x.settings)
}

func (x study) path(parts ...string) string {
	return filepath.Join(append([]string{x.out}, parts...)...)
}

// negatives gives an arm's training rows. They are mined where they are not there yet.
func (x study) negatives(a arm) (string, error) {
	train, mined := x.path("data", "train.jsonl"), x.path(a.name+".jsonl")
	if a.mine == nil {
		return train, nil
	}
	if _, err := os.Stat(mined); err == nil {
		return mined, nil
	}
	return mined, command(program, append([]string{"mine", "--train-dataset", train, "--output", mined, "--num-negatives", "4", "--json", mined + ".json"}, a.mine...)...)
}

// trained gives the result of an arm with a seed.
func (x study) trained(a arm, data string, seed int) (result, error) {
	name := fmt.Sprintf("%s-%d", a.name, seed)
	if r, err := x.known(name); err == nil {
		return r, nil
	}
	run, negatives := x.path("runs", name), x.NegNums
	if a.mine == nil {
		negatives = 0
	}
	if err := os.RemoveAll(run); err != nil { // of a training that was stopped
		return result{}, err
	}
	n := strconv.Itoa
	err := command(program, "train", "embedding", "--model", x.Model, "--train-dataset", data, "--output-dir", run, "--seed", n(seed),
		"--max-steps", n(x.Steps), "--epochs", "1000", "--batch-size", n(x.BatchSize), "--neg-nums", n(negatives), "--lr", "5e-5",
		"--query-max-len", "64", "--passage-max-len", n(x.Length))
	if err != nil {
		return result{}, err
	}
	r, err := x.measured(name, filepath.Join(run, "model"))
	if err != nil {
		return r, err
	}
	return r, os.RemoveAll(run)
}

// known reads a result that is there.
func (x study) known(name string) (r result, err error) {
	return r, readJSON(x.path("results", name+".json"), &r)
}

// measured measures a model where its result is not there yet.
func (x study) measured(name, model string) (r result, err error) {
	if r, err := x.known(name); err == nil {
		return r, nil
	}
	for _, m := range []struct {
		args []string
		to   *float64
		of   func(mteb.Result) float64
	}{
		{[]string{"--data", x.path("data", "test.jsonl")}, &r.MAP, func(x mteb.Result) float64 { return x.MAP }},
		{[]string{"--retrieval", x.path("data", "retrieval")}, &r.NDCG, func(x mteb.Result) float64 { return x.NDCG }},
	} {
		to := x.path("eval.json")
		if err := command(program, append([]string{"eval", "--model", model, "--query-max-len", "64", "--passage-max-len", "128", "--json", to}, m.args...)...); err != nil {
			return r, err
		}
		var report mteb.Report
		if err := readJSON(to, &report); err != nil {
			return r, err
		}
		if len(report.Results) != 1 {
			return r, fmt.Errorf("%s has %d results, want 1", to, len(report.Results))
		}
		*m.to = m.of(report.Results[0])
	}
	return r, atomicdir.WriteJSON(x.path("results", name+".json"), r)
}

// percent is the mean in percent, with the sample standard deviation if there are several values.
func percent(values []float64) string {
	mean, squares := 0.0, 0.0
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	if len(values) == 1 {
		return fmt.Sprintf("%.2f", 100*mean)
	}
	return fmt.Sprintf("%.2f ± %.2f", 100*mean, 100*math.Sqrt(squares/float64(len(values)-1)))
}

// command prints and runs a command. Its output goes to stderr, so that stdout has only the table.
func command(name string, args ...string) error {
	fmt.Fprintln(os.Stderr, "$", name, strings.Join(args, " "))
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	return c.Run()
}

func countRows(path string) (int, error) {
	b, err := os.ReadFile(path)
	return strings.Count(string(b), "\n"), err
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
