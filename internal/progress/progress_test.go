package progress

import (
	"bytes"
	"strings"
	"testing"
)

// Without a terminal there is a line after the first unit of a run, every interval units and the last one.
func TestLines(t *testing.T) {
	for before, want := range map[int]string{0: "1 5 10 12", 7: "8 10 12"} {
		var out bytes.Buffer
		b := New(&out, "work", 12, 5)
		b.Start(before)
		for i := before + 1; i <= 12; i++ {
			b.Set(i, "note")
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			done, _, _ := strings.Cut(strings.Fields(line)[1], "/")
			got = append(got, done)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("after %d: lines of %v, want %s", before, got, want)
		}
	}
}
