package ortrain

import (
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/runtime"
)

// bindViews binds the tensors of a flat block, the first of the layout's, under the parameter's name followed by suffix.
func (t *Trainer) bindViews(b *runtime.Binding, block *runtime.Block, params []flat.Param, suffix string,
	bind func(b *runtime.Binding, name string, block *runtime.Block, offset int64, dims ...int64) error) error {
	for i, p := range params {
		if err := bind(b, p.Name+suffix, block, t.set.Layout.Offsets[i], p.Dims...); err != nil {
			return err
		}
	}
	return nil
}

// dropoutTable returns the table of dropout factors for a rate, and makes it at the first call.
func (t *Trainer) dropoutTable(plan *dropout.Plan, rate float64) (*runtime.Block, error) {
	if t.dropoutTables[rate] == nil {
		table, err := t.device().NewBlock(plan.TableSize)
		if err != nil {
			return nil, err
		}
		t.dropoutTables[rate] = table
		if err := fillBlock(table, func(factors []float32) error {
			plan.FillTable(factors, t.cfg.Seed, rate)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return t.dropoutTables[rate], nil
}

// fillBlock sets the values of a block. A block in host memory is filled in place.
func fillBlock(to *runtime.Block, fill func(values []float32) error) error {
	return fillFirst(to, to.Len(), fill)
}

// fillFirst sets the first n values of a block and leaves the others as they are.
func fillFirst(to *runtime.Block, n int, fill func(values []float32) error) error {
	if host := to.Host(); host != nil {
		return fill(host[:n])
	}
	values := make([]float32, n)
	if err := fill(values); err != nil {
		return err
	}
	return to.Upload(0, values)
}

// blockValues returns the values of a block. For a block in host memory this is the block itself, not a copy.
func blockValues(from *runtime.Block) ([]float32, error) {
	if host := from.Host(); host != nil {
		return host, nil
	}
	values := make([]float32, from.Len())
	return values, from.Download(0, values)
}

// bindDropout binds the dropout factors of every site for one forward pass. If drop is false, all factors are 1.
func (t *Trainer) bindDropout(to *runtime.Binding, plan *dropout.Plan, pass int, dims map[string]int64, drop bool) error {
	if plan == nil {
		return nil
	}
	seed := t.cfg.Seed + uint64(t.comm.Rank())<<32 // ranks drop different elements
	views, err := plan.Views(seed, t.step, pass, dims)
	if err != nil {
		return err
	}
	for _, v := range views {
		rate := v.Rate
		if !drop {
			rate = 0
		}
		table, err := t.dropoutTable(plan, rate)
		if err != nil {
			return err
		}
		if err := to.View(v.Input, table, v.Offset, v.Dims...); err != nil {
			return err
		}
	}
	return nil
}
