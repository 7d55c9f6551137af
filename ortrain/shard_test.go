package ortrain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/dist/disttest"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/optim"
)

// Parts are aligned, follow each other, cover the blocks and differ by no more than the alignment allows.
func TestShards(t *testing.T) {
	for _, c := range []struct {
		total int64
		want  []int
	}{
		{1024, []int{512, 512}}, {1024, []int{384, 384, 256}}, {64, []int{64, 0, 0}}, {192, []int{64, 64, 64, 0}}, {0, []int{0, 0}},
	} {
		at := int64(0)
		for rank := range c.want {
			s := newShards(c.total, rank, len(c.want))
			if !slices.Equal(s.counts, c.want) || s.start != at || s.end != at+int64(c.want[rank]) {
				t.Errorf("%d elements, rank %d of %d: %+v, want %v", c.total, rank, len(c.want), s, c.want)
			}
			at = s.end
		}
	}
	s := newShards(1024, 0, 3)
	for _, c := range []struct {
		start, end int64
		want       []int
	}{{0, 1024, []int{384, 384, 256}}, {300, 400, []int{84, 16, 0}}, {400, 500, []int{0, 100, 0}}, {380, 770, []int{4, 384, 2}}} {
		if got := s.overlap(c.start, c.end); !slices.Equal(got, c.want) {
			t.Errorf("%d to %d: %v, want %v", c.start, c.end, got, c.want)
		}
	}
}

// vectorJob makes a trainer of vectorModel for a rank.
func vectorJob(c dist.Comm, sharded bool) (*Trainer, error) {
	set, err := artifact.Build(vectorModel(1000), optim.DefaultAdamW)
	if err != nil {
		return nil, err
	}
	tr, err := NewTrainer(set, Config{
		Schedule: optim.Schedule{Kind: "constant", Peak: 1e-2, Total: 100}, AdamW: optim.DefaultAdamW, MaxGradNorm: 1, Comm: c, ShardOptimizer: sharded,
	})
	if err != nil {
		return nil, err
	}
	return tr, tr.Fill(func(_ *flat.Layout, parameters []float32) error {
		for i := range parameters {
			parameters[i] = float32(i%17) - 8
		}
		return nil
	})
}

func steps(tr *Trainer, n int) error {
	for range n {
		if _, err := tr.Step(row()); err != nil {
			return err
		}
	}
	return nil
}

func ignoreHost(json.RawMessage) error { return nil }

func notSkipped(err error) { panic(err) }

// tensorsOf reads the tensors of the only checkpoint in a folder.
func tensorsOf(t *testing.T, dir string) []byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*", tensorsFile))
	if err != nil || len(paths) != 1 {
		t.Fatalf("%v, %v", paths, err)
	}
	b, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A checkpoint of sharded moments is the file that a rank with all moments would write. Any number of ranks, sharded or not,
// loads it and has the same state.
func TestShardedCheckpoint(t *testing.T) {
	saved := Checkpoints{Dir: t.TempDir(), Keep: 1}
	if err := errors.Join(disttest.Ranks(3, func(c dist.Comm) (err error) {
		tr, err := vectorJob(c, true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, tr.Close()) }()
		if own, whole := tr.MomentBytes(); tr.moments[0].Len() != int(own)/8 || own > whole*4/10 {
			return fmt.Errorf("rank %d has %d of %d bytes of moments, %d elements", c.Rank(), own, whole, tr.moments[0].Len())
		}
		return errors.Join(steps(tr, 5), saved.Save(tr, "host"))
	})...); err != nil {
		t.Fatal(err)
	}
	want := tensorsOf(t, saved.Dir)
	f, err := safetensors.Open(filepath.Join(saved.Path(5), tensorsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, x := range f.Tensors { // the moments of each part have values
		values, err := x.Float32()
		if err != nil || zeros(values) > len(values)/10 { // a seventeenth of the gradients is zero
			t.Errorf("%s: %d zeros, %v", x.Name, zeros(values), err)
		}
	}
	for _, n := range []int{1, 2, 3, 4} {
		for _, sharded := range []bool{true, false} {
			again := Checkpoints{Dir: t.TempDir(), Keep: 1}
			if err := errors.Join(disttest.Ranks(n, func(c dist.Comm) (err error) {
				tr, err := vectorJob(c, sharded)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, tr.Close()) }()
				if err := saved.Load(tr, ignoreHost, notSkipped); err != nil {
					return err
				}
				tr.savedStep = -1
				return again.Save(tr, "host")
			})...); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(tensorsOf(t, again.Dir), want) {
				t.Errorf("%d ranks, sharded %v: the checkpoint differs", n, sharded)
			}
		}
	}
}

func zeros(values []float32) (n int) {
	for _, x := range values {
		if x == 0 {
			n++
		}
	}
	return n
}

// Moments are gathered in windows that are smaller than a tensor, and across the limits of parts.
func TestMomentGather(t *testing.T) {
	for rank, err := range disttest.Ranks(3, func(c dist.Comm) (err error) {
		tr, err := vectorJob(c, true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, tr.Close()) }()
		first, _ := tr.ownPart()
		for k, block := range tr.moments {
			for i := range block.Host() {
				block.Host()[i] = float32(10000*k) + float32(first) + float32(i)
			}
		}
		m := newMomentGather(tr, 100)
		if c.Rank() > 0 {
			return m.finish(nil)
		}
		var b bytes.Buffer
		for k, prefix := range momentPrefixes {
			for i, x := range m.tensors(prefix) {
				b.Reset()
				if err := x.Stream(&b); err != nil {
					return err
				}
				want := make([]float32, x.Shape[0])
				for j := range want {
					want[j] = float32(10000*k) + float32(tr.Layout().Offsets[i]) + float32(j)
				}
				if !bytes.Equal(b.Bytes(), safetensors.FromFloat32("", want).Data) {
					return fmt.Errorf("%s differs", x.Name)
				}
			}
		}
		return m.finish(nil)
	}) {
		if err != nil {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// If rank 0 cannot write the file, no rank waits, all say why, and there is no checkpoint.
func TestShardedCheckpointFails(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"no folder": func(t *testing.T, dir string) { check(t, os.WriteFile(dir, nil, 0o600)) },
		"no space":  func(t *testing.T, dir string) { check(t, os.MkdirAll(dir, 0o700)) },
	} {
		c := Checkpoints{Dir: filepath.Join(t.TempDir(), "checkpoint"), Keep: 1}
		spoil(t, c.Dir)
		full := errors.New("no space left")
		for rank, err := range disttest.Ranks(2, func(comm dist.Comm) (err error) {
			tr, err := vectorJob(comm, true)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, tr.Close()) }()
			if err := steps(tr, 2); err != nil {
				return err
			}
			if name != "no space" {
				return c.Save(tr, nil)
			}
			m := newMomentGather(tr, 100)
			if comm.Rank() > 0 {
				return m.finish(nil)
			}
			if _, err := m.next(); err != nil {
				return err
			}
			return m.finish(full) // after the first window
		}) {
			if err == nil || !strings.HasPrefix(err.Error(), "rank 0: ") || strings.Contains(err.Error(), "left the job") {
				t.Errorf("%s: rank %d: %v", name, rank, err)
			}
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The norm of a sharded job is that of all parts: clipping makes the same step as without shards.
func TestShardedNorm(t *testing.T) {
	var norms [2]Step
	for i, sharded := range []bool{false, true} {
		seen := make([]Step, 3)
		check(t, errors.Join(disttest.Ranks(3, func(c dist.Comm) (err error) {
			tr, err := vectorJob(c, sharded)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, tr.Close()) }()
			seen[c.Rank()], err = tr.Step(row())
			seen[c.Rank()].Times = Times{}
			return err
		})...))
		if seen[0] != seen[1] || seen[0] != seen[2] {
			t.Errorf("sharded %v: the ranks differ: %+v", sharded, seen)
		}
		norms[i] = seen[0]
	}
	if a, b := norms[0].GradNorm, norms[1].GradNorm; a < 10 || math.Abs(a-b) > 1e-6*a {
		t.Errorf("the norm is %g, sharded %g", a, b)
	}
}
