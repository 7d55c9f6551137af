package memory

import "testing"

// What Go has freed goes back to the system.
func TestRelease(t *testing.T) {
	const size = 256 << 20
	b := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		b[i] = 1
	}
	held := Resident()
	b = nil
	if Release(); Resident() > held-size/2 {
		t.Errorf("%d bytes are resident, %d were", Resident(), held)
	}
}
