package finetune_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/runtime"
)

// cells is the table of architectures and kinds: TestArchitectures checks of each that training in chunks and with
// recomputed layers gives the same gradients, that steps lower the loss, that the saved folder and its model.onnx score as
// the trainer does, that int8 scores are close, and, of a folder that a Python peer wrote, that its scores are the peer's.
// TestPlacement and TestOperators place each on CUDA. A new architecture is a line here.
//
// What stands behind each architecture and kind beside it:
//
//	hidden states and their gradients   models/encoder    TestArchitecturesEqualTransformers, TestHiddenStates
//	logits and their gradients          models/reranker   TestClassifiersEqualTransformers, TestClassifierGradientsEqualTorchs
//	every loss and all gradients        here              TestGradients, TestChunksEqualThePlainBatch, TestChunksDropTheSame
//	ten losses, also of 16 bits         here              TestTenLosses, TestMixedPrecision
//	places on CUDA                      here              TestOperators; with scripts/cuda/fake.sh TestPlacement, TestScoringPlacement
//	whole folders, larger and trained   by hand           scripts/fixtures/check_folders.py
var cells = []struct {
	folder string
	kinds  []modelcard.Kind
}{
	{"testdata/bert", []modelcard.Kind{modelcard.Embedding, modelcard.ColBERT}}, {"testdata/bert-reranker", []modelcard.Kind{modelcard.Reranker}},
	{"testdata/xlmr", []modelcard.Kind{modelcard.Embedding, modelcard.ColBERT}}, {"testdata/xlmr-reranker", []modelcard.Kind{modelcard.Reranker}},
	{"testdata/electra-reranker", []modelcard.Kind{modelcard.Embedding, modelcard.ColBERT, modelcard.Reranker}},
	{"testdata/distilbert-reranker", []modelcard.Kind{modelcard.Embedding, modelcard.ColBERT, modelcard.Reranker}},
	{"testdata/folders/modernbert-embedding", []modelcard.Kind{modelcard.Embedding, modelcard.ColBERT, modelcard.Reranker}},
	{"testdata/folders/modernbert-colbert", []modelcard.Kind{modelcard.ColBERT}}, {"testdata/folders/modernbert-colbert-pylate", []modelcard.Kind{modelcard.ColBERT}},
	{"testdata/folders/modernbert-reranker", []modelcard.Kind{modelcard.Reranker}},
	{"../encoder/testdata/modernbert-bias", []modelcard.Kind{modelcard.Embedding}}, {"../encoder/testdata/modernbert-reranker-mean", []modelcard.Kind{modelcard.Reranker}},
	{"testdata/folders/qwen3-embedding", []modelcard.Kind{modelcard.Embedding, modelcard.ColBERT, modelcard.Reranker}},
	{"testdata/folders/qwen3-colbert", []modelcard.Kind{modelcard.ColBERT}}, {"testdata/folders/qwen3-colbert-pylate", []modelcard.Kind{modelcard.ColBERT}},
	{"testdata/folders/qwen3-reranker", []modelcard.Kind{modelcard.Reranker}}, {"testdata/folders/qwen3-reranker-causal", []modelcard.Kind{modelcard.Reranker}},
	{"../encoder/testdata/qwen3-options", []modelcard.Kind{modelcard.Embedding}},
	{"../encoder/testdata/gte-reranker", []modelcard.Kind{modelcard.Embedding, modelcard.Reranker}}, {"../encoder/testdata/nomicbert-reranker", []modelcard.Kind{modelcard.ColBERT}},
	{"../encoder/testdata/eurobert-reranker", []modelcard.Kind{modelcard.Reranker}}, {"../encoder/testdata/llama-reranker", []modelcard.Kind{modelcard.Reranker}},
	{"../encoder/testdata/gemma3-reranker", []modelcard.Kind{modelcard.Embedding}},
}

// Every architecture works as a model of each kind, see cells.
func TestArchitectures(t *testing.T) {
	seen := map[string]bool{}
	for _, x := range cells {
		enc, err := encoder.LoadConfig(x.folder)
		check(t, err)
		seen[enc.ModelType] = true
		for _, kind := range x.kinds {
			t.Run(fmt.Sprint(filepath.Base(x.folder), " ", kind), func(t *testing.T) {
				f := cellFixture(x.folder, kind, enc)
				task, tr := f.trainer(t, variant{groups: 1, precision: "no"})
				loss, want, err := tr.Gradients(f.batch(t, task, -1)...)
				check(t, err)
				f.sameGradients(t, "chunks", variant{groups: 2, chunkTokens: 12, precision: "no"}, loss, want)
				f.sameGradients(t, "recomputed layers", variant{groups: 3, checkpointing: true, precision: "no"}, loss, want)
				f.lowersLoss(t, tr, f.batch(t, task, -1), loss)
				trained, err := task.Score(context.Background(), tr, nil, cellSamples)
				check(t, err)
				parameters, err := tr.Parameters()
				check(t, err)
				dir := filepath.Join(t.TempDir(), "model")
				check(t, task.Save(dir, modelcard.Card{QueryMaxLen: f.cfg.QueryMaxLen, PassageMaxLen: f.cfg.PassageMaxLen, MaxLen: f.cfg.MaxLen}, tr.Layout(), parameters))
				near(t, "the saved folder, and the trainer", 1e-5, ownScores(t, dir, retriever.Options{Kind: kind}, cellSamples), trained)
				near(t, "int8, and fp32", 0.1, ownScores(t, dir, retriever.Options{Kind: kind, Int8: true}, cellSamples), trained)
				if is, err := modelcard.Detect(x.folder); err != nil || kind != modelcard.ColBERT || is != kind { // others have markers, expansions and words that do not count
					near(t, "model.onnx, and the trainer", 1e-5, exportedScores(t, kind, dir), trained)
				}
				comparePeer(t, x.folder, kind)
			})
		}
	}
	for _, name := range []string{"bert", "xlm-roberta", "electra", "distilbert", "modernbert", "qwen3", "new", "nomic_bert", "eurobert", "llama", "gemma3_text"} {
		if !seen[name] {
			t.Errorf("%s is not in the table", name)
		}
	}
}

// cellFixtures are the cells in a form that is trained, each in two of the variants that a test has.
func cellFixtures(t *testing.T) (out []fixture) {
	t.Helper()
	for _, x := range cells {
		enc, err := encoder.LoadConfig(x.folder)
		check(t, err)
		for _, kind := range x.kinds {
			f := cellFixture(x.folder, kind, enc)
			f.name, f.number, f.sampled = fmt.Sprint("cell ", f.name, " ", kind), len(out), true
			out = append(out, f)
		}
	}
	return out
}

// cellSamples are of few tokens by every tokenizer, so that nothing is cut.
var cellSamples = []mteb.Sample{
	{Query: []string{"ab"}, Positive: []string{"cd e"}, Negative: []string{"x", "it is a"}}, {Query: []string{"如何"}, Positive: []string{"天"}},
}

// cellFixture trains a folder on rows of its own.
func cellFixture(folder string, kind modelcard.Kind, enc encoder.Config) fixture {
	var rows []data.Row
	for _, x := range [][3]string{{"reset password", "the reset page", "rain"}, {"weather", "rain tomorrow", "login"}, {"apple", "a fruit", "market"}} {
		rows = append(rows, data.Row{Query: &x[0], Pos: jsonl.Strings{x[1]}, Neg: jsonl.Strings{x[2]}})
	}
	f := fixture{name: filepath.Base(folder), cfg: config.DefaultTrain(kind), rows: rows, losses: make([]float64, 6)}
	f.cfg.Model, f.cfg.ColBERTDim, f.cfg.LR, f.cfg.Dropout, f.cfg.Threads = folder, 8, 3e-3, 0, 2
	f.cfg.QueryMaxLen, f.cfg.PassageMaxLen, f.cfg.BatchSize = min(120, enc.MaxLength()), min(50, enc.MaxLength()), len(rows)
	if kind == modelcard.Reranker {
		f.cfg.MaxLen, f.cfg.LossType = min(400, enc.MaxLength()), "listwise_ce"
	}
	return f
}

// sameGradients checks that the variant changes neither the loss nor a gradient.
func (f fixture) sameGradients(t *testing.T, what string, v variant, loss float64, want []float32) {
	t.Helper()
	task, tr := f.trainer(t, v)
	again, got, err := tr.Gradients(f.batch(t, task, -1)...)
	check(t, err)
	if math.Abs(again-loss) > 1e-5*math.Abs(loss) {
		t.Errorf("%s: loss %g, want %g", what, again, loss)
	}
	bound := 1e-4 * largest(want)
	for i, x := range want {
		if !(math.Abs(float64(got[i]-x)) <= bound) {
			t.Fatalf("%s: gradient %d is %g, want %g", what, i, got[i], x)
		}
	}
}

// lowersLoss trains on one batch.
func (f fixture) lowersLoss(t *testing.T, tr *ortrain.Trainer, batch []*ortrain.Batch, loss float64) {
	t.Helper()
	var last float64
	for range len(f.losses) {
		s, err := tr.Step(batch)
		check(t, err)
		last = s.Loss
	}
	if last >= loss {
		t.Errorf("the loss was %g and is %g", loss, last)
	}
}

// near holds scores to within a bound, relative to the scores where they are above one.
func near(t *testing.T, what string, bound float64, got, want [][]float32) {
	t.Helper()
	for i := range want {
		for j, x := range want[i] {
			if d := math.Abs(float64(got[i][j] - x)); !(d <= bound*math.Max(1, math.Abs(float64(x)))) {
				t.Errorf("%s: sample %d, candidate %d: %g, want %g", what, i, j, got[i][j], x)
			}
		}
	}
}

// ownScores scores with a folder, or an .onnx file in one, at its own lengths.
func ownScores(t *testing.T, ref string, o retriever.Options, samples []mteb.Sample) [][]float32 {
	t.Helper()
	o.Threads = 1
	m, err := retriever.Open(context.Background(), ref, o)
	check(t, err)
	out, err := mteb.ScoreAll(context.Background(), retriever.SampleScorer{Ranker: m}, samples)
	check(t, errors.Join(err, m.Close()))
	return out
}

// exportedScores scores with a folder's model.onnx alone.
func exportedScores(t *testing.T, kind modelcard.Kind, folder string) [][]float32 {
	t.Helper()
	path := filepath.Join(folder, "model.onnx")
	if kind == modelcard.ColBERT {
		return exportedMaxSim(t, folder, path)
	}
	return ownScores(t, path, retriever.Options{Kind: kind}, cellSamples)
}

// exportedMaxSim is RAG-Retrieval's score of a ColBERT model's exported token vectors: the mean over a query's tokens of the
// largest product with a passage's token. [CLS] does not count.
func exportedMaxSim(t *testing.T, folder, path string) (out [][]float32) {
	t.Helper()
	tok, err := tokenizer.Open(folder)
	check(t, err)
	defer tok.Close()
	var names []string
	f, err := runtime.OpenFile(path, runtime.Options{Threads: 1}, func(inputs, _ []runtime.Port) ([]string, string, error) {
		for _, in := range inputs {
			names = append(names, in.Name)
		}
		return names, "token_embeddings", nil
	})
	check(t, err)
	defer f.Close()
	first := 0
	if _, _, ok := tok.First(); ok {
		first = 1
	}
	vectors := func(text string) (tokens [][]float32) {
		const padding = 3
		ids := tok.Encode(text, 1000)
		inputs := make([][]int64, len(names))
		for k, name := range names {
			inputs[k] = make([]int64, len(ids)+padding)
			for i, id := range ids {
				inputs[k][i] = map[string]int64{"input_ids": id, "attention_mask": 1}[name]
			}
		}
		values, shape, err := f.Run(inputs, 1, int64(len(ids)+padding))
		check(t, err)
		width := int(shape[2])
		for i := first; i < len(ids); i++ {
			tokens = append(tokens, values[i*width:(i+1)*width])
		}
		return tokens
	}
	for _, s := range cellSamples {
		var scores []float32
		for _, text := range slices.Concat(s.Positive, s.Negative) {
			passage, sum := vectors(text), 0.0
			queries := vectors(s.Query[0])
			for _, q := range queries {
				best := math.Inf(-1)
				for _, p := range passage {
					product := 0.0
					for i := range q {
						product += float64(q[i]) * float64(p[i])
					}
					best = math.Max(best, product)
				}
				sum += best
			}
			scores = append(scores, float32(sum/float64(len(queries))))
		}
		out = append(out, scores)
	}
	return out
}

// comparePeer holds a folder's scores to those that scripts/fixtures/make_folders.py wrote beside it with its Python peer:
// SentenceTransformer, MultiVectorEncoder or CrossEncoder.
func comparePeer(t *testing.T, folder string, kind modelcard.Kind) {
	t.Helper()
	var peer struct {
		Kind      modelcard.Kind
		Queries   []string
		Documents []string
		Scores    [][]float32
	}
	b, err := os.ReadFile(filepath.Join(folder, "scores.json"))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	check(t, err)
	check(t, json.Unmarshal(b, &peer))
	if peer.Kind != kind {
		return
	}
	var samples []mteb.Sample
	for _, q := range peer.Queries {
		samples = append(samples, mteb.Sample{Query: []string{q}, Positive: peer.Documents[:1], Negative: peer.Documents[1:]})
	}
	near(t, "the peer's folder, and the peer", 1e-5, ownScores(t, folder, retriever.Options{Kind: kind}, samples), peer.Scores)
}
