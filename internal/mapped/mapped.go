// Package mapped sees a file as bytes in memory without reading it whole.
package mapped

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

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

// Forget gives back the memory of the whole pages within a part of what Open gave; they are read from the file again
// where they are wanted again. The kernel would take them back too, but until then they count as this process's.
func Forget(b []byte) {
	if len(b) == 0 {
		return
	}
	page := uintptr(unix.Getpagesize())
	start := uintptr(unsafe.Pointer(&b[0]))
	skip := (page - start%page) % page
	if skip >= uintptr(len(b)) {
		return
	}
	whole := (uintptr(len(b)) - skip) / page * page
	if whole > 0 {
		_ = unix.Madvise(b[skip:skip+whole], unix.MADV_DONTNEED) // advice only: nothing is lost where it is not taken
	}
}

// Offset is where a part of what Open gave begins in the file.
func Offset(file, part []byte) int64 {
	return int64(uintptr(unsafe.Pointer(unsafe.SliceData(part))) - uintptr(unsafe.Pointer(unsafe.SliceData(file))))
}
