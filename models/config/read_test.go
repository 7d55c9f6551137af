package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/precision"
)

// read reads a YAML text into a kind's default configuration.
func read(t *testing.T, kind modelcard.Kind, text string) (c Train, left []string, path string, err error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c = DefaultTrain(kind)
	left, err = c.Read(path)
	return c, left, path, err
}

// Keys without a meaning here are ignored, whatever their value is. The other keys keep their values.
func TestReadLeavesOut(t *testing.T) {
	c, left, _, err := read(t, modelcard.Embedding, `
train_dataset: a.jsonl
log_with:
  - wandb
  - tensorboard
num_workers: {train: 8,
  val: 2}
"device": 'cpu'   # quoted
project_name: |
  lr: 7
  more
lr: 1e-4
mixed_precision:
`)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.TrainDataset, List{"a.jsonl"}) || c.LR != 1e-4 || c.MixedPrecision != precision.Auto {
		t.Errorf("train_dataset %v, lr %g, mixed_precision %q", c.TrainDataset, c.LR, c.MixedPrecision)
	}
	if len(left) != 4 || !strings.HasPrefix(left[0], "log_with: ") || !strings.HasPrefix(left[2], "device: ") {
		t.Errorf("left out: %q", left)
	}
}

// Read knows RAG-Retrieval's names of keys, lists in both styles, and anchors.
func TestReadRenames(t *testing.T) {
	c, left, _, err := read(t, modelcard.Embedding, `
train_type: distill
dataset: [a.jsonl, &b b.jsonl]
val_dataset:
  - *b
train_dataset_vec : "../t.mmap"
teacher_emebedding_dim: 3584
mrl_dims: "256, 512"
save_on_epoch_end: 1
seed: 7
`)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultTrain(modelcard.Embedding)
	want.LossType, want.Teacher, want.TeacherDim, want.MRLDims = "stella", "../t.mmap", 3584, Ints{256, 512}
	want.TrainDataset, want.ValDataset, want.SaveOnEpochEnd, want.Seed = List{"a.jsonl", "b.jsonl"}, List{"b.jsonl"}, 1, 7
	if !reflect.DeepEqual(c, want) || left != nil {
		t.Errorf("%+v, left out %q", c, left)
	}
}

// Errors have file and line.
func TestReadErrors(t *testing.T) {
	for text, want := range map[string]string{
		"lr: 1\nlog_with: [a]\nlearning_rate: 1\n":        `:3: learning_rate is not a known key; train embedding --help`,
		"lr: 1\nlog_with:\n  - a\n  - b\nlr: 2\n":         `:5: `,
		"teacher_embeddings: a\n\ntrain_dataset_vec: b\n": `:3: train_dataset_vec: teacher_embeddings was given before`,
		"lr: [1, 2]\n":                              `:1: lr: found "[1, 2]", want a number`,
		"epochs: two\n":                             `:1: epochs: found "two", want a whole number`,
		"shuffle: yes\n":                            `:1: shuffle: found "yes", want true or false`,
		"seed: -1\n":                                `:1: seed: found "-1", want a whole number of at least 0`,
		"train_dataset: [a, [b]]\n":                 `:1: train_dataset: found "[a, [b]]", want a text or a list of texts`,
		"loss_type: {a: 1}\n":                       `:1: loss_type: found "{a: 1}", want a text`,
		"mrl_dims: {\n  a: 1,\n  b: 2}\n":           `:1: mrl_dims: found "{`,
		"kind: reranker\nmodel_type: decoder\n":     `:2: model_type is "decoder", want bert_encoder or llm_decoder`,
		"num_labels: 2\n":                           `:1: num_labels is "2"`,
		"train_type: both\n":                        `:1: train_type is "both", want train or distill`,
		"train_type: distill\nloss_type: infonce\n": `:2: loss_type: loss_type was given before`,
		"- a\n- b\n":                                `:1: want keys with values`,
		"lr: 1\n---\nlr: 2\n":                       `:3: want one document`,
		"lr: 1\n2: 3\n":                             `:2: 2 is not a known key`,
		"null: 3\n":                                 `:1: null is not a known key`,
		"<<: {lr: 1}\n":                             `:1: << is not a known key`,
		"lr: \"1\n":                                 `:1: `,
		"mrl_dims: \"8,x\"\n":                       `:1: `,
	} {
		_, _, path, err := read(t, modelcard.Embedding, text)
		if err == nil || !strings.HasPrefix(err.Error(), path+want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		if c, _, _, err := read(t, modelcard.ColBERT, text); err != nil || !reflect.DeepEqual(c, DefaultTrain(modelcard.ColBERT)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A key of another kind is ignored and named in the notes. The configuration that a run has written is read without notes.
func TestReadOtherKinds(t *testing.T) {
	c, left, _, err := read(t, modelcard.Embedding, "shuffle_rate: 0.5\nmax_len: 64\nmin_label: 0\n")
	if err != nil || !reflect.DeepEqual(left, []string{"max_len: it is for reranker", "shuffle_rate: it is for reranker"}) {
		t.Errorf("%q, %v", left, err)
	}
	if !reflect.DeepEqual(c, DefaultTrain(modelcard.Embedding)) {
		t.Errorf("what was said to be left out stayed: %+v", c)
	}
	for _, kind := range modelcard.Kinds {
		c := DefaultTrain(kind)
		c.TrainDataset = List{"a"}
		if kind == modelcard.Reranker { // white space that a YAML writer may lose
			c.Seq, c.SpecialToken = "\n", "\nrelevance "
		}
		b, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, left, _, err := read(t, kind, string(b))
		if err != nil || left != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%s: %+v, %q, %v", kind, again, left, err)
		}
	}
}

// A file may begin with a byte order mark, also for ReadKind.
func TestReadKind(t *testing.T) {
	for text, want := range map[string]string{
		byteOrderMark + "kind: reranker\nlr: 1e-4\n": "", "lr: 1e-4\nkind: &k reranker\n": "",
		"lr: 1\n": `: kind is "", want one of`, "": `: kind is "", want one of`, "\nkind: [a]\n": `:2: kind: found "[a]", want a text`,
		"kind: [a\n": `:1: `, "- a\n": `:1: want keys with values`,
	} {
		_, _, path, readErr := read(t, modelcard.Reranker, text)
		kind, err := ReadKind(path)
		if want == "" && (err != nil || kind != modelcard.Reranker || readErr != nil) || want != "" && (err == nil || !strings.HasPrefix(err.Error(), path+want)) {
			t.Errorf("%q: %q, %v, %v; want %s", text, kind, err, readErr, want)
		}
	}
}
