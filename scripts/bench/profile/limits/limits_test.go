package limits

import "testing"

func TestFLOPs(t *testing.T) {
	one, err := FLOPs("fp32", 1)
	if err != nil || one < 1e8 || one > 1e13 {
		t.Errorf("fp32: %g operations/s, %v", one, err)
	}
	if _, err := FLOPs("fp8", 1); err == nil {
		t.Error("a precision that does not exist has a rate")
	}
}

func TestBytesPerSecond(t *testing.T) {
	small, large := BytesPerSecond(32<<10, 1), BytesPerSecond(256<<20, 1)
	t.Logf("%.1f GB/s within 32 KiB, %.1f within 256 MiB", small/1e9, large/1e9)
	if large < 1e8 || small < 1e8 || small > 1e13 {
		t.Errorf("%g and %g bytes/s", small, large)
	}
}
