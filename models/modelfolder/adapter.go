package modelfolder

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/internal/hub"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/runtime"
)

// Adapter is a model whose encoder is frozen but for its adapters. Its folder is PEFT's: it has the adapters and the head, and names the
// base model.
type Adapter struct {
	Encoder  encoder.Config // with LoRA
	TaskType string         // hf.FeatureExtraction, hf.SequenceClassification or hf.CausalLM
	// Head has the trained parameters of transformers' class outside the encoder, and HeadNames the names of their tensors there.
	Head      []flat.Param
	HeadNames hf.TensorNames
}

// EncoderAdapter is an adapter of a bare encoder; nil without LoRA.
func EncoderAdapter(c encoder.Config) *Adapter {
	if c.LoRA == nil {
		return nil
	}
	return &Adapter{Encoder: c, TaskType: hf.FeatureExtraction}
}

// write writes the adapter's config and tensors into a folder. from is the folder that the model was opened from, and named the base model as
// the user named it.
func (a *Adapter) write(dir, from, named string, l *flat.Layout, parameters []float32) error {
	c, err := a.Encoder.AdapterConfig(), error(nil)
	if c.Base, c.Revision, err = baseOf(from, named); err != nil {
		return err
	}
	c.TaskType = a.TaskType
	prefix := ""
	if a.TaskType != hf.FeatureExtraction {
		prefix = a.Encoder.WholeNaming().Prefix
	}
	tensors, err := a.Encoder.AdapterTensors(l, parameters, prefix)
	if err != nil {
		return err
	}
	head, err := hf.FromLayout(l, parameters, a.Head, a.HeadNames)
	if err != nil {
		return err
	}
	var saved []string
	for _, t := range head {
		module, _, _ := strings.Cut(strings.TrimPrefix(t.Name, prefix), ".")
		if !slices.Contains(saved, module) {
			saved = append(saved, module)
		}
	}
	// PEFT takes config.json from the base.
	return errors.Join(os.Remove(filepath.Join(dir, "config.json")), hf.WriteAdapter(dir, c, saved, append(tensors, head...)))
}

// baseOf returns how an adapter for the model in the folder from names its base: by the hub's id and revision, or by an absolute path. If
// the model was an adapter that was trained further, its base is the new adapter's.
func baseOf(from, named string) (base, revision string, err error) {
	is, err := hf.IsAdapter(from)
	if err != nil {
		return "", "", err
	}
	if !is {
		return absolute(named, from)
	}
	c, err := hf.ReadAdapterConfig(from)
	if err != nil {
		return "", "", err
	}
	config := filepath.Join(from, "config.json")
	file := hf.Origin(config)
	if file == config {
		return "", "", fmt.Errorf("the base model of %s: want a folder of links to an adapter and its base", c.Path)
	}
	commit, err := commitOf(c.Base, filepath.Dir(file))
	if err != nil || commit != "" {
		return c.Base, cmp.Or(c.Revision, commit), err
	}
	base, err = filepath.Abs(filepath.Dir(file))
	return base, "", err
}

// absolute returns a hub id as it is, with its commit if that is known, and for a folder its absolute path. dir is the folder that was found
// for ref.
func absolute(ref, dir string) (base, revision string, err error) {
	here, err := hf.Exists(ref)
	if err != nil {
		return "", "", err
	}
	if here {
		base, err = filepath.Abs(ref)
		return base, "", err
	}
	if hub.IsID(ref) {
		revision, err = commitOf(ref, dir)
		return ref, revision, err
	}
	base, err = filepath.Abs(dir)
	return base, "", err
}

// commitOf returns the commit of a model of the hub whose folder is dir; "" if dir is not its folder in the cache.
func commitOf(id, dir string) (string, error) {
	cache, err := runtime.InHome("hub")
	if err != nil {
		return "", nil // no cache
	}
	if cache, err = filepath.Abs(cache); err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	return hub.Commit(cache, id, dir), nil
}
