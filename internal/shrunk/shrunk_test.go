package shrunk

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"rag-retrieval-go/internal/mapped"
)

// asVictim makes the test binary read a file that is cut while it is mapped.
const asVictim = "RAG_RETRIEVAL_TEST_AS_VICTIM"

func TestMain(m *testing.M) {
	if path := os.Getenv(asVictim); path != "" {
		sum, err := readWhileCut(path, false)
		if err != nil || sum == 0 {
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const size = 100 * 4096

// readWhileCut maps a file of ones, cuts it in half, and adds up all bytes.
func readWhileCut(path string, watch bool) (sum int, err error) {
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, size), 0o600); err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if watch {
		defer Watch(f)()
	}
	b, err := mapped.Open(path)
	if err != nil {
		return 0, err
	}
	defer mapped.Close(b)
	if err := os.Truncate(path, size/2); err != nil {
		return 0, err
	}
	for _, x := range b {
		sum += int(x)
	}
	return sum, nil
}

func TestWatch(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing is watched on this system")
	}
	path := filepath.Join(t.TempDir(), "weights")
	for range 3 { // places are used again
		if sum, err := readWhileCut(path, true); err != nil || sum != size/2 {
			t.Errorf("the sum is %d, want %d: %v", sum, size/2, err)
		}
	}
	// A file that is not watched ends the process by the signal, as ever.
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), asVictim+"="+path)
	if out, err := c.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("SIGBUS")) && !bytes.Contains(out, []byte("fault")) {
		t.Errorf("%v: %s", err, out)
	}
}
