package finetune

import (
	"context"
	"fmt"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/runtime"
)

// indexKey names the settings that decide how many examples a row makes. An index of a file is valid for one such key.
func indexKey(c config.Train) string {
	return fmt.Sprint(c.Kind, c.LossType, c.NegNums > 0, c.MinLabel, c.MaxLabel, c.GroupSize)
}

// rowForms maps values of train_dataset_type and val_dataset_type to formats of rows.
var rowForms = map[string]data.Form{config.Pointwise: data.Labeled, config.Grouped: data.Grouped}

// indexFolder returns the folder, in the cache, for indices and checksums of data files. It is "" if there is no cache
// folder; then none are kept.
func indexFolder() string {
	folder, err := runtime.InHome("indices")
	if err != nil {
		return ""
	}
	return folder
}

// rowOptions returns the options for reading training rows.
func (r *Run) rowOptions() data.Options {
	c := r.Config
	negatives := 0
	if c.Contrastive() {
		negatives = c.NegNums
	}
	return data.Options{
		Negatives: negatives,
		LabelKey:  c.TrainLabelKey, Form: rowForms[c.TrainDatasetType], FormKey: "train_dataset_type", SkipBad: c.SkipBadRows, Examples: r.task.Examples,
		Cache: indexFolder(), Key: indexKey(c), Note: r.resolver.Note,
	}
}

// openRows opens files of rows. Files on the hub are fetched first.
func (r *Run) openRows(ctx context.Context, from config.List, o data.Options) (*data.Dataset, error) {
	paths := make([]string, len(from))
	for i, ref := range from {
		var err error
		if paths[i], err = r.resolver.Data(ctx, ref); err != nil {
			return nil, err
		}
	}
	return data.Open(ctx, paths, o)
}

func (r *Run) openData(ctx context.Context) (err error) {
	c, o := r.Config, r.rowOptions()
	o.Weights = c.Weights
	if r.Data, err = r.openRows(ctx, c.TrainDataset, o); err != nil {
		return err
	}
	b := data.Batching{
		BatchSize: c.BatchSize, Accumulation: c.GradientAccumulationSteps, MinBatch: r.task.MinBatch(),
		Shuffle: c.Shuffle, Seed: c.Seed, ShuffleRate: c.ShuffleRate, Rank: r.comm.Rank(), Ranks: r.comm.Size(), Gather: r.gather,
	}
	compared := c.BatchSize // examples that are compared with one another
	if r.gather {
		compared *= r.comm.Size()
	}
	if compared < b.MinBatch {
		return fmt.Errorf("batch_size is %d, want at least %d: loss_type %s compares the examples of a batch", c.BatchSize, b.MinBatch, c.LossType)
	}
	n := r.Data.EpochLen()
	if n < b.MinBatch {
		return fmt.Errorf("an epoch of %s has one example, want at least %d: loss_type %s compares the examples of a batch", r.Data.Name(), b.MinBatch, c.LossType)
	}
	if n < b.MinJobBatch() {
		return fmt.Errorf("an epoch of %s has %d examples, want at least %d for %d ranks: loss_type %s compares the examples of a batch",
			r.Data.Name(), n, b.MinJobBatch(), b.Ranks, c.LossType)
	}
	first, err := r.Data.Example(0)
	if err != nil {
		return err
	}
	r.Notes = append(r.Notes, ignoredFields(c, first.Row)...)
	if r.Data.Short > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("neg_nums: %d rows have fewer than %d negatives, so these are repeated; the first: %s", r.Data.Short, c.NegNums, r.Data.FirstShort))
	}
	if t, ok := r.task.(Checker); ok {
		if err := t.Check(r.Data); err != nil {
			return err
		}
	}
	r.source = r.Data.Source(b, r.collate)
	r.stepsPerEpoch = b.StepsPerEpoch(r.Data.EpochLen())
	r.Steps = c.Steps(r.stepsPerEpoch)
	if r.Steps == 1 && c.Schedule(1).At(0) == 0 {
		r.Notes = append(r.Notes, "warmup_proportion: the run has one step, and the warm-up's first step has a learning rate of 0: the model will not change")
	}
	if err := r.openValidation(ctx); err != nil {
		return err
	}
	r.inputFiles, err = r.hashFiles(ctx)
	return err
}

// ignoredFields says which fields of a row the loss ignores although RAG-Retrieval would use them. In RAG-Retrieval, the
// fields of the rows choose the loss.
func ignoredFields(c config.Train, r data.Row) []string {
	if !c.Contrastive() {
		return nil
	}
	var out []string
	if r.Form() == data.Scored {
		out = append(out, fmt.Sprintf("loss_type: %s ignores the rows' \"scores\"; other losses use them", c.LossType))
	}
	if len(r.Neg) > 0 && c.NegNums == 0 {
		out = append(out, `neg_nums: with 0 the rows' "neg" is ignored`)
	}
	return out
}

// collate calls the task's Collate, from one goroutine at a time: one prepares the next training batches while another
// makes the batches of a validation.
func (r *Run) collate(b data.Batch) ([]*ortrain.Batch, error) {
	r.collateMutex.Lock()
	defer r.collateMutex.Unlock()
	return r.task.Collate(b)
}
