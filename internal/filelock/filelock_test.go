package filelock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// holding is an environment variable with the path of a lock. The test binary, started again, holds it until stdin ends.
const holding = "FILELOCK_TEST_HOLD"

// counting is an environment variable with the path of a file. The test binary, started again, increments the number in it a
// hundred times, each time under the lock.
const counting = "FILELOCK_TEST_COUNT"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(holding) != "":
		l, err := Try(os.Getenv(holding))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		_, _ = io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(l)
		os.Exit(0) // without Close: the system frees it
	case os.Getenv(counting) != "":
		for range 100 {
			if err := count(os.Getenv(counting)); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// count increments the number in a file. If two processes do it at the same time, counts are lost.
func count(path string) error {
	l, err := Wait(context.Background(), path+".lock", nil)
	if err != nil {
		return err
	}
	n := 0
	if b, err := os.ReadFile(path); err == nil {
		fmt.Sscan(string(b), &n)
	}
	return errors.Join(os.WriteFile(path, fmt.Append(nil, n+1), 0o644), l.Close())
}

// hold starts a process that holds a lock.
func hold(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), holding+"="+path)
	_, err := c.StdinPipe()
	check(t, err)
	out, err := c.StdoutPipe()
	check(t, err)
	check(t, c.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("%q %v", line, err)
	}
	return c
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Try names the process that holds a lock. After the process was killed with SIGKILL, the lock is free.
func TestAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	c := hold(t, path)
	_, err := Try(path)
	var held *Held
	if !errors.As(err, &held) || held.Holder.PID != c.Process.Pid || !strings.HasPrefix(err.Error(), fmt.Sprintf("process %d on ", c.Process.Pid)) {
		t.Errorf("%v, want one that names process %d", err, c.Process.Pid)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := Wait(ctx, path, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting ended with %v, want the context's end", err)
	}
	waited := make(chan error)
	told := make(chan Holder, 1)
	go func() {
		l, err := Wait(context.Background(), path, func(h Holder) { told <- h })
		waited <- errors.Join(err, l.Close())
	}()
	if h := <-told; h.PID != c.Process.Pid {
		t.Errorf("told to wait for %v", h)
	}
	check(t, c.Process.Kill())
	_ = c.Wait() // killed
	check(t, <-waited)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a lock that was given back left its file: %v", err)
	}
}

// Processes that take turns, and remove the lock file each time, never hold the lock at the same time.
func TestManyProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), counting+"="+path)
			if b, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, b)
			}
		})
	}
	all.Wait()
	if b, err := os.ReadFile(path); err != nil || string(b) != "400" {
		t.Errorf("counted to %s, want 400 (%v)", b, err)
	}
}

// One process cannot take a lock twice either. A dead holder in the lock file is not named.
func TestOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	dead := exec.Command(os.Args[0], "-test.run=XXX")
	check(t, dead.Run())
	host, err := os.Hostname()
	check(t, err)
	l, err := Try(path)
	check(t, err)
	check(t, os.WriteFile(path, fmt.Appendf(nil, `{"pid":%d,"host":%q}`, dead.Process.Pid, host), 0o644))
	if _, err := Try(path); err == nil || err.Error() != "another process holds it" {
		t.Errorf("%v", err)
	}
	check(t, l.Close())
	check(t, l.Close())
	if _, err := Try(filepath.Join(path, "x")); err == nil {
		t.Error("locked a file in a folder that is not there")
	}
}

// If a lock's folder was removed and another lock was then taken at the same path, closing the first does not remove the file
// of the second.
func TestCloseLeavesAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	first, err := Try(path)
	check(t, err)
	check(t, os.Remove(path))
	second, err := Try(path)
	check(t, err)
	check(t, first.Close())
	if _, err := Try(path); !errors.As(err, new(*Held)) {
		t.Errorf("the second lock is not held any more: %v", err)
	}
	check(t, second.Close())
	check(t, os.RemoveAll(filepath.Dir(path)))
}
