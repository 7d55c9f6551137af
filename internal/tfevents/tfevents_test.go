package tfevents

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

// wantABC is the record of "abc" by TensorBoard 2.20's RecordWriter.
const wantABC = "0300000000000000b099490e6162636e57f121"

func TestRecord(t *testing.T) {
	if got := hex.EncodeToString(record([]byte("abc"))); got != wantABC {
		t.Errorf("record is %s, want %s", got, wantABC)
	}
}

// A resumed run has its own file. Scalars are written at once, not at the end of the run.
func TestScalars(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	for first := range 2 {
		w, err := Create(dir, first)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Scalars(first+1, Scalar{"train/loss", 0.5}, Scalar{"train/lr", 1e-5}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
}
