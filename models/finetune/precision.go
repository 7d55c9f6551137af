package finetune

import (
	"fmt"
	"slices"

	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/runtime"
)

// offer is what a rank can compute bfloat16 products with. All ranks of a job take the same path, so that a run gives the same bytes
// wherever its ranks are.
type offer struct {
	Provider string         `json:"provider"`
	Forced   kernels.Unit   `json:"forced"` // by kernels.Variable
	Auto     []kernels.Unit `json:"auto"`   // that mixed_precision auto may take, best first
	Asked    []kernels.Unit `json:"asked"`  // that bf16 may take
}

// ownOffer is the offer of this process.
func ownOffer(provider string) (o offer, err error) {
	o.Provider = provider
	if o.Forced, err = kernels.Forced(); err != nil {
		return o, err
	}
	if o.Auto, err = kernels.Choices(false); err != nil {
		return o, err
	}
	o.Asked, err = kernels.Choices(true)
	return o, err
}

// settlePrecision replaces mixed_precision auto, and bf16 where it cannot be had, and sets the unit that computes bf16 on the CPU. All
// ranks of a job call it, also one that has failed before: failed is its error, which the others meet in a later dist.Agree.
func (r *Run) settlePrecision(failed error) error {
	asked := r.Config.MixedPrecision
	mine, err := ownOffer(r.Config.Provider)
	if asked != precision.BF16 && asked != precision.Auto || r.Config.Provider == runtime.CUDA {
		err = nil // the variable is for products that this rank does not have
	}
	if failed == nil {
		failed = err
	}
	all, err := dist.GatherJSON(r.comm, mine)
	if err != nil || failed != nil {
		return orError(failed, err)
	}
	name := func(rank int) string { return fmt.Sprintf("rank %d on %s", rank, r.places[rank].Host) }
	var note string
	if r.Config.MixedPrecision, r.unit, note, err = precisionOf(asked, all, name); note != "" {
		r.Notes = append(r.Notes, "mixed_precision: "+note)
	}
	if err != nil {
		return fmt.Errorf("mixed_precision: %w", err)
	}
	return nil
}

func orError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// precisionOf decides how a job of these ranks computes products: in the precision that is asked for, and bf16 on a CPU with a unit that
// all ranks have. The note says, for the user, what else would be possible.
func precisionOf(asked string, ranks []offer, name func(rank int) string) (settled string, unit kernels.Unit, note string, err error) {
	if asked != precision.BF16 && asked != precision.Auto {
		return asked, kernels.None, "", nil
	}
	mixed := slices.IndexFunc(ranks, func(o offer) bool { return o.Provider != ranks[0].Provider })
	switch {
	case asked == precision.Auto && (mixed > 0 || ranks[0].Provider == runtime.CUDA):
		return precision.No, kernels.None, "", nil
	case mixed > 0:
		return "", kernels.None, "", fmt.Errorf("bf16 of cpu and cuda are not the same: %s has the provider %s, rank 0 %s", name(mixed), ranks[mixed].Provider, ranks[0].Provider)
	case ranks[0].Provider == runtime.CUDA:
		return asked, kernels.None, "", nil
	}
	for rank, o := range ranks {
		if o.Forced != ranks[0].Forced {
			return "", kernels.None, "", fmt.Errorf("%s is %q in %s and %q in rank 0: set it for all ranks (mpirun -x %[1]s), or for none", kernels.Variable, string(o.Forced), name(rank), string(ranks[0].Forced))
		}
	}
	units := func(o offer) []kernels.Unit {
		if asked == precision.BF16 {
			return o.Asked
		}
		return o.Auto
	}
	var lacks []int
	for _, u := range units(ranks[0]) {
		lacking := slices.IndexFunc(ranks, func(o offer) bool { return !slices.Contains(units(o), u) })
		if lacking < 0 {
			return precision.BF16, u, "", nil
		}
		lacks = append(lacks, lacking)
	}
	switch any := slices.ContainsFunc(ranks, func(o offer) bool { return len(units(o)) > 0 }); {
	case any && len(lacks) == 0:
		note = name(0) + " has no bf16 unit, so all ranks compute in fp32"
	case any:
		note = name(lacks[0]) + " has none of rank 0's bf16 units, so all ranks compute in fp32"
	case asked == precision.BF16:
		note = kernels.NoUnit
	}
	return precision.No, kernels.None, note, nil
}

// Precision names the path that the training graph's products take: fp32; bf16-amx, bf16-avx512 and so on on a CPU; fp16 or bf16 on
// CUDA.
func (r *Run) Precision() string { return pathOf(r.Config.MixedPrecision, r.unit) }

func pathOf(mixedPrecision string, unit kernels.Unit) string {
	if unit != kernels.None || mixedPrecision == precision.No {
		return unit.Precision()
	}
	return mixedPrecision
}

// path is the path of a checkpoint's run. Checkpoints of earlier versions do not name it: on a CPU it was fp32.
func (s runState) path() string {
	switch p := s.Train.MixedPrecision; {
	case s.Precision != "":
		return s.Precision
	case p == precision.FP16 || p == precision.BF16:
		return p
	}
	return kernels.None.Precision()
}

// checkPath returns an error if a checkpoint's run took another path than this one: the same seed would not give the same bytes.
func (r *Run) checkPath(saved runState) error {
	was, is := saved.path(), r.Precision()
	if was == is {
		return nil
	}
	return fmt.Errorf("the checkpoint in %s was made in %s, and this run computes in %s: %s, or start a new run in another folder", r.Config.OutputDir, was, is, r.returnTo(was))
}

// returnTo says how this machine can take a path.
func (r *Run) returnTo(path string) string {
	switch {
	case path == kernels.None.Precision():
		return "go on with mixed_precision no"
	case path == precision.FP16 || path == precision.BF16:
		return "go on with provider cuda and mixed_precision " + path
	}
	for _, u := range kernels.Forcible {
		if u.Precision() != path {
			continue
		}
		if err := u.Check(); err != nil {
			return fmt.Sprintf("%v, so go on where the CPU has it", err)
		}
		return fmt.Sprintf("go on with mixed_precision bf16 and %s=%s", kernels.Variable, u)
	}
	return "this version does not know it: go on with the one that began the run"
}

// DescribePrecision says in a line how the products are computed.
func (r *Run) DescribePrecision() string {
	switch p := r.Precision(); {
	case r.unit != kernels.None:
		return r.unit.Describe() + "; losses and validations in fp32"
	case p == kernels.None.Precision():
		return r.unit.Describe()
	default:
		return fmt.Sprintf("matrix products in %s on cuda", p)
	}
}
