// Command scaling predicts how training would scale to 8 and 64 GPUs. It is a model: nothing of it ran on a GPU. Its terms are
// checked against measurements of one and two ranks on a machine's cores.
//
//	go build -o bin/scaling ./scripts/bench/scaling
//	.rag-retrieval/lib/mpirun -n 2 bin/scaling -measure collectives.json   # how long all-reduces of several sizes take here
//	python scripts/bench/ranks.py --data DATA --json ranks.json
//	bin/scaling -collectives collectives.json -ranks ranks.json            # prints Markdown
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
)

func main() {
	measureTo := flag.String("measure", "", "as a rank: measure collective operations and write them to this file")
	collectives := flag.String("collectives", "", "file that -measure wrote")
	ranks := flag.String("ranks", "", "file that ranks.py --json wrote")
	update := flag.Float64("update", 0.043, "seconds of the optimizer's update here, see scripts/bench/README.md")
	flag.Parse()
	var err error
	switch {
	case flag.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case *measureTo != "":
		err = measure(*measureTo, mostValues)
	case *collectives == "" || *ranks == "":
		err = fmt.Errorf("want -measure FILE, or -collectives FILE -ranks FILE")
	default:
		err = report(*collectives, *ranks, *update)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scaling:", err)
		os.Exit(1)
	}
}

// runs is what scaling reads of ranks.py's file.
type runs struct {
	Batch         float64 `json:"batch"` // rows of a step, of the whole job
	GradientBytes float64 `json:"gradient_bytes"`
	Runs          map[string][]map[string]struct {
		StepSeconds   float64   `json:"step_seconds"`
		TokensOfSteps []float64 `json:"tokens_of_steps"`
		Transfer      float64   `json:"transfer"`
		Waiting       float64   `json:"waiting"`
	} `json:"runs"`
}

func readJSON(path string, to any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, to); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// report prints how well the terms fit what was measured, and the predictions.
func report(collectivesFile, ranksFile string, update float64) error {
	var c collectiveTimes
	var r runs
	if err := readJSON(collectivesFile, &c); err != nil {
		return err
	}
	if err := readJSON(ranksFile, &r); err != nil {
		return err
	}
	memory, worst, err := c.fit()
	if err != nil {
		return fmt.Errorf("%s: %w", collectivesFile, err)
	}
	fmt.Printf("MPI between ranks of one host here: %.0f µs and %.2f GB/s, fitted to all-reduces of %s to %s on %d ranks; the worst is off by %.0f %%.\n\n",
		1e6*memory.Latency, memory.Bandwidth/1e9, size(c.AllReduce[0].Bytes), size(c.AllReduce[len(c.AllReduce)-1].Bytes), c.Ranks, 100*worst)
	spread, err := printChecks(r, memory, update)
	if err != nil {
		return fmt.Errorf("%s: %w", ranksFile, err)
	}
	printPredictions(memory, spread)
	return nil
}

func size(bytes float64) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%.0f KiB", bytes/(1<<10))
	}
	return fmt.Sprintf("%.0f MiB", bytes/(1<<20))
}

// printChecks compares the terms with the runs of two ranks, and returns the spread of one row's work. That of a batch is smaller by
// the root of its rows.
func printChecks(r runs, memory Link, update float64) (spread float64, err error) {
	fmt.Println("| two ranks with one thread each | predicted ms | measured ms |\n| --- | --- | --- |")
	for _, kind := range []string{"embedding", "embedding-local", "reranker"} {
		if len(r.Runs[kind]) == 0 {
			continue
		}
		var one, two, transfer, waiting, shares []float64
		for _, run := range r.Runs[kind] {
			a, b := run["1x1"], run["2x1"]
			if a.StepSeconds == 0 || b.StepSeconds == 0 || len(a.TokensOfSteps) < 2 {
				return 0, fmt.Errorf("%s: no runs of 1x1 and 2x1 with two steps", kind)
			}
			one, two = append(one, a.StepSeconds), append(two, b.StepSeconds)
			transfer, waiting = append(transfer, b.Transfer*b.StepSeconds), append(waiting, b.Waiting*b.StepSeconds)
			shares = append(shares, relativeSpread(a.TokensOfSteps))
		}
		halves := Cluster{Hosts: 1, PerHost: 2, Inside: memory}
		work := Work{Seconds: (median(one) - update) / 2, Fixed: update, Spread: median(shares) * math.Sqrt2, GradientBytes: r.GradientBytes}
		p := Predict(work, halves) // of the embeddings, 400 KB, the transfer is within the rounding
		for _, row := range []struct {
			what                string
			predicted, measured float64
		}{{"transfers of a step", p.Gradients, median(transfer)}, {"waiting", p.Waiting, median(waiting)}, {"the step", p.Total(), median(two)}} {
			fmt.Printf("| %s: %s | %.0f | %.0f |\n", kind, row.what, 1e3*row.predicted, 1e3*row.measured)
		}
		spread = max(spread, work.Spread*math.Sqrt(r.Batch/2))
	}
	if spread == 0 {
		return 0, fmt.Errorf("no runs")
	}
	fmt.Println()
	return spread, nil
}

// Assumed hardware: an H100 SXM5 in a host of eight. Peaks are of its data sheet; sources in scripts/bench/README.md.
const (
	peakBF16      = 989e12 // dense FLOP/s
	usedShare     = 0.3    // of the peak: an assumption
	memoryBytes   = 3.35e12
	adamWBytes    = 28 // read and written for each parameter: parameter, two moments, gradient
	textsPerRank  = 128
	tokensPerText = 128
	linkShare     = 0.8 // of a link's peak that transfers reach: an assumption
)

var (
	nvlink    = Link{Latency: 5e-6, Bandwidth: linkShare * 450e9}      // 900 GB/s, both directions together
	pcie      = Link{Latency: 10e-6, Bandwidth: linkShare * 64e9}      // 128 GB/s, both directions together
	ethernet  = Link{Latency: 20e-6, Bandwidth: linkShare * 100e9 / 8} // 100 Gb/s a host
	gpuModels = []struct {
		name                 string
		parameters, inLayers float64 // inLayers: without the embedding tables
		width                float64
	}{{"all-MiniLM-L6-v2", 22.7e6, 10.6e6, 384}, {"BERT-base", 109e6, 85e6, 768}, {"XLM-R-large", 560e6, 303e6, 1024}}
)

// printPredictions prints the efficiency of GPUs for models of three sizes.
func printPredictions(memory Link, spread float64) {
	var header []string
	for _, gpus := range []int{8, 64} {
		for _, way := range []string{"through host memory and MPI", "NVLink"} {
			header = append(header, fmt.Sprintf("%d GPUs, %s", gpus, way))
		}
	}
	fmt.Println("| model | texts of 128 tokens a step and GPU | " + strings.Join(header, " | ") + " |\n|" + strings.Repeat(" --- |", 2+len(header)))
	for _, m := range gpuModels {
		for _, chunks := range []float64{1, 16} {
			w := gpuWork(m.parameters, m.inLayers, m.width, chunks, spread/math.Sqrt(textsPerRank/2*chunks))
			row := fmt.Sprintf("| %s | %.0f |", m.name, textsPerRank*chunks)
			for _, hosts := range []int{1, 8} {
				through := Cluster{Hosts: hosts, PerHost: 8, Inside: memory, Between: ethernet, Copy: pcie}
				direct := Cluster{Hosts: hosts, PerHost: 8, Inside: nvlink, Between: ethernet}
				row += fmt.Sprintf(" %.0f %% | %.0f %% |", 100*Efficiency(w, through), 100*Efficiency(w, direct))
			}
			fmt.Println(row)
		}
	}
}

// gpuWork is a step of contrastive training on one GPU, in so many chunks (GradCache), each text encoded twice where there is more
// than one.
func gpuWork(parameters, inLayers, width, chunks, spread float64) Work {
	texts := textsPerRank * chunks
	passes := 6.0 // forward 2, backward 4 FLOP for each parameter and token
	if chunks > 1 {
		passes = 8
	}
	rate := usedShare * peakBF16
	return Work{
		Seconds: passes * inLayers * texts * tokensPerText / rate, Fixed: adamWBytes * parameters / memoryBytes,
		Spread: spread, GradientBytes: 4 * parameters, EmbeddingBytes: 4 * width * texts,
		LossSeconds: 6 * width * (texts / 2) * (texts / 2) / rate,
	}
}
