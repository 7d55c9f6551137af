// Package onnx builds, checks, saves and loads ONNX graphs. It never runs one and knows nothing of training.
//
//	g := onnx.NewGraph("linear")
//	x := g.Input("x", onnx.Float32, onnx.NamedDim("batch"), onnx.FixedDim(4))
//	w := g.Input("w", onnx.Float32, onnx.FixedDim(3), onnx.FixedDim(4))
//	g.Output("y", g.Gemm(x, w, nil, onnx.GemmAttrs{TransB: true}))
//	err := g.Save("linear.onnx")
//
// Each operator is a method of Graph, which appends a node and returns its output as a Value. Types and shapes are inferred
// at once. The first error, such as a shape that does not fit or a name used twice, is kept in the graph; Err, Bytes and
// Save return it.
package onnx
