package shrunk

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"rag-retrieval-go/internal/mapped"
)

// asVictim makes the test binary read a file that is cut while it is mapped, and that is not watched. Another file is, and has changed.
const asVictim = "RAG_RETRIEVAL_TEST_AS_VICTIM"

func TestMain(m *testing.M) {
	if path := os.Getenv(asVictim); path != "" {
		if sum, lost, err := readWhileCut(path, true); err != nil || sum != size/2 || !lost {
			os.Exit(4)
		}
		other, err := os.Open(path) // its size is no longer what it was when it is watched from here on
		if err != nil {
			os.Exit(5)
		}
		_, stop := Watch(other)
		defer stop()
		if err := os.Truncate(path, 1); err != nil {
			os.Exit(6)
		}
		if sum, _, err := readWhileCut(path+".unwatched", false); err != nil || sum == 0 {
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const size = 100 * 4096

// readWhileCut maps a file of ones, cuts it in half, and adds up all bytes.
func readWhileCut(path string, watch bool) (sum int, lost bool, err error) {
	ones := bytes.Repeat([]byte{1}, size)
	if err := os.WriteFile(path, ones, 0o600); err != nil {
		return 0, false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	isLost := func() bool { return false }
	if watch {
		lost, stop := Watch(f)
		defer stop()
		isLost = lost
	}
	b, err := mapped.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer mapped.Close(b)
	if isLost() {
		return 0, false, errors.New("lost before it was cut")
	}
	st, err := f.Stat()
	if err != nil {
		return 0, false, err
	}
	if err := os.Truncate(path, size/2); err != nil {
		return 0, false, err
	}
	for _, x := range b {
		sum += int(x)
	}
	// With its former bytes and times, as cp -p leaves it, the file is still lost.
	err = errors.Join(os.WriteFile(path, ones, 0o600), os.Chtimes(path, st.ModTime(), st.ModTime()))
	return sum, isLost(), err
}

func TestWatch(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing is watched on this system")
	}
	path := filepath.Join(t.TempDir(), "weights")
	for range 3 { // places are used again
		if sum, lost, err := readWhileCut(path, true); err != nil || sum != size/2 || !lost {
			t.Errorf("the sum is %d, want %d; lost is %v: %v", sum, size/2, lost, err)
		}
	}
	// A file that is not watched ends the process by the signal, as ever, even if a watched file has changed.
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), asVictim+"="+path)
	if out, err := c.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("SIGBUS")) && !bytes.Contains(out, []byte("fault")) {
		t.Errorf("%v: %s", err, out)
	}
}
