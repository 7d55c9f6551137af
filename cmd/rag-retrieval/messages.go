package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"rag-retrieval-go/ortrain/dist"
)

// messages is where notes and warnings go, a line each.
var messages = &rankMessages{to: os.Stderr}

// rankMessages writes to stderr. While the ranks of a job prepare, all of them find the same to say: then the lines of rank 0
// are printed at once, and of the other ranks later only those that rank 0 did not print. Lines of other ranks name the rank.
type rankMessages struct {
	mutex   sync.Mutex
	to      io.Writer // stderr, also of a rank that is muted
	rank    int
	waiting bool     // for shareLines
	lines   []string // written while waiting
}

func (m *rankMessages) Write(b []byte) (int, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for line := range strings.Lines(string(b)) {
		if m.waiting {
			m.lines = append(m.lines, line)
		}
		if !m.waiting || m.rank == 0 {
			m.print(line)
		}
	}
	return len(b), nil
}

func (m *rankMessages) print(line string) {
	if m.rank > 0 {
		line = fmt.Sprintf("rank %d: %s", m.rank, line)
	}
	_, _ = io.WriteString(m.to, line)
}

// prepare is called when this process has become a rank of a job, and before its ranks do something else in step.
func (m *rankMessages) prepare(c dist.Comm) { m.rank, m.waiting = c.Rank(), c.Size() > 1 }

// shareLines prints what other ranks have said since prepare and rank 0 has not. It is collective.
func (m *rankMessages) shareLines(c dist.Comm) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	all, err := c.AllGather([]byte(strings.Join(m.lines, "")))
	if err != nil {
		return err
	}
	m.release(slices.Collect(strings.Lines(string(all[0]))))
	return nil
}

// end prints what has not been printed when the job failed before shareLines. Where the ranks agreed on the error (dist.Agree),
// all of them are at the same place and share their lines; otherwise each prints its own.
func (m *rankMessages) end(c dist.Comm, err error) {
	var agreed *dist.RankError
	if m.waiting && errors.As(err, &agreed) && m.shareLines(c) == nil {
		return
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.release(nil)
}

// release prints the lines of a rank besides 0 that are not known.
func (m *rankMessages) release(known []string) {
	for _, line := range m.lines {
		if m.rank > 0 && !slices.Contains(known, line) {
			m.print(line)
		}
	}
	m.waiting, m.lines = false, nil
}
