package ortrain

import (
	"fmt"

	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/runtime"
)

// bindViews binds every tensor of a flat block under its name and suffix.
func (t *Trainer) bindViews(b *runtime.Binding, block *runtime.Block, suffix string,
	bind func(*runtime.Binding, string, *runtime.Tensor) error) error {
	l := t.set.Layout
	for i, p := range l.Params {
		view, err := block.View(l.Offsets[i], p.Dims...)
		if err != nil {
			return fmt.Errorf("parameter %q: %w", p.Name, err)
		}
		t.tensors = append(t.tensors, view)
		if err := bind(b, p.Name+suffix, view); err != nil {
			return err
		}
	}
	return nil
}

// table holds the dropout factors of a rate.
func (t *Trainer) table(plan *dropout.Plan, rate float64) (*runtime.Block, error) {
	if t.tables[rate] == nil {
		table, err := t.device().NewBlock(plan.TableSize)
		if err != nil {
			return nil, err
		}
		t.tables[rate] = table
		if err := write(table, func(factors []float32) error {
			plan.FillTable(factors, t.cfg.Seed, rate)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return t.tables[rate], nil
}

// write fills a block from the host: in place where it lies there.
func write(to *runtime.Block, fill func(values []float32) error) error {
	if host := to.Host(); host != nil {
		return fill(host)
	}
	values := make([]float32, to.Len())
	if err := fill(values); err != nil {
		return err
	}
	return to.Upload(0, values)
}

// read gives a block's values: the block itself where it lies on the host.
func read(from *runtime.Block) ([]float32, error) {
	if host := from.Host(); host != nil {
		return host, nil
	}
	values := make([]float32, from.Len())
	return values, from.Download(0, values)
}

// bindDropout binds every site's factors for one pass, or ones where nothing is to be dropped.
func (t *Trainer) bindDropout(to *runtime.Binding, plan *dropout.Plan, stream int, dims map[string]int64, drop bool) error {
	if plan == nil {
		return nil
	}
	views, err := plan.Views(t.cfg.Seed, t.step, stream, dims)
	if err != nil {
		return err
	}
	for _, v := range views {
		rate := v.Rate
		if !drop {
			rate = 0
		}
		table, err := t.table(plan, rate)
		if err != nil {
			return err
		}
		if err := to.View(v.Input, table, v.Offset, v.Dims...); err != nil {
			return err
		}
	}
	return nil
}
