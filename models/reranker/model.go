// Package reranker implements rerankers, also called cross-encoders: query and passage are read in one sequence, which gives one
// score. It reads and writes transformers' AutoModelForSequenceClassification folders, builds the training graph with its losses and
// batches, and scores pairs.
package reranker

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/flat"
)

// Model is an open folder of a reranker: its config and tokenizer. Fill reads the weights.
type Model struct {
	Dir       string
	Encoder   encoder.Config
	Tokenizer *tokenizer.Tokenizer
	MaxLen    int            // tokens of a pair: the length that it was trained with, or that of its folder
	Formats   prompt.Formats // the prompts around texts
	head      head
}

// Open reads the folder of a reranker.
func Open(dir string) (*Model, error) {
	if err := modelcard.Check(dir, modelcard.Reranker); err != nil {
		return nil, withHint(dir, err)
	}
	m, err := OpenBase(dir)
	if err != nil {
		return nil, err
	}
	modules, err := hf.Modules(dir)
	if err == nil {
		err = hf.CheckModules(dir, modules, m.head.modules()...)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	c, ok, err := modelcard.Read(dir)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if ok && c.MaxLen > 0 {
		m.MaxLen = c.MaxLen
	}
	return m, nil
}

// withHint adds to an error about a language model's folder how it can be made a reranker.
func withHint(dir string, err error) error {
	var c struct {
		Architectures []string `json:"architectures"`
	}
	if hf.ReadJSON(filepath.Join(dir, "config.json"), &c) != nil || !slices.ContainsFunc(c.Architectures, func(a string) bool { return strings.HasSuffix(a, "ForCausalLM") }) {
		return err
	}
	return fmt.Errorf("%w; a language model such as Qwen3-Reranker is one with sentence-transformers' modules in its folder: "+
		"modules.json with Transformer and LogitScore, and %s/config.json with true_token_id and false_token_id, those of \"yes\" and \"no\"", err, logitScoreDir)
}

// OpenBase reads a folder of any kind, to train a reranker from its encoder.
func OpenBase(dir string) (*Model, error) {
	enc, t, err := encoder.Open(dir)
	if err != nil {
		return nil, err
	}
	if !t.HasPairs() {
		err := fmt.Errorf("%s: the tokenizer's post_processor has no layout for two texts, which a reranker needs", dir)
		return nil, errors.Join(err, t.Close())
	}
	h, err := headOf(dir, enc, t)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	own, err := enc.OwnLength(dir)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	m := &Model{Dir: dir, Encoder: enc, Tokenizer: t, MaxLen: own, head: h}
	if kind, err := modelcard.Detect(dir); err == nil && kind == modelcard.Reranker { // formats of another kind do not apply
		f, err := modelcard.Formats(dir, modelcard.Reranker)
		if err == nil {
			err = m.setFormats(f)
		}
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	if h.tokens != nil {
		if m.Formats, err = judgePrompt(dir, m.Formats); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	return m, nil
}

// setFormats puts what f says around texts. Where f joins pairs, the model must be a decoder with a head of its own.
func (m *Model) setFormats(f prompt.Formats) error {
	if m.Formats = f; !f.Joined() {
		return nil
	}
	if m.head.pool != lastToken || m.head.tokens != nil {
		return fmt.Errorf("%s: seq and special_token stand in the pairs of decoders with a head over the last token, such as Qwen3ForSequenceClassification, not of %s", m.Dir, m.head.class)
	}
	m.Tokenizer.JoinPairs(f.Seq, f.SpecialToken)
	end, err := tokenOf(m.Dir, endOfText, m.Tokenizer)
	if end != nil {
		m.head.pad = end // RAG-Retrieval pads with it; a head reads no padding, see head.last
	}
	return err
}

// Close frees the tokenizer.
func (m *Model) Close() error { return m.Tokenizer.Close() }

// checkLength fails if pairs of n tokens do not fit the model, or leave no room for texts beside its prompt. key names the
// length in the error.
func (m *Model) checkLength(key string, n int) error {
	low, high := m.Tokenizer.PairSpecialTokens()+2, m.Encoder.MaxLength()
	if n < low || n > high {
		return fmt.Errorf("%s is %d, want %d to %d for the model %s", key, n, low, high, hf.NameOf(m.Dir))
	}
	q, d := m.Formats.Around(prompt.Text{Query: true}), m.Formats.Around(prompt.Text{})
	ids, _ := m.Tokenizer.EncodePair(q.String(), d.String(), high, tokenizer.OnlySecond)
	if beside := len(ids); n < beside+2 && q.String()+d.String() != "" {
		return fmt.Errorf("%s is %d, which leaves no room for texts: the prompt around query and passage has %d tokens already, with the model %s", key, n, beside, hf.NameOf(m.Dir))
	}
	return nil
}

// minWindow is the fewest tokens of a window of a long passage, as RAG-Retrieval's max_score_slice cuts them: beside the
// whole query, with an overlap of at most 80 tokens or a quarter; a query that leaves fewer has its passage cut instead.
// They are laid out as in training, unlike there.
const minWindow = 101

// rows makes a pair's tokens, see scoring.PairRows: every path to the model goes through it. A head that reads the last
// token needs what stands after the passage: of a passage that is too long, its first window then is read, which has it.
// Joined pairs end with their special token anyway.
func (m *Model) rows(p scoring.Pair, maxLen, minWindow int, long scoring.LongText) ([]encoder.Row, error) {
	p.Prompt = m.ownPrompt(p.Prompt)
	if long == scoring.CutEnd && m.head.pool == lastToken && !m.Formats.Joined() {
		rows, err := scoring.PairRows(m.Tokenizer, m.Formats, p, maxLen, 1, scoring.Windows)
		return rows[:min(1, len(rows))], err
	}
	return scoring.PairRows(m.Tokenizer, m.Formats, p, maxLen, minWindow, long)
}

// Pair tokenizes a pair without windows.
func (m *Model) Pair(p scoring.Pair, maxLen int) (encoder.Row, error) {
	rows, err := m.rows(p, maxLen, minWindow, scoring.CutEnd)
	if err != nil {
		return encoder.Row{}, err
	}
	return rows[0], nil
}

// Params lists the trainable tensors.
func (m *Model) Params() []flat.Param {
	return append(m.Encoder.Params(), m.head.params(m.Encoder)...)
}

// names gives a checkpoint's tensors of a parameter.
func (m *Model) names(naming encoder.Naming) hf.TensorNames {
	return func(param string) []string {
		switch {
		case param == lmHeadRows:
			var rows []string
			for _, id := range m.head.tokens {
				rows = append(rows, hf.RowName(lmHead, id))
			}
			return rows
		case !m.head.has(param):
			return naming.Tensors(param)
		case m.head.pooler && strings.HasPrefix(param, m.head.dense+"."):
			return []string{naming.Prefix + param} // BERT's pooler belongs to the encoder
		}
		return []string{param}
	}
}

// Fill reads the parameters from the folder, which must have the head.
func (m *Model) Fill(to hf.Target) error {
	return m.fill(to, func(p flat.Param, _ []float32) error {
		return fmt.Errorf("%s has no tensor %q: not a reranker, or not a whole one", m.Dir, p.Name)
	})
}

// Start is Fill for a base model: a head that it lacks starts at seeded random numbers, as transformers starts it. It
// gives the names of those tensors.
func (m *Model) Start(to hf.Target, seed uint64) (fresh []string, err error) {
	err = m.fill(to, func(p flat.Param, values []float32) error {
		if m.Encoder.StartAdapter(p, values) {
			return nil
		}
		if !m.head.has(p.Name) {
			return fmt.Errorf("%s has no tensor %q", m.Dir, p.Name)
		}
		fresh = append(fresh, p.Name)
		m.head.start(p, values, seed)
		return nil
	})
	return fresh, err
}

func (m *Model) fill(to hf.Target, missing func(p flat.Param, values []float32) error) error {
	w, err := hf.OpenWeights(m.Dir)
	if err != nil {
		return err
	}
	defer w.Close()
	naming, err := m.Encoder.Naming(w)
	if err != nil {
		return err
	}
	if m.head.untied {
		if err := w.AddRows(lmHead, m.head.tokens); err != nil {
			return err
		}
	}
	if t, ok := w.Tensor(m.head.out + ".weight"); ok && len(t.Shape) == 2 && t.Shape[0] != 1 {
		return fmt.Errorf("%s: the classifier has %d labels, want 1", w.Path, t.Shape[0])
	}
	return w.Fill(to, m.Params(), m.names(naming), missing)
}
