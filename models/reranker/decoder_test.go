package reranker

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/runtime"
)

// decoderCase is a case of testdata/llm_decoder.json, which RAG-Retrieval's own code made: see
// scripts/fixtures/make_llm_decoder.py.
type decoderCase struct {
	Query    string `json:"query_format"`
	Document string `json:"document_format"`
	Seq      string `json:"seq"`
	Special  string `json:"special_token"`
	MaxLen   int    `json:"max_len"`
	Pad      int64  `json:"pad_token_id"`
	Rows     []struct {
		Query, Passage string
		IDs            []int64
		Score          float64
	}
}

func decoderCases(t *testing.T) []decoderCase {
	t.Helper()
	b, err := os.ReadFile("testdata/llm_decoder.json")
	check(t, err)
	var file struct{ Cases []decoderCase }
	check(t, json.Unmarshal(b, &file))
	return file.Cases
}

// settings are the case as a configuration of a run that starts from dir.
func (c decoderCase) settings(dir string) config.Train {
	cfg := config.DefaultTrain(modelcard.Reranker)
	cfg.Model, cfg.MaxLen = dir, c.MaxLen
	cfg.QueryFormat, cfg.DocumentFormat, cfg.Seq, cfg.SpecialToken = c.Query, c.Document, c.Seq, c.Special
	return cfg
}

// decoderFolder is the fixture's model without a padding token in its config, as Qwen3's own files are.
func decoderFolder(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(fixtures + "qwen3-reranker/config.json")
	check(t, err)
	return encodertest.Folder(t, fixtures+"qwen3-reranker", map[string]string{
		"config.json": strings.Replace(string(b), `"pad_token_id": 297`, `"pad_token_id": null`, 1),
	})
}

// Of RAG-Retrieval's llm_decoder, inputs and scores are the original's: in training, in the folder that is saved, and in
// what opens it again.
func TestDecodersEqualTheOriginals(t *testing.T) {
	for _, c := range decoderCases(t) {
		dir := decoderFolder(t)
		task, err := NewTask(c.settings(dir))
		check(t, err)
		m := task.(*Task).m
		saved := filepath.Join(t.TempDir(), "saved")
		layout, err := flat.NewLayout(m.Params())
		check(t, err)
		buffer := make([]float32, layout.Total)
		check(t, m.Fill(hf.Buffer{Layout: layout, Data: buffer}))
		check(t, task.Save(saved, modelcard.Card{BaseModel: "x"}, layout, buffer))
		again, err := Open(saved)
		check(t, err)
		if again.MaxLen != c.MaxLen || again.Formats != m.Formats {
			t.Errorf("%+v: saved with %d tokens and %+v", c, again.MaxLen, again.Formats)
		}
		for what, m := range map[string]*Model{"in training": m, "saved": again} {
			if m.head.pad == nil || *m.head.pad != c.Pad {
				t.Errorf("%s: the padding token is %v, want %d", what, m.head.pad, c.Pad)
			}
			var pairs []scoring.Pair
			for _, r := range c.Rows {
				p := scoring.Pair{Query: r.Query, Passage: r.Passage}
				pairs = append(pairs, p)
				row, err := m.Pair(p, c.MaxLen)
				check(t, err)
				if !slices.Equal(row.IDs, r.IDs) {
					t.Errorf("%s, %q %q: %q and %q read\n%v, want\n%v", what, c.Seq, c.Special, r.Query, r.Passage, row.IDs, r.IDs)
				}
			}
			s, err := NewScorer(m, scoring.Options{Options: runtime.Options{Threads: 1}})
			check(t, err)
			scores := logits(t, s, pairs, c.MaxLen)
			check(t, s.Close())
			for i, r := range c.Rows {
				if d := math.Abs(float64(scores[i]) - r.Score); !(d <= 1e-5) {
					t.Errorf("%s, %q %q: %q and %q score %g, want %g", what, c.Seq, c.Special, r.Query, r.Passage, scores[i], r.Score)
				}
			}
		}
		check(t, again.Close())
		check(t, task.(*Task).Close())
	}
}

// A decoder's folder tells transformers and the original which token pads. A query that leaves no room is cut, where the
// original fails, and the special token stays; windows of a long passage each have it.
func TestDecoderFoldersAndLongTexts(t *testing.T) {
	c := decoderCases(t)[0]
	task, err := NewTask(c.settings(decoderFolder(t)))
	check(t, err)
	defer task.(*Task).Close()
	m := task.(*Task).m
	end := m.Tokenizer.IDs(c.Special)
	row, err := m.Pair(scoring.Pair{Query: strings.Repeat("reset ", 40), Passage: "a page"}, 40)
	check(t, err)
	if len(row.IDs) != 40 || !slices.Equal(row.IDs[40-len(end):], end) {
		t.Errorf("a pair with a long query reads %v", row.IDs)
	}
	rows, err := m.rows(scoring.Pair{Query: "reset", Passage: strings.Repeat("the page ", 40)}, 60, 5, scoring.Windows)
	check(t, err)
	if len(rows) < 3 {
		t.Errorf("a long passage has %d windows", len(rows))
	}
	for _, r := range rows {
		if len(r.IDs) > 60 || !slices.Equal(r.IDs[len(r.IDs)-len(end):], end) {
			t.Errorf("a window reads %v", r.IDs)
		}
	}

	dir := t.TempDir()
	check(t, hf.CopyFiles(m.Dir, dir))
	check(t, m.writeConfig(dir))
	check(t, padWithEnd(dir))
	var config struct {
		Pad int64 `json:"pad_token_id"`
	}
	var tokenizer struct {
		Pad  string `json:"pad_token"`
		Side string `json:"padding_side"`
	}
	check(t, hf.ReadJSON(filepath.Join(dir, "config.json"), &config))
	check(t, hf.ReadJSON(filepath.Join(dir, "tokenizer_config.json"), &tokenizer))
	if config.Pad != c.Pad || tokenizer.Pad != "<|im_end|>" || tokenizer.Side != "right" {
		t.Errorf("saved with %+v and %+v", config, tokenizer)
	}
}

// Pairs of other models are laid out by their tokenizers alone.
func TestOnlyDecodersJoinPairs(t *testing.T) {
	c := decoderCases(t)[0]
	for _, dir := range []string{
		fixtures + "modernbert-reranker-cls",
		languageModel(t, "qwen3-causal", `{"true_token_id": 88, "false_token_id": 77}`, judgeTemplate),
	} {
		if _, err := NewTask(c.settings(dir)); err == nil || !strings.Contains(err.Error(), "seq and special_token stand in the pairs of decoders") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
