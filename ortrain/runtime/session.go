package runtime

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	ort "github.com/yalue/onnxruntime_go"
)

// Options say how a session runs. The zero value is one thread per core on the CPU with ONNX Runtime's defaults.
type Options struct {
	// Provider is CPU or CUDA; empty means CPU. See Resolve.
	Provider string
	// Device is the memory that the session shares with others; nil: it has its own.
	Device *Device
	// MemoryLimit bounds the memory that CUDA takes, in bytes; 0: all that there is.
	MemoryLimit int64
	// TF32 lets CUDA round the factors of fp32 matrix products to 10 bits of mantissa.
	TF32 bool
	// Threads is the number of threads within an operator; 0 means one per core.
	Threads int
	// Training tunes the session for graphs whose weights are inputs and whose shapes vary: no memory pattern
	// (it keeps a plan for every shape seen), no merging of equal nodes (it would undo recomputation), and threads
	// that stop spinning after a run (the optimizer's sessions need the cores then).
	Training bool
	// Profile is a prefix for ONNX Runtime's profile; empty means none.
	Profile string
	// Unoptimized runs the graph's own nodes, without ONNX Runtime's fusions: slower, and profiles name them.
	Unoptimized bool
	// Config are further session config entries, by ONNX Runtime's names.
	Config map[string]string
}

// profiles counts the profiles of this process.
var profiles atomic.Int64

// Session is a loaded graph.
type Session struct {
	s      *ort.DynamicAdvancedSession
	copies bool // inputs that the host binds
}

// NewSession loads a graph from an ONNX file's bytes.
func NewSession(model []byte, o Options) (*Session, error) {
	return newSession(o, func(so *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
		return ort.NewDynamicAdvancedSessionWithONNXData(model, nil, nil, so)
	})
}

// OpenSession loads a graph from a file, with its external data if it has any.
func OpenSession(path string, o Options) (*Session, error) {
	return newSession(o, func(so *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
		return ort.NewDynamicAdvancedSession(path, nil, nil, so)
	})
}

func newSession(o Options, load func(*ort.SessionOptions) (*ort.DynamicAdvancedSession, error)) (*Session, error) {
	if err := Load(""); err != nil {
		return nil, err
	}
	so, err := o.build()
	if errors.Is(err, ErrNoCUDA) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime session options: %w", err)
	}
	defer so.Destroy()
	s, err := load(so)
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime session: %w", explain(err))
	}
	return &Session{s, o.Provider == CUDA}, nil
}

func (o Options) provider() string {
	if o.Provider == "" {
		return CPU
	}
	return o.Provider
}

func (o Options) build() (*ort.SessionOptions, error) {
	so, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	errs := []error{so.SetLogSeverityLevel(ort.LoggingLevelFatal)} // errors are returned, and need not be printed too
	if o.Threads > 0 {
		errs = append(errs, so.SetIntraOpNumThreads(o.Threads))
	}
	if o.Training {
		errs = append(errs, so.SetMemPattern(false),
			so.AddSessionConfigEntry("optimization.disable_specified_optimizers", "CommonSubexpressionElimination"),
			so.AddSessionConfigEntry("session.force_spinning_stop", "1"))
	}
	if o.Unoptimized {
		errs = append(errs, so.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll))
	}
	if o.Profile != "" {
		// The library adds the time in seconds, which sessions may share.
		errs = append(errs, so.EnableProfiling(fmt.Sprintf("%s_%d", o.Profile, profiles.Add(1))))
	}
	if o.Provider == CUDA {
		errs = append(errs, appendCUDA(so, o))
	}
	for k, v := range o.Config {
		errs = append(errs, so.AddSessionConfigEntry(k, v))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, so.Destroy())
	}
	return so, nil
}

// Close frees the session. Its bindings must be closed before.
func (s *Session) Close() error {
	if s == nil || s.s == nil {
		return nil
	}
	err := s.s.Destroy()
	s.s = nil
	return err
}

// NewBinding makes a set of bound inputs and outputs.
func (s *Session) NewBinding() (*Binding, error) {
	b, err := s.s.CreateIoBinding()
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime binding: %w", err)
	}
	return &Binding{session: s, b: b, owned: map[string]*Tensor{}, bound: map[string]*Tensor{}}, nil
}

// Binding connects buffers to a session's inputs and outputs. It is used by one goroutine at a time.
type Binding struct {
	session *Session
	b       *ort.IoBinding
	owned   map[string]*Tensor // made by Ints and Floats, freed when replaced
	bound   map[string]*Tensor // kept reachable: ONNX Runtime reads their memory
}

// Input binds a tensor that the caller owns and keeps open until the binding is closed.
func (b *Binding) Input(name string, t *Tensor) error {
	if err := b.b.BindInput(name, t.v); err != nil {
		return fmt.Errorf("binding input %q: %w", name, explain(err))
	}
	b.bound[name] = t
	return nil
}

// Output binds the tensor that an output is written to; the caller owns it.
func (b *Binding) Output(name string, t *Tensor) error {
	if err := b.b.BindOutput(name, t.v); err != nil {
		return fmt.Errorf("binding output %q: %w", name, explain(err))
	}
	b.bound["output "+name] = t
	return nil
}

// Ints binds int64 values to an input for the next runs; the binding owns the tensor, data must stay unchanged.
func (b *Binding) Ints(name string, data []int64, dims ...int64) error {
	return bindOwned(b, b.Input, name, data, dims)
}

// Floats binds float32 values to an input for the next runs; the binding owns the tensor.
func (b *Binding) Floats(name string, data []float32, dims ...int64) error {
	return bindOwned(b, b.Input, name, data, dims)
}

// OutputFloats binds the values that an output of the next runs is written to; the binding owns the tensor.
func (b *Binding) OutputFloats(name string, data []float32, dims ...int64) error {
	return bindOwned(b, b.Output, name, data, dims)
}

// View binds elements of a block to an input for the next runs; the binding owns the view, not the block.
func (b *Binding) View(name string, block *Block, offset int64, dims ...int64) error {
	return b.bindView(b.Input, name, block, offset, dims)
}

// OutputView binds the elements of a block that an output of the next runs is written to.
func (b *Binding) OutputView(name string, block *Block, offset int64, dims ...int64) error {
	return b.bindView(b.Output, name, block, offset, dims)
}

func (b *Binding) bindView(bind func(string, *Tensor) error, name string, block *Block, offset int64, dims []int64) error {
	t, err := block.View(offset, dims...)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return b.own(bind, name, t)
}

func bindOwned[T Element](b *Binding, bind func(string, *Tensor) error, name string, data []T, dims []int64) error {
	t, err := NewTensor(data, dims...)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return b.own(bind, name, t)
}

// own binds a tensor in place of the one that the binding has under this name.
func (b *Binding) own(bind func(string, *Tensor) error, name string, t *Tensor) error {
	if err := bind(name, t); err != nil {
		return errors.Join(err, t.Close())
	}
	old := b.owned[name]
	b.owned[name] = t
	return old.Close()
}

// Run runs the graph on what is bound.
func (b *Binding) Run() error {
	if err := b.wait(); err != nil {
		return fmt.Errorf("ONNX Runtime: %w", explain(err))
	}
	if err := b.session.s.RunWithBinding(b.b); err != nil {
		return fmt.Errorf("ONNX Runtime: %w", explain(err))
	}
	return nil
}

// Close frees the binding and the tensors it owns.
func (b *Binding) Close() error {
	if b == nil || b.b == nil {
		return nil
	}
	errs := []error{b.b.Destroy()}
	for _, t := range b.owned {
		errs = append(errs, t.Close())
	}
	b.b, b.owned, b.bound = nil, nil, nil
	return errors.Join(errs...)
}

// ErrMemory says that there was not enough memory.
var ErrMemory = errors.New("out of memory")

var requested = regexp.MustCompile(`requested (?:buffer of size|bytes of) (\d+)`)

// explain names errors that users meet, without the library's source files.
func explain(err error) error {
	text := err.Error()
	for _, mark := range []string{"Failed to allocate memory", "is smaller than requested bytes", "bad_alloc", "out of memory", "ALLOC_FAILED"} {
		if !strings.Contains(text, mark) {
			continue
		}
		if m := requested.FindStringSubmatch(text); m != nil {
			bytes, _ := strconv.ParseFloat(m[1], 64) // digits: it is one
			return fmt.Errorf("%w: %.0f MB more were not to be had", ErrMemory, bytes/1e6)
		}
		return fmt.Errorf("%w: %w", ErrMemory, err)
	}
	return err
}
