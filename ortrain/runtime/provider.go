package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"rag-retrieval-go/ortrain/onnx"
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

// tryCUDA makes a session on CUDA, which loads the libraries and takes the device.
func tryCUDA() error {
	g := onnx.NewGraph("try")
	g.Output("y", g.Neg(g.Input("x", onnx.Float32, onnx.D(1))))
	model, err := g.Bytes()
	if err != nil {
		return err
	}
	s, err := NewSession(model, Options{Provider: CUDA})
	if err != nil {
		return explainCUDA(err)
	}
	return s.Close()
}

// nvidiaDir is the folder beside ONNX Runtime's library where scripts/setup.sh puts NVIDIA's.
const nvidiaDir = "nvidia"

// nvidiaLibraries are those that the provider is linked with or looks up, each after what it needs.
var nvidiaLibraries = []string{
	"libcudart.so.*", "libnvrtc.so.*", "libcublasLt.so.*", "libcublas.so.*", "libcurand.so.*", "libcufft.so.*", "libcudnn.so.*",
}

// loadNVIDIA loads NVIDIA's libraries from beside ONNX Runtime's, where they are: the loader then finds them by name, with
// no environment variable.
var loadNVIDIA = sync.OnceValue(func() error {
	for _, pattern := range nvidiaLibraries {
		paths, err := filepath.Glob(filepath.Join(filepath.Dir(loading.path), nvidiaDir, pattern))
		if err != nil {
			return err
		}
		for _, p := range paths {
			if err := loadLibrary(p); err != nil {
				return err
			}
		}
	}
	return nil
})

// appendCUDA makes a session run on CUDA.
func appendCUDA(so *ort.SessionOptions, o Options) error {
	if err := checkDriver(); err != nil {
		return err
	}
	if err := loadNVIDIA(); err != nil {
		return explainCUDA(err)
	}
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

// cudaProvider is the file beside ONNX Runtime's library that a CUDA build has.
const cudaProvider = "libonnxruntime_providers_cuda.so"

// checkDriver fails where the provider is there and the driver that it needs is not: the library would complain at length.
func checkDriver() error {
	if _, err := os.Stat(filepath.Join(filepath.Dir(loading.path), cudaProvider)); err != nil {
		return nil
	}
	if err := loadLibrary("libcuda.so.1"); err != nil {
		return fmt.Errorf("%w: no NVIDIA driver is here: %w (install it; nvidia-smi then shows the GPU)", ErrNoCUDA, err)
	}
	return nil
}

// explainCUDA adds what to do.
func explainCUDA(err error) error {
	if err == nil || errors.Is(err, ErrNoCUDA) {
		return err
	}
	text := strings.TrimSpace(err.Error())
	what := "see the message"
	switch {
	case strings.Contains(text, "not enabled in this build"):
		text, what = "this ONNX Runtime is built for the CPU", "run scripts/setup.sh --cuda, or set "+LibraryVariable+" to the library of onnxruntime-gpu"
	case strings.Contains(text, "no CUDA-capable device"):
		what = "the driver finds no GPU: see nvidia-smi, and CUDA_VISIBLE_DEVICES"
	case strings.Contains(text, "driver version is insufficient"):
		what = "the driver is older than the libraries: run scripts/setup.sh --cuda=12, or update it"
	case strings.Contains(text, ".so"), strings.Contains(text, "shared library"):
		what = "one of NVIDIA's libraries is missing: run scripts/setup.sh --cuda, or put CUDA's and cuDNN's libraries into LD_LIBRARY_PATH"
	}
	for _, mark := range []string{" : FAIL : ", "CUDA failure "} { // what stands before are the library's source files
		if _, after, found := strings.Cut(text, mark); found {
			text, _, _ = strings.Cut(after, " ; GPU=")
		}
	}
	first, _, _ := strings.Cut(text, "\n")
	return fmt.Errorf("%w: %s (%s)", ErrNoCUDA, first, what)
}
