package finetune

import (
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/flat"
)

type encoderOnly struct {
	Task
	encoder encoder.Config
}

func (t encoderOnly) Encoder() encoder.Config { return t.encoder }

// In chunks, a step needs the memory of one chunk, however large the batch is.
func TestPlannedMemory(t *testing.T) {
	r := &Run{task: encoderOnly{encoder: encoder.Config{NumHiddenLayers: 6, HiddenSize: 384}}, Set: &artifact.Set{Layout: &flat.Layout{}}}
	for _, c := range []struct {
		chunk, tokens, like int
	}{{0, 9000, 9000}, {4096, 9000, 4096}, {4096, 227457, 4096}, {4096, 100, 100}} {
		r.Config = config.Train{ChunkTokens: c.chunk}
		got := r.memory(c.tokens)
		r.Config.ChunkTokens = 0
		if want := r.memory(c.like); got != want {
			t.Errorf("%d tokens in chunks of %d: %d bytes, want %d", c.tokens, c.chunk, got, want)
		}
	}
}

// With adapters, a token needs less memory than in a training of all parameters, but not with recomputed layers: those keep the same.
func TestPlannedMemoryOfAdapters(t *testing.T) {
	full := encoder.Config{NumHiddenLayers: 6, HiddenSize: 384}
	adapted := full
	adapted.LoRA = &encoder.LoRA{Rank: 8}
	memory := func(c encoder.Config, recompute bool) int64 {
		r := &Run{task: encoderOnly{encoder: c}, Set: &artifact.Set{Layout: &flat.Layout{}}, Config: config.Train{GradientCheckpointing: recompute}}
		return r.memory(7834 - 988)
	}
	if got := memory(adapted, false); got < 1200e6 || got > 1300e6 { // measured: 1264 MB
		t.Errorf("%d bytes with adapters", got)
	}
	if a, f := memory(adapted, false), memory(full, false); a >= f {
		t.Errorf("%d bytes with adapters, %d without", a, f)
	}
	if a, f := memory(adapted, true), memory(full, true); a != f {
		t.Errorf("with recomputed layers, %d bytes with adapters, %d without", a, f)
	}
}
