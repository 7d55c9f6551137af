package encoder_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// tokens makes rows of so many tokens each.
func tokens(lengths ...int) (rows []encoder.Row) {
	for _, n := range lengths {
		r := encoder.Row{}
		for i := range n {
			r.IDs = append(r.IDs, int64(3+(i*7+n)%20))
		}
		rows = append(rows, r)
	}
	return rows
}

// The example in windows.go: a text of ten tokens after one of three, blocks of four queries, and a window of two.
func TestLongTextsAreCutIntoBlocks(t *testing.T) {
	c, err := encoder.LoadConfig("testdata/modernbert")
	check(t, err)
	c.Blocks.Windows, c.WindowBlock = []int64{encoder.NoWindow, 2, 2, encoder.NoWindow}, 4
	rows := tokens(3, 10)
	rows[1].Unattended = 1
	b := ortrain.NewBatch()
	c.Pack(b, rows, 2) // each row is a group
	const x = 13       // padding
	for name, want := range map[string][]int64{
		"window0.queries": {0, 1, 2}, "window0.keys": {0, 1, 2}, // not longer than a block
		"window1.queries": {3, 4, 5, 6 /**/, 7, 8, 9, 10 /**/, 11, 12, x, x},
		"window1.keys":    {x, x, 3, 4, 5, 6, 7, 8 /**/, 5, 6, 7, 8, 9, 10, 11, 12 /**/, 9, 10, 11, 12, x, x, x, x},
	} {
		if got := b.Ints[name].Data; !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	bias, keys := b.Floats["window1.bias"].Data, b.Ints["window1.keys"].Data
	for i, k := range keys {
		hidden := k == x || k == 12 // the last token is not attended to
		if (bias[i] != 0) != hidden {
			t.Errorf("key %d has the bias %g", k, bias[i])
		}
	}
}

// Whatever the lengths of a batch, its dimensions keep within the bounds that dropout tables are made for.
func TestWindowBounds(t *testing.T) {
	for _, name := range []string{"modernbert", "qwen3-options"} {
		c, err := encoder.LoadConfig(filepath.Join("testdata", name))
		check(t, err)
		for _, block := range []int{0, 1, 3, 5} {
			c.WindowBlock = block
			for longest := 1; longest <= 60; longest++ {
				bounds := c.Bounds(encoder.Shape{Rows: 3, MaxLength: longest, Groups: 2})
				for n := 1; n <= longest; n++ {
					b := ortrain.NewBatch()
					c.Pack(b, tokens(n, max(1, n/2), n), 2)
					for dim, size := range b.Dims {
						if size > bounds[dim] {
							t.Fatalf("%s, blocks of %d, texts of %d of at most %d tokens: %s is %d, the bound %d", name, block, n, longest, dim, size, bounds[dim])
						}
					}
				}
			}
		}
	}
}

// go test ./models/encoder -run XXX -bench Window -benchtime 3x
//
// One text through six layers of ModernBERT-base's width, two of which see all of it, with texts whole and in blocks:
// the forward pass, and a step's forward and backward pass, on one thread.
func BenchmarkWindow(b *testing.B) {
	c, err := encoder.LoadConfig("testdata/modernbert")
	if err != nil {
		b.Fatal(err)
	}
	c.HiddenSize, c.EmbeddingSize, c.IntermediateSize, c.NumAttentionHeads, c.NumHiddenLayers = 768, 768, 1152, 12, 6
	c.MaxPositionEmbeddings = 8192
	full, local := encoder.Rotation{Base: 160000}, encoder.Rotation{Base: 10000}
	c.Blocks.Windows, c.Blocks.Rotary = nil, nil
	for i := range c.NumHiddenLayers {
		if i%3 == 0 {
			c.Blocks.Windows, c.Blocks.Rotary = append(c.Blocks.Windows, encoder.NoWindow), append(c.Blocks.Rotary, full)
		} else {
			c.Blocks.Windows, c.Blocks.Rotary = append(c.Blocks.Windows, 64), append(c.Blocks.Rotary, local)
		}
	}
	for _, length := range []int{512, 2048, 8192} {
		for _, block := range []int{length, 64, 128, 256} {
			c.WindowBlock = block
			for _, mode := range []string{"forward", "training"} {
				b.Run(fmt.Sprintf("%s/%d_tokens/blocks_of_%d", mode, length, block), func(b *testing.B) { benchmarkWindow(b, c, length, mode == "training") })
			}
		}
	}
}

func benchmarkWindow(b *testing.B, c encoder.Config, length int, training bool) {
	shape := encoder.Shape{Rows: 1, MaxLength: length, Groups: 1}
	set, err := artifact.Build(fixtureLoss(c, shape), optim.DefaultAdamW)
	if err != nil {
		b.Fatal(err)
	}
	tr, err := ortrain.NewTrainer(set, ortrain.Config{
		Schedule: optim.Schedule{Kind: "constant", Peak: 1e-5, Total: 1}, AdamW: optim.DefaultAdamW, Session: runtime.Options{Threads: 1},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Fill(func(_ *flat.Layout, to []float32) error {
		for i := range to {
			to[i] = 0.1 * factor(i)
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	batch := ortrain.NewBatch()
	c.Pack(batch, tokens(length), 1)
	batch.Rows = 1
	batch.Float("factors", make([]float32, int64(length)*c.HiddenSize), int64(length), c.HiddenSize)
	step := func() error {
		if training {
			_, _, err := tr.Gradients(batch)
			return err
		}
		_, err := tr.EvalLoss(batch)
		return err
	}
	before := cpuSeconds(b)
	for b.Loop() {
		if err := step(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(length)*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
	b.ReportMetric((cpuSeconds(b)-before)/float64(b.N), "cpu-s/op")
}

// cpuSeconds is the processor time of this process: on a busy machine it says more than the clock.
func cpuSeconds(b *testing.B) float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}
