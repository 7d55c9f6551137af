// Package dropout makes dropout a pure function of (seed, step, micro-batch, site, piece, element): the mask is made
// again in the backward pass instead of kept, and a resumed run is the same run on any provider.
//
// A table of pre-drawn keep/drop factors is sliced at offsets that the host draws from a counter-based generator, as
// evolution strategies share one noise table. A site larger than the table is cut into pieces, each at an offset of
// its own.
package dropout

import (
	"fmt"
	"sort"

	"rag-retrieval-go/ortrain/onnx"
)

// The names of the graph inputs.
const (
	TableInput   = "dropout_table"
	OffsetsInput = "dropout_offsets"
)

// maxTable is 16 Mi factors, 64 MiB.
const maxTable = 16 << 20

// Site is one place in a graph where elements are dropped.
type Site struct {
	Name   string
	Rate   float64
	Shape  onnx.Shape // of the value; named dimensions are sizes of the batch
	Pieces int
	first  int // index of its first piece's offset
}

// Graph collects the dropout sites of a graph under construction.
type Graph struct {
	g       *onnx.Graph
	bounds  map[string]int64
	table   map[float64]*onnx.Value
	offsets *onnx.Value
	sites   []Site
	pieces  int
}

// NewGraph starts collecting sites in g. bounds are the largest sizes of the named dimensions that batches will have.
func NewGraph(g *onnx.Graph, bounds map[string]int64) *Graph {
	return &Graph{g: g, bounds: bounds, table: map[float64]*onnx.Value{}}
}

// Apply drops elements of x at the given rate and scales the others by 1/(1-rate). A rate of zero, or a nil
// receiver (evaluation), gives x itself.
func (d *Graph) Apply(name string, x *onnx.Value, rate float64) *onnx.Value {
	if d == nil || rate == 0 {
		return x
	}
	defer d.g.Scope(name)()
	site := Site{Name: name, Rate: rate, Shape: x.Shape, first: d.pieces}
	most, err := size(x.Shape, d.bounds)
	if err != nil {
		d.g.Fail("dropout %s: %w", name, err)
		return x
	}
	site.Pieces = int((most + maxTable - 1) / maxTable)
	d.pieces += site.Pieces
	d.sites = append(d.sites, site)
	return d.g.Mul(x, d.mask(site, x))
}

// mask slices the site's factors from the table; the backward pass makes it again.
func (d *Graph) mask(s Site, x *onnx.Value) *onnx.Value {
	g := d.g
	if d.offsets == nil {
		d.offsets = g.Input(OffsetsInput, onnx.Int64, onnx.N(OffsetsInput))
	}
	table := d.table[s.Rate]
	if table == nil {
		table = g.Input(tableName(s.Rate), onnx.Float32, onnx.N(tableName(s.Rate)))
		d.table[s.Rate] = table
	}
	count := g.Reshape(g.Op("", "Size", []*onnx.Value{x}, nil, 1)[0], g.IntVector(1))
	part := g.Div(count, g.IntVector(int64(s.Pieces)))
	var parts []*onnx.Value
	for i := 0; i < s.Pieces; i++ {
		start := g.Gather(d.offsets, g.IntVector(int64(s.first+i)), 0)
		length := part
		if i == s.Pieces-1 {
			length = g.Sub(count, g.Mul(part, g.IntVector(int64(s.Pieces-1))))
		}
		parts = append(parts, g.Recompute(g.Slice(table, start, g.Add(start, length), g.IntVector(0))))
	}
	all := parts[0]
	if s.Pieces > 1 {
		all = g.Recompute(g.Concat(0, parts...))
	}
	g.Assume(all, onnx.Shape{onnx.Product(x.Shape...)})
	return g.Recompute(g.Reshape(all, g.Shape(x)))
}

func tableName(rate float64) string { return fmt.Sprintf("%s_%g", TableInput, rate) }

// Plan is what the host needs to bind a graph's dropout inputs.
type Plan struct {
	Sites []Site
	Rates []float64
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
	// Four times the largest site leaves room for offsets that differ; a power of two keeps it round.
	for p.TableSize = 1 << 16; p.TableSize < maxTable && int64(p.TableSize) < 4*largest; {
		p.TableSize *= 2
	}
	for rate := range d.table {
		p.Rates = append(p.Rates, rate)
	}
	sort.Float64s(p.Rates)
	return p
}

// TableName is the graph input that reads the factors for one rate.
func (p *Plan) TableName(rate float64) string { return tableName(rate) }

// FillTable draws the factors for one rate, 0 or 1/(1-rate), into p.TableSize elements.
func (p *Plan) FillTable(factors []float32, seed uint64, rate float64) {
	threshold := uint64(rate * (1 << 53))
	scale := float32(1 / (1 - rate))
	state := mix(seed ^ 0x6a09e667f3bcc909)
	for i := range factors {
		factors[i] = 0
		if mix(state+uint64(i))>>11 >= threshold {
			factors[i] = scale
		}
	}
}

// Offsets draws where every piece of every site starts for one forward and backward pass. dims are the sizes of the
// batch's named dimensions; stream tells passes of one step apart (micro-batches, chunks).
func (p *Plan) Offsets(seed uint64, step, stream int, dims map[string]int64) ([]int64, error) {
	var out []int64
	counter := mix(mix(mix(seed)+uint64(step)) + uint64(stream))
	for i, s := range p.Sites {
		n, err := size(s.Shape, dims)
		if err != nil {
			return nil, fmt.Errorf("dropout %s: %w", s.Name, err)
		}
		longest := n - n/int64(s.Pieces)*int64(s.Pieces-1)
		room := int64(p.TableSize) - longest
		if room < 0 {
			return nil, fmt.Errorf("dropout %s: %d elements in %d pieces do not fit a table of %d: the batch is larger than the graph was built for",
				s.Name, n, s.Pieces, p.TableSize)
		}
		for piece := 0; piece < s.Pieces; piece++ {
			draw := mix(mix(counter+uint64(i)) + uint64(piece))
			out = append(out, int64(draw%uint64(room+1)))
		}
	}
	return out, nil
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014) over a Weyl step: a bijection that scatters counters.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// size is the number of elements of a shape with these sizes for its named dimensions.
func size(shape onnx.Shape, dims map[string]int64) (int64, error) {
	n := int64(1)
	for _, d := range shape {
		if d.Fixed() {
			n *= d.Size
			continue
		}
		s, ok := dims[d.Name]
		if !ok {
			return 0, fmt.Errorf("the size of dimension %q is not given", d.Name)
		}
		n *= s
	}
	return n, nil
}
