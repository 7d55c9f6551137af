package stamp

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A stamp changes if a file gets other bytes of the same size and its old modification time. It does not change by reading.
func TestRestoredTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	check(t, os.WriteFile(path, []byte("abc"), 0o644))
	st, err := os.Stat(path)
	check(t, err)
	before, err := OfPath(path)
	check(t, err)
	_, err = os.ReadFile(path)
	check(t, err)
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	if again, err := OfFile(f); err != nil || again != before {
		t.Errorf("%q after reading, before %q (%v)", again, before, err)
	}
	time.Sleep(20 * time.Millisecond) // the system's clock of files ticks 100 times a second or more
	check(t, os.WriteFile(path, []byte("xyz"), 0o644))
	check(t, os.Chtimes(path, st.ModTime(), st.ModTime()))
	if after, err := OfPath(path); err != nil || after == before {
		t.Errorf("a changed file has the stamp %q as before (%v)", after, err)
	}
	if _, err := OfPath(path + "x"); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}
