package ortrain

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/dist/disttest"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// spoiler is a hook that changes a rank's parameters after a step.
type spoiler struct{ step int }

func (s spoiler) OnStart(*Trainer) error { return nil }

func (s spoiler) OnStep(t *Trainer, x Step) error {
	if x.Step == s.step {
		t.parameters.Host()[3] += 1e-6
	}
	return nil
}

func (s spoiler) OnEnd(*Trainer, error) error { return nil }

// Ranks whose parameters differ in one bit end with an error that names them, at the next comparison and before any other hook.
func TestRanksCompareParameters(t *testing.T) {
	for _, c := range []struct {
		ranks, every int
		spoiled      []int
		want         string // "" for no error
	}{
		{2, 1, []int{1}, "after step 3: the parameters of rank 1 are not the same as those of rank 0, "},
		{2, 2, []int{1}, "after step 4: the parameters of rank 1 are not the same as those of rank 0, "},
		{3, 1, []int{0}, "after step 3: the parameters of rank 0 are not the same as those of ranks 1 and 2, "},
		{5, 1, []int{1, 4}, "after step 3: the parameters of ranks 1 and 4 are not the same as those of ranks 0, 2 and 3, "},
		{2, 0, []int{1}, ""},
		{2, 1, nil, ""},
	} {
		var seen int // the last step that a hook of rank 0 saw
		for rank, err := range disttest.Ranks(c.ranks, func(comm dist.Comm) (err error) {
			tr, err := vectorJob(comm, false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, tr.Close()) }()
			tr.cfg.CheckSteps, tr.cfg.Schedule.Total = c.every, 6
			hook := spoiler{}
			if slices.Contains(c.spoiled, comm.Rank()) {
				hook.step = 2
			}
			var calls []string
			last := spy{"last", "", &calls, func(s Step) {
				if comm.Rank() == 0 {
					seen = s.Step
				}
			}}
			return tr.Run(t.Context(), func(int) ([]*Batch, error) { return row(), nil }, hook, last)
		}) {
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
				t.Errorf("%+v: rank %d: %v", c, rank, err)
			}
		}
		if want := map[bool]int{true: 6, false: max(3, 2*c.every) - 1}[c.want == ""]; seen != want {
			t.Errorf("%+v: hooks saw step %d, want %d", c, seen, want)
		}
	}
}

// deafRank is a rank that a broadcast does not reach.
type deafRank struct{ dist.Comm }

func (d deafRank) Broadcast(values []float32) error {
	return d.Comm.Broadcast(slices.Clone(values))
}

// Parameters that differ at the start are found before the first step; so are moments, which a resumed rank reads by itself.
func TestRanksCompareAtStart(t *testing.T) {
	for _, c := range []struct{ what, want string }{
		{"parameters", "after step 0: the parameters and moments of rank 1 "}, {"moments", "after step 0: the parameters and moments of rank 1 "},
	} {
		for rank, err := range disttest.Ranks(2, func(comm dist.Comm) (err error) {
			if comm.Rank() == 1 {
				comm = deafRank{comm}
			}
			tr, err := vectorJob(comm, false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, tr.Close()) }()
			tr.cfg.CheckSteps = 100
			if comm.Rank() == 1 {
				map[string]*runtime.Block{"parameters": tr.parameters, "moments": tr.moments[1]}[c.what].Host()[5]++
			}
			return tr.Run(t.Context(), func(int) ([]*Batch, error) { return nil, errors.New("a step began") })
		}) {
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%s: rank %d: %v", c.what, rank, err)
			}
		}
	}
}

// The checksum of a block does not depend on the memory that it is in.
func TestChecksum(t *testing.T) {
	d, err := runtime.OpenDevice(runtime.Options{Provider: runtime.CPU})
	check(t, err)
	defer func() { check(t, d.Close()) }()
	values := make([]float32, checksumWindow+1000)
	for i := range values {
		values[i] = float32(i)
	}
	sums := map[uint64]bool{}
	for _, device := range []*runtime.Device{nil, d} {
		b, err := device.NewBlock(len(values))
		check(t, err)
		check(t, b.Upload(0, values))
		sum, err := checksum([]*runtime.Block{b})
		check(t, err)
		sums[sum] = true
		check(t, b.Upload(len(values)-1, []float32{-1}))
		if other, err := checksum([]*runtime.Block{b}); err != nil || other == sum {
			t.Errorf("the last element does not count: %v", err)
		}
		check(t, b.Close())
	}
	if len(sums) != 1 {
		t.Error("the checksums differ")
	}
}

// BenchmarkChecksum measures the checksum of all-MiniLM-L6-v2's parameters.
func BenchmarkChecksum(b *testing.B) {
	set, err := artifact.Build(vectorModel(22_713_216), optim.DefaultAdamW)
	if err != nil {
		b.Fatal(err)
	}
	t, err := NewTrainer(set, Config{Schedule: optim.Schedule{Kind: "constant", Peak: 1e-5, Total: 1}})
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	for i := range t.parameters.Host() {
		t.parameters.Host()[i] = float32(i)
	}
	b.SetBytes(4 * int64(t.parameters.Len()))
	for range b.N {
		if _, err := checksum([]*runtime.Block{t.parameters}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRanksText(t *testing.T) {
	many := make([]int, 12)
	for i := range many {
		many[i] = i
	}
	for _, c := range []struct {
		ranks []int
		want  string
	}{{[]int{3}, "rank 3"}, {[]int{1, 2}, "ranks 1 and 2"}, {many, "ranks 0, 1, 2, 3, 4, 5, 6, 7 and 4 more"}} {
		if got := ranksText(c.ranks); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
