package runtime

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

// The execution providers.
const (
	CPU  = "cpu"
	CUDA = "cuda"
	Auto = "auto" // CUDA where it works
)

// Providers lists what Resolve takes.
var Providers = []string{CPU, CUDA, Auto}

// ErrNoCUDA says that CUDA's execution provider does not work here; what wraps it says why and what to do.
var ErrNoCUDA = errors.New("CUDA does not work here")

// Resolve gives the provider to run on. For Auto it tries CUDA; where that fails, it gives CPU and the reason. Asked for
// CUDA itself, it fails.
func Resolve(provider string) (use string, reason, err error) {
	if provider == CPU || provider == "" {
		return CPU, nil, nil
	}
	err = tryCUDA()
	if err == nil {
		return CUDA, nil, nil
	}
	if provider == Auto {
		return CPU, err, nil
	}
	return "", nil, err
}

// tryCUDA makes session options with CUDA's provider, which loads its libraries and asks for the device.
func tryCUDA() error {
	if err := Load(""); err != nil {
		return err
	}
	so, err := ort.NewSessionOptions()
	if err != nil {
		return err
	}
	defer so.Destroy()
	return appendCUDA(so, Options{})
}

// appendCUDA makes a session run on CUDA.
func appendCUDA(so *ort.SessionOptions, o Options) error {
	options, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return explainCUDA(err)
	}
	defer options.Destroy()
	settings := map[string]string{"use_tf32": "0"}
	if o.TF32 {
		settings["use_tf32"] = "1"
	}
	if o.MemoryLimit > 0 {
		settings["gpu_mem_limit"] = strconv.FormatInt(o.MemoryLimit, 10)
	}
	errs := []error{options.Update(settings)}
	if o.Device != nil {
		errs = append(errs, so.AddSessionConfigEntry("session.use_env_allocators", "1"))
	}
	return explainCUDA(errors.Join(append(errs, so.AppendExecutionProviderCUDA(options))...))
}

// explainCUDA adds what to do.
func explainCUDA(err error) error {
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(err.Error())
	what := "see the message"
	switch {
	case strings.Contains(text, "not enabled in this build"):
		what = "this ONNX Runtime is built for the CPU; set " + LibraryVariable + " to the library of onnxruntime-gpu"
	case strings.Contains(text, ".so"):
		what = "a library is missing: put NVIDIA's CUDA and cuDNN libraries into LD_LIBRARY_PATH"
	case strings.Contains(text, "no CUDA-capable device"), strings.Contains(text, "driver"):
		what = "no GPU or driver is there"
	}
	first, _, _ := strings.Cut(text, "\n")
	return fmt.Errorf("%w: %s (%s)", ErrNoCUDA, first, what)
}
