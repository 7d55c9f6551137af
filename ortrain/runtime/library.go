// Package runtime is the only place that touches ONNX Runtime: it finds and loads the library, makes sessions, and
// binds buffers of this process to a graph's inputs and outputs. It knows nothing of models or training.
//
//	if err := runtime.Load(""); err != nil { … }
//	s, err := runtime.NewSession(model, runtime.Options{Threads: 2})
//	defer s.Close()
//	b, err := s.NewBinding()
//	defer b.Close()
//	err = b.Ints("input_ids", ids, int64(len(ids)))
//	…
//	err = b.Run()
package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// LibraryVariable is the environment variable that names another ONNX Runtime library than the installed one.
const LibraryVariable = "RAG_RETRIEVAL_ORT_LIB"

// HomeVariable is the environment variable that names the cache folder.
const HomeVariable = "RAG_RETRIEVAL_HOME"

// ErrNoLibrary says that no ONNX Runtime library was found.
var ErrNoLibrary = errors.New("no ONNX Runtime library found")

var loading struct {
	sync.Mutex
	path string
}

// Load loads the library at path, or where path is empty the one that FindLibrary finds. The library stays loaded
// for the life of the process; later calls do nothing.
func Load(path string) error {
	loading.Lock()
	defer loading.Unlock()
	if ort.IsInitialized() {
		return nil
	}
	if path == "" {
		found, err := FindLibrary()
		if err != nil {
			return err
		}
		path = found
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // the library looks for its providers beside itself
	}
	ort.SetSharedLibraryPath(path)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return fmt.Errorf("loading ONNX Runtime from %s: %w (run scripts/setup.sh, or set %s to a library of version 1.24.1 to 1.32)",
			path, err, LibraryVariable)
	}
	loading.path = path
	return nil
}

// Version is the loaded library's version and path.
func Version() (version, path string) { return ort.GetVersion(), loading.path }

// FindLibrary looks for the ONNX Runtime library: the environment variable, beside the program, in the checkout that
// the program was built from, and where the system's loader looks. What others could have put there is not taken.
func FindLibrary() (string, error) {
	if p := os.Getenv(LibraryVariable); p != "" {
		if _, err := os.Stat(p); err != nil {
			return "", fmt.Errorf("%s: %w", LibraryVariable, err)
		}
		return filepath.Abs(p)
	}
	name := "libonnxruntime.so"
	if goruntime.GOOS == "darwin" {
		name = "libonnxruntime.dylib"
	}
	program, err := os.Executable()
	if err == nil {
		if real, err := filepath.EvalSymlinks(program); err == nil {
			program = real
		}
	}
	_, source, _, _ := goruntime.Caller(0)
	return findLibrary(name, libraryDirs(program, source))
}

// findLibrary takes the first library in dirs that only root, this user or the program's owner could have put there.
func findLibrary(name string, dirs []string) (string, error) {
	var refused []error
	for _, d := range dirs {
		p := filepath.Join(d, name)
		if _, err := os.Stat(p); err != nil {
			continue
		}
		if err := trusted(p); err != nil {
			refused = append(refused, fmt.Errorf("%s: %w", p, err))
			continue
		}
		return p, nil
	}
	return "", fmt.Errorf("%w: looked for %s in %s%s; run scripts/setup.sh, or set %s",
		ErrNoLibrary, name, strings.Join(dirs, ", "), refusals(refused), LibraryVariable)
}

// libraryDirs lists the folders that may have the library, absolute paths only: program is the running one's file, source
// this file's as the compiler saw it. With -trimpath that is no place on a disk.
func libraryDirs(program, source string) []string {
	var dirs []string
	if filepath.IsAbs(program) {
		d := filepath.Dir(program)
		dirs = append(dirs, d, filepath.Join(d, "..", ".rag-retrieval", "lib"))
	}
	if filepath.IsAbs(source) {
		dirs = append(dirs, filepath.Join(filepath.Dir(source), "..", "..", ".rag-retrieval", "lib"))
	}
	if d, err := InHome("lib"); err == nil {
		dirs = append(dirs, d)
	}
	return append(dirs, "/usr/local/lib", "/usr/lib")
}
