package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rag-retrieval-go/models/encoder/encodertest"
)

// terminal opens a pseudo-terminal: the program writes to inside, and what it writes is read from outside.
func terminal(t *testing.T) (outside, inside *os.File) {
	t.Helper()
	outside, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { outside.Close() })
	number, err := unix.IoctlGetInt(int(outside.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(outside.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		inside, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return outside, inside
}

// On a terminal, the last line of an interrupted command does not stand beside a bar.
func TestInterruptedOnATerminal(t *testing.T) {
	home := t.TempDir()
	t.Setenv("RAG_RETRIEVAL_HOME", home)
	t.Setenv("TERM", "xterm")
	outside, inside := terminal(t)
	c := program(nil, "mine", "--model", encodertest.Wide(t, fixtures+"bert/vocab.txt"), "--kind", "embedding", "--train-dataset", pairs(t, 30),
		"--corpus", corpusFile(t, 6000), "--output", filepath.Join(t.TempDir(), "mined"), "--threads", "1")
	c.Stderr = inside
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	inside.Close()
	shown := make(chan string)
	go func() {
		b, _ := io.ReadAll(outside) // it ends with an error when the program has ended
		shown <- string(b)
	}()
	for end := time.Now().Add(time.Minute); readAll(t, filepath.Join(home, "vectors", "*", "vectors.xxh64")) == "" && time.Now().Before(end); {
		time.Sleep(2 * time.Millisecond)
	}
	_ = c.Process.Signal(os.Interrupt)
	_ = c.Wait() // its exit code tells
	text := <-shown
	before, last, found := strings.Cut(text, "rag-retrieval: interrupted: the same command goes on: ")
	if c.ProcessState.ExitCode() != exitInterrupted || !found || strings.Count(last, "\n") != 1 {
		t.Fatalf("exit %d: %q", c.ProcessState.ExitCode(), text)
	}
	if !strings.Contains(before, "encoding documents") || !strings.HasSuffix(before, "\r") {
		t.Errorf("before the last line stands %q", before[max(0, len(before)-80):])
	}
}
