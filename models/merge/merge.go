// Package merge makes a whole model of an adapter and its base, for programs that know no adapters.
//
//	err := merge.Folder(ctx, resolve.Resolver{}, "out/model", "merged", version)
//
// The result is a folder as a training without LoRA writes it, with the same scores as the adapter's.
package merge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/ortrain/flat"
)

// model is a model of any kind.
type model interface {
	Params() []flat.Param
	Fill(to hf.Target) error
	Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error
	Close() error
}

// Folder writes the model of an adapter into the folder out, which must be new or empty. ref is the adapter's folder or hub id. version is
// the program's. If ctx ends before the folder is written, nothing is.
func Folder(ctx context.Context, from resolve.Resolver, ref, out, version string) (err error) {
	if err := checkNew(out); err != nil {
		return err
	}
	dir, err := from.Model(ctx, ref)
	if err != nil {
		return err
	}
	if is, err := hf.IsAdapter(dir); err != nil {
		return err
	} else if !is {
		return fmt.Errorf("%s has no adapter (%s): there is nothing to merge", ref, hf.AdapterConfigFile)
	}
	m, card, err := open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	card.PadTokenID = nil
	if card.Adapter = ""; card.Version == "" { // another program saved the adapter
		card.Version = version
	}
	l, err := flat.NewLayout(m.Params())
	if err != nil {
		return err
	}
	parameters := make([]float32, l.Total)
	if err := m.Fill(reader{hf.Buffer{Layout: l, Data: parameters}, ctx}); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.Save(out, card, l, parameters)
}

// reader reads parameters until its context ends: those of a large model take a while.
type reader struct {
	hf.Buffer
	ctx context.Context
}

func (r reader) Take(p flat.Param, parts []safetensors.Tensor) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	return r.Buffer.Take(p, parts)
}

// open opens a model of any kind, with its card. A card that another program's folder does not have is made up.
func open(dir string) (model, modelcard.Card, error) {
	c, saved, err := modelcard.Read(dir)
	if err != nil {
		return nil, c, err
	}
	if !saved {
		a, err := hf.ReadAdapterConfig(dir)
		if err != nil {
			return nil, c, err
		}
		c.BaseModel = a.Base
		if c.Kind, err = modelcard.Detect(dir); err != nil {
			return nil, c, err
		}
	}
	switch c.Kind {
	case modelcard.Reranker:
		m, err := reranker.Open(dir)
		if err == nil {
			c.MaxLen = m.MaxLen
		}
		return m, c, err
	case modelcard.ColBERT:
		m, err := colbert.Open(dir)
		if err == nil {
			c.QueryMaxLen, c.PassageMaxLen = m.QueryMaxLen, m.PassageMaxLen
		}
		return m, c, err
	}
	m, err := embedding.Open(dir)
	return m, c, err
}

// checkNew fails if a folder is there and not empty.
func checkNew(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("the folder %s is not empty: name a new one", dir)
	}
	return err
}
