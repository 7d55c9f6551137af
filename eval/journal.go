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

// Journal writes a task's scores to disk as they are computed, one line for each sample, so that a stopped evaluation can
// continue. If a write fails, the evaluation continues without the journal.
type Journal struct {
	// Warn is called with the error if a write fails. It may be nil.
	Warn func(error)

	path string
	lock *filelock.Lock
	f    *os.File
	rows [][]float32
	kept int // samples whose scores are in the file
}

// OpenJournal opens or creates the journal of a task. path must differ for everything that scores depend on. Scores of an
// earlier run that do not fit the samples are dropped; with fresh, all are. If another process has the journal open, the
// error is a *filelock.Held.
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
	if err := jsonl.Write(path, rows); err != nil { // drops a last row that was cut short
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &Journal{path: path, lock: lock, f: f, rows: rows, kept: len(rows)}, nil
}

// JournalCopy returns a journal with the scores of another rank's journal, which writes them for all ranks: this one writes
// nothing.
func JournalCopy(scores [][]float32) *Journal { return &Journal{rows: scores, kept: len(scores)} }

// Scores returns the scores of the first samples, from an earlier run.
func (j *Journal) Scores() [][]float32 {
	if j == nil {
		return nil
	}
	return j.rows
}

// Add writes the scores of the next sample.
func (j *Journal) Add(scores []float32) {
	if j == nil || j.f == nil {
		return
	}
	b, err := json.Marshal(scores) // fails for NaN; Evaluate reports it later
	if err == nil {
		_, err = j.f.Write(append(b, '\n'))
	}
	if err == nil {
		j.kept++
		return
	}
	err = errors.Join(err, j.f.Close())
	if j.f = nil; j.Warn != nil {
		j.Warn(err)
	}
}

// Kept returns for how many samples the next evaluation has the scores if this one is stopped.
func (j *Journal) Kept() int {
	if j == nil {
		return 0
	}
	return j.kept
}

// Close closes the journal. It removes the file if the task is finished or the file is empty.
func (j *Journal) Close(finished bool) error {
	if j == nil || j.path == "" {
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
