package finetune_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/ortrain"
)

// equalLabels returns a fixture's rows with the same label for all passages of a query.
func equalLabels(f fixture) []data.Example {
	var out []data.Example
	for i, r := range f.rows {
		one := 2.0
		hits := make([]data.Hit, len(r.Hits))
		for k, h := range r.Hits {
			hits[k] = data.Hit{Content: h.Content, Label: &one}
		}
		r.Hits = hits
		out = append(out, data.Example{Row: r, Number: i})
	}
	return out
}

// A batch whose groups have equal labels has a loss and a gradient of zero, whole and in chunks, and does not count in the mean
// of a step. A step with only such batches changes a model without momentum only by weight decay.
func TestGroupsWithoutADifference(t *testing.T) {
	for _, f := range fixtures(t) {
		if f.name != "listwise" && f.name != "ranknet" {
			continue
		}
		for _, v := range []variant{{groups: 1}, {groups: 2, chunkTokens: 12}} {
			t.Run(f.name, func(t *testing.T) {
				task, tr := f.trainer(t, v)
				same, err := task.Collate(data.WholeBatch(0, equalLabels(f)))
				check(t, err)
				if !same[0].ConstantLoss || same[0].Rows != 0 {
					t.Errorf("idle %v, %d rows", same[0].ConstantLoss, same[0].Rows)
				}
				loss, grads, err := tr.Gradients(same...)
				check(t, err)
				if loss != 0 || largest(grads) != 0 {
					t.Errorf("loss %g, gradient up to %g", loss, largest(grads))
				}
				if loss := evalLossOf(t, tr, same[0]); loss != 0 {
					t.Errorf("loss without dropout %g", loss)
				}
				both := append(same, f.batch(t, task, -1)...)
				if loss, _, err := tr.Gradients(both...); err != nil || math.Abs(loss-f.loss) > 1e-5*f.loss {
					t.Errorf("with another batch the loss is %g, PyTorch's of that one is %g: %v", loss, f.loss, err)
				}
				same[0].Origin = func() []string { return []string{"x:1"} }
				s, err := tr.Step(same)
				check(t, err)
				if s.Loss != 0 || s.GradNorm != 0 || s.ConstantLossRow != "x:1" {
					t.Errorf("%+v", s)
				}
				loss, _, err = tr.Gradients(f.batch(t, task, -1)...)
				if check(t, err); math.Abs(loss-f.loss) > 1e-3*f.loss {
					t.Errorf("the step changed the loss from %g to %g", f.loss, loss)
				}
			})
		}
	}
}

func evalLossOf(t *testing.T, tr *ortrain.Trainer, b *ortrain.Batch) float64 {
	t.Helper()
	loss, err := tr.EvalLoss(b)
	check(t, err)
	return loss
}

// prepare prepares a run on rows. The test closes it at its end.
func prepare(t *testing.T, kind modelcard.Kind, model, rows string, set func(c *config.Train)) (*finetune.Run, error) {
	t.Helper()
	r, err := openRun(t, kind, model, rows, set)
	if err == nil {
		t.Cleanup(func() { check(t, r.Close()) })
	}
	return r, err
}

func openRun(t *testing.T, kind modelcard.Kind, model, rows string, set func(c *config.Train)) (*finetune.Run, error) {
	t.Helper()
	t.Setenv("RAG_RETRIEVAL_HOME", t.TempDir())
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	check(t, os.WriteFile(path, []byte(rows), 0o600))
	c := config.DefaultTrain(kind)
	c.Model, c.TrainDataset, c.OutputDir = "testdata/"+model, config.List{path}, filepath.Join(t.TempDir(), "out")
	c.QueryMaxLen, c.PassageMaxLen, c.MaxLen, c.Threads, c.BatchSize = 9, 14, 17, 2, 4
	set(&c)
	return finetune.Prepare(t.Context(), c, newTask[kind], resolve.Resolver{}, "test")
}

// Settings and rows that make a loss constant are refused at the start, for every loss that compares passages.
func TestConstantLossIsRefused(t *testing.T) {
	pair := `{"query":"a","pos":"b"}` + "\n" + `{"query":"c","pos":"d"}` + "\n"
	scored := `{"query":"a","pos":["b"],"scores":[1]}` + "\n" + `{"query":"c","pos":["d"],"scores":[0]}` + "\n"
	for _, c := range []struct {
		name, model, rows, want string
		kind                    modelcard.Kind
		set                     func(c *config.Train)
	}{
		{"infonce, a batch of one", "bert", pair, "batch_size is 1, want at least 2: loss_type infonce", modelcard.Embedding, func(c *config.Train) { c.BatchSize = 1 }},
		{"contrastive, a batch of one", "bert", pair, "batch_size is 1, want at least 2: loss_type contrastive", modelcard.ColBERT, func(c *config.Train) { c.BatchSize = 1 }},
		{"pair_kl, a batch of one", "bert", scored, "batch_size is 1, want at least 2: loss_type pair_kl", modelcard.Embedding, func(c *config.Train) { c.BatchSize, c.LossType = 1, "pair_kl" }},
		{"cosent, a batch of one", "bert", scored, "batch_size is 1, want at least 2: loss_type cosent", modelcard.Embedding, func(c *config.Train) { c.BatchSize, c.LossType = 1, "cosent" }},
		{"an epoch of one", "bert", pair, "has one example, want at least 2", modelcard.Embedding, func(c *config.Train) { c.Weights = config.Floats{0.5} }},
		{"an epoch of none", "bert", pair, "the weight 0.1 leaves none of its 2 examples", modelcard.Embedding, func(c *config.Train) { c.Weights = config.Floats{0.1} }},
		{"kl, equal passages", "bert", `{"query":"a","pos":["b","b"],"scores":[1,0]}`, "rows.jsonl:1: its passages are all equal", modelcard.ColBERT, func(c *config.Train) { c.LossType = "kl" }},
		{"listwise_ce, a group of one", "bert-reranker", `{"query":"a","hits":[{"content":"b","label":1}]}`, "rows.jsonl:1: it has one passage", modelcard.Reranker, func(c *config.Train) { c.LossType = "listwise_ce" }},
		{"pairwise_ranknet, equal labels", "bert-reranker", `{"query":"a","hits":[{"content":"b","label":1},{"content":"c","label":1}]}`, "rows.jsonl:1: its labels are all 1", modelcard.Reranker, func(c *config.Train) { c.LossType = "pairwise_ranknet" }},
		{"pairwise_ranknet, equal passages", "bert-reranker", `{"query":"a","hits":[{"content":"b","label":1},{"content":"b","label":0}]}`, "rows.jsonl:1: its passages are all equal", modelcard.Reranker, func(c *config.Train) { c.LossType = "pairwise_ranknet" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := prepare(t, c.kind, c.model, c.rows, c.set); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// Rows of another type than the configuration names are an error, for training and for validation.
func TestDatasetTypes(t *testing.T) {
	grouped := `{"query":"a","hits":[{"content":"b","label":1},{"content":"c","label":0}]}` + "\n"
	labeled := `{"query":"a","content":"b","label":1}` + "\n" + `{"query":"a","content":"c","label":0}` + "\n"
	for _, c := range []struct {
		rows, want string
		set        func(c *config.Train)
	}{
		{grouped, "rows.jsonl:1: train_dataset_type wants rows of", func(c *config.Train) { c.TrainDatasetType = "pointwise" }},
		{labeled, "rows.jsonl:1: train_dataset_type wants rows of", func(c *config.Train) { c.TrainDatasetType = "grouped" }},
		{labeled, "val_dataset: ", func(c *config.Train) { c.ValDatasetType, c.ValDataset = "grouped", c.TrainDataset }},
		{labeled, `val_dataset: `, func(c *config.Train) { c.ValLabelKey, c.ValDataset = "score", c.TrainDataset }},
		{grouped, "but train_dataset_type is pointwise: want grouped", func(c *config.Train) { c.TrainDatasetType, c.LossType = "pointwise", "listwise_ce" }},
		{labeled, "", func(c *config.Train) { c.ValDatasetType, c.ValDataset = "pointwise", c.TrainDataset }},
	} {
		_, err := prepare(t, modelcard.Reranker, "bert-reranker", c.rows, c.set)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// Fields of the rows that the loss ignores are named in the notes.
func TestIgnoredFieldsAreReported(t *testing.T) {
	scored := `{"query":"a","pos":["b"],"neg":["x"],"scores":[1]}` + "\n" + `{"query":"c","pos":["d"],"scores":[0]}` + "\n"
	for want, set := range map[string]func(c *config.Train){
		"loss_type: infonce ignores the rows' \"scores\"; other losses use them|neg_nums: with 0 the rows' \"neg\" is ignored": func(*config.Train) {},
		"": func(c *config.Train) { c.LossType = "pair_kl" },
	} {
		r, err := prepare(t, modelcard.Embedding, "bert", scored, set)
		check(t, err)
		if got := strings.Join(r.Notes, "|"); got != want {
			t.Errorf("said %q, want %q", got, want)
		}
	}
}

// Settings without an effect, layers that start at random and negatives that are repeated are named in the notes, once each.
func TestNotesOfSettings(t *testing.T) {
	rows := `{"query":"a","pos":"b","neg":["x","y"]}` + "\n" + `{"query":"c","pos":["d","e"],"neg":["z"]}` + "\n" + `{"query":"f","pos":"g","neg":"h"}` + "\n"
	taught := `{"query":"a","pos":["b"],"neg":["x"],"scores":[1]}` + "\n" + `{"query":"c","pos":["d"],"neg":["x"],"scores":[0]}` + "\n"
	for _, c := range []struct {
		rows, want string
		set        func(c *config.Train)
	}{
		{rows, "", func(c *config.Train) { c.NegNums = 1 }},
		{rows, "neg_nums: 2 rows have fewer than 2 negatives, so these are repeated; the first: rows.jsonl:2 has 1", func(c *config.Train) { c.NegNums = 2 }},
		{rows, "neg_nums: 3 rows have fewer than 9 negatives, so these are repeated; the first: rows.jsonl:1 has 2", func(c *config.Train) { c.NegNums = 9 }},
		{taught, "", func(c *config.Train) { c.NegNums, c.LossType = 9, "cosent" }},
		{rows, "mrl_dims: without use_mrl they have no effect", func(c *config.Train) { c.NegNums, c.MRLDims = 1, config.Ints{8, 99} }},
		{rows, "", func(c *config.Train) { c.NegNums, c.UseMRL, c.MRLDims = 1, true, config.Ints{8, 24} }},
		{
			rows, "mrl_dims: the base model's vectors have 24 numbers: a dense layer from 24 to 32 starts at random",
			func(c *config.Train) { c.NegNums, c.UseMRL, c.MRLDims = 1, true, config.Ints{8, 32} },
		},
	} {
		r, err := prepare(t, modelcard.Embedding, "bert", c.rows, c.set)
		check(t, err)
		folder := filepath.Dir(r.Config.TrainDataset[0]) + string(filepath.Separator)
		if got := strings.ReplaceAll(strings.Join(r.Notes, "|"), folder, ""); got != c.want {
			t.Errorf("said %q, want %q", got, c.want)
		}
	}
}

// A teacher has one vector for each training row; another number is refused before training. It has none for validation
// rows, whose loss is therefore not known.
func TestTeacherAndRows(t *testing.T) {
	teacher := filepath.Join(t.TempDir(), "t.f32")
	check(t, os.WriteFile(teacher, []byte(strings.Repeat("\x00\x00\x80\x3f", 3*20)), 0o600))
	set := func(c *config.Train) {
		c.LossType, c.Teacher, c.TeacherDim = "stella", teacher, 20
		c.ValDataset = config.List{filepath.Join(t.TempDir(), "val.jsonl")}
		check(t, os.WriteFile(c.ValDataset[0], []byte(`{"query":"a","pos":"b","neg":"c"}`), 0o600))
	}
	two := `{"query":"a"}` + "\n" + `{"text":"b"}` + "\n"
	if _, err := prepare(t, modelcard.Embedding, "bert-dense", two, set); err == nil || !strings.Contains(err.Error(), "t.f32 has 3 vectors of teacher_embedding_dim 20, but ") || !strings.Contains(err.Error(), "rows.jsonl has 2 rows") {
		t.Errorf("%v", err)
	}
	r, err := prepare(t, modelcard.Embedding, "bert-dense", two+`{"text":"c"}`, set)
	check(t, err)
	check(t, r.Start(func(err error) { t.Error(err) }))
	var told []finetune.Validation
	check(t, r.Train(t.Context(), func(v finetune.Validation) error { told = append(told, v); return nil }))
	if len(told) != 2 || !told[0].NoLoss || told[0].LossText() != "unknown" || told[1].MAP == 0 {
		t.Errorf("%+v", told)
	}
}

// Another group size or another type of rows needs another index of a file's examples.
func TestIndexKnowsTheGroups(t *testing.T) {
	home, path := t.TempDir(), filepath.Join(t.TempDir(), "rows.jsonl")
	check(t, os.WriteFile(path, []byte(`{"query":"a","hits":[{"content":"b","label":1},{"content":"c","label":0},{"content":"d","label":0}]}`), 0o600))
	for _, c := range []struct {
		size, groups int
		rows, wrong  string
	}{{2, 2, "", ""}, {3, 1, "", ""}, {2, 2, "grouped", ""}, {2, 2, "pointwise", "train_dataset_type is pointwise"}} {
		r, err := openRun(t, modelcard.Reranker, "bert-reranker", "", func(x *config.Train) {
			t.Setenv("RAG_RETRIEVAL_HOME", home)
			x.LossType, x.GroupSize, x.TrainDataset, x.TrainDatasetType = "listwise_ce", c.size, config.List{path}, c.rows
		})
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		check(t, err)
		if r.Data.Len() != c.groups {
			t.Errorf("groups of %d: %d of them, want %d", c.size, r.Data.Len(), c.groups)
		}
		check(t, r.Close())
	}
}

// A stopped run with groups and shuffled passages continues to the same parameters.
func TestGroupsResume(t *testing.T) {
	var rows strings.Builder
	for i := range 6 {
		var hits []string
		for k := range 5 {
			hits = append(hits, fmt.Sprintf(`{"content":"%s %d","label":%d}`, strings.Repeat("密码 abc ", 20), k, (k+i)%3))
		}
		fmt.Fprintf(&rows, `{"query":"q%d","hits":[%s]}`+"\n", i, strings.Join(hits, ","))
	}
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	check(t, os.WriteFile(path, []byte(rows.String()), 0o600))
	run := func(out string, cancelAt int, resume bool) []float32 {
		t.Helper()
		r, err := openRun(t, modelcard.Reranker, "bert-reranker", "", func(c *config.Train) {
			c.LossType, c.GroupSize, c.ShuffleRate, c.Epochs, c.OutputDir, c.TrainDataset = "listwise_ce", 2, 0.5, 2, out, config.List{path}
		})
		check(t, err)
		if r.Data.Len() != 18 || r.Steps != 10 { // ceil(5/2) groups of each of 6 rows, four a batch
			t.Fatalf("%d groups, %d steps", r.Data.Len(), r.Steps)
		}
		if resume {
			check(t, r.Resume(func(err error) { t.Error(err) }))
		} else {
			check(t, r.Start(func(err error) { t.Error(err) }))
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err = r.Train(ctx, nil, at{cancelAt, cancel})
		if cancelAt > 0 != errors.Is(err, ortrain.ErrInterrupted) {
			t.Fatal(err)
		}
		p, err := r.Trainer.Parameters()
		check(t, err)
		p = slices.Clone(p)
		check(t, r.Close())
		return p
	}
	want := run(filepath.Join(t.TempDir(), "whole"), 0, false)
	stopped := filepath.Join(t.TempDir(), "stopped")
	run(stopped, 7, false)
	if got := run(stopped, 0, true); !slices.Equal(got, want) {
		t.Error("the parameters differ")
	}
}

// at is a hook that ends a run at a step.
type at struct {
	step int
	end  func()
}

func (a at) OnStart(*ortrain.Trainer) error { return nil }

func (a at) OnStep(_ *ortrain.Trainer, s ortrain.Step) error {
	if s.Step == a.step {
		a.end()
	}
	return nil
}

func (a at) OnEnd(*ortrain.Trainer, error) error { return nil }
