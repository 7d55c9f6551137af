package ortrain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/optim"
)

// vectorTrainer makes a trainer of vectorModel for a number of steps.
func vectorTrainer(t *testing.T, steps int) *Trainer {
	t.Helper()
	set, err := artifact.Build(vectorModel(8), optim.DefaultAdamW)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := NewTrainer(set, Config{Schedule: optim.Schedule{Kind: "constant", Peak: 1e-3, Total: steps}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	err = tr.Fill(func(_ *flat.Layout, parameters []float32) error {
		for i := range parameters {
			parameters[i] = float32(i + 1)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// row returns a batch of one micro-batch with one row.
func row() []*Batch {
	b := NewBatch()
	b.Rows = 1
	return []*Batch{b}
}

// spy is a hook that records its calls and can fail at one of them.
type spy struct {
	name    string
	fail    string // the call that fails
	calls   *[]string
	stepped func(s Step)
}

func (s spy) call(what string) error {
	*s.calls = append(*s.calls, s.name+" "+what)
	if s.fail == what {
		return fmt.Errorf("%s: no %s", s.name, what)
	}
	return nil
}

func (s spy) OnStart(*Trainer) error { return s.call("start") }

func (s spy) OnStep(_ *Trainer, x Step) error {
	if s.stepped != nil {
		s.stepped(x)
	}
	return s.call(fmt.Sprint("step ", x.Step))
}

func (s spy) OnEnd(_ *Trainer, err error) error {
	return s.call(strings.TrimSpace("end " + strings.ReplaceAll(fmt.Sprint(err), "<nil>", "")))
}

// OnEnd is called for the hooks that started, and for no other, with the error that ended the run. A run ends by its last
// step, a hook, the source or the context.
func TestRunCallsItsHooks(t *testing.T) {
	bad := errors.New("no such row")
	for name, c := range map[string]struct {
		first, second string // the calls of the two hooks that fail
		source        error  // at the second step
		cancel        int    // the step after which the context ends
		want          string // the error
		calls         []string
	}{
		"whole":                     {calls: []string{"a start", "b start", "a step 1", "b step 1", "a step 2", "b step 2", "a step 3", "b step 3", "a end", "b end"}},
		"the second does not start": {second: "start", want: "b: no start", calls: []string{"a start", "b start", "a end b: no start"}},
		"the first does not start":  {first: "start", want: "a: no start", calls: []string{"a start"}},
		"a step's hook":             {first: "step 2", want: "a: no step 2", calls: []string{"a start", "b start", "a step 1", "b step 1", "a step 2", "a end a: no step 2", "b end a: no step 2"}},
		"the source":                {source: bad, want: "no such row", calls: []string{"a start", "b start", "a step 1", "b step 1", "a end no such row", "b end no such row"}},
		"the context":               {cancel: 2, want: "interrupted", calls: []string{"a start", "b start", "a step 1", "b step 1", "a step 2", "b step 2", "a end interrupted", "b end interrupted"}},
		"an end":                    {first: "end", want: "a: no end", calls: []string{"a start", "b start", "a step 1", "b step 1", "a step 2", "b step 2", "a step 3", "b step 3", "a end", "b end a: no end"}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := vectorTrainer(t, 3)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var asked []int
			source := func(step int) ([]*Batch, error) {
				asked = append(asked, step)
				if step == 1 && c.source != nil {
					return nil, c.source
				}
				return row(), nil
			}
			var calls []string
			err := tr.Run(ctx, source, spy{"a", c.first, &calls, nil}, spy{"b", c.second, &calls, func(s Step) {
				if s.Step == c.cancel {
					cancel()
				}
			}})
			if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if !slices.Equal(calls, c.calls) {
				t.Errorf("calls %q, want %q", calls, c.calls)
			}
			for i, step := range asked { // the goroutine that asks has ended
				if step != i {
					t.Errorf("asked for the steps %v", asked)
				}
			}
		})
	}
}

// A run continues after the trainer's last step: the source is called only for later steps, and not at all for a finished run.
func TestRunGoesOn(t *testing.T) {
	tr := vectorTrainer(t, 4)
	for range 2 {
		if _, err := tr.Step(row()); err != nil {
			t.Fatal(err)
		}
	}
	var asked, done []int
	source := func(step int) ([]*Batch, error) {
		asked = append(asked, step)
		return row(), nil
	}
	var calls []string
	hook := spy{"a", "", &calls, func(s Step) {
		if done = append(done, s.Step); s.Total != 4 || s.Rows != 1 {
			t.Errorf("%+v", s)
		}
	}}
	for range 2 {
		if err := tr.Run(t.Context(), source, hook); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(asked, []int{2, 3}) || !slices.Equal(done, []int{3, 4}) || tr.StepsDone() != 4 {
		t.Errorf("asked for %v, did %v, %d steps done", asked, done, tr.StepsDone())
	}
	if want := []string{"a start", "a step 3", "a step 4", "a end", "a start", "a end"}; !slices.Equal(calls, want) {
		t.Errorf("calls %q, want %q", calls, want)
	}
}

// A step's times are its own, and are no longer than the step. What the source takes of a processor is beside them.
func TestStepTimes(t *testing.T) {
	tr := vectorTrainer(t, 3)
	if threadTime() == 0 {
		t.Skip("the system does not tell a thread's processor time")
	}
	const work = 5 * time.Millisecond
	source := func(int) ([]*Batch, error) {
		for begun := threadTime(); threadTime() < begun+work; {
		}
		return []*Batch{row()[0], row()[0]}, nil // accumulates
	}
	last := time.Now()
	var calls []string
	err := tr.Run(t.Context(), source, spy{"a", "", &calls, func(s Step) {
		x, whole := s.Times, time.Since(last).Seconds()
		last = time.Now()
		if x.Graph <= 0 || x.Optimizer <= 0 || x.Graph+x.Optimizer+x.Waiting > whole {
			t.Errorf("step %d took %g s: %+v", s.Step, whole, x)
		}
		if x.Preparing < work.Seconds() {
			t.Errorf("step %d: %+v, a batch takes %v", s.Step, x, work)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
}
