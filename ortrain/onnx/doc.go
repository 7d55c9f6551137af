// Package onnx builds, checks, saves and loads ONNX graphs. It never runs one and knows nothing of training.
//
//	g := onnx.NewGraph("linear")
//	x := g.Input("x", onnx.Float32, onnx.N("batch"), onnx.D(4))
//	w := g.Input("w", onnx.Float32, onnx.D(3), onnx.D(4))
//	g.Output("y", g.Gemm(x, w, nil, onnx.GemmAttrs{TransB: true}))
//	err := g.Save("linear.onnx")
//
// Mistakes (a shape that does not fit, a name used twice) are kept in the graph and returned by Err and Save.
package onnx
