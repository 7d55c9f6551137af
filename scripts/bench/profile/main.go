// Command profile prints where the time of a training step goes. It reads the profile that `rag-retrieval train … --profile
// PREFIX` wrote, and prints milliseconds per step and the share of each operator, separately for forward and backward pass,
// and the GFLOP/s of matrix products. To see how fast the machine can be: go test ./ortrain/runtime -run XXX -bench Gemm.
//
//	go run ./scripts/bench/profile [-skip 2] [-by op|node] [-metrics RUN/metrics.jsonl] PREFIX_*.json
//	go run ./scripts/bench/profile [-skip 2] -metrics RUN/metrics.jsonl
//
// With the run's metrics it also prints how much of a step's time is outside the graph's operators, and how much outside of all graphs:
// binding, waiting for batches, logging. Metrics alone need no profile, which slows a run down.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/finetune/record"
)

// event is a record of ONNX Runtime's profile.
type event struct {
	Category string         `json:"cat"`
	Name     string         `json:"name"`
	Duration float64        `json:"dur"` // µs
	Args     map[string]any `json:"args"`
}

func main() {
	skip := flag.Int("skip", 2, "leave out this many first steps")
	by := flag.String("by", "op", "op, or node: numbers in names are left out, so that all layers are one line")
	metrics := flag.String("metrics", "", "metrics.jsonl of the same run")
	flag.Parse()
	if flag.NArg() > 1 || flag.NArg() == 0 && *metrics == "" || *by != "op" && *by != "node" {
		flag.Usage()
		os.Exit(2)
	}
	var err error
	if *metrics != "" {
		err = breakdown(*metrics, *skip)
	}
	if err == nil && flag.NArg() == 1 {
		err = report(flag.Arg(0), *metrics, *skip, *by)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		os.Exit(1)
	}
}

func report(path, metrics string, skip int, by string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var events []event
	if err := json.Unmarshal(b, &events); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	spent, work, calls := map[string]float64{}, map[string]float64{}, map[string]int{}
	runs, run, kernels := 0, 0.0, 0.0
	for _, e := range events {
		if e.Name == "model_run" {
			if runs++; runs > skip {
				run += e.Duration
			}
			continue
		}
		// The record of a run comes after the records of its nodes.
		if runs < skip || e.Category != "Node" || !strings.HasSuffix(e.Name, "_kernel_time") {
			continue
		}
		key := label(e, by)
		spent[key] += e.Duration
		calls[key]++
		kernels += e.Duration
		work[key] += flops(e)
	}
	steps := runs - skip
	if steps < 1 {
		return fmt.Errorf("%s has %d runs, want more than %d", path, runs, skip)
	}
	keys := make([]string, 0, len(spent))
	for k := range spent {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return spent[keys[i]] > spent[keys[j]] })
	fmt.Printf("%d steps, %.0f ms each, %.0f ms in operators\n", steps, run/1e3/float64(steps), kernels/1e3/float64(steps))
	if metrics != "" {
		if err := outside(metrics, skip, kernels/1e3/float64(steps)); err != nil {
			return err
		}
	}
	for _, k := range keys {
		rate := ""
		if work[k] > 0 {
			rate = fmt.Sprintf("  %.0f GFLOP/s", work[k]/spent[k]/1e3)
		}
		fmt.Printf("%9.2f ms %5.1f %% %6d calls  %s%s\n", spent[k]/1e3/float64(steps), 100*spent[k]/kernels, calls[k]/steps, k, rate)
	}
	return nil
}

// breakdown prints where the time of a run's steps went: medians of the steps, in milliseconds.
func breakdown(metrics string, skip int) error {
	rows, err := jsonl.ReadLog[record.Row](metrics)
	if err != nil {
		return err
	}
	if skip < 1 || len(rows) <= skip {
		return fmt.Errorf("%s has %d steps, want more than %d, of which at least one is left out", metrics, len(rows), skip)
	}
	var step, graph, optimizer, outside, waiting, preparing []float64
	for i, x := range rows[skip:] {
		seconds := x.Seconds - rows[skip+i-1].Seconds
		step, graph, optimizer = append(step, seconds), append(graph, x.GraphSeconds), append(optimizer, x.OptimizerSeconds)
		outside = append(outside, seconds-x.GraphSeconds-x.OptimizerSeconds)
		waiting, preparing = append(waiting, x.BatchWaitSeconds), append(preparing, x.PreparingSeconds)
	}
	ms := func(x []float64) float64 {
		slices.Sort(x)
		return 1e3 * x[len(x)/2]
	}
	whole, out := ms(step), ms(outside)
	fmt.Printf("medians of %d steps: %.1f ms, of it %.1f in the training graph, %.1f in the optimizer, %.2f (%.1f %%) outside of both, where %.2f are for waiting for batches; preparing a step's batches takes %.1f ms of a processor meanwhile\n",
		len(step), whole, ms(graph), ms(optimizer), out, 100*out/whole, ms(waiting), ms(preparing))
	return nil
}

// outside prints how much of a step's time is outside the operators.
func outside(metrics string, skip int, operators float64) error {
	f, err := jsonl.Open(metrics)
	if err != nil {
		return err
	}
	defer f.Close()
	var first, last record.Row
	if err := errors.Join(f.Row(skip-1, &first), f.Row(f.Len()-1, &last)); err != nil {
		return err
	}
	step := 1e3 * (last.Seconds - first.Seconds) / float64(last.Step-first.Step)
	fmt.Printf("a whole step takes %.0f ms, %.1f %% of it outside these operators\n", step, 100*(step-operators)/step)
	return nil
}

// flops returns the number of floating-point operations of a matrix product, and 0 for other operators.
func flops(e event) float64 {
	op, _ := e.Args["op_name"].(string)
	if !strings.HasSuffix(op, "Gemm") && !strings.HasSuffix(op, "MatMul") && op != "Product" && op != "LinearGradient" {
		return 0
	}
	in, out := shape(e.Args["input_type_shape"]), shape(e.Args["output_type_shape"])
	if len(in) == 0 || len(out) == 0 || size(out) == 0 {
		return 0
	}
	columns := out[len(out)-1]
	inner := size(in) * columns / size(out) // of a factor [rows, inner], transposed or not
	if op == "LinearGradient" {             // the gradients of input and weight
		return 4 * size(out) * inner
	}
	return 2 * size(out) * inner
}

// shape returns the first shape of a list such as [{"float": [2, 3]}, …].
func shape(list any) []float64 {
	all, _ := list.([]any)
	if len(all) == 0 {
		return nil
	}
	first, _ := all[0].(map[string]any)
	var out []float64
	for _, dims := range first {
		numbers, _ := dims.([]any)
		for _, n := range numbers {
			d, _ := n.(float64)
			out = append(out, d)
		}
	}
	return out
}

func size(shape []float64) float64 {
	n := 1.0
	for _, d := range shape {
		n *= d
	}
	return n
}

// label returns the name under which an event is counted: its operator, or its node without digits.
func label(e event, by string) string {
	if by == "op" {
		op, _ := e.Args["op_name"].(string)
		if strings.Contains(e.Name, "backward") {
			return op + " (backward)"
		}
		return op
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, strings.TrimSuffix(e.Name, "_kernel_time"))
}
