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
	Auto = "auto" // CUDA if it works, otherwise CPU
	// OpenVINO is Intel's, on its CPUs. It scores, and does not train.
	OpenVINO = "openvino"
)

// Providers lists the arguments of Resolve that are valid for training, ScoringProviders those for scoring.
var (
	Providers        = []string{CPU, CUDA, Auto}
	ScoringProviders = []string{CPU, CUDA, Auto, OpenVINO}
)

// ErrNoCUDA says that the CUDA execution provider does not work here. The error that wraps it says why and what to do.
var ErrNoCUDA = errors.New("CUDA does not work here")

// Resolve returns the provider to use: CPU, CUDA or OpenVINO. For Auto it tries CUDA on the GPU with the number device; if that
// fails, it returns CPU and the reason. For CUDA and OpenVINO it returns an error if they do not work. "" means CPU.
func Resolve(provider string, device int) (use string, reason, err error) {
	if provider == CPU || provider == "" {
		return CPU, nil, nil
	}
	if provider == OpenVINO {
		if _, err := FindOpenVINO(); err != nil {
			return "", nil, err
		}
		return OpenVINO, nil, nil
	}
	err = tryCUDA(device)
	if err == nil {
		return CUDA, nil, nil
	}
	if provider == Auto {
		return CPU, err, nil
	}
	return "", nil, err
}

// tryCUDA opens a small session on a GPU. This loads the libraries and finds out whether the GPU is there.
func tryCUDA(device int) error {
	if n, err := GPUs(); err == nil && n > 0 && device >= n {
		return fmt.Errorf("%w: GPU %d is asked for, and there are only %d, numbered from 0", ErrNoCUDA, device, n)
	}
	g := onnx.NewGraph("try")
	g.Output("y", g.Neg(g.Input("x", onnx.Float32, onnx.FixedDim(1))))
	model, err := g.Bytes()
	if err != nil {
		return err
	}
	s, err := NewSession(model, Options{Provider: CUDA, DeviceID: device})
	if err != nil {
		return explainCUDA(err)
	}
	return s.Close()
}

// GPUs returns how many GPUs CUDA sees in this process. It is an error if CUDA's libraries are not there.
func GPUs() (int, error) {
	if err := Load(""); err != nil {
		return 0, err
	}
	if err := checkDriver(); err != nil {
		return 0, err
	}
	if err := loadNVIDIA(); err != nil {
		return 0, explainCUDA(err)
	}
	return countGPUs()
}

// nvidiaDir is the folder, beside ONNX Runtime's library, into which scripts/setup.sh puts NVIDIA's libraries.
const nvidiaDir = "nvidia"

// nvidiaLibraries are the libraries that the CUDA provider needs. Each comes after the ones that it needs itself.
var nvidiaLibraries = []string{
	"libcudart.so.*", "libnvrtc.so.*", "libcublasLt.so.*", "libcublas.so.*", "libcurand.so.*", "libcufft.so.*", "libcudnn.so.*",
}

// loadNVIDIA loads NVIDIA's libraries from nvidiaDir, if it is there. Once loaded, the system's loader finds them by name,
// and no environment variable is needed.
var loadNVIDIA = sync.OnceValue(func() error {
	for _, pattern := range nvidiaLibraries {
		paths, err := filepath.Glob(filepath.Join(filepath.Dir(library.path), nvidiaDir, pattern))
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

// appendCUDA adds the CUDA provider to a session's options.
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
	settings := map[string]string{"use_tf32": "0", "device_id": strconv.Itoa(o.DeviceID)}
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

// cudaProvider is the file, beside ONNX Runtime's library, that only a CUDA build has.
const cudaProvider = "libonnxruntime_providers_cuda.so"

// checkDriver returns an error if the CUDA provider is installed but NVIDIA's driver is not. ONNX Runtime's own message
// would be long and unclear.
func checkDriver() error {
	if _, err := os.Stat(filepath.Join(filepath.Dir(library.path), cudaProvider)); err != nil {
		return nil
	}
	if err := loadLibrary("libcuda.so.1"); err != nil {
		return fmt.Errorf("%w: the NVIDIA driver is not installed: %w (once it is, nvidia-smi shows the GPU)", ErrNoCUDA, err)
	}
	return nil
}

// explainCUDA shortens an error of ONNX Runtime and adds what the user can do.
func explainCUDA(err error) error {
	if err == nil || errors.Is(err, ErrNoCUDA) {
		return err
	}
	text := strings.TrimSpace(err.Error())
	advice := "see the message"
	switch {
	case strings.Contains(text, "not enabled in this build"):
		text, advice = "this ONNX Runtime is built for the CPU", "run scripts/setup.sh --cuda, or set "+LibraryVariable+" to the library of onnxruntime-gpu"
	case strings.Contains(text, "no CUDA-capable device"):
		advice = "the driver finds no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES"
	case strings.Contains(text, "driver version is insufficient"):
		advice = "the driver is older than the libraries: run scripts/setup.sh --cuda=12, or update the driver"
	case strings.Contains(text, ".so"), strings.Contains(text, "shared library"):
		advice = "one of NVIDIA's libraries is missing: run scripts/setup.sh --cuda, or put CUDA's and cuDNN's libraries into LD_LIBRARY_PATH"
	}
	for _, mark := range []string{" : FAIL : ", "CUDA failure "} { // the text before it names the library's source files
		if _, after, found := strings.Cut(text, mark); found {
			text, _, _ = strings.Cut(after, " ; GPU=")
		}
	}
	first, _, _ := strings.Cut(text, "\n")
	return fmt.Errorf("%w: %s (%s)", ErrNoCUDA, first, advice)
}
