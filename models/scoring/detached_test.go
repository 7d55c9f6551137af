package scoring

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/onnx"
)

// The graph that a session is made of holds no weight, however large the model: those of a file are named in it, those
// that are quantized, or that a file has at odd places (PyTorch's files before 1.6), stand beside it.
func TestGraphWithoutWeights(t *testing.T) {
	for _, x := range []struct {
		folder string // zip, shards, a file from before zip
		int8   bool
		beside bool
	}{{"xlmr", false, false}, {"xlmr", true, true}, {"bert-dense", false, false}, {"bert", false, true}} {
		dir := "../finetune/testdata/" + x.folder
		c, err := encoder.LoadConfig(dir)
		check(t, err)
		w, err := hf.OpenWeights(dir)
		check(t, err)
		naming, err := c.Naming(w)
		check(t, err)
		k := newConstants(x.int8)
		check(t, w.Fill(k, c.Params(), naming.Tensors, nil))
		check(t, w.Close())
		g := onnx.NewGraph("test")
		g.Output(output, c.Build(g, k.weights(g), encoder.NewPacked(g, c, Groups), encoder.Training{}, nil))
		model, beside, err := g.BytesWithoutWeights()
		check(t, err)
		inside := 0
		for _, v := range g.Initializers {
			if v.Const.File == nil && len(v.Const.Raw) < 1024 {
				inside += len(v.Const.Raw)
			}
		}
		if n := len(g.Initializers); n < 20 || len(model) > 60_000 || inside > 20_000 {
			t.Errorf("%v: %d constants, a file of %d bytes, %d of them of constants", x, n, len(model), inside)
		}
		if (len(beside) > 0) != x.beside {
			t.Errorf("%v: %d weights beside the file", x, len(beside))
		}
	}
}

// ONNX Runtime reads weights by their path: another file that took it meanwhile may have given some of them.
func TestWeightsReplacedWhileOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weights")
	check(t, os.WriteFile(path, []byte("old"), 0o600))
	w, err := openWeightFile(path)
	check(t, err)
	defer w.close()
	check(t, w.checkLoaded())
	check(t, os.Rename(path, path+".old"))
	for range 2 {
		if err := w.checkLoaded(); err == nil || !strings.Contains(err.Error(), "was replaced while the model was opened") {
			t.Error(err)
		}
		check(t, w.checkUnchanged())
		check(t, os.WriteFile(path, []byte("new"), 0o600))
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
