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
)

// Checkpoints is a folder of checkpoints, one per step that was saved.
type Checkpoints struct {
	Dir  string
	Keep int // of the newest; those before are removed
}

// stepPrefix starts the name of a checkpoint's folder; the step follows, in digits that sort as numbers.
const stepPrefix = "step-"

func (c Checkpoints) path(step int) string {
	return filepath.Join(c.Dir, fmt.Sprintf("%s%08d", stepPrefix, step))
}

// Save writes the whole state of the run as a checkpoint of its own, then removes what Keep does not cover. host is kept
// as JSON for the caller. Where the state is that of the last checkpoint saved or loaded, nothing is written.
func (c Checkpoints) Save(t *Trainer, host any) error {
	if t.saved == t.step {
		return nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	if err := t.saveCheckpoint(c.path(t.step), host); err != nil {
		return err
	}
	t.saved = t.step
	return c.prune(c.path(t.step))
}

// prune removes old checkpoints, damaged ones that came after the newest, and what a killed run left half-written.
func (c Checkpoints) prune(newest string) error {
	found, stray, err := c.list()
	if err != nil {
		return err
	}
	for len(found) > 0 && found[0] > newest {
		stray, found = append(stray, found[0]), found[1:]
	}
	if len(found) > c.Keep {
		stray = append(stray, found[c.Keep:]...)
	}
	var errs []error
	for _, path := range stray {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// list gives the checkpoints, newest first, and the temporary folders beside them.
func (c Checkpoints) list() (found, stray []string, err error) {
	entries, err := os.ReadDir(c.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), stepPrefix)
		path := filepath.Join(c.Dir, e.Name())
		switch {
		case ok && strings.Trim(digits, "0123456789") == "":
			found = append(found, path)
		case ok:
			stray = append(stray, path)
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(found)))
	return found, stray, nil
}

// recovered gives the checkpoints, newest first, with those that a killed run was replacing put back.
func (c Checkpoints) recovered() (found []string, err error) {
	_, stray, err := c.list()
	if err != nil {
		return nil, err
	}
	for _, path := range stray {
		if dir, ok := strings.CutSuffix(path, ".old"); ok {
			if err := atomicdir.Recover(dir); err != nil {
				return nil, err
			}
		}
	}
	found, _, err = c.list()
	return found, err
}

// unreadable says that an error is not of a damaged checkpoint but of one that cannot be opened now: too many open files,
// no permission. To leave that one out would lose its steps, and the next save would remove it.
func unreadable(err error) bool {
	var opening *fs.PathError
	return errors.As(err, &opening) && opening.Op == "open" && !errors.Is(err, fs.ErrNotExist)
}

// Load continues from the newest checkpoint that is whole: parameters, moments, step and seed are those that were saved.
// skipped is told of each damaged one; one that cannot be opened is an error. check sees what the caller of Save added
// before anything changes; its error is given back.
func (c Checkpoints) Load(t *Trainer, check func(host json.RawMessage) error, skipped func(err error)) error {
	found, err := c.recovered()
	if err != nil {
		return err
	}
	for _, dir := range found {
		s, f, err := openCheckpoint(dir)
		if unreadable(err) {
			return err
		}
		if err != nil {
			skipped(fmt.Errorf("the checkpoint %s is damaged and left out: %w", dir, err))
			continue
		}
		defer f.Close()
		if err := check(s.Host); err != nil {
			return err
		}
		if err := t.load(s, f); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		t.saved = t.step
		return nil
	}
	if len(found) > 0 {
		return fmt.Errorf("no whole checkpoint in %s", c.Dir)
	}
	return fmt.Errorf("no checkpoint in %s to go on from: start anew, in a new folder", c.Dir)
}
