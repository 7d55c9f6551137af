// Package scoring runs a model's forward pass without training: embedding models, ColBERT models and rerankers share it. A
// Session is a loaded graph, a BiEncoder encodes texts one by one and compares the encodings, and a CrossEncoder reads query and
// document together. Both rank documents for queries, see Ranker:
//
//	tokens of texts (Rows, PairRows) -> batches of like length (ByLength) -> Session.Run -> scores of each query's documents
//
// Package retriever opens models for it.
package scoring

import (
	"cmp"
	"errors"
	"fmt"
	goruntime "runtime"
	"sync"
	"sync/atomic"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// Groups is the number of attention groups of a scoring graph. Texts are sorted by length before they are batched, so that one
// group has little padding.
const Groups = 1

const output = "output"

// Options configure how a model scores.
type Options struct {
	runtime.Options
	// Int8 computes the linear layers in 8-bit integers, see onnx.Graph.QuantizeWeights. Scores stay close to those of fp32.
	Int8 bool
	// MaxWindow scores a passage that is too long by the best of its windows, instead of by its beginning.
	MaxWindow bool
	// BatchTokens bounds a batch's padded tokens; 0: DefaultBatchTokens.
	BatchTokens int
	// Ranks share the work of every call if they are several, see BiEncoder and CrossEncoder.
	Ranks *dist.Dealer
	// Concurrent is for servers, on the CPU. A run that begins while others go on has half the threads: two such runs at once do more
	// than one after the other with all threads, because nothing in them waits for another thread. It takes a second session, with its
	// own copy of the packed layers in fp32; in bf16 both read one.
	Concurrent bool
}

// halfThreads are the threads of the session for runs beside others, and whether there is one.
func (o Options) halfThreads() (int, bool) {
	threads := cmp.Or(o.Threads, goruntime.NumCPU())
	return (threads + 1) / 2, o.Concurrent && threads > 1 && o.Provider != runtime.CUDA
}

// Graph is a forward pass to run.
type Graph struct {
	Name    string
	Encoder encoder.Config
	Params  []flat.Param
	// Fill reads the parameters from a model's folder.
	Fill func(to hf.Target) error
	// Trainer, if it is not nil, provides the parameters in place of Fill: validation measures a model in training.
	Trainer *ortrain.Trainer
	// Build makes the graph's output for packed texts.
	Build func(g *onnx.Graph, w encoder.Weights, l encoder.Layout) *onnx.Value
}

// Session is a graph with its weights, loaded. Several goroutines may run it at once.
type Session struct {
	session *runtime.Session
	half    *Session                     // computes the same with half the threads, see Options.Concurrent; or nil
	weights []*weightFile                // the files that ONNX Runtime maps while the session is open
	prepare func(*runtime.Binding) error // binds a trainer's parameters; nil where weights are constants

	mu   sync.Mutex
	idle []*runtime.Binding // a run takes one from here, or makes one where none is idle
}

// New loads a graph. Weights from a folder become constants, so that ONNX Runtime packs them once. Weights of a trainer become
// inputs that are bound to the trainer's own memory, so that a validation copies nothing and sees the parameters of each step.
func New(x Graph, o Options) (s *Session, err error) {
	if x.Trainer != nil {
		return x.withTrainer(o)
	}
	c := newConstants(o.Int8)
	defer func() { err = errors.Join(err, c.close()) }()
	if err := x.Fill(c); err != nil {
		return nil, err
	}
	g := onnx.NewGraph(x.Name)
	x.build(g, c.weights(g))
	if g.Err() == nil && o.Int8 {
		g.QuantizeWeights()
	}
	o.NoMemoryPattern = o.Concurrent
	if s, err = open(g, c.release, o); err != nil {
		return nil, err
	}
	s.weights, c.opened = c.opened, nil
	if err := forEach(s.weights, (*weightFile).checkLoaded); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// withTrainer loads the graph with a trainer's parameters as inputs.
func (x Graph) withTrainer(o Options) (*Session, error) {
	g := onnx.NewGraph(x.Name)
	values := map[string]*onnx.Value{}
	for _, p := range x.Params {
		values[p.Name] = p.Input(g)
	}
	x.build(g, weightsByName(g, values))
	s, err := open(g, nil, Options{Options: o.Options})
	if err != nil {
		return nil, err
	}
	s.prepare = func(b *runtime.Binding) error {
		for _, p := range x.Params {
			if err := x.Trainer.BindParameter(b, p.Name); err != nil {
				return err
			}
		}
		return nil
	}
	b, err := s.binding()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.release(b)
	return s, nil
}

// build adds the output to a graph.
func (x Graph) build(g *onnx.Graph, w encoder.Weights) {
	g.Output(output, x.Build(g, w, encoder.NewPacked(g, x.Encoder, Groups)))
}

// weightsByName gives a parameter's value by its name. An unknown name fails the graph.
func weightsByName(g *onnx.Graph, values map[string]*onnx.Value) encoder.Weights {
	return func(name string) *onnx.Value {
		v, ok := values[name]
		if !ok {
			g.Fail("the model has no parameter %q", name)
			v = g.Const(onnx.Floats(nil, 0))
		}
		return v
	}
}

// NewWithoutWeights loads a graph that has no weights, such as the comparison of vectors. Its products are in float32.
func NewWithoutWeights(name string, build func(g *onnx.Graph) *onnx.Value, o runtime.Options) (*Session, error) {
	g := onnx.NewGraph(name)
	g.Output(output, build(g))
	o = o.WithoutOpenVINO()
	o.BF16 = kernels.None
	return open(g, nil, Options{Options: o})
}

// open loads a finished graph. release is that of runtime.NewModel.
func open(g *onnx.Graph, release func(name string), o Options) (s *Session, err error) {
	file, weights, err := g.BytesWithoutWeights()
	if err != nil {
		return nil, err
	}
	model, err := runtime.NewModel(file, weights, release, o.Options)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closing := model.Close(); closing != nil {
			if s != nil {
				closing = errors.Join(closing, s.Close())
			}
			s, err = nil, errors.Join(err, closing)
		}
	}()
	s = &Session{}
	if s.session, err = model.Open(o.Threads); err != nil {
		return nil, err
	}
	if threads, ok := o.halfThreads(); ok {
		s.half = &Session{}
		if s.half.session, err = model.Open(threads); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// binding takes an idle binding, or makes one if none is idle.
func (s *Session) binding() (*runtime.Binding, error) {
	s.mu.Lock()
	if n := len(s.idle); n > 0 {
		b := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return b, nil
	}
	s.mu.Unlock()
	b, err := s.session.NewBinding()
	if err != nil || s.prepare == nil {
		return b, err
	}
	if err := s.prepare(b); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// release returns a binding to the idle ones.
func (s *Session) release(b *runtime.Binding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, b)
}

// Constants makes the parameters in a flat buffer constants of a graph. The constants share the buffer's memory, so the buffer
// must stay unchanged until the graph is written.
func Constants(g *onnx.Graph, l *flat.Layout, buffer []float32) encoder.Weights {
	made := map[string]*onnx.Value{} // a head that is tied to the word embeddings asks for their table a second time
	return func(name string) *onnx.Value {
		if v := made[name]; v != nil {
			return v
		}
		values, err := l.View(buffer, name)
		if err != nil {
			g.Fail("%w", err)
		}
		raw := safetensors.FromFloat32(name, values, l.Dims(name)...)
		made[name] = g.Weight(name, &onnx.Tensor{DType: onnx.Float32, Dims: raw.Shape, Raw: raw.Data})
		return made[name]
	}
}

// goingOn counts the runs of all sessions: they share the cores of the process.
var goingOn atomic.Int32

// Run computes the output of one batch. dims is the output's shape.
func (s *Session) Run(b *ortrain.Batch, dims ...int64) ([]float32, error) {
	if err := forEach(s.weights, (*weightFile).checkUnchanged); err != nil { // each run would lose more pages
		return nil, err
	}
	on := s
	if others := goingOn.Add(1) - 1; others > 0 && s.half != nil {
		on = s.half
	}
	defer goingOn.Add(-1)
	binding, err := on.binding()
	if err != nil {
		return nil, err
	}
	defer on.release(binding)
	if err := b.Bind(binding); err != nil {
		return nil, err
	}
	values := make([]float32, onnx.Elements(dims))
	out, err := runtime.NewTensor(values, dims...)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if err := binding.Output(output, out); err != nil {
		return nil, err
	}
	if err := binding.Run(); err != nil {
		return nil, fmt.Errorf("scoring %d tokens: %w", b.Tokens, err)
	}
	if err := forEach(s.weights, (*weightFile).checkUnchanged); err != nil {
		return nil, err
	}
	return values, nil
}

// Close frees the session. No run may be in progress.
func (s *Session) Close() error {
	if s == nil {
		return nil
	}
	errs := []error{s.half.Close()}
	for _, b := range s.idle {
		errs = append(errs, b.Close())
	}
	s.idle = nil
	return errors.Join(append(errs, s.session.Close(), forEach(s.weights, (*weightFile).close))...)
}
