package encoder_test

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/onnx/onnxpb"
	"rag-retrieval-go/ortrain/optim"
)

// The attention kernel knows nothing of rotation, masks or shared heads: it would give other scores without a word.
func TestFusedAttentionIsRefused(t *testing.T) {
	for dir, want := range map[string]string{
		"../finetune/testdata/bert": "", "testdata/modernbert": "model_type modernbert", "testdata/qwen3": "model_type qwen3",
	} {
		c, err := encoder.LoadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		err = c.SetFusedAttention(true)
		if ok := err == nil; ok != (want == "") || !ok && !strings.Contains(err.Error(), want) || c.FusedAttention != ok {
			t.Errorf("%s: %v, fused %v", dir, err, c.FusedAttention)
		}
	}
}

// In every architecture, with dropout and without, attention is one kernel forward and one backward for each layer and group, and no product
// of scores is left.
func TestAttentionIsOneKernel(t *testing.T) {
	for _, name := range oneOfEach(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := encoder.LoadConfig(filepath.Join("testdata", name))
			check(t, err)
			for _, x := range []struct {
				rate float64
				rows int
			}{{0, 3}, {0.1, 3}, {0.1, 1_000_000}} { // the last one has dropout's factors in many pieces
				c.AttentionDropout = x.rate
				set, err := artifact.Build(fixtureLoss(c, encoder.Shape{Rows: x.rows, MaxLength: 20, Groups: 2}), optim.DefaultAdamW)
				check(t, err)
				g, err := kernels.Substitute(set.Training, kernels.Options{})
				check(t, err)
				var m onnxpb.ModelProto
				check(t, proto.Unmarshal(g.Model, &m))
				count := map[string]int{}
				for _, n := range m.Graph.Node {
					count[n.OpType]++
				}
				want := 2 * int(c.NumHiddenLayers)
				if count["Attention"] != want || count["AttentionGradient"] != want || count["FusedMatMul"] != 0 || count["Softmax"] != 0 {
					t.Errorf("dropout %g, %d rows: %d Attention, %d AttentionGradient, %d FusedMatMul, %d Softmax; want %d, %d, 0, 0", x.rate, x.rows, count["Attention"],
						count["AttentionGradient"], count["FusedMatMul"], count["Softmax"], want, want)
				}
			}
		})
	}
}
