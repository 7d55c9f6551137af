package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"
)

// serverLog is the log that the flags ask for. Its lines go through lines; write writes them from then on, until lines.flush.
func serverLog(c *cli.Context, lines *logLines) (log *slog.Logger, write func(), err error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[c.String("log-level")]
	if !ok {
		return nil, nil, usagef("--log-level is %q, want debug, info, warn or error", c.String("log-level"))
	}
	o := &slog.HandlerOptions{Level: level}
	switch f := c.String("log-format"); f {
	case "json":
		return slog.New(slog.NewJSONHandler(lines, o)), func() { lines.start(slog.NewJSONHandler(lines.to, o)) }, nil
	case "text":
		return slog.New(slog.NewTextHandler(lines, o)), func() { lines.start(slog.NewTextHandler(lines.to, o)) }, nil
	default:
		return nil, nil, usagef("--log-format is %q, want json or text", f)
	}
}

// logLines writes a log's lines one after the other, so that nobody waits for it: where its reader hangs, or the disk is full, lines are
// dropped and requests go on. The next line that can be written tells how many were.
type logLines struct {
	to      io.Writer
	lines   chan []byte
	stop    sync.Once
	written chan struct{} // closed when all lines were written after flush
	dropped atomic.Int64
}

const (
	logLinesKept     = 4096            // that wait: about 2 MB
	logFlushPatience = 2 * time.Second // for the last lines, at the end
)

func newLogLines(to io.Writer) *logLines {
	return &logLines{to: to, lines: make(chan []byte, logLinesKept), written: make(chan struct{})}
}

// start begins to write. Its handler writes how many lines were dropped, past those that wait.
func (l *logLines) start(h slog.Handler) { go l.write(slog.New(h)) }

// Write implements io.Writer. It never fails and never waits.
func (l *logLines) Write(line []byte) (int, error) {
	select {
	case l.lines <- bytes.Clone(line):
	default:
		l.dropped.Add(1)
	}
	return len(line), nil
}

func (l *logLines) write(direct *slog.Logger) {
	defer close(l.written)
	for line := range l.lines {
		if line == nil {
			return
		}
		if n := l.dropped.Swap(0); n > 0 {
			direct.Warn(fmt.Sprintf("%d lines of the log were dropped", n))
		}
		if _, err := l.to.Write(line); err != nil {
			l.dropped.Add(1)
		}
	}
}

// flush writes the lines that wait. No more come after it.
func (l *logLines) flush() {
	l.stop.Do(func() {
		select {
		case l.lines <- nil:
		case <-time.After(logFlushPatience):
			return
		}
		select {
		case <-l.written:
		case <-time.After(logFlushPatience):
		}
	})
}
