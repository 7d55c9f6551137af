package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Passages that are all equal leave a contrastive loss nothing to tell apart: that is said once, with a row's place.
func TestIdleBatchesAreNamedOnce(t *testing.T) {
	var b strings.Builder
	for i := range 16 {
		fmt.Fprintf(&b, `{"query": "the %c", "pos": "the er"}`+"\n", 'a'+i)
	}
	o := call(t, "", trainRun(write(t, "same.jsonl", b.String()), filepath.Join(t.TempDir(), "out"))...).ok(t)
	if strings.Count(o.stderr, "taught nothing") != 1 || !strings.Contains(o.stderr, "step 1: the batch with ") || !strings.Contains(o.stderr, "same.jsonl:") {
		t.Errorf("stderr: %s", o.stderr)
	}
}

// originalFolder copies RAG-Retrieval's folders and gives the one that its scripts of a kind start in, with vectors of a
// teacher for the eight texts of its distillation.
func originalFolder(t *testing.T, kind string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("testdata/original")); err != nil {
		t.Fatal(err)
	}
	var vectors bytes.Buffer
	for i := range 8 * 3584 {
		if err := binary.Write(&vectors, binary.LittleEndian, float32(math.Sin(float64(i*i%977)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "example_data/t2rank_100.embedding.conan.xiaobu.mmap"), vectors.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "rag_retrieval/train", kind)
}

// longDecoder is a small Qwen3 for texts as long as those of Qwen's own files.
func longDecoder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../models/encoder/testdata/qwen3")); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(dir, "config.json"), func(config string) string {
		return strings.Replace(config, `"max_position_embeddings": 64`, `"max_position_embeddings": 32768`, 1)
	})
	return dir
}

// fixture is the whole path of a small model.
func fixture(t *testing.T, name string) string {
	t.Helper()
	if filepath.IsAbs(name) {
		return name
	}
	path, err := filepath.Abs(fixtures + name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// callIn runs the program in a folder.
func callIn(t *testing.T, dir string, args ...string) output {
	t.Helper()
	c := program(nil, args...)
	var out, err bytes.Buffer
	c.Dir, c.Stdout, c.Stderr = dir, &out, &err
	_ = c.Run() // the exit code says it
	return output{c.ProcessState.ExitCode(), out.String(), err.String()}
}

// RAG-Retrieval's own configuration files train as they are, but for the size of the model, the lengths that fit it, and
// the number of steps, which flags override.
func TestOriginalFiles(t *testing.T) {
	for _, c := range []struct {
		name, kind, file, model string
		args, once, keys        []string
		edit                    func(yaml string) string
	}{
		{
			name: "embedding", kind: "embedding", file: "config/training_embedding.yaml", model: "bert",
			args: []string{"--query-max-len", "12", "--passage-max-len", "16"},
			once: []string{"log_with: ", "train_type: ", askedBF16()},
			keys: []string{"all_gather: true", "batch_size: 8", "gradient_accumulation_steps: 3", "neg_nums: 5", "seed: 666", "temperature: 0.02", "use_mrl: false", "save_on_epoch_end: 1", "num_max_checkpoints: 5", "query_max_len: 12"},
		},
		{
			name: "distill", kind: "embedding", file: "./config/distill_embedding.yaml", model: "bert",
			args: []string{"--query-max-len", "16", "--passage-max-len", "16"},
			once: []string{"log_with: ", askedBF16()},
			keys: []string{"loss_type: stella", "teacher_embedding_dim: 3584", "use_mrl: true", "shuffle: false", "gradient_checkpointing: true", "lr: 0.0001"},
		},
		{
			name: "grouped reranker", kind: "reranker", file: "config/training_bert.yaml", model: "bert-reranker",
			args: []string{"--max-len", "20"},
			once: []string{"log_with: ", "model_type: ", "num_labels: "},
			keys: []string{"loss_type: pairwise_ranknet", "train_dataset_type: grouped", "val_dataset_type: grouped", "train_group_size: 10", "stable_proportion: 0", "seed: 42", "max_len: 20", `query_format: "{}"`, `document_format: "{}"`},
		},
		{
			name: "point-wise reranker", kind: "reranker", file: "config/training_bert.yaml", model: "bert-reranker", edit: pointwise,
			args: []string{"--max-len", "20"},
			once: []string{"log_with: "},
			keys: []string{"loss_type: pointwise_bce", "train_dataset_type: pointwise", "max_label: 2"},
		},
		{
			name: "decoder", kind: "reranker", file: "config/training_llm.yaml", model: longDecoder(t), // max_len is the file's
			once: []string{"log_with: ", "model_type: ", "num_labels: ", askedBF16(), "the base model has no score yet"},
			keys: []string{
				"loss_type: pairwise_ranknet", "train_dataset_type: grouped", "train_group_size: 10", "max_len: 512", "stable_proportion: 0.5", "lr: 1e-05", "save_on_epoch_end: 0",
				`query_format: "query: {}"`, `document_format: "document: {}"`, `seq: "\n"`, `special_token: "\nrelevance"`,
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := originalFolder(t, c.kind)
			if c.edit != nil {
				edit(t, filepath.Join(dir, c.file), c.edit)
			}
			args := append([]string{"train", c.kind, "--config", c.file, "--model", fixture(t, c.model), "--max-steps", "3", "--threads", "2"}, c.args...)
			o := callIn(t, dir, args...).ok(t)
			out := strings.TrimSuffix(strings.TrimSpace(o.stdout), "/model")
			if !strings.HasPrefix(out, "output/") {
				t.Errorf("the model is in %s", o.stdout)
			}
			if _, err := os.Stat(filepath.Join(dir, out, "model", "model.safetensors")); err != nil {
				t.Error(err)
			}
			for _, want := range c.once {
				if strings.Count(o.stderr, want) != 1 {
					t.Errorf("%q is not once in: %s", want, o.stderr)
				}
			}
			saved, err := os.ReadFile(filepath.Join(dir, out, "config.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.keys {
				if !strings.Contains(string(saved), "\n"+want) {
					t.Errorf("%q is not in config.yaml: %s", want, saved)
				}
			}
			for i, loss := range readLosses(t, filepath.Join(dir, out)) {
				if !(loss > 0) {
					t.Errorf("step %d has the loss %g", i+1, loss)
				}
			}
			if metrics, err := os.ReadFile(filepath.Join(dir, out, "metrics.jsonl")); err != nil || strings.Contains(string(metrics), `"grad_norm":0,`) {
				t.Errorf("steps without a gradient: %s, %v", metrics, err)
			}
		})
	}
	o := callIn(t, originalFolder(t, "reranker"), "train", "reranker", "--config", "config/training_llm.yaml", "--model", fixture(t, "bert-reranker"), "--max-len", "20")
	if o.code == 0 || !strings.Contains(o.stderr, "seq and special_token stand in the pairs of decoders") || !strings.Contains(o.stderr, "not of BertForSequenceClassification") {
		t.Errorf("an encoder with a decoder's settings: %+v", o)
	}
}

// pointwise takes the comment signs of the reranker's point-wise keys away, and the grouped keys out.
func pointwise(yaml string) string {
	head, rest, _ := strings.Cut(yaml, "## Pointwise Dataset\n")
	block, rest, _ := strings.Cut(rest, "## Grouped Dataset\n")
	_, tail, _ := strings.Cut(rest, "# Training\n")
	return head + strings.ReplaceAll("\n"+block, "\n# ", "\n") + tail
}

// edit changes a file.
func edit(t *testing.T, path string, change func(string) string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(change(string(b))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// RAG-Retrieval's command line for ColBERT, which has no file, as its script has it.
func TestOriginalCommandLine(t *testing.T) {
	dir := originalFolder(t, "embedding")
	o := callIn(t, dir, "train", "colbert", "--model_name_or_path", fixture(t, "bert"), "--dataset", "../../../example_data/t2rank_100.jsonl",
		"--output_dir", "./output/t2ranking_100_example", "--batch_size", "4", "--lr", "5e-6", "--epochs", "2", "--save_on_epoch_end", "1",
		"--gradient_accumulation_steps", "12", "--temperature", "0.02", "--query_max_len=12", "--passage_max_len", "16",
		"--colbert_dim", "12", "--neg_nums", "15", "--log_with", "wandb", "--warmup_proportion", "0.1").ok(t)
	if !strings.Contains(o.stderr, "--log-with is not used here: ") {
		t.Errorf("stderr: %s", o.stderr)
	}
	checkpoints, err := filepath.Glob(filepath.Join(dir, "output/t2ranking_100_example/artifacts/checkpoint/*"))
	if err != nil || len(checkpoints) != 2 {
		t.Errorf("checkpoints %v: want one of each epoch", checkpoints)
	}
	for want, args := range map[string][]string{
		`model_type is "decoder"`: {"reranker", "--model_type", "decoder"},
		`num_labels is "3"`:       {"reranker", "--num_labels", "3"},
		"no flag --lr_up; see":    {"embedding", "--lr_up", "1"},
	} {
		callIn(t, dir, append([]string{"train"}, args...)...).fails(t, 2, want)
	}
}
