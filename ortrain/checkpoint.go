package ortrain

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// The files of a checkpoint folder.
const (
	tensorsFile = "state.safetensors"
	stateFile   = "state.json"
)

// state is the JSON part of a checkpoint.
type state struct {
	Step   int    `json:"step"`
	Seed   uint64 `json:"seed"`
	SHA256 string `json:"state_safetensors_sha256"`
	// LossScale is the state of the loss scaler in float16 training.
	LossScale *optim.LossScaler `json:"loss_scale,omitempty"`
	Host      json.RawMessage   `json:"host"` // data of the caller, such as its config
}

// momentPrefixes start the names of the moments' tensors in a checkpoint. The names are PyTorch's.
var momentPrefixes = [2]string{"exp_avg/", "exp_avg_sq/"}

// saveCheckpoint writes the state of the run into dir: all but frozen parameters, which the caller fills again before it resumes. A crash leaves no half-written dir. host is saved as JSON
// for the caller. It takes the moments from m, if they are sharded.
func (t *Trainer) saveCheckpoint(dir string, host any, m *momentGather) error {
	return atomicdir.Write(dir, func(tmp string) error { return t.fillCheckpoint(tmp, host, m) })
}

func (t *Trainer) fillCheckpoint(tmp string, host any, m *momentGather) error {
	tensors := t.blockTensors(t.parameters, "")
	for i, prefix := range momentPrefixes {
		if !t.sharded() {
			tensors = append(tensors, t.blockTensors(t.moments[i], prefix)...)
		} else {
			tensors = append(tensors, m.tensors(prefix)...)
		}
	}
	if err := m.finish(safetensors.Write(filepath.Join(tmp, tensorsFile), nil, tensors)); err != nil {
		return err
	}
	sum, err := fileSHA256(filepath.Join(tmp, tensorsFile))
	if err != nil {
		return err
	}
	extra, err := json.Marshal(host)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(state{t.step, t.cfg.Seed, sum, t.lossScaler, extra}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(tmp, stateFile), b, 0o644)
}

// blockTensors returns the trained tensors of a block for writing. A block in device memory is downloaded one tensor at a time.
func (t *Trainer) blockTensors(block *runtime.Block, prefix string) (tensors []safetensors.Tensor) {
	l, host := t.set.Layout, block.Host()
	for i, p := range l.TrainedParams() {
		x := safetensors.Tensor{Name: prefix + p.Name, DType: "F32", Shape: p.Dims}
		if host != nil {
			x.Data = safetensors.FromFloat32("", host[l.Offsets[i]:l.Offsets[i]+p.Size()]).Data
		} else {
			x.Stream = func(w io.Writer) error {
				values := make([]float32, p.Size())
				if err := block.Download(int(l.Offsets[i]), values); err != nil {
					return err
				}
				_, err := w.Write(safetensors.FromFloat32("", values).Data)
				return err
			}
		}
		tensors = append(tensors, x)
	}
	return tensors
}

func fileSHA256(path string) (string, error) {
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

// openCheckpoint reads a checkpoint's state and opens its tensors, after it compared their checksum.
func openCheckpoint(dir string) (s state, f *safetensors.File, err error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, nil, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, nil, fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
	}
	path := filepath.Join(dir, tensorsFile)
	sum, err := fileSHA256(path)
	if err != nil {
		return s, nil, err
	}
	if sum != s.SHA256 {
		return s, nil, fmt.Errorf("%s: SHA-256 is %s, want %s as in %s", path, sum, s.SHA256, stateFile)
	}
	f, err = safetensors.Open(path)
	return s, f, err
}

// load sets parameters, moments, step and loss scale from a checkpoint.
func (t *Trainer) load(s state, f *safetensors.File) error {
	own, end := t.ownPart()
	for prefix, at := range map[string]struct {
		block      *runtime.Block
		start, end int64
	}{"": {t.parameters, 0, t.set.Layout.Trained}, momentPrefixes[0]: {t.moments[0], own, end}, momentPrefixes[1]: {t.moments[1], own, end}} {
		if err := fillFirst(at.block, int(at.end-at.start), func(values []float32) error { return t.loadTensors(f, prefix, at.start, values) }); err != nil {
			return err
		}
	}
	if s.Seed != t.cfg.Seed {
		return fmt.Errorf("the checkpoint's seed is %d, the seed of this run is %d", s.Seed, t.cfg.Seed)
	}
	if (s.LossScale == nil) != (t.lossScaler == nil) {
		return fmt.Errorf("loss scaling is %s in the checkpoint's run and %s in this run", onOff(s.LossScale != nil), onOff(t.lossScaler != nil))
	}
	t.step, t.lossScaler = s.Step, s.LossScale
	return nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// loadTensors fills a range of a flat block, from element start on, with the trained tensors whose names start with the prefix.
func (t *Trainer) loadTensors(f *safetensors.File, prefix string, start int64, values []float32) error {
	l, end := t.set.Layout, start+int64(len(values))
	for i, p := range l.TrainedParams() {
		saved, ok := f.Tensor(prefix + p.Name)
		if !ok {
			return fmt.Errorf("%s: no tensor %q", f.Path, prefix+p.Name)
		}
		if have, want := onnx.Elements(saved.Shape), p.Size(); have != want {
			return fmt.Errorf("%s: tensor %q has %d elements, want %d", f.Path, saved.Name, have, want)
		}
		at := l.Offsets[i]
		if from, to := max(start, at), min(end, at+p.Size()); from < to {
			if err := saved.ReadAt(values[from-start:to-start], from-at); err != nil {
				return err
			}
		}
	}
	return nil
}
