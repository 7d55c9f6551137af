package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Passages that are all equal leave a contrastive loss nothing to tell apart: that is said once, with a row's place.
func TestIdleBatchesAreNamedOnce(t *testing.T) {
	var b strings.Builder
	for i := range 16 {
		fmt.Fprintf(&b, `{"query": "the %c", "pos": "the er"}`+"\n", 'a'+i)
	}
	o := call(t, "", trainRun(write(t, "same.jsonl", b.String()), filepath.Join(t.TempDir(), "out"))...).ok(t)
	if strings.Count(o.stderr, "taught nothing") != 1 || !strings.Contains(o.stderr, "step 1: the loss of the batch with ") || !strings.Contains(o.stderr, "same.jsonl:") {
		t.Errorf("stderr: %s", o.stderr)
	}
}
