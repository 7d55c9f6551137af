package finetune_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/runtime"
)

// With products in bfloat16 on each unit of this CPU, the ten losses of every fixture stay near PyTorch's in fp32, see bf16Bound, and differ
// from those of fp32. (All losses but three of two fixtures, llama-infonce and qwen3-infonce-mrl, stay within 5 %.) Two trainings give the
// same bits.
func TestTenLossesInBF16(t *testing.T) {
	for _, unit := range kernels.Units {
		if err := unit.Check(); err != nil {
			t.Logf("%s: not tested: %v", unit, err)
			continue
		}
		for _, f := range fixtures(t) {
			for _, v := range f.of(t, []variant{{groups: 2, precision: "no"}, {groups: 1, chunkTokens: 12, checkpointing: true, precision: "no"}})[:1] {
				t.Run(fmt.Sprintf("%s/%s/%+v", unit, f.name, v), func(t *testing.T) {
					first := f.lossesIn(t, v, unit)
					again := first
					if !f.sampled {
						again = f.lossesIn(t, v, unit)
					}
					differ := false
					for i, want := range f.losses {
						if math.Abs(first[i]-want) > f.bf16Bound(want) {
							t.Errorf("step %d: loss %.7g, PyTorch in fp32 %.7g", i, first[i], want)
						}
						if first[i] != again[i] {
							t.Errorf("step %d: losses %.9g and %.9g of two trainings", i, first[i], again[i])
						}
						differ = differ || math.Abs(first[i]-want) > 1e-5*want
					}
					if !differ {
						t.Errorf("no loss differs from fp32: %v", first)
					}
				})
			}
		}
	}
}

// lossesIn are the losses of ten steps with products on a unit.
func (f fixture) lossesIn(t *testing.T, v variant, unit kernels.Unit) []float64 {
	t.Helper()
	session := v.session(t)
	session.BF16 = unit
	task, tr := f.open(t, v, session, "")
	defer func() { check(t, tr.Close()) }()
	var losses []float64
	for step := range f.losses {
		s, err := tr.Step(f.batch(t, task, step%len(f.rows)))
		check(t, err)
		losses = append(losses, s.Loss)
	}
	return losses
}

// Validations of a chunked run in bf16 are in fp32, and leave nothing open for the steps after them: each opens a session of its own.
func TestValidationsOfAChunkedRunInBF16(t *testing.T) {
	all := fixtures(t)
	f := all[slices.IndexFunc(all, func(f fixture) bool { return f.name == "infonce" })]
	v := variant{groups: 1, chunkTokens: 12, precision: "no"}
	_, plain := f.trainer(t, v)
	session := v.session(t)
	session.BF16 = kernels.Portable
	task, tr := f.open(t, v, session, "")
	defer func() { check(t, tr.Close()) }()
	b := f.batch(t, task, -1)
	if in32, in16 := evalLoss(t, plain, b), evalLoss(t, tr, b); in32 != in16 {
		t.Errorf("the loss of a validation is %.9g, in a run in fp32 %.9g", in16, in32)
	}
	open := int64(0)
	for i := range 3 {
		_, err := tr.Step(b)
		check(t, err)
		switch now := runtime.OpenTensors(); {
		case i == 0:
			open = now
		case now != open:
			t.Errorf("after %d validations and a step, %d tensors are open, after the first step %d", i, now, open)
		}
		evalLoss(t, tr, b)
		if runtime.OpenTensors() <= open {
			t.Error("a validation opens no session")
		}
	}
}
