package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReadProfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.json")
	records := `[
{"cat":"Node","name":"first/Gemm_kernel_time","dur":999,"args":{"op_name":"Gemm"}},
{"cat":"Session","name":"model_run","dur":1000,"args":{}},
{"cat":"Node","name":"x/Gemm_fence_before","dur":1,"args":{"op_name":"Gemm"}},
{"cat":"Node","name":"x/Gemm_kernel_time","dur":30,"args":{"op_name":"Gemm","input_type_shape":[{"float":[10,4]},{"float":[4,6]}],"output_type_shape":[{"float":[10,6]}],"activation_size":"160","parameter_size":"96","output_size":"240"}},
{"cat":"Node","name":"x/MatMul_kernel_time","dur":20,"args":{"op_name":"MatMul","input_type_shape":[{"float":[2,3,4]},{"float":[2,4,5]}],"output_type_shape":[{"float":[2,3,5]}],"activation_size":"256","parameter_size":"0","output_size":"120"}},
{"cat":"Node","name":"x/Reshape_kernel_time","dur":1,"args":{"op_name":"Reshape","activation_size":"256","parameter_size":"16","output_size":"256"}},
{"cat":"Node","name":"x/Gather_kernel_time","dur":2,"args":{"op_name":"Gather","activation_size":"80000","parameter_size":"0","output_size":"40"}},
{"cat":"Node","name":"x/Attention_kernel_time","dur":3,"args":{"op_name":"Attention","input_type_shape":[{"float":[2,3,5,4]},{"float":[2,3,7,4]},{"float":[2,3,7,4]},{"float":[2,1,1,7]}],"output_type_shape":[{"float":[2,3,5,4]}]}},
{"cat":"Node","name":"x/AttentionGradient_kernel_time","dur":4,"args":{"op_name":"AttentionGradient","input_type_shape":[{"float":[2,3,5,4]},{"float":[2,3,5,4]},{"float":[2,3,7,4]}]}},
{"cat":"Node","name":"x/Gated_kernel_time","dur":0,"args":{"op_name":"Gated"}},
{"cat":"Session","name":"model_run","dur":60,"args":{}}
]`
	if err := os.WriteFile(path, []byte(records), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := readProfile(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	if p.runs != 1 || p.run != 60 || p.operators() != 0.06 {
		t.Errorf("%d runs of %g µs, %g ms in operators; want 1, 60, 0.06", p.runs, p.run, p.operators())
	}
	want := []struct {
		part         string
		flops, bytes float64
	}{{weightProducts, 2 * 10 * 4 * 6, 496}, {attentionPart, 2 * 2 * 3 * 4 * 5, 376}, {other, 0, 0}, {moving, 0, 80},
		{attentionPart, 2 * 2 * 2 * 3 * 5 * 4 * 7, 0}, {attentionPart, 5 * 2 * 2 * 3 * 5 * 4 * 7, 0}, {elementwise, 0, 0}}
	if len(p.nodes) != len(want) {
		t.Fatalf("%d operators, want %d", len(p.nodes), len(want))
	}
	for i, w := range want {
		if e := p.nodes[i]; part(e) != w.part || flops(e) != w.flops || bytesMoved(e) != w.bytes {
			t.Errorf("%s: %s, %g operations, %g bytes; want %+v", e.Name, part(e), flops(e), bytesMoved(e), w)
		}
	}
	if _, err := readProfile(path, 2); err == nil {
		t.Error("a profile whose runs are all left out was read")
	}
}

func TestLimit(t *testing.T) {
	m := machine{flops: 1e9, bytes: []rate{{1 << 10, 1e9}, {1 << 20, 1e8}}}
	for _, x := range []struct{ flops, bytes, want float64 }{
		{1e6, 1000, 1000},    // the operations take longer
		{1, 1000, 1},         // the bytes take longer, in the cache
		{1, 100_000, 1000},   // out of the cache
		{0, 10_000_000, 1e5}, // larger than anything that was measured
	} {
		if got := m.limit(x.flops, x.bytes); got != x.want {
			t.Errorf("%g operations, %g bytes: %g µs, want %g", x.flops, x.bytes, got, x.want)
		}
	}
}
