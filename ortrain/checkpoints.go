package ortrain

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/ortrain/dist"
)

// Checkpoints is a folder with one checkpoint for each saved step.
type Checkpoints struct {
	Dir  string
	Keep int // how many of the newest checkpoints are kept; older ones are removed
	// ReadOnly makes Load change nothing on disk: a checkpoint that a killed run was replacing is read where it lies.
	ReadOnly bool
}

// stepPrefix starts the name of a checkpoint's folder. The step follows with leading zeros, so that names sort by step.
const stepPrefix = "step-"

// Path is the folder of the checkpoint of a step.
func (c Checkpoints) Path(step int) string {
	return filepath.Join(c.Dir, fmt.Sprintf("%s%08d", stepPrefix, step))
}

// Save writes the whole state of the run as a new checkpoint, then removes all but the newest Keep checkpoints. host is
// saved as JSON for the caller. If no step was done since the last Save or Load, Save writes nothing. All ranks of a job call
// it; rank 0 writes.
func (c Checkpoints) Save(t *Trainer, host any) error {
	if t.savedStep == t.step {
		return nil
	}
	moments := newMomentGather(t, momentWindow)
	var err error
	if t.comm.Rank() == 0 {
		err = c.write(t, host, moments)
	}
	if err = moments.finish(err); err == nil && t.comm.Rank() == 0 {
		err = c.prune(c.Path(t.step))
	}
	if err := dist.Agree(t.comm, err); err != nil {
		return err
	}
	t.savedStep = t.step
	return nil
}

func (c Checkpoints) write(t *Trainer, host any, m *momentGather) error {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	return t.saveCheckpoint(c.Path(t.step), host, m)
}

// prune removes old checkpoints, damaged ones of later steps than the newest, and temporary folders of a killed run.
func (c Checkpoints) prune(newest string) error {
	checkpoints, remove, err := c.list()
	if err != nil {
		return err
	}
	for len(checkpoints) > 0 && checkpoints[0] > newest {
		remove, checkpoints = append(remove, checkpoints[0]), checkpoints[1:]
	}
	if len(checkpoints) > c.Keep {
		remove = append(remove, checkpoints[c.Keep:]...)
	}
	var errs []error
	for _, path := range remove {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// list returns the checkpoints, newest first, and the temporary folders beside them.
func (c Checkpoints) list() (checkpoints, temporary []string, err error) {
	entries, err := os.ReadDir(c.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), stepPrefix)
		path := filepath.Join(c.Dir, e.Name())
		switch {
		case ok && strings.Trim(digits, "0123456789") == "":
			checkpoints = append(checkpoints, path)
		case ok:
			temporary = append(temporary, path)
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(checkpoints)))
	return checkpoints, temporary, nil
}

// recoverAndList returns the checkpoints, newest first, also one that a killed run was replacing. It restores that one first, unless c is
// ReadOnly.
func (c Checkpoints) recoverAndList() (checkpoints []string, err error) {
	_, temporary, err := c.list()
	if err != nil {
		return nil, err
	}
	var aside []string
	for _, path := range temporary {
		dir, ok := strings.CutSuffix(path, atomicdir.PreviousSuffix)
		switch {
		case !ok:
		case !c.ReadOnly:
			if err := atomicdir.Recover(dir); err != nil {
				return nil, err
			}
		case atomicdir.PreviousPath(dir) != "":
			aside = append(aside, path)
		}
	}
	checkpoints, _, err = c.list()
	checkpoints = append(checkpoints, aside...)
	sort.Sort(sort.Reverse(sort.StringSlice(checkpoints)))
	return checkpoints, err
}

// cannotOpen tells a checkpoint that cannot be opened now (too many open files, no permission) from a damaged one. Load
// must not skip it: its steps would be lost, and the next Save would remove it.
func cannotOpen(err error) bool {
	var opening *fs.PathError
	return errors.As(err, &opening) && opening.Op == "open" && !errors.Is(err, fs.ErrNotExist)
}

// Load sets the trainer to the state of the newest undamaged checkpoint: parameters, moments, step and loss scale. It
// calls skipped for each damaged checkpoint; one that cannot be opened is an error. Before anything changes, it calls
// check with the data that the caller of Save added, and returns the error of check. The seed must be the trainer's.
func (c Checkpoints) Load(t *Trainer, check func(host json.RawMessage) error, skipped func(err error)) error {
	checkpoints, err := c.recoverAndList()
	if err != nil {
		return err
	}
	for _, dir := range checkpoints {
		s, f, err := openCheckpoint(dir)
		if cannotOpen(err) {
			return err
		}
		if err != nil {
			skipped(fmt.Errorf("the checkpoint %s is damaged and skipped: %w", dir, err))
			continue
		}
		defer f.Close()
		if err := check(s.Host); err != nil {
			return err
		}
		if err := t.load(s, f); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		t.savedStep = t.step
		return nil
	}
	if len(checkpoints) > 0 {
		return fmt.Errorf("all checkpoints in %s are damaged", c.Dir)
	}
	return fmt.Errorf("%w in %s to resume from", ErrNoCheckpoint, c.Dir)
}

// ErrNoCheckpoint is the error of Load where there is no checkpoint, not even a damaged one.
var ErrNoCheckpoint = errors.New("no checkpoint")

// Any reports whether there is a checkpoint, damaged or not. It writes nothing.
func (c Checkpoints) Any() (bool, error) {
	c.ReadOnly = true
	checkpoints, err := c.recoverAndList()
	return len(checkpoints) > 0, err
}
