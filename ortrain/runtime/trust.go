package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// checkTrusted returns an error if another user could have put the file at path there or could replace it. A library is
// not loaded from such a path. Trusted are root, this user, the owner of the program, and all groups, because an
// administrator chooses their members.
func checkTrusted(path string) error {
	owners := map[uint32]bool{0: true, uint32(os.Geteuid()): true}
	program, _ := os.Executable()
	for _, p := range []string{"/", program} { // the owner of "/": in a user namespace, root has another number
		if st, err := os.Stat(p); err == nil {
			owners[owner(st)] = true
		}
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(path)) // if path is a link, its own folder must be safe too
	if err != nil {
		return err
	}
	for _, p := range []string{real, filepath.Dir(real), folder} {
		if err := checkFolders(p, owners); err != nil {
			return err
		}
	}
	return nil
}

// checkFolders checks the owner and the mode of a path without links, and of every folder above it.
func checkFolders(path string, owners map[uint32]bool) error {
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
		// A folder that everybody can write to is safe only with the sticky bit, because others cannot replace files there
		// that are not theirs. The library's own folder is not safe even then: others could add providers that it loads.
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

// owner returns the user ID of a file's owner.
func owner(st os.FileInfo) uint32 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Uid
	}
	return 0
}

// Home returns the absolute path of the cache folder: HomeVariable, or the folder rag-retrieval in the user's cache. It is
// an error if HOME and XDG_CACHE_HOME are not set either. A shared folder such as /tmp would not be safe.
func Home() (string, error) {
	if p := os.Getenv(HomeVariable); p != "" {
		return filepath.Abs(p)
	}
	// The XDG specification says to ignore relative paths.
	if p := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(p) {
		return filepath.Join(p, "rag-retrieval"), nil
	}
	if p := os.Getenv("HOME"); filepath.IsAbs(p) {
		return filepath.Join(p, ".cache", "rag-retrieval"), nil
	}
	return "", fmt.Errorf("no folder for the cache: HOME is not set; set %s to a folder of yours", HomeVariable)
}

// InHome returns the path of a file or folder in the cache folder.
func InHome(parts ...string) (string, error) {
	home, err := Home()
	if err != nil {
		return "", err
	}
	return filepath.Join(append([]string{home}, parts...)...), nil
}

// refusalText lists the libraries that were found but not loaded, and why.
func refusalText(all []error) string {
	if len(all) == 0 {
		return ""
	}
	texts := make([]string, len(all))
	for i, err := range all {
		texts[i] = err.Error()
	}
	return "; not loaded, since others can change it: " + strings.Join(texts, "; ")
}
