package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/finetune/record"
	"rag-retrieval-go/scripts/bench/profile/limits"
)

// The parts of a step. What no rule of part names is "other".
const (
	weightProducts = "weight products"
	attentionPart  = "attention" // its kernels whole, or its products where stock operators compute it
	elementwise    = "elementwise"
	normalization  = "normalization"
	moving         = "moving data"
	other          = "other"
)

var parts = []string{weightProducts, attentionPart, elementwise, normalization, moving, other}

// operatorsOf lists operators by part. Products are told apart by the rank of their factors.
var operatorsOf = map[string]string{
	elementwise: "Add Sub Mul Div Neg Exp Log Sqrt Tanh Erf Gelu BiasGelu FastGelu QuickGelu Sigmoid Relu Pow Sum Clip Where Equal Less Greater GreaterOrEqual " +
		"Softmax LogSoftmax Activation ActivationGradient SoftmaxGradient Gated GatedGradient Cast",
	normalization: "LayerNormalization LayerNormGradient SimplifiedLayerNormalization RMSNorm RMSNormGradient SkipLayerNormalization ReduceSum ReduceMean",
	moving:        "Gather GatherGradient GatherND GatherElements ScatterElements ScatterND Concat Split Slice Transpose Expand Pad Tile",
}

// views are operators whose output is their input's memory.
var views = map[string]bool{"Reshape": true, "Squeeze": true, "Unsqueeze": true, "Flatten": true, "Identity": true}

// part returns the part of a step that an operator belongs to.
func part(e event) string {
	op := e.operator()
	if attention(op) {
		return attentionPart
	}
	if product(op) {
		if factors := shapes(e.Args["input_type_shape"]); len(factors) > 1 && len(factors[0]) > 2 && len(factors[1]) > 2 {
			return attentionPart
		}
		return weightProducts
	}
	for name, list := range operatorsOf {
		for known := range strings.FieldsSeq(list) {
			if op == known {
				return name
			}
		}
	}
	return other
}

// bytesMoved returns the bytes that an operator has to read and write at the least: its inputs and outputs once, but only the rows that a
// Gather reads.
func bytesMoved(e event) float64 {
	size := func(key string) float64 {
		s, _ := e.Args[key].(string)
		n, _ := strconv.ParseFloat(s, 64)
		return n
	}
	switch out := size("output_size"); {
	case views[e.operator()]:
		return 0
	case strings.HasPrefix(e.operator(), "Gather"):
		return 2 * out
	default:
		return out + size("activation_size") + size("parameter_size")
	}
}

// machine holds the limits of this machine.
type machine struct {
	flops float64
	bytes []rate // by size, smallest first
}

type rate struct {
	size   int // bytes
	perSec float64
}

// sizes are the footprints at which memory is measured: tensors of a step stay in caches, or do not.
var sizes = []int{1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20}

func measure(precision string, threads int) (machine, error) {
	flops, err := limits.FLOPs(precision, threads)
	m := machine{flops: flops}
	for _, size := range sizes {
		m.bytes = append(m.bytes, rate{size, limits.BytesPerSecond(size, threads)})
	}
	return m, err
}

// bandwidth returns the bytes per second where a kernel touches so many bytes: the rate at the next larger size that was measured.
func (m machine) bandwidth(bytes float64) float64 {
	for _, r := range m.bytes {
		if bytes <= float64(r.size) {
			return r.perSec
		}
	}
	return m.bytes[len(m.bytes)-1].perSec
}

// limit returns the least microseconds in which this machine can do so many operations and move so many bytes: the roofline
// (Williams, Waterman and Patterson, 2009).
func (m machine) limit(flops, bytes float64) float64 {
	return 1e6 * math.Max(flops/m.flops, bytes/m.bandwidth(bytes))
}

// share is what a part of a step takes.
type share struct{ ms, limit, flops, bytes float64 }

// roofline prints the parts of a step, each with the rate that it reached and the time that it would take at the machine's limits.
func roofline(p profile, metrics string, skip, threads int) error {
	precision, parameters, err := readRun(filepath.Dir(metrics))
	if err != nil {
		return err
	}
	rows, err := jsonl.ReadLog[record.Row](metrics)
	if err != nil {
		return err
	}
	m, err := measure(precision, threads)
	if err != nil {
		return err
	}
	found := map[string]share{}
	for _, e := range p.nodes {
		s, flops, bytes := found[part(e)], flops(e), bytesMoved(e)
		s.ms += e.Duration / 1e3
		s.limit += m.limit(flops, bytes) / 1e3
		s.flops += flops
		s.bytes += bytes
		found[part(e)] = s
	}
	fmt.Printf("limits of %d threads: %.0f GFLOP/s (%s);", threads, m.flops/1e9, precision)
	for _, r := range m.bytes {
		fmt.Printf(" %.0f GB/s within %d MiB,", r.perSec/1e9, r.size>>20)
	}
	fmt.Println(" two parts read for one written")
	fmt.Println("\n| part of a step | ms | GFLOP/s | GB/s | ms at the limit | reached |\n| --- | --- | --- | --- | --- | --- |")
	total := share{}
	steps := float64(p.runs)
	line := func(name string, s share) {
		fmt.Printf("| %s | %.1f | %.0f | %.1f | %.1f | %.0f %% |\n", name, s.ms, s.flops/s.ms/1e6, s.bytes/s.ms/1e6, s.limit, 100*s.limit/s.ms)
		total = share{total.ms + s.ms, total.limit + s.limit, total.flops + s.flops, total.bytes + s.bytes}
	}
	for _, name := range parts {
		if s := found[name]; s.ms > 0 {
			line(name, share{s.ms / steps, s.limit / steps, s.flops / steps, s.bytes / steps})
		}
	}
	bytes := optimizerBytes * parameters
	line("optimizer", share{ms: medianOptimizer(rows, skip), bytes: bytes, limit: m.limit(0, bytes) / 1e3})
	line("all of these", total)
	return nil
}

// optimizerBytes is what AdamW with clipping moves for a float32 parameter: the gradient is read for the norm, then gradient, parameter and
// both moments are read, and the last three are written.
const optimizerBytes = 4 * (1 + 4 + 3)

func medianOptimizer(rows []record.Row, skip int) float64 {
	var seconds []float64
	for _, x := range rows[min(skip, len(rows)-1):] {
		seconds = append(seconds, x.OptimizerSeconds)
	}
	return medianMilliseconds(seconds)
}

// readRun returns how a run computed products, and how many parameters it trained.
func readRun(folder string) (precision string, parameters float64, err error) {
	b, err := os.ReadFile(filepath.Join(folder, "train.json"))
	if err != nil {
		return "", 0, err
	}
	var summary record.Summary
	if err := json.Unmarshal(b, &summary); err != nil {
		return "", 0, fmt.Errorf("%s: %w", filepath.Join(folder, "train.json"), err)
	}
	found, err := filepath.Glob(filepath.Join(folder, "artifacts", "checkpoint", "step-*", "state.safetensors"))
	if err != nil || len(found) == 0 {
		return "", 0, fmt.Errorf("%s has no checkpoint, which tells how many parameters are trained", folder)
	}
	f, err := safetensors.Open(found[0])
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	for _, t := range f.Tensors {
		if strings.HasPrefix(t.Name, "exp_avg/") {
			parameters += float64(len(t.Data) / 4)
		}
	}
	return summary.Precision, parameters, nil
}
