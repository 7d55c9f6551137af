package memory

import "testing"

// Memory that is in use stays.
func TestRelease(t *testing.T) {
	b := make([]byte, 1<<20)
	b[7] = 1
	if Release(); b[7] != 1 {
		t.Error("memory in use was lost")
	}
	if Resident() <= 0 {
		t.Error(Resident())
	}
}
