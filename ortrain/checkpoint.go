package ortrain

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/flat"
)

// The files of a checkpoint folder.
const (
	tensorsFile = "state.safetensors"
	stateFile   = "state.json"
)

// state is the JSON part of a checkpoint.
type state struct {
	Step   int             `json:"step"`
	Seed   uint64          `json:"seed"`
	SHA256 string          `json:"state_safetensors_sha256"`
	Host   json.RawMessage `json:"host"` // what the caller adds, such as its config
}

// momentPrefixes tell the moments' tensors from the parameters' in a checkpoint, in PyTorch's names.
var momentPrefixes = [2]string{"exp_avg/", "exp_avg_sq/"}

// buffers gives the flat buffers that a checkpoint holds with the prefixes of their tensors.
func (t *Trainer) buffers() map[string][]float32 {
	return map[string][]float32{
		"": t.parameters.Data, momentPrefixes[0]: t.moments[0].Data, momentPrefixes[1]: t.moments[1].Data,
	}
}

// SaveCheckpoint writes the whole state of the run into dir, which is the old checkpoint or the new one at any moment.
// host is kept as JSON for the caller.
func (t *Trainer) SaveCheckpoint(dir string, host any) error {
	return atomicdir.Write(dir, func(tmp string) error { return t.fillCheckpoint(tmp, host) })
}

func (t *Trainer) fillCheckpoint(tmp string, host any) error {
	var tensors []safetensors.Tensor
	for _, prefix := range []string{"", momentPrefixes[0], momentPrefixes[1]} {
		err := t.set.Layout.Each(t.buffers()[prefix], func(p flat.Param, values []float32) error {
			tensors = append(tensors, safetensors.FromFloat32(prefix+p.Name, values, p.Dims...))
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := safetensors.Write(filepath.Join(tmp, tensorsFile), nil, tensors); err != nil {
		return err
	}
	sum, err := fileSum(filepath.Join(tmp, tensorsFile))
	if err != nil {
		return err
	}
	extra, err := json.Marshal(host)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(state{t.step, t.cfg.Seed, sum, extra}, "", "  ")
	if err != nil {
		return err
	}
	return writeSynced(filepath.Join(tmp, stateFile), b)
}

func writeSynced(path string, b []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ReadCheckpointHost reads only what the caller of SaveCheckpoint added, into host.
func ReadCheckpointHost(dir string, host any) error {
	_, _, err := readState(dir, host)
	return err
}

// LoadCheckpoint continues from a checkpoint: parameters, moments, step and seed are those that were saved.
func (t *Trainer) LoadCheckpoint(dir string) error {
	dir, s, err := readState(dir, nil)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, tensorsFile)
	sum, err := fileSum(path)
	if err != nil {
		return err
	}
	if sum != s.SHA256 {
		return fmt.Errorf("%s: checksum %s, %s says %s: the checkpoint is damaged", path, sum, stateFile, s.SHA256)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for prefix, buffer := range t.buffers() {
		if err := t.set.Layout.Each(buffer, func(p flat.Param, values []float32) error {
			saved, err := f.Float32(prefix + p.Name)
			if err != nil {
				return err
			}
			if len(saved) != len(values) {
				return fmt.Errorf("%s: tensor %q has %d elements, the model has %d", path, prefix+p.Name, len(saved), len(values))
			}
			copy(values, saved)
			return nil
		}); err != nil {
			return err
		}
	}
	if s.Seed != t.cfg.Seed {
		return fmt.Errorf("%s: seed %d, this run has %d", dir, s.Seed, t.cfg.Seed)
	}
	t.step = s.Step
	return nil
}

// readState reads the JSON part of the checkpoint in dir, or of the one that an interrupted save left as dir.old.
func readState(dir string, host any) (string, state, error) {
	var s state
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		if old, e := os.ReadFile(filepath.Join(dir+".old", stateFile)); e == nil {
			dir, b, err = dir+".old", old, nil
		}
	}
	if err != nil {
		return dir, s, fmt.Errorf("no checkpoint: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return dir, s, fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
	}
	if host != nil {
		if err := json.Unmarshal(s.Host, host); err != nil {
			return dir, s, fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
		}
	}
	return dir, s, nil
}
