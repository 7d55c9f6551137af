// Package dropout makes dropout a pure function of (seed, step, micro-batch, site, piece, element): the mask is made
// again in the backward pass instead of kept, and a resumed run is the same run on any provider.
//
// A table of pre-drawn keep/drop factors is read at offsets that the host draws from a counter-based generator, as
// evolution strategies share one noise table. Each site is a graph input, bound to a view of the table: no factor is
// ever copied. A site too large for the table is cut into pieces, each at an offset of its own.
package dropout

import (
	"fmt"

	"rag-retrieval-go/internal/splitmix"
	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// maxTable is 32 Mi factors, 128 MiB: joining pieces costs more time than larger tables cost memory.
const maxTable = 32 << 20

// maxPiece leaves a quarter of the table for offsets that differ.
const maxPiece = maxTable / 4 * 3

// alignment of offsets, in factors: 64 bytes.
const alignment = 16

// Site is one place in a graph where elements are dropped.
type Site struct {
	Name   string
	Rate   float64
	Shape  onnx.Shape // of the value; named dimensions are sizes of the batch
	Pieces int
}

// input is the graph input of a piece.
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

// Apply drops elements of x at the given rate and scales the others by 1/(1-rate). A rate of zero, or a nil
// receiver (evaluation), gives x itself.
func (d *Graph) Apply(name string, x *onnx.Value, rate float64) *onnx.Value {
	if d == nil || rate == 0 {
		return x
	}
	defer d.g.Scope(name)()
	most, err := size(x.Shape, d.bounds)
	if err != nil {
		d.g.Fail("dropout %s: %w", name, err)
		return x
	}
	site := Site{Name: name, Rate: rate, Shape: x.Shape, Pieces: int((most + maxPiece - 1) / maxPiece)}
	d.sites = append(d.sites, site)
	return d.g.Mul(x, d.factors(site, x))
}

// factors are the site's: an input of its shape, or the pieces joined, again in the backward pass.
func (d *Graph) factors(s Site, x *onnx.Value) *onnx.Value {
	g := d.g
	if s.Pieces == 1 {
		return g.Input(s.input(0), onnx.Float32, s.Shape...)
	}
	var parts []*onnx.Value
	for i := 0; i < s.Pieces; i++ {
		parts = append(parts, g.Input(s.input(i), onnx.Float32, onnx.N(s.input(i))))
	}
	all := g.Assume(grad.Recompute(g, g.Concat(0, parts...)), onnx.Shape{onnx.Product(x.Shape...)})
	return grad.Recompute(g, g.Reshape(all, g.Shape(x)))
}

// Plan is what the host needs to bind a graph's dropout inputs.
type Plan struct {
	Sites []Site
	// TableSize is the number of factors in each table.
	TableSize int
}

// Plan ends the collection. It is nil where no site drops anything.
func (d *Graph) Plan() *Plan {
	if d == nil || len(d.sites) == 0 {
		return nil
	}
	p := &Plan{Sites: d.sites}
	largest := int64(1)
	for _, s := range d.sites {
		n, err := size(s.Shape, d.bounds)
		if err == nil {
			largest = max(largest, n)
		}
	}
	// Half as much again as the largest site leaves room for offsets that differ.
	p.TableSize = int(min(maxTable, max(1<<16, largest+largest/2)))
	return p
}

// FillTable draws the factors for one rate, 0 or 1/(1-rate), into p.TableSize elements.
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

// View is the part of a rate's table that one graph input reads.
type View struct {
	Input  string
	Rate   float64
	Offset int64   // in factors
	Dims   []int64 // the view's shape
}

// Views draws where every piece of every site starts for one forward and backward pass. dims are the sizes of the
// batch's named dimensions; stream tells passes of one step apart (micro-batches, chunks).
func (p *Plan) Views(seed uint64, step, stream int, dims map[string]int64) ([]View, error) {
	var out []View
	counter := splitmix.Mix(splitmix.Mix(splitmix.Mix(seed)+uint64(step)) + uint64(stream))
	for i, s := range p.Sites {
		shape, err := sizes(s.Shape, dims)
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

// size is the number of elements of a shape with these sizes for its named dimensions.
func size(shape onnx.Shape, dims map[string]int64) (int64, error) {
	d, err := sizes(shape, dims)
	return onnx.Elements(d), err
}

// sizes is a shape with numbers for its named dimensions.
func sizes(shape onnx.Shape, dims map[string]int64) ([]int64, error) {
	out := make([]int64, len(shape))
	for i, d := range shape {
		if d.Fixed() {
			out[i] = d.Size
			continue
		}
		s, ok := dims[d.Name]
		if !ok {
			return nil, fmt.Errorf("the size of dimension %q is not given", d.Name)
		}
		out[i] = s
	}
	return out, nil
}
