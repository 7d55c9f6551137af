// Package dropout adds dropout to training graphs. The mask depends only on (seed, step, forward pass, site, piece,
// element). A graph therefore need not keep it for the backward pass, and a resumed run repeats the same masks on every
// execution provider.
//
// The factors, 0 or 1/(1-rate), are drawn once into a table. Each dropout site is a graph input that is bound to a view of
// the table, at an offset that a counter-based random generator draws for each step. No factor is copied. Evolution
// strategies share one noise table in the same way. A site too large for the table is cut into pieces, each with its own
// offset.
//
//	d := dropout.NewGraph(g, map[string]int64{"tokens": 4096})
//	y := d.Apply("attention", x, 0.1) // for each site
//	plan := d.Plan()
//	plan.FillTable(table, seed, 0.1)
//	views, err := plan.Views(seed, step, 0, map[string]int64{"tokens": 1000}) // bind each view before the run
package dropout

import (
	"fmt"

	"rag-retrieval-go/internal/splitmix"
	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// maxTable is 32 Mi factors, or 128 MiB. A smaller table would cut more sites into pieces, and joining pieces takes time.
const maxTable = 32 << 20

// maxPiece leaves a quarter of the table free, so that there are many possible offsets.
const maxPiece = maxTable / 4 * 3

// alignment of offsets, in factors. 16 factors are 64 bytes.
const alignment = 16

// Site is one place in a graph where elements are dropped.
type Site struct {
	Name   string
	Rate   float64    // probability that an element is dropped
	Shape  onnx.Shape // of the value; the sizes of its named dimensions differ by batch
	Pieces int
}

// input is the name of the graph input of a piece.
func (s Site) input(piece int) string {
	if s.Pieces == 1 {
		return s.Name + "/factors"
	}
	return fmt.Sprintf("%s/factors%d", s.Name, piece)
}

// Graph collects the dropout sites of a graph under construction.
type Graph struct {
	g      *onnx.Graph
	bounds map[string]int64
	sites  []Site
}

// NewGraph starts collecting sites in g. bounds are the largest sizes of the named dimensions that batches will have.
func NewGraph(g *onnx.Graph, bounds map[string]int64) *Graph {
	return &Graph{g: g, bounds: bounds}
}

// Apply drops elements of x with probability rate and scales the others by 1/(1-rate). If the rate is zero or the receiver
// is nil (evaluation), it returns x.
func (d *Graph) Apply(name string, x *onnx.Value, rate float64) *onnx.Value {
	if d == nil || rate == 0 {
		return x
	}
	defer d.g.Scope(name)()
	most, err := elements(x.Shape, d.bounds)
	if err != nil {
		d.g.Fail("dropout %s: %w", name, err)
		return x
	}
	site := Site{Name: name, Rate: rate, Shape: x.Shape, Pieces: int((most + maxPiece - 1) / maxPiece)}
	d.sites = append(d.sites, site)
	return d.g.Mul(x, d.factors(site, x))
}

// factors returns the factors of a site: one input of its shape, or its pieces joined. The backward pass joins the pieces
// again, so that the joined factors need not be kept.
func (d *Graph) factors(s Site, x *onnx.Value) *onnx.Value {
	g := d.g
	if s.Pieces == 1 {
		return g.Input(s.input(0), onnx.Float32, s.Shape...)
	}
	var parts []*onnx.Value
	for i := 0; i < s.Pieces; i++ {
		parts = append(parts, g.Input(s.input(i), onnx.Float32, onnx.NamedDim(s.input(i))))
	}
	all := g.AssumeShape(grad.Recompute(g, g.Concat(0, parts...)), onnx.Shape{onnx.Product(x.Shape...)})
	return grad.Recompute(g, g.Reshape(all, g.Shape(x)))
}

// Plan lists the dropout sites of a finished graph. With it the host binds their inputs.
type Plan struct {
	Sites []Site
	// TableSize is the number of factors in a table. There is one table for each rate.
	TableSize int
}

// Plan returns the plan of all sites, or nil if there are none.
func (d *Graph) Plan() *Plan {
	if d == nil || len(d.sites) == 0 {
		return nil
	}
	p := &Plan{Sites: d.sites}
	largest := int64(1)
	for _, s := range d.sites {
		n, err := elements(s.Shape, d.bounds)
		if err == nil {
			largest = max(largest, n)
		}
	}
	// A table of 1.5 times the largest site has many possible offsets.
	p.TableSize = int(min(maxTable, max(1<<16, largest+largest/2)))
	return p
}

// FillTable draws the factors for one rate into a table of p.TableSize elements. Each is 0 or 1/(1-rate).
func (p *Plan) FillTable(factors []float32, seed uint64, rate float64) {
	threshold := uint64(rate * (1 << 53))
	scale := float32(1 / (1 - rate))
	state := splitmix.Mix(seed ^ 0x6a09e667f3bcc909)
	for i := range factors {
		factors[i] = 0
		if splitmix.Mix(state+uint64(i))>>11 >= threshold {
			factors[i] = scale
		}
	}
}

// View is the range of a table that one graph input reads.
type View struct {
	Input  string
	Rate   float64
	Offset int64   // in factors
	Dims   []int64 // the view's shape
}

// Views draws the offset of every piece of every site for one forward pass and its backward pass. pass is a number that
// differs for each forward pass of a step (micro-batches, chunks). dims are the sizes of the batch's named dimensions.
// A batch larger than the bounds given to NewGraph is an error.
func (p *Plan) Views(seed uint64, step, pass int, dims map[string]int64) ([]View, error) {
	var out []View
	counter := splitmix.Mix(splitmix.Mix(splitmix.Mix(seed)+uint64(step)) + uint64(pass))
	for i, s := range p.Sites {
		shape, err := fixedShape(s.Shape, dims)
		if err != nil {
			return nil, fmt.Errorf("dropout %s: %w", s.Name, err)
		}
		n := onnx.Elements(shape)
		part := n / int64(s.Pieces)
		for piece := 0; piece < s.Pieces; piece++ {
			v := View{Input: s.input(piece), Rate: s.Rate, Dims: shape}
			length := part
			if piece == s.Pieces-1 {
				length = n - part*int64(s.Pieces-1)
			}
			if s.Pieces > 1 {
				v.Dims = []int64{length}
			}
			room := int64(p.TableSize) - length
			if room < 0 {
				return nil, fmt.Errorf("dropout %s: %d elements in %d pieces do not fit a table of %d: the batch is larger than the graph was built for",
					s.Name, n, s.Pieces, p.TableSize)
			}
			draw := splitmix.Mix(splitmix.Mix(counter+uint64(i)) + uint64(piece))
			v.Offset = int64(draw%uint64(room/alignment+1)) * alignment
			out = append(out, v)
		}
	}
	return out, nil
}

// elements is the number of elements of a shape whose named dimensions have the sizes in dims.
func elements(shape onnx.Shape, dims map[string]int64) (int64, error) {
	d, err := fixedShape(shape, dims)
	return onnx.Elements(d), err
}

// fixedShape replaces the named dimensions of a shape by the sizes in dims.
func fixedShape(shape onnx.Shape, dims map[string]int64) ([]int64, error) {
	out := make([]int64, len(shape))
	for i, d := range shape {
		size, err := d.Resolve(dims)
		if err != nil {
			return nil, err
		}
		out[i] = size
	}
	return out, nil
}
