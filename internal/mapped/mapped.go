// Package mapped maps files into memory, so that only the used pages are read.
package mapped

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Open maps a file for reading. Errors do not name the file. For an empty file it returns nil.
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

// Close unmaps a slice that Open returned. It must not be read afterwards.
func Close(b []byte) error {
	if b == nil {
		return nil
	}
	return unix.Munmap(b)
}

// ReleasePages releases the memory of the whole pages within b, which is part of a mapped file. If they are used again, they
// are read from the file again. The kernel would release them when memory is short; until then they would count as this
// process's memory.
func ReleasePages(b []byte) {
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
		_ = unix.Madvise(b[skip:skip+whole], unix.MADV_DONTNEED) // only advice: an error does no harm
	}
}

// Offset returns where part, a part of the mapped file, begins in the file.
func Offset(file, part []byte) int64 {
	return int64(uintptr(unsafe.Pointer(unsafe.SliceData(part))) - uintptr(unsafe.Pointer(unsafe.SliceData(file))))
}
