package ortrain

import (
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// The number of elements that one run of an optimizer graph works on. On the CPU, 256 Ki elements keep all intermediates in
// the cache, which makes a step three times faster than one run over the whole block. On a device, the size bounds the
// memory of the intermediates.
const (
	hostViewSize   = 256 << 10
	deviceViewSize = 16 << 20
)

// optimizer runs the optimizer's graphs over views of the trainer's flat blocks. On the CPU, several views run at a time.
type optimizer struct {
	workers                                      int
	adamwSession, normSession, accumulateSession *runtime.Session
	views                                        []*view // of the whole blocks
	own                                          []*view // those whose parameters this rank updates
	scalars                                      *scalars
	sums                                         *runtime.Block // of the squares of each view's gradients
	tensors                                      []*runtime.Tensor
	accumulationBound                            bool // the views have bindings for accumulation
}

// view is one range of elements of the flat blocks, with its bindings.
type view struct {
	start, end int64
	decay      bool
	adamw      *runtime.Binding
	norm       *runtime.Binding
	add        *runtime.Binding
	gradients  *runtime.Block // the block that adamw and norm are bound to
	tensors    map[*runtime.Block]*runtime.Tensor
}

// noDecay names the decay factor of parameters without weight decay. It is always 1.
const noDecay = "no decay"

// scalarNames are the scalar inputs of the optimizer's graphs, in the order of the block that holds them.
var scalarNames = []string{optim.GradientScale, optim.StepSize, optim.Epsilon, optim.DecayFactor, noDecay, optim.Weight, optim.Keep}

// scalars holds the values of the scalar inputs, on the host and in the block that the graphs read.
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

func (s *scalars) index(name string) int64 { return int64(slices.Index(scalarNames, name)) }

// set changes the named scalars and uploads them.
func (s *scalars) set(values map[string]float64) error {
	for name, x := range values {
		s.values[s.index(name)] = float32(x)
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
	single.Threads = 1 // several views run in parallel instead
	for _, s := range []struct {
		to    **runtime.Session
		model []byte
	}{{&o.adamwSession, t.set.Optimizer}, {&o.normSession, t.set.Norm}, {&o.accumulateSession, t.set.Accumulation}} {
		if *s.to, err = runtime.NewSession(s.model, single); err != nil {
			return err
		}
	}
	if o.scalars, err = newScalars(t.device()); err != nil {
		return err
	}
	o.makeViews(t)
	if o.sums, err = t.device().NewBlock(len(o.own)); err != nil {
		return err
	}
	for i, v := range o.own {
		if err := o.bindView(t, i, v); err != nil {
			return err
		}
	}
	return nil
}

// makeViews cuts the flat blocks into views. No view has both elements with weight decay and elements without, or elements of two
// ranks' parts. The views are the same whether the optimizer is sharded or not, and so is the rounding of the norm.
func (o *optimizer) makeViews(t *Trainer) {
	l, size := t.set.Layout, int64(hostViewSize)
	if t.device() != nil {
		size = deviceViewSize
	}
	first, last := t.ownPart()
	cuts := append(t.shards.ends(), 0, l.Decayed)
	slices.Sort(cuts)
	for i, end := range cuts[1:] {
		for start := cuts[i]; start < end; start += size {
			v := &view{start: start, end: min(start+size, end), decay: start < l.Decayed, tensors: map[*runtime.Block]*runtime.Tensor{}}
			o.views = append(o.views, v)
			if first <= start && start < last {
				o.own = append(o.own, v)
			}
		}
	}
}

func (o *optimizer) bindView(t *Trainer, i int, v *view) (err error) {
	if v.adamw, err = o.adamwSession.NewBinding(); err != nil {
		return err
	}
	if v.norm, err = o.normSession.NewBinding(); err != nil {
		return err
	}
	first, _ := t.ownPart() // where the moments begin
	for name, at := range map[string]struct {
		block *runtime.Block
		start int64
	}{optim.Parameter: {t.parameters, v.start}, optim.FirstMoment: {t.moments[0], v.start - first}, optim.SecondMoment: {t.moments[1], v.start - first}} {
		x, err := o.newTensor(at.block, at.start, at.start+v.end-v.start)
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
	x, err := o.newTensor(o.sums, int64(i), int64(i)+1)
	if err != nil {
		return err
	}
	return v.norm.Output(optim.SumOfSquares, x)
}

// bindScalar binds a named scalar as a graph input.
func (o *optimizer) bindScalar(b *runtime.Binding, input, name string) error {
	at := o.scalars.index(name)
	x, err := o.newTensor(o.scalars.block, at, at+1)
	if err != nil {
		return err
	}
	return b.Input(input, x)
}

// newTensor makes a 1-D tensor over elements of a block. The optimizer closes it.
func (o *optimizer) newTensor(block *runtime.Block, start, end int64) (*runtime.Tensor, error) {
	x, err := block.View(start, end-start)
	if err == nil {
		o.tensors = append(o.tensors, x)
	}
	return x, err
}

// eachView runs f on views, o.workers at a time.
func (o *optimizer) eachView(views []*view, f func(*view) error) error {
	errs := make([]error, o.workers)
	var wg sync.WaitGroup
	for w := 0; w < o.workers; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < len(views) && errs[w] == nil; i += o.workers {
				errs[w] = f(views[i])
			}
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// bindGradients binds a block of gradients as the input of every own view.
func (o *optimizer) bindGradients(gradients *runtime.Block) error {
	for _, v := range o.own {
		if v.gradients == gradients {
			continue
		}
		x, err := o.gradientTensor(v, gradients)
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

// gradientTensor returns the view's tensor over a block of gradients. It is made once for each of the two blocks (the
// gradients of one micro-batch, the step's sum), because the steps of a run may alternate between them.
func (o *optimizer) gradientTensor(v *view, gradients *runtime.Block) (*runtime.Tensor, error) {
	if x := v.tensors[gradients]; x != nil {
		return x, nil
	}
	x, err := o.newTensor(gradients, v.start, v.end)
	if err == nil {
		v.tensors[gradients] = x
	}
	return x, err
}

// sumOfSquares returns the sum of the squares of the gradients of this rank's own part.
func (o *optimizer) sumOfSquares(gradients *runtime.Block) (float64, error) {
	if err := o.bindGradients(gradients); err != nil {
		return 0, err
	}
	if err := o.eachView(o.own, func(v *view) error { return v.norm.Run() }); err != nil {
		return 0, fmt.Errorf("gradient norm: %w", err)
	}
	sums, err := blockValues(o.sums)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, x := range sums {
		total += float64(x)
	}
	return total, nil
}

// apply does one AdamW step in place, on this rank's own part.
func (o *optimizer) apply(gradients *runtime.Block, s optim.Scalars) error {
	if err := o.bindGradients(gradients); err != nil {
		return err
	}
	if err := o.scalars.set(map[string]float64{
		optim.GradientScale: s.GradientScale, optim.StepSize: s.StepSize, optim.Epsilon: s.Epsilon, optim.DecayFactor: s.DecayFactor,
	}); err != nil {
		return err
	}
	if err := o.eachView(o.own, func(v *view) error { return v.adamw.Run() }); err != nil {
		return fmt.Errorf("optimizer step: %w", err)
	}
	return nil
}

// accumulate adds the gradients, times a weight, to the step's sum. The first call of a step starts a new sum.
func (o *optimizer) accumulate(t *Trainer, weight float64) error {
	defer since(&t.times.Optimizer, time.Now())
	if !o.accumulationBound {
		if err := o.bindAccumulation(t); err != nil {
			return fmt.Errorf("gradient accumulation: %w", err)
		}
	}
	keep := 0.0
	if t.sum != nil {
		keep = 1
	}
	t.sum = t.accumulated
	if err := o.scalars.set(map[string]float64{optim.Weight: weight, optim.Keep: keep}); err != nil {
		return err
	}
	if err := o.eachView(o.views, func(v *view) error { return v.add.Run() }); err != nil {
		return fmt.Errorf("gradient accumulation: %w", err)
	}
	return nil
}

// bindAccumulation allocates the step's sum of gradients. Only runs whose steps have several micro-batches need it.
func (o *optimizer) bindAccumulation(t *Trainer) (err error) {
	if t.accumulated, err = t.device().NewBlock(int(t.set.Layout.Trained)); err != nil {
		return err
	}
	for _, v := range o.views {
		if v.add, err = o.accumulateSession.NewBinding(); err != nil {
			return err
		}
		sum, err := o.newTensor(t.accumulated, v.start, v.end)
		if err != nil {
			return err
		}
		x, err := o.newTensor(t.gradients, v.start, v.end)
		if err != nil {
			return err
		}
		if err := errors.Join(v.add.Input(optim.Accumulated, sum), v.add.Output(optim.Accumulated+optim.OutSuffix, sum),
			v.add.Input(optim.Gradient, x), o.bindScalar(v.add, optim.Weight, optim.Weight),
			o.bindScalar(v.add, optim.Keep, optim.Keep)); err != nil {
			return err
		}
	}
	o.accumulationBound = true
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
	errs = append(errs, o.adamwSession.Close(), o.normSession.Close(), o.accumulateSession.Close(), o.sums.Close())
	if o.scalars != nil {
		errs = append(errs, o.scalars.block.Close())
	}
	return errors.Join(errs...)
}
