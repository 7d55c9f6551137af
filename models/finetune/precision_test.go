package finetune

import (
	"fmt"
	"strings"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/runtime"
)

// All ranks of a job compute in the same way: in bf16 where they have a unit in common, otherwise in fp32.
func TestPrecisionOf(t *testing.T) {
	units := func(u ...kernels.Unit) offer { return offer{Provider: runtime.CPU, Auto: u, Asked: u} }
	none, amx, zen := units(), units(kernels.AMX, kernels.AVX512), units(kernels.AVX512)
	forced := offer{Provider: runtime.CPU, Forced: kernels.Portable, Auto: []kernels.Unit{kernels.Portable}, Asked: []kernels.Unit{kernels.Portable}}
	arm := offer{Provider: runtime.CPU, Asked: []kernels.Unit{kernels.ARM64}}
	cuda := offer{Provider: runtime.CUDA, Auto: amx.Auto, Asked: amx.Asked}
	for _, c := range []struct {
		asked      string
		ranks      []offer
		want       string // the path
		note, fail string
	}{
		{"no", []offer{amx}, "fp32", "", ""},
		{"auto", []offer{none}, "fp32", "", ""},
		{"auto", []offer{amx}, "bf16-amx", "", ""},
		{"auto", []offer{zen}, "bf16-avx512", "", ""},
		{"auto", []offer{forced}, "bf16-portable", "", ""},
		{"auto", []offer{arm}, "fp32", "", ""},
		{"auto", []offer{cuda}, "fp32", "", ""},
		{"bf16", []offer{amx}, "bf16-amx", "", ""},
		{"bf16", []offer{arm}, "bf16-arm64", "", ""},
		{"bf16", []offer{none}, "fp32", "this CPU has no bf16 unit (AMX or AVX512-BF16), so products are in fp32", ""},
		{"bf16", []offer{cuda}, "bf16", "", ""},
		{"fp16", []offer{cuda}, "fp16", "", ""},
		{"auto", []offer{amx, zen}, "bf16-avx512", "", ""},
		{"auto", []offer{zen, amx}, "bf16-avx512", "", ""},
		{"auto", []offer{amx, amx, none}, "fp32", "rank 2 has none of rank 0's bf16 units, so all ranks compute in fp32", ""},
		{"auto", []offer{none, amx}, "fp32", "rank 0 has no bf16 unit, so all ranks compute in fp32", ""},
		{"bf16", []offer{none, amx}, "fp32", "rank 0 has no bf16 unit", ""},
		{"auto", []offer{cuda, amx}, "fp32", "", ""},
		{"bf16", []offer{cuda, amx}, "", "", "rank 1 has the provider cpu, rank 0 cuda"},
		{"auto", []offer{amx, forced}, "", "", `RAG_RETRIEVAL_BF16 is "portable" in rank 1 and "" in rank 0: set it for all ranks (mpirun -x RAG_RETRIEVAL_BF16), or for none`},
	} {
		p, u, note, err := precisionOf(c.asked, c.ranks, func(rank int) string { return fmt.Sprintf("rank %d", rank) })
		if c.fail != "" {
			if err == nil || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%s of %+v: %v, want %s", c.asked, c.ranks, err, c.fail)
			}
			continue
		}
		if err != nil || pathOf(p, u) != c.want || !strings.HasPrefix(note, c.note) || c.note == "" && note != "" {
			t.Errorf("%s of %+v: %s %s, %q, %v, want %s, %q", c.asked, c.ranks, p, u, note, err, c.want, c.note)
		}
	}
}

// A checkpoint's path is compared, not what mixed_precision was set to. Checkpoints of earlier versions have none, and keep what they did.
func TestCheckPath(t *testing.T) {
	for _, c := range []struct {
		precision, mixed string // of the checkpoint
		now              string // mixed_precision
		unit             kernels.Unit
		want             string // the error; empty: none
	}{
		{"", "no", "no", kernels.None, ""},
		{"", "auto", "no", kernels.None, ""}, // a checkpoint without the key
		{"", "fp16", "fp16", kernels.None, ""},
		{"", "bf16", "bf16", kernels.None, ""}, // on cuda
		{"fp32", "no", "no", kernels.None, ""},
		{"bf16-portable", "bf16", "bf16", kernels.Portable, ""},
		{"", "no", "bf16", kernels.AMX, "the checkpoint in out was made in fp32, and this run computes in bf16-amx: go on with mixed_precision no, or start a new run in another folder"},
		{"bf16-portable", "bf16", "no", kernels.None, "was made in bf16-portable, and this run computes in fp32: go on with mixed_precision bf16 and RAG_RETRIEVAL_BF16=portable, or"},
		{"bf16-portable", "bf16", "bf16", kernels.AVX512, "was made in bf16-portable, and this run computes in bf16-avx512: "},
		{"bf16", "bf16", "bf16", kernels.Portable, "was made in bf16, and this run computes in bf16-portable: go on with provider cuda and mixed_precision bf16, or"},
		{"bf16-sve", "bf16", "no", kernels.None, "this version does not know it"},
	} {
		r := &Run{Config: config.Train{OutputDir: "out", MixedPrecision: c.now}, unit: c.unit}
		err := r.checkPath(runState{Train: config.Train{MixedPrecision: c.mixed}, Precision: c.precision})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	r := &Run{Config: config.Train{MixedPrecision: "no"}}
	missing := r.returnTo("bf16-amx")
	if want := "this CPU has no AMX for bf16, or the system does not allow it, so go on where the CPU has it"; kernels.AMX.Check() != nil && missing != want {
		t.Errorf("%s, want %s", missing, want)
	}
}

// What the settings say reaches the sessions of the encoder in training, and only the CPU's.
func TestSettlePrecision(t *testing.T) {
	for _, c := range []struct {
		variable, mixed, provider, want string
		fail                            string
	}{
		{"portable", "auto", runtime.CPU, "bf16-portable", ""},
		{"portable", "bf16", runtime.CPU, "bf16-portable", ""},
		{"portable", "no", runtime.CPU, "fp32", ""},
		{"portable", "auto", runtime.CUDA, "fp32", ""},
		{"portable", "bf16", runtime.CUDA, "bf16", ""},
		{"pancake", "no", runtime.CPU, "fp32", ""},
		{"pancake", "auto", runtime.CPU, "", `RAG_RETRIEVAL_BF16 is "pancake", want amx, avx512, portable or arm64`},
	} {
		t.Setenv(kernels.Variable, c.variable)
		r := &Run{Config: config.Train{MixedPrecision: c.mixed, Provider: c.provider}, comm: dist.Alone{}}
		err := r.settlePrecision(nil)
		if c.fail != "" {
			if err == nil || err.Error() != c.fail {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil || r.Precision() != c.want || r.sessionOptions().BF16.Precision() != c.want && c.provider == runtime.CPU {
			t.Errorf("%+v: %s, sessions in %q, %v", c, r.Precision(), r.sessionOptions().BF16, err)
		}
	}
}
