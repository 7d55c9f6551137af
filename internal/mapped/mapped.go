// Package mapped sees a file as bytes in memory without reading it whole.
package mapped

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open maps a file for reading. Errors do not name it. An empty file has no bytes.
func Open(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			return nil, pe.Err
		}
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() == 0 {
		return nil, nil
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the file: %w", err)
	}
	return b, nil
}

// Close unmaps what Open gave; nothing may be read from it afterwards.
func Close(b []byte) error {
	if b == nil {
		return nil
	}
	return unix.Munmap(b)
}
