package runtime

import (
	"encoding/json"
	"testing"

	"rag-retrieval-go/ortrain/kernels"
)

// OpenVINO computes in float32 unless bfloat16 is asked for, on as many threads as are asked for, wherever the system puts them.
func TestOpenVINOConfig(t *testing.T) {
	for _, c := range []struct {
		unit      kernels.Unit
		precision string
	}{{kernels.None, "f32"}, {kernels.OpenVINO, "bf16"}} {
		var got struct{ CPU map[string]string }
		if err := json.Unmarshal([]byte(openVINOConfig(Options{Threads: 3, BF16: c.unit})), &got); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]string{
			"INFERENCE_PRECISION_HINT": c.precision, "INFERENCE_NUM_THREADS": "3", "ENABLE_CPU_PINNING": "NO", "ENABLE_HYPER_THREADING": "YES",
		} {
			if got.CPU[key] != want {
				t.Errorf("%q: %s is %q, want %q", c.unit, key, got.CPU[key], want)
			}
		}
	}
}

// Graphs without weights stay on the CPU.
func TestWithoutOpenVINO(t *testing.T) {
	o := Options{Provider: OpenVINO, BF16: kernels.OpenVINO, Threads: 3}.WithoutOpenVINO()
	if o.Provider != CPU || o.BF16 != kernels.None || o.Threads != 3 {
		t.Errorf("%+v", o)
	}
	if o := (Options{Provider: CUDA}).WithoutOpenVINO(); o.Provider != CUDA {
		t.Errorf("%+v", o)
	}
}
