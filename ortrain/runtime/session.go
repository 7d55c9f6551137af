package runtime

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	ort "github.com/yalue/onnxruntime_go"

	"rag-retrieval-go/ortrain/kernels"
)

// Options holds the settings of a session. The zero value means the CPU, one thread per core and ONNX Runtime's defaults.
type Options struct {
	// Provider is CPU, CUDA or OpenVINO; "" means CPU. See Resolve.
	Provider string
	// DeviceID is the number of the GPU that CUDA uses, as CUDA counts them in this process.
	DeviceID int
	// Device is the memory that the session shares with other sessions. With nil, the session has its own memory.
	Device *Device
	// MemoryLimit is the most memory that CUDA may take, in bytes. 0 means all.
	MemoryLimit int64
	// TF32 lets CUDA round the inputs of float32 matrix products to 10 bits of mantissa, which is faster.
	TF32 bool
	// BF16 is the unit of the CPU that computes matrix products in bfloat16, with sums in float32. None computes them in float32.
	BF16 kernels.Unit
	// Weights are the inputs that products in bfloat16 pack once until the weights change. nil means none.
	Weights *Weights
	// StockOperators leaves ONNX Runtime's own operators in the graph where package kernels has faster ones.
	StockOperators bool
	// Threads is the number of threads within an operator; 0 means one per core.
	Threads int
	// Training tunes the session for training graphs, whose shapes vary. It switches off the memory pattern, which keeps
	// a plan for every shape, and the merging of equal nodes, which would undo recomputation. Threads stop spinning after
	// a run, because the optimizer's sessions need the cores then.
	Training bool
	// NoMemoryPattern switches off the plan that ONNX Runtime keeps for every shape that a run had. Where shapes never cease to vary, as
	// in a server, plans would fill the memory.
	NoMemoryPattern bool
	// Profile is the file prefix of ONNX Runtime's profile; "" means no profile.
	Profile string
	// Unoptimized switches off ONNX Runtime's graph optimizations. Runs are slower, and a profile shows the graph's own
	// nodes.
	Unoptimized bool
	// Config holds further session config entries, by ONNX Runtime's names.
	Config map[string]string
}

// arm64Products is the session config entry with which ONNX Runtime computes float32 products in bfloat16 on Linux arm64.
const arm64Products = "mlas.enable_gemm_fastmath_arm64_bfloat16"

// profiles counts the profiles of this process. The count makes their file names differ.
var profiles atomic.Int64

// Session is a loaded graph.
type Session struct {
	s            *ort.DynamicAdvancedSession
	copiesInputs bool // inputs bound from host memory are copied to a device
	device       *Device
	weights      *Weights       // of which each run reads the version; nil if it reads none
	packed       *packedWeights // nil if the graph has none
}

// NewSession loads a graph from an ONNX file's bytes.
func NewSession(model []byte, o Options) (*Session, error) {
	m, err := newModel(model, nil, kernels.Options{}, o)
	if err != nil {
		return nil, err
	}
	return m.open()
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
	so, err := o.sessionOptions()
	if errors.Is(err, ErrNoCUDA) || errors.Is(err, ErrNoOpenVINO) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime session options: %w", err)
	}
	defer so.Destroy()
	s, err := load(so)
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime session: %w", explainError(err))
	}
	return &Session{s: s, copiesInputs: o.Provider == CUDA, device: o.Device}, nil
}

func (o Options) provider() string {
	if o.Provider == "" {
		return CPU
	}
	return o.Provider
}

func (o Options) sessionOptions() (*ort.SessionOptions, error) {
	so, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	errs := []error{so.SetLogSeverityLevel(ort.LoggingLevelFatal)} // errors are returned; ONNX Runtime need not print them too
	if o.Threads > 0 {
		errs = append(errs, so.SetIntraOpNumThreads(o.Threads))
	}
	if o.Training || o.NoMemoryPattern {
		errs = append(errs, so.SetMemPattern(false))
	}
	if o.Training {
		errs = append(errs,
			so.AddSessionConfigEntry("optimization.disable_specified_optimizers", "CommonSubexpressionElimination"),
			so.AddSessionConfigEntry("session.force_spinning_stop", "1"))
	}
	if o.Unoptimized {
		errs = append(errs, so.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll))
	}
	if o.Profile != "" {
		// ONNX Runtime adds the time in seconds to the file name, and two sessions may start in the same second.
		errs = append(errs, so.EnableProfiling(fmt.Sprintf("%s_%d", o.Profile, profiles.Add(1))))
	}
	switch {
	case o.Provider == CUDA:
		errs = append(errs, appendCUDA(so, o))
	case o.Provider == OpenVINO:
		errs = append(errs, appendOpenVINO(so, o))
	case !o.StockOperators:
		errs = append(errs, addKernels(so))
	}
	if o.BF16 == kernels.ARM64 && o.Provider != CUDA {
		errs = append(errs, so.AddSessionConfigEntry(arm64Products, "1"))
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
	return errors.Join(err, s.packed.release())
}

// NewBinding makes a binding without any inputs and outputs.
func (s *Session) NewBinding() (*Binding, error) {
	b, err := s.s.CreateIoBinding()
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime binding: %w", err)
	}
	binding := &Binding{session: s, b: b, owned: map[string]*Tensor{}, bound: map[string]*Tensor{}}
	if s.weights == nil {
		return binding, nil
	}
	if err := binding.Ints(kernels.VersionInput, s.weights.version, 1); err != nil {
		return nil, errors.Join(err, binding.Close())
	}
	return binding, nil
}

// Binding connects buffers to a session's inputs and outputs. It is used by one goroutine at a time.
type Binding struct {
	session *Session
	b       *ort.IoBinding
	owned   map[string]*Tensor // made by the binding itself, closed when replaced
	bound   map[string]*Tensor // keeps all tensors from the garbage collector, because ONNX Runtime uses their memory
}

// Input binds a tensor to an input. The caller owns the tensor and keeps it open until the binding is closed.
func (b *Binding) Input(name string, t *Tensor) error {
	if err := b.b.BindInput(name, t.v); err != nil {
		return fmt.Errorf("binding input %q: %w", name, explainError(err))
	}
	b.bound[name] = t
	return nil
}

// Output binds a tensor to an output, which each run writes into it. The caller owns the tensor.
func (b *Binding) Output(name string, t *Tensor) error {
	if err := b.b.BindOutput(name, t.v); err != nil {
		return fmt.Errorf("binding output %q: %w", name, explainError(err))
	}
	b.bound["output "+name] = t
	return nil
}

// Ints binds int64 values of shape dims to an input. The runs read data itself, not a copy.
func (b *Binding) Ints(name string, data []int64, dims ...int64) error {
	return bindOwned(b, b.Input, name, data, dims)
}

// Floats binds float32 values of shape dims to an input. The runs read data itself, not a copy.
func (b *Binding) Floats(name string, data []float32, dims ...int64) error {
	return bindOwned(b, b.Input, name, data, dims)
}

// OutputFloats binds a slice of shape dims to an output, which each run writes into it.
func (b *Binding) OutputFloats(name string, data []float32, dims ...int64) error {
	return bindOwned(b, b.Output, name, data, dims)
}

// OutputInts binds a slice of shape dims to an output of int64 values, which each run writes into it.
func (b *Binding) OutputInts(name string, data []int64, dims ...int64) error {
	return bindOwned(b, b.Output, name, data, dims)
}

// View binds elements of a block to an input. The caller keeps the block open until the binding is closed.
func (b *Binding) View(name string, block *Block, offset int64, dims ...int64) error {
	return b.bindView(b.Input, name, block, offset, dims)
}

// OutputView binds elements of a block to an output, which each run writes into them.
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

// own binds a tensor that the binding closes later, and closes the tensor that it replaces.
func (b *Binding) own(bind func(string, *Tensor) error, name string, t *Tensor) error {
	if err := bind(name, t); err != nil {
		return errors.Join(err, t.Close())
	}
	old := b.owned[name]
	b.owned[name] = t
	return old.Close()
}

// Run runs the graph on the bound inputs. If memory runs out, the error wraps ErrOutOfMemory.
func (b *Binding) Run() error {
	if err := b.waitForInputs(); err != nil {
		return fmt.Errorf("ONNX Runtime: %w", explainError(err))
	}
	if err := b.session.s.RunWithBinding(b.b); err != nil {
		return fmt.Errorf("ONNX Runtime: %w", explainError(err))
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

// ErrOutOfMemory says that a run or a session needed more memory than there is.
var ErrOutOfMemory = errors.New("out of memory")

var requested = regexp.MustCompile(`requested (?:buffer of size|bytes of) (\d+)`)

// explainError turns ONNX Runtime's various messages about memory into ErrOutOfMemory. Other errors stay as they are.
func explainError(err error) error {
	text := err.Error()
	for _, mark := range []string{"Failed to allocate memory", "is smaller than requested bytes", "bad_alloc", "out of memory", "ALLOC_FAILED"} {
		if !strings.Contains(text, mark) {
			continue
		}
		if m := requested.FindStringSubmatch(text); m != nil {
			bytes, _ := strconv.ParseFloat(m[1], 64) // cannot fail: the pattern matches only digits
			return fmt.Errorf("%w: %.0f MB more could not be allocated", ErrOutOfMemory, bytes/1e6)
		}
		return fmt.Errorf("%w: %w", ErrOutOfMemory, err)
	}
	return err
}
