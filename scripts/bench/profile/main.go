// Command profile prints where the time of a training step goes. It reads the profile that `rag-retrieval train … --profile
// PREFIX` wrote, and prints milliseconds per step and the share of each operator, separately for forward and backward pass,
// and the GFLOP/s of matrix products.
//
//	go run ./scripts/bench/profile [-skip 2] [-by op|node] [-metrics RUN/metrics.jsonl] PREFIX_*.json
//	go run ./scripts/bench/profile [-skip 2] -metrics RUN/metrics.jsonl
//	go run ./scripts/bench/profile [-skip 2] [-threads N] -roofline -metrics RUN/metrics.jsonl PREFIX_*.json
//
// With the run's metrics it also prints how much of a step's time is outside the graph's operators, and how much outside of all graphs:
// binding, waiting for batches, logging. Metrics alone need no profile, which slows a run down.
//
// With -roofline it first measures what this machine can do at most, which takes some seconds on an idle machine: the operations of the unit
// that the run computed with, and the bytes that it moves. It then prints how far each part of a step is from these limits.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/finetune/record"
)

func main() {
	skip := flag.Int("skip", 2, "leave out this many first steps")
	by := flag.String("by", "op", "op, or node: numbers in names are left out, so that all layers are one line")
	metrics := flag.String("metrics", "", "metrics.jsonl of the same run")
	roof := flag.Bool("roofline", false, "compare the parts of a step with the limits of this machine; needs -metrics")
	threads := flag.Int("threads", runtime.NumCPU(), "of the run, for -roofline")
	flag.Parse()
	if flag.NArg() > 1 || flag.NArg() == 0 && *metrics == "" || *by != "op" && *by != "node" || *roof && (*metrics == "" || flag.NArg() == 0) || *threads < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*metrics, flag.Arg(0), *by, *skip, *threads, *roof); err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		os.Exit(1)
	}
}

func run(metrics, path, by string, skip, threads int, roof bool) error {
	if metrics != "" {
		if err := breakdown(metrics, skip); err != nil {
			return err
		}
	}
	if path == "" {
		return nil
	}
	p, err := readProfile(path, skip)
	if err != nil {
		return err
	}
	fmt.Printf("%d steps, %.0f ms each, %.0f ms in operators\n", p.runs, p.run/1e3/float64(p.runs), p.operators())
	if metrics != "" {
		if err := outside(metrics, skip, p.operators()); err != nil {
			return err
		}
	}
	if roof {
		return roofline(p, metrics, skip, threads)
	}
	report(p, by)
	return nil
}

// report prints the time of each operator, or of each node.
func report(p profile, by string) {
	spent, work, calls := map[string]float64{}, map[string]float64{}, map[string]int{}
	for _, e := range p.nodes {
		key := label(e, by)
		spent[key] += e.Duration
		calls[key]++
		work[key] += flops(e)
	}
	keys := slices.SortedFunc(maps.Keys(spent), func(a, b string) int { return cmp.Compare(spent[b], spent[a]) })
	for _, k := range keys {
		rate := ""
		if work[k] > 0 {
			rate = fmt.Sprintf("  %.0f GFLOP/s", work[k]/spent[k]/1e3)
		}
		ms := spent[k] / 1e3 / float64(p.runs)
		fmt.Printf("%9.2f ms %5.1f %% %6d calls  %s%s\n", ms, 100*ms/p.operators(), calls[k]/p.runs, k, rate)
	}
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
	ms := medianMilliseconds
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

func medianMilliseconds(seconds []float64) float64 {
	slices.Sort(seconds)
	return 1e3 * seconds[len(seconds)/2]
}
