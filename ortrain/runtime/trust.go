package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// trusted tells, as an error, why somebody else than root, this user or the program's own owner could put a file at path, or
// put another in its place: no library is loaded from such a path. Groups count as trusted, an administrator fills them.
func trusted(path string) error {
	owners := map[uint32]bool{0: true, uint32(os.Geteuid()): true}
	program, _ := os.Executable()
	for _, p := range []string{"/", program} { // in a user's name space root has another number
		if st, err := os.Stat(p); err == nil {
			owners[owner(st)] = true
		}
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(path)) // a link's own folder counts as its target's does
	if err != nil {
		return err
	}
	for _, p := range []string{real, filepath.Dir(real), folder} {
		if err := trustedUp(p, owners); err != nil {
			return err
		}
	}
	return nil
}

// trustedUp looks at a path without links and at every folder above it.
func trustedUp(path string, owners map[uint32]bool) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	file := true
	for {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !owners[owner(st)] {
			return fmt.Errorf("%s belongs to another user (%d)", path, owner(st))
		}
		// What others can write to is safe only as a folder further up, with the sticky bit: there they cannot replace what is
		// not theirs. In the library's own folder they could add the providers that it loads.
		if st.Mode().Perm()&0o002 != 0 && (file || st.Mode()&os.ModeSticky == 0) {
			return fmt.Errorf("%s can be written to by everybody", path)
		}
		parent := filepath.Dir(path)
		if parent == path {
			return nil
		}
		path, file = parent, false
	}
}

// owner is the user number that a file belongs to.
func owner(st os.FileInfo) uint32 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Uid
	}
	return 0
}

// Home is the cache folder, an absolute path: the environment variable, or rag-retrieval in the user's cache. Without any
// of the variables that name a user's folders there is none: a folder that everybody may write to would not be the user's.
func Home() (string, error) {
	if p := os.Getenv(HomeVariable); p != "" {
		return filepath.Abs(p)
	}
	// As the XDG specification has it, relative paths count as not set.
	if p := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(p) {
		return filepath.Join(p, "rag-retrieval"), nil
	}
	if p := os.Getenv("HOME"); filepath.IsAbs(p) {
		return filepath.Join(p, ".cache", "rag-retrieval"), nil
	}
	return "", fmt.Errorf("no folder for the cache: HOME is not set; set %s to a folder of yours", HomeVariable)
}

// InHome gives the path of a part of the cache folder.
func InHome(parts ...string) (string, error) {
	home, err := Home()
	if err != nil {
		return "", err
	}
	return filepath.Join(append([]string{home}, parts...)...), nil
}

// refusals says where a library lies that is not loaded, and why.
func refusals(all []error) string {
	if len(all) == 0 {
		return ""
	}
	texts := make([]string, len(all))
	for i, err := range all {
		texts[i] = err.Error()
	}
	return "; not loaded, since others can change it: " + strings.Join(texts, "; ")
}
