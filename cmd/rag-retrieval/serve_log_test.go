package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// stubborn is a log's file that hangs, fails or works.
type stubborn struct {
	mu     sync.Mutex // held: a write hangs
	writes atomic.Int64
	fail   bool
	b      bytes.Buffer
}

func (s *stubborn) Write(b []byte) (int, error) {
	s.writes.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return 0, errors.New("no space left on device")
	}
	return s.b.Write(b)
}

// Nobody waits for a log that hangs or fails. What was dropped is told when it works again.
func TestLogLines(t *testing.T) {
	to := &stubborn{}
	l := newLogLines(to)
	l.start(slog.NewJSONHandler(to, nil))
	fmt.Fprintln(l, "first")
	for to.mu.Lock(); to.b.Len() == 0; to.mu.Lock() { // until it is written; the next one will hang
		to.mu.Unlock()
	}
	for i := range logLinesKept + 100 {
		fmt.Fprintln(l, i)
		for i == 0 && to.writes.Load() < 2 { // until its write hangs: lines are dropped after it
			runtime.Gosched()
		}
	}
	to.mu.Unlock()
	l.flush()
	out := to.b.String()
	if !strings.HasPrefix(out, "first\n0\n") || !strings.Contains(out, "9 lines of the log were dropped") || strings.Count(out, "\n") < logLinesKept {
		t.Errorf("%d lines: %.200q", strings.Count(out, "\n"), out)
	}
	to = &stubborn{fail: true}
	l = newLogLines(to)
	l.start(slog.NewJSONHandler(to, nil))
	for range 10 {
		if _, err := fmt.Fprintln(l, "x"); err != nil {
			t.Error(err)
		}
	}
	l.flush()
}
