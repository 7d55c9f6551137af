package ortrain

import (
	"errors"
	"fmt"
	"math"
	goruntime "runtime"
	"sync"

	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// viewSize is how many elements one run of an optimizer graph works on: at 256 Ki elements all intermediates stay in
// the cache, which makes a step three times faster than one run over the whole buffer.
const viewSize = 256 << 10

// optimizer runs the optimizer's graphs over views of the trainer's flat buffers, several views at a time.
type optimizer struct {
	workers            int
	adamw, norms, adds *runtime.Session
	views              []*view
	scalars            map[string][]float32
	tensors            []*runtime.Tensor
	adding             bool // the views have bindings for accumulation
}

// view is one stretch of the flat buffers with its bindings.
type view struct {
	start, end   int64
	decay        bool
	adamw        *runtime.Binding
	norm         *runtime.Binding
	add          *runtime.Binding
	sumOfSquares []float32
	gradients    *runtime.Buffer // what adamw and norm read now
}

func newOptimizer(t *Trainer) (*optimizer, error) {
	o := &optimizer{workers: t.cfg.Threads, scalars: map[string][]float32{}}
	if o.workers <= 0 {
		o.workers = goruntime.NumCPU()
	}
	if err := o.open(t); err != nil {
		return nil, errors.Join(fmt.Errorf("optimizer: %w", err), o.Close())
	}
	return o, nil
}

func (o *optimizer) open(t *Trainer) (err error) {
	single := runtime.Options{Threads: 1} // views run side by side instead
	for _, s := range []struct {
		to    **runtime.Session
		model []byte
	}{{&o.adamw, t.set.Optimizer}, {&o.norms, t.set.Norm}, {&o.adds, t.set.Accumulation}} {
		if *s.to, err = runtime.NewSession(s.model, single); err != nil {
			return err
		}
	}
	l := t.set.Layout
	for _, part := range [][2]int64{{0, l.Decayed}, {l.Decayed, l.Total}} {
		for start := part[0]; start < part[1]; start += viewSize {
			v := &view{start: start, end: min(start+viewSize, part[1]), decay: start < l.Decayed}
			o.views = append(o.views, v)
			if err := o.bind(t, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *optimizer) bind(t *Trainer, v *view) (err error) {
	if v.adamw, err = o.adamw.NewBinding(); err != nil {
		return err
	}
	if v.norm, err = o.norms.NewBinding(); err != nil {
		return err
	}
	for name, buffer := range map[string]*runtime.Buffer{
		optim.Parameter: t.parameters, optim.FirstMoment: t.moments[0], optim.SecondMoment: t.moments[1],
	} {
		x, err := o.tensor(buffer.Data[v.start:v.end])
		if err != nil {
			return err
		}
		if err := errors.Join(v.adamw.Input(name, x), v.adamw.Output(name+optim.OutSuffix, x)); err != nil {
			return err
		}
	}
	decay := optim.DecayFactor
	if !v.decay {
		decay = "no decay"
	}
	for input, scalar := range map[string]string{
		optim.GradientScale: optim.GradientScale, optim.StepSize: optim.StepSize,
		optim.Epsilon: optim.Epsilon, optim.DecayFactor: decay,
	} {
		if err := o.bindScalar(v.adamw, input, scalar); err != nil {
			return err
		}
	}
	v.sumOfSquares = make([]float32, 1)
	x, err := o.tensor(v.sumOfSquares)
	if err != nil {
		return err
	}
	return v.norm.Output(optim.SumOfSquares, x)
}

// bindScalar binds the shared memory of a named scalar, whose value the host changes between runs.
func (o *optimizer) bindScalar(b *runtime.Binding, input, name string) error {
	if o.scalars[name] == nil {
		o.scalars[name] = []float32{1}
	}
	x, err := o.tensor(o.scalars[name])
	if err != nil {
		return err
	}
	return b.Input(input, x)
}

// tensor makes a 1-D tensor over values that lives as long as the optimizer.
func (o *optimizer) tensor(values []float32) (*runtime.Tensor, error) {
	x, err := runtime.NewTensor(values, int64(len(values)))
	if err == nil {
		o.tensors = append(o.tensors, x)
	}
	return x, err
}

// each runs f on all views, several at a time.
func (o *optimizer) each(f func(*view) error) error {
	errs := make([]error, o.workers)
	var wg sync.WaitGroup
	for w := 0; w < o.workers; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < len(o.views) && errs[w] == nil; i += o.workers {
				errs[w] = f(o.views[i])
			}
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// read makes the views read this buffer's gradients.
func (o *optimizer) read(gradients *runtime.Buffer) error {
	for _, v := range o.views {
		if v.gradients == gradients {
			continue
		}
		x, err := o.tensor(gradients.Data[v.start:v.end])
		if err != nil {
			return err
		}
		if err := errors.Join(v.adamw.Input(optim.Gradient, x), v.norm.Input(optim.Gradient, x)); err != nil {
			return err
		}
		v.gradients = gradients
	}
	return nil
}

// norm is the global norm of the gradients.
func (o *optimizer) norm(gradients *runtime.Buffer) (float64, error) {
	if err := o.read(gradients); err != nil {
		return 0, err
	}
	if err := o.each(func(v *view) error { return v.norm.Run() }); err != nil {
		return 0, fmt.Errorf("gradient norm: %w", err)
	}
	total := 0.0
	for _, v := range o.views {
		total += float64(v.sumOfSquares[0])
	}
	return math.Sqrt(total), nil
}

// apply does one AdamW step in place.
func (o *optimizer) apply(gradients *runtime.Buffer, s optim.Scalars) error {
	if err := o.read(gradients); err != nil {
		return err
	}
	o.scalars[optim.GradientScale][0] = float32(s.GradientScale)
	o.scalars[optim.StepSize][0] = float32(s.StepSize)
	o.scalars[optim.Epsilon][0] = float32(s.Epsilon)
	if f := o.scalars[optim.DecayFactor]; f != nil { // nil where no parameter has weight decay
		f[0] = float32(s.DecayFactor)
	}
	if err := o.each(func(v *view) error { return v.adamw.Run() }); err != nil {
		return fmt.Errorf("optimizer step: %w", err)
	}
	return nil
}

// accumulate adds the gradients, times a weight, to the step's; first starts the sum.
func (o *optimizer) accumulate(t *Trainer, first bool, weight float64) error {
	if !o.adding {
		if err := o.bindAccumulation(t); err != nil {
			return fmt.Errorf("gradient accumulation: %w", err)
		}
	}
	o.scalars[optim.Weight][0] = float32(weight)
	o.scalars[optim.Keep][0] = 1
	if first {
		o.scalars[optim.Keep][0] = 0
	}
	if err := o.each(func(v *view) error { return v.add.Run() }); err != nil {
		return fmt.Errorf("gradient accumulation: %w", err)
	}
	return nil
}

// bindAccumulation allocates the step's gradients when the first step with several micro-batches comes.
func (o *optimizer) bindAccumulation(t *Trainer) (err error) {
	if t.accumulated, err = runtime.NewBuffer(int(t.set.Layout.Total)); err != nil {
		return err
	}
	for _, v := range o.views {
		if v.add, err = o.adds.NewBinding(); err != nil {
			return err
		}
		sum, err := o.tensor(t.accumulated.Data[v.start:v.end])
		if err != nil {
			return err
		}
		x, err := o.tensor(t.gradients.Data[v.start:v.end])
		if err != nil {
			return err
		}
		if err := errors.Join(v.add.Input(optim.Accumulated, sum), v.add.Output(optim.Accumulated+optim.OutSuffix, sum),
			v.add.Input(optim.Gradient, x), o.bindScalar(v.add, optim.Weight, optim.Weight),
			o.bindScalar(v.add, optim.Keep, optim.Keep)); err != nil {
			return err
		}
	}
	o.adding = true
	return nil
}

// Close frees all native memory.
func (o *optimizer) Close() error {
	if o == nil {
		return nil
	}
	var errs []error
	for _, v := range o.views {
		errs = append(errs, v.adamw.Close(), v.norm.Close(), v.add.Close())
	}
	for _, x := range o.tensors {
		errs = append(errs, x.Close())
	}
	errs = append(errs, o.adamw.Close(), o.norms.Close(), o.adds.Close())
	return errors.Join(errs...)
}
