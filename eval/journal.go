package eval

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/mteb"
)

// Journal keeps a task's scores on disk as they are made, one line per sample, so that an evaluation that was stopped
// goes on where it was. A journal that cannot be written is given up: the evaluation does not need it.
type Journal struct {
	// Warn hears why the journal was given up; it may be nil.
	Warn func(error)

	path string
	lock *filelock.Lock
	f    *os.File
	rows [][]float32
}

// OpenJournal opens or begins the journal of a task at path, whose name must stand for everything that scores depend on.
// What an earlier run left there and does not fit the samples is left out; fresh leaves all of it out. A journal that
// another process writes is a *filelock.Held.
func OpenJournal(path string, samples []mteb.Sample, fresh bool) (j *Journal, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	lock, err := filelock.Try(path + ".lock")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	var rows [][]float32
	if !fresh {
		if rows, err = jsonl.ReadLog[[]float32](path); err != nil {
			return nil, err
		}
	}
	n := 0
	for n < min(len(rows), len(samples)) && len(rows[n]) == len(samples[n].Positive)+len(samples[n].Negative) {
		n++
	}
	rows = rows[:n:n]
	if err := jsonl.Write(path, rows); err != nil { // without a last row that was cut short
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &Journal{path: path, lock: lock, f: f, rows: rows}, nil
}

// Done are the scores of the first samples, as an earlier run left them.
func (j *Journal) Done() [][]float32 {
	if j == nil {
		return nil
	}
	return j.rows
}

// Add writes the next sample's scores.
func (j *Journal) Add(scores []float32) {
	if j == nil || j.f == nil {
		return
	}
	b, err := json.Marshal(scores) // scores that are not numbers fail here, and the task after them
	if err == nil {
		_, err = j.f.Write(append(b, '\n'))
	}
	if err == nil {
		return
	}
	err = errors.Join(err, j.f.Close())
	if j.f = nil; j.Warn != nil {
		j.Warn(err)
	}
}

// Close closes the journal. It is removed where the task is finished, and where it is empty.
func (j *Journal) Close(finished bool) error {
	if j == nil {
		return nil
	}
	var err error
	if j.f != nil {
		err = j.f.Close()
		j.f = nil
	}
	if st, statErr := os.Stat(j.path); finished || statErr == nil && st.Size() == 0 {
		err = errors.Join(err, os.Remove(j.path))
	}
	return errors.Join(err, j.lock.Close())
}
