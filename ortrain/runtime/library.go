// Package runtime is the only package that calls ONNX Runtime. It finds and loads the library, opens sessions, and binds
// buffers of this process to a graph's inputs and outputs. It knows nothing of models or training.
//
//	s, err := runtime.NewSession(model, runtime.Options{Threads: 2}) // loads the library at the first call
//	defer s.Close()
//	b, err := s.NewBinding()
//	defer b.Close()
//	err = b.Ints("input_ids", ids, int64(len(ids)))
//	err = b.OutputFloats("scores", scores, int64(len(scores)))
//	err = b.Run()
package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// LibraryVariable is the environment variable with the path of an ONNX Runtime library to use instead of the installed one.
const LibraryVariable = "RAG_RETRIEVAL_ORT_LIB"

// HomeVariable is the environment variable with the path of the cache folder.
const HomeVariable = "RAG_RETRIEVAL_HOME"

// ErrNoLibrary is the error of FindLibrary if it finds no library.
var ErrNoLibrary = errors.New("no ONNX Runtime library found")

var library struct {
	sync.Mutex
	path string
}

// Load loads the ONNX Runtime library at path. If path is "", it loads the one that FindLibrary returns. The library stays
// loaded until the process ends; later calls do nothing.
func Load(path string) error {
	library.Lock()
	defer library.Unlock()
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
		path = real // the library looks for its execution providers in its own folder
	}
	ort.SetSharedLibraryPath(path)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return fmt.Errorf("loading ONNX Runtime from %s: %w (run scripts/setup.sh, or set %s to a library of version 1.24.1 to 1.32)",
			path, err, LibraryVariable)
	}
	library.path = path
	return nil
}

// Version returns the version and the path of the loaded library.
func Version() (version, path string) { return ort.GetVersion(), library.path }

// FindLibrary returns the path of the ONNX Runtime library. It looks in this order: LibraryVariable, the program's folder,
// the source folder that the program was built from, the cache folder, /usr/local/lib and /usr/lib. It skips a library that
// another user could have put there.
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
	path, err := Find(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w; run scripts/setup.sh, or set %s", ErrNoLibrary, err, LibraryVariable)
	}
	return path, nil
}

// Find returns the path of a native library that scripts/setup.sh installs, by the name of its file. It looks where
// FindLibrary looks.
func Find(name string) (string, error) {
	program, err := os.Executable()
	if err == nil {
		if real, err := filepath.EvalSymlinks(program); err == nil {
			program = real
		}
	}
	_, source, _, _ := goruntime.Caller(0)
	return findLibrary(name, libraryDirs(program, source))
}

// findLibrary returns the first library in dirs that only root, this user or the program's owner can change.
func findLibrary(name string, dirs []string) (string, error) {
	var refused []error
	for _, d := range dirs {
		p := filepath.Join(d, name)
		if _, err := os.Stat(p); err != nil {
			continue
		}
		if err := checkTrusted(p); err != nil {
			refused = append(refused, fmt.Errorf("%s: %w", p, err))
			continue
		}
		return p, nil
	}
	return "", fmt.Errorf("looked for %s in %s%s", name, strings.Join(dirs, ", "), refusalText(refused))
}

// libraryDirs lists the folders to search, all absolute paths. program is the path of the running program; source is the
// path of this source file when it was compiled, which is not absolute if it was compiled with -trimpath.
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
	return slices.Compact(append(dirs, "/usr/local/lib", "/usr/lib")) // program and source are often of one checkout
}
