package embedding

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"rag-retrieval-go/internal/mapped"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The weights of stella's parts and the margin of its triplets. Source: Zhang et al. 2024 (Jasper and Stella), as
// RAG-Retrieval's model_distill.py has them.
const (
	cosineWeight     = 10
	similarityWeight = 200
	tripletWeight    = 20
	tripletMargin    = 0.015
)

const (
	teacherInput = "teacher"
	upperInput   = "upper_triangle"
)

// stella compares a student's unit vectors v [n, width] with the teacher's t in three ways:
//
//	cosine:     mean over i of 1 - v_i·t_i
//	similarity: mean over i, j of (v_i·v_j - t_i·t_j)²
//	triplet:    with the similarities of all pairs i < j in a list, s of the student and r of the teacher, the mean over
//	            pairs a < b of that list of max(0, ±(s_b - s_a) + margin), + where r_b < r_a and - elsewhere
//
// loss = 10·cosine + 200·similarity + 20·triplet. With dims, similarity and triplet are the means over the first dims[k]
// numbers of the student's vectors, normalised again; the teacher's stay whole. Use it with the vectors of a larger model,
// of the same width.
func stella(g *onnx.Graph, v *onnx.Value, width int64, dims []int) *onnx.Value {
	defer g.Scope("stella")()
	n := onnx.NamedDim(textRows)
	t := normalized(g, g.Input(teacherInput, onnx.Float32, n, onnx.FixedDim(width)))
	upper := g.Input(upperInput, onnx.Int64, onnx.NamedDim("pairs"))
	one := g.Scalar(v, 1)
	byCosine := g.Sub(one, g.ReduceMean(g.ReduceSum(g.Mul(v, t), false, -1), false, 0))
	gram := func(x *onnx.Value) *onnx.Value {
		return g.FusedMatMul(x, x, onnx.FusedMatMulAttrs{TransB: true})
	}
	list := func(x *onnx.Value) *onnx.Value { // [1, pairs] - [pairs, 1]
		s := g.Gather(g.ReshapeTo(x, -1), upper, 0)
		return g.Sub(g.Unsqueeze(s, 0), g.Unsqueeze(s, 1))
	}
	zero, teacher := g.Scalar(v, 0), gram(t)
	sign := g.Where(g.Greater(zero, list(teacher)), one, g.Neg(one))
	later := g.Unsqueeze(upper, 0)
	counted := g.Cast(g.Greater(later, g.Unsqueeze(upper, 1)), onnx.Float32) // a < b: the list rises
	pairs := g.Clip(g.ReduceSum(counted, false), one, nil)
	scaled := func(x *onnx.Value, by float64) *onnx.Value { return g.Mul(x, g.Scalar(x, by)) }
	relations := func(v *onnx.Value) *onnx.Value {
		student := gram(v)
		d := g.Sub(student, teacher)
		bySimilarity := g.ReduceMean(g.Mul(d, d), false)
		hinge := g.Relu(g.Add(g.Mul(list(student), sign), g.Scalar(v, tripletMargin)))
		byTriplet := g.Div(g.ReduceSum(g.Mul(hinge, counted), false), pairs)
		return g.Add(scaled(bySimilarity, similarityWeight), scaled(byTriplet, tripletWeight))
	}
	if len(dims) == 0 {
		return g.Add(scaled(byCosine, cosineWeight), relations(v))
	}
	return g.Add(scaled(byCosine, cosineWeight), overCuts(g, dims, func(d int) *onnx.Value { return relations(cut(g, v, d)) }))
}

// bindStella fills the inputs of stella with the teacher's vectors of a batch's texts.
func bindStella(b *ortrain.Batch, vectors [][]float32) {
	n := len(vectors)
	var flat []float32
	var upper []int64
	for i, v := range vectors {
		flat = append(flat, v...)
		for j := i + 1; j < n; j++ {
			upper = append(upper, int64(i*n+j))
		}
	}
	b.Float(teacherInput, flat, int64(n), int64(len(flat)/max(1, n)))
	b.Int(upperInput, upper, int64(len(upper)))
}

// teacher is a memory-mapped matrix of float32 vectors, one for each row of the data, as numpy.memmap writes it.
type teacher struct {
	path   string
	width  int
	mapped []byte
}

// openTeacher maps a file of vectors of the given width.
func openTeacher(path string, width int) (*teacher, error) {
	b, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("teacher_embeddings: %s: %w", path, err)
	}
	if width <= 0 || len(b) == 0 || len(b)%(4*width) != 0 {
		err := fmt.Errorf("teacher_embeddings: %s has %d bytes, no multiple of teacher_embedding_dim %d float32 numbers", path, len(b), width)
		return nil, errors.Join(err, mapped.Close(b))
	}
	return &teacher{path, width, b}, nil
}

// check fails unless there is exactly one vector for each row.
func (t *teacher) check(d *data.Dataset) error {
	if n := len(t.mapped) / (4 * t.width); n != d.Len() {
		return fmt.Errorf("teacher_embeddings: %s has %d vectors of teacher_embedding_dim %d, but %s has %d rows", t.path, n, t.width, d.Name(), d.Len())
	}
	return nil
}

// vector returns the teacher's vector of row i.
func (t *teacher) vector(i int) ([]float32, error) {
	size := 4 * t.width
	if (i+1)*size > len(t.mapped) {
		return nil, fmt.Errorf("%s has %d vectors, the data has a row %d", t.path, len(t.mapped)/size, i+1)
	}
	out := make([]float32, t.width)
	for k := range out {
		out[k] = math.Float32frombits(binary.LittleEndian.Uint32(t.mapped[i*size+4*k:]))
		if math.IsNaN(float64(out[k])) || math.IsInf(float64(out[k]), 0) {
			return nil, fmt.Errorf("%s: vector %d has the number %g", t.path, i+1, out[k])
		}
	}
	return out, nil
}

// Close unmaps the file.
func (t *teacher) Close() error {
	if t == nil || t.mapped == nil {
		return nil
	}
	err := mapped.Close(t.mapped)
	t.mapped = nil
	return err
}
