package ortrain

import (
	"errors"
	"fmt"
	"math"
	goruntime "runtime"
	"slices"
	"sync"

	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// How many elements one run of an optimizer graph works on. Where the host computes, at 256 Ki all intermediates stay in
// the cache, which makes a step three times faster than one run over the whole block. On a device, they bound the memory
// that the intermediates take.
const (
	hostView   = 256 << 10
	deviceView = 16 << 20
)

// optimizer runs the optimizer's graphs over views of the trainer's flat blocks, on the host several views at a time.
type optimizer struct {
	workers            int
	adamw, norms, adds *runtime.Session
	views              []*view
	scalars            *scalars
	sums               *runtime.Block // of the squares of each view's gradients
	tensors            []*runtime.Tensor
	adding             bool // the views have bindings for accumulation
}

// view is one stretch of the flat blocks with its bindings.
type view struct {
	start, end int64
	decay      bool
	adamw      *runtime.Binding
	norm       *runtime.Binding
	add        *runtime.Binding
	gradients  *runtime.Block // what adamw and norm read now
	tensors    map[*runtime.Block]*runtime.Tensor
}

// noDecay is the decay factor of the parameters that have no weight decay: always 1.
const noDecay = "no decay"

// scalarNames are the optimizer graphs' scalar inputs, each an element of a block.
var scalarNames = []string{optim.GradientScale, optim.StepSize, optim.Epsilon, optim.DecayFactor, noDecay, optim.Weight, optim.Keep}

// scalars are the values that the host gives the optimizer's graphs, where these read them.
type scalars struct {
	block  *runtime.Block
	values []float32
}

func newScalars(d *runtime.Device) (*scalars, error) {
	block, err := d.NewBlock(len(scalarNames))
	s := &scalars{block, make([]float32, len(scalarNames))}
	for i := range s.values {
		s.values[i] = 1
	}
	return s, err
}

func (s *scalars) at(name string) int64 { return int64(slices.Index(scalarNames, name)) }

// set changes scalars for the next runs.
func (s *scalars) set(values map[string]float64) error {
	for name, x := range values {
		s.values[s.at(name)] = float32(x)
	}
	return s.block.Upload(0, s.values)
}

func newOptimizer(t *Trainer) (*optimizer, error) {
	o := &optimizer{workers: t.cfg.Session.Threads}
	if o.workers <= 0 {
		o.workers = goruntime.NumCPU()
	}
	if t.device() != nil {
		o.workers = 1
	}
	if err := o.open(t); err != nil {
		return nil, errors.Join(fmt.Errorf("optimizer: %w", err), o.Close())
	}
	return o, nil
}

func (o *optimizer) open(t *Trainer) (err error) {
	single := t.cfg.Session
	single.Threads = 1 // views run side by side instead
	for _, s := range []struct {
		to    **runtime.Session
		model []byte
	}{{&o.adamw, t.set.Optimizer}, {&o.norms, t.set.Norm}, {&o.adds, t.set.Accumulation}} {
		if *s.to, err = runtime.NewSession(s.model, single); err != nil {
			return err
		}
	}
	if o.scalars, err = newScalars(t.device()); err != nil {
		return err
	}
	o.cut(t)
	if o.sums, err = t.device().NewBlock(len(o.views)); err != nil {
		return err
	}
	for i, v := range o.views {
		if err := o.bind(t, i, v); err != nil {
			return err
		}
	}
	return nil
}

// cut makes the views.
func (o *optimizer) cut(t *Trainer) {
	l, size := t.set.Layout, int64(hostView)
	if t.device() != nil {
		size = deviceView
	}
	for _, part := range [][2]int64{{0, l.Decayed}, {l.Decayed, l.Total}} {
		for start := part[0]; start < part[1]; start += size {
			o.views = append(o.views, &view{
				start: start, end: min(start+size, part[1]), decay: start < l.Decayed, tensors: map[*runtime.Block]*runtime.Tensor{},
			})
		}
	}
}

func (o *optimizer) bind(t *Trainer, i int, v *view) (err error) {
	if v.adamw, err = o.adamw.NewBinding(); err != nil {
		return err
	}
	if v.norm, err = o.norms.NewBinding(); err != nil {
		return err
	}
	for name, block := range map[string]*runtime.Block{
		optim.Parameter: t.parameters, optim.FirstMoment: t.moments[0], optim.SecondMoment: t.moments[1],
	} {
		x, err := o.tensor(block, v.start, v.end)
		if err != nil {
			return err
		}
		if err := errors.Join(v.adamw.Input(name, x), v.adamw.Output(name+optim.OutSuffix, x)); err != nil {
			return err
		}
	}
	decay := optim.DecayFactor
	if !v.decay {
		decay = noDecay
	}
	for input, scalar := range map[string]string{
		optim.GradientScale: optim.GradientScale, optim.StepSize: optim.StepSize,
		optim.Epsilon: optim.Epsilon, optim.DecayFactor: decay,
	} {
		if err := o.bindScalar(v.adamw, input, scalar); err != nil {
			return err
		}
	}
	x, err := o.tensor(o.sums, int64(i), int64(i)+1)
	if err != nil {
		return err
	}
	return v.norm.Output(optim.SumOfSquares, x)
}

// bindScalar binds a named scalar, whose value the host changes between runs.
func (o *optimizer) bindScalar(b *runtime.Binding, input, name string) error {
	at := o.scalars.at(name)
	x, err := o.tensor(o.scalars.block, at, at+1)
	if err != nil {
		return err
	}
	return b.Input(input, x)
}

// tensor makes a 1-D tensor over elements of a block that lives as long as the optimizer.
func (o *optimizer) tensor(block *runtime.Block, start, end int64) (*runtime.Tensor, error) {
	x, err := block.View(start, end-start)
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

// read makes the views read this block's gradients.
func (o *optimizer) read(gradients *runtime.Block) error {
	for _, v := range o.views {
		if v.gradients == gradients {
			continue
		}
		x, err := o.gradient(v, gradients)
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

// gradient is the view's tensor over a block of gradients, made once for each of the two: those of one micro-batch and
// the step's sum, between which steps may change for the whole run.
func (o *optimizer) gradient(v *view, gradients *runtime.Block) (*runtime.Tensor, error) {
	if x := v.tensors[gradients]; x != nil {
		return x, nil
	}
	x, err := o.tensor(gradients, v.start, v.end)
	if err == nil {
		v.tensors[gradients] = x
	}
	return x, err
}

// norm is the global norm of the gradients.
func (o *optimizer) norm(gradients *runtime.Block) (float64, error) {
	if err := o.read(gradients); err != nil {
		return 0, err
	}
	if err := o.each(func(v *view) error { return v.norm.Run() }); err != nil {
		return 0, fmt.Errorf("gradient norm: %w", err)
	}
	sums, err := read(o.sums)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, x := range sums {
		total += float64(x)
	}
	return math.Sqrt(total), nil
}

// apply does one AdamW step in place.
func (o *optimizer) apply(gradients *runtime.Block, s optim.Scalars) error {
	if err := o.read(gradients); err != nil {
		return err
	}
	if err := o.scalars.set(map[string]float64{
		optim.GradientScale: s.GradientScale, optim.StepSize: s.StepSize, optim.Epsilon: s.Epsilon, optim.DecayFactor: s.DecayFactor,
	}); err != nil {
		return err
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
	keep := 1.0
	if first {
		keep = 0
	}
	if err := o.scalars.set(map[string]float64{optim.Weight: weight, optim.Keep: keep}); err != nil {
		return err
	}
	if err := o.each(func(v *view) error { return v.add.Run() }); err != nil {
		return fmt.Errorf("gradient accumulation: %w", err)
	}
	return nil
}

// bindAccumulation allocates the step's gradients when the first step with several micro-batches comes.
func (o *optimizer) bindAccumulation(t *Trainer) (err error) {
	if t.accumulated, err = t.device().NewBlock(int(t.set.Layout.Total)); err != nil {
		return err
	}
	for _, v := range o.views {
		if v.add, err = o.adds.NewBinding(); err != nil {
			return err
		}
		sum, err := o.tensor(t.accumulated, v.start, v.end)
		if err != nil {
			return err
		}
		x, err := o.tensor(t.gradients, v.start, v.end)
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
	errs = append(errs, o.adamw.Close(), o.norms.Close(), o.adds.Close(), o.sums.Close())
	if o.scalars != nil {
		errs = append(errs, o.scalars.block.Close())
	}
	return errors.Join(errs...)
}
