// Package onnxfile scores with an ONNX file that another program exported and the tokenizer beside it. This also works for
// architectures that this project cannot train.
package onnxfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/runtime"
)

// Is reports whether a reference names an ONNX file.
func Is(ref string) bool { return strings.HasSuffix(ref, ".onnx") }

// Model is an ONNX file with its tokenizer. Several goroutines may use it at once.
type Model struct {
	Kind modelcard.Kind
	Dir  string // the folder of the tokenizer and the configs
	// Config has the pooling of an embedding model, and the prompts.
	Config embedding.Config
	// QueryMaxLen, PassageMaxLen and MaxLen are the model's own maximal lengths in tokens. MaxLen is that of a reranker's pairs.
	QueryMaxLen, PassageMaxLen, MaxLen int

	// Dimension is the length of an embedding model's vectors, or 0 if the file does not say.
	Dimension int64

	t      *tokenizer.Tokenizer
	f      *runtime.File
	inputs []string
	o      scoring.Options
}

// The inputs that a file may have.
const (
	inputIDs      = "input_ids"
	attentionMask = "attention_mask"
	tokenTypeIDs  = "token_type_ids"
	positionIDs   = "position_ids"
)

// Open loads an ONNX file. Its tokenizer and configs are in its folder or in the one above. If kind is empty, a file with an output
// called logits is a reranker, and any other an embedding model.
func Open(path string, kind modelcard.Kind, o scoring.Options) (*Model, error) {
	if kind == modelcard.ColBERT || o.Int8 {
		return nil, fmt.Errorf("%s: an ONNX file can be an embedding model or a reranker, without int8", path)
	}
	m := &Model{o: o}
	dir, err := folder(path)
	m.Dir = dir
	if err != nil {
		return nil, err
	}
	folderKind, err := modelcard.Detect(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a folder without a config.json does not say
		return nil, err
	}
	if folderKind == modelcard.ColBERT { // its output looks like an embedding model's before the pooling
		return nil, fmt.Errorf("%s: the ONNX file of a ColBERT model cannot be used; use its folder %s", path, dir)
	}
	m.f, err = runtime.OpenFile(path, o.Options, func(inputs, outputs []runtime.Port) (in []string, out string, err error) {
		if m.inputs, err = chooseInputs(inputs); err != nil {
			return nil, "", err
		}
		m.Kind, out, err = chooseOutput(kind, outputs)
		if at := slices.IndexFunc(outputs, func(p runtime.Port) bool { return p.Name == out }); at >= 0 && m.Kind == modelcard.Embedding {
			m.Dimension = max(0, outputs[at].Dims[len(outputs[at].Dims)-1])
		}
		return m.inputs, out, err
	})
	if err != nil {
		return nil, err
	}
	if m.t, err = tokenizer.Open(dir); err != nil {
		return nil, errors.Join(err, m.f.Close())
	}
	if err := m.configure(path, dir); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// folder finds the folder of a file's tokenizer.
func folder(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("reading the model: %w", err)
	}
	dir := filepath.Dir(path)
	for _, d := range []string{dir, filepath.Join(dir, "..")} {
		for _, name := range []string{tokenizer.File, tokenizer.VocabFile} {
			if there, err := hf.Exists(filepath.Join(d, name)); err != nil {
				return "", fmt.Errorf("reading the tokenizer: %w", err)
			} else if there {
				return d, nil
			}
		}
	}
	return "", fmt.Errorf("%s: no %s in its folder or the one above", path, tokenizer.File)
}

func chooseInputs(inputs []runtime.Port) ([]string, error) {
	var names []string
	for _, p := range inputs {
		if !slices.Contains([]string{inputIDs, attentionMask, tokenTypeIDs, positionIDs}, p.Name) || !p.Int || len(p.Dims) != 2 {
			return nil, fmt.Errorf("the input %q of %d dimensions is not known, want %s, %s, %s and %s, int64 [batch, sequence]",
				p.Name, len(p.Dims), inputIDs, attentionMask, tokenTypeIDs, positionIDs)
		}
		names = append(names, p.Name)
	}
	if !slices.Contains(names, inputIDs) {
		return nil, fmt.Errorf("no input %s", inputIDs)
	}
	return names, nil
}

// chooseOutput finds the output to use, and the kind of model that it makes: logits for a reranker; for an embedding model a vector
// for each text, or a vector for each token, which is pooled.
func chooseOutput(kind modelcard.Kind, outputs []runtime.Port) (modelcard.Kind, string, error) {
	logits := []string{"logits", "scores", "score"}
	find := func(rank int, names ...string) string { // the name "" stands for any but those of logits
		for _, name := range names {
			for _, p := range outputs {
				if p.Float && (p.Name == name || name == "" && !slices.Contains(logits, p.Name)) && len(p.Dims) == rank {
					return p.Name
				}
			}
		}
		return ""
	}
	if kind != modelcard.Embedding {
		name := find(2, logits...)
		if name == "" {
			name = find(1, logits...)
		}
		if name != "" {
			return modelcard.Reranker, name, nil
		}
	}
	if kind != modelcard.Reranker {
		for _, name := range []string{
			find(2, "sentence_embedding", "sentence_embeddings", "embeddings", "embedding"), find(3, "last_hidden_state", "token_embeddings", ""), find(2, ""),
		} {
			if name != "" {
				return modelcard.Embedding, name, nil
			}
		}
	}
	var names []string
	for _, p := range outputs {
		names = append(names, fmt.Sprintf("%s %v", p.Name, p.Dims))
	}
	want := map[modelcard.Kind]string{modelcard.Reranker: "a float32 logit", modelcard.Embedding: "a float32 vector or vectors of tokens"}[kind]
	if want == "" {
		want = "a float32 logit, vector or vectors of tokens"
	}
	return "", "", fmt.Errorf("none of the outputs %s is %s", strings.Join(names, ", "), want)
}

// defaultLength is the maximal length if the folder names none.
const defaultLength = 512

// configure reads lengths, pooling and prompts.
func (m *Model) configure(path, dir string) error {
	var config struct {
		Positions  int   `json:"max_position_embeddings"`
		Vocabulary int64 `json:"vocab_size"`
		Types      int64 `json:"type_vocab_size"`
	}
	if err := hf.ReadJSON(filepath.Join(dir, "config.json"), &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	own, err := hf.ModelMaxLength(dir)
	if err != nil {
		return err
	}
	if config.Vocabulary > 0 {
		if err := m.t.Fit(config.Vocabulary, config.Types); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	length := defaultLength
	switch {
	case own > 0:
		length = own
	case config.Positions > 0:
		length = config.Positions
	}
	m.MaxLen, m.QueryMaxLen, m.PassageMaxLen = length, length, length
	if m.Kind == modelcard.Reranker {
		if !m.t.HasPairs() {
			return fmt.Errorf("%s: the tokenizer's post_processor has no layout for two texts, which a reranker needs", dir)
		}
		f, err := modelcard.Formats(dir, modelcard.Reranker)
		if m.Config.Formats = f; f.Joined() {
			m.t.JoinPairs(f.Seq, f.SpecialToken)
		}
		return err
	}
	c, err := embedding.LoadConfig(dir, length, 0)
	if errors.Is(err, fs.ErrNotExist) { // without a config.json the pooling is the mean
		c, err = embedding.Config{Pooling: embedding.Mean, MaxSeqLength: length}, nil
	}
	m.Config = c
	m.QueryMaxLen, m.PassageMaxLen = c.MaxSeqLength, c.MaxSeqLength
	return err
}

// Tokenizer is the tokenizer beside the file.
func (m *Model) Tokenizer() *tokenizer.Tokenizer { return m.t }

// Close frees the session and the tokenizer.
func (m *Model) Close() error { return errors.Join(m.f.Close(), m.t.Close()) }

// BiEncoder encodes queries and passages of at most so many tokens, as models/embedding lays them out, and ranks by the cosine
// of their vectors.
func (m *Model) BiEncoder(queryMaxLen, passageMaxLen int) (scoring.BiEncoder[[]float32], error) {
	low := m.t.SpecialTokens() + 1
	err := checkLength("the maximal length of queries", queryMaxLen, low)
	if err == nil {
		err = checkLength("the maximal length of passages", passageMaxLen, low)
	}
	return scoring.BiEncoder[[]float32]{
		Rows: func(x prompt.Text, long scoring.LongText) ([]encoder.Row, error) {
			if x.Query {
				return scoring.Rows(m.t, m.Config.Formats, x, queryMaxLen, long)
			}
			return scoring.Rows(m.t, m.Config.Formats, x, passageMaxLen, long)
		},
		Forward: m.vectors, Similarity: embedding.Cosines, Windows: m.o.MaxWindow, Block: scoring.VectorBlock, BatchTokens: m.o.BatchTokens,
		Ranks: m.o.Ranks, Carrier: scoring.Vectors,
	}, err
}

// CrossEncoder scores pairs of at most maxLen tokens, as models/reranker lays them out.
func (m *Model) CrossEncoder(maxLen int) (scoring.CrossEncoder, error) {
	return scoring.CrossEncoder{
		Rows: func(p scoring.Pair, long scoring.LongText) ([]encoder.Row, error) {
			return scoring.PairRows(m.t, m.Config.Formats, p, maxLen, 1, long)
		},
		Windows: m.o.MaxWindow, Forward: m.logits, BatchTokens: m.o.BatchTokens, Ranks: m.o.Ranks,
	}, checkLength("the maximal length", maxLen, m.t.PairSpecialTokens()+2)
}

// checkLength fails if special tokens leave no room for others. The upper limit is not known from an ONNX file.
func checkLength(what string, n, low int) error {
	if n < low {
		return fmt.Errorf("%s is %d, want at least %d", what, n, low)
	}
	return nil
}

// run computes a batch, padded to its longest row.
func (m *Model) run(rows []encoder.Row) (values []float32, shape []int64, err error) {
	length := 0
	for _, r := range rows {
		length = max(length, len(r.IDs))
	}
	inputs := make([][]int64, len(m.inputs))
	for k, name := range m.inputs {
		x := make([]int64, len(rows)*length)
		for i, r := range rows {
			row := x[i*length : (i+1)*length]
			switch name {
			case inputIDs:
				copy(row, r.IDs)
			case tokenTypeIDs:
				copy(row, r.Types)
			default:
				for j := range r.IDs {
					row[j] = 1
					if name == positionIDs {
						row[j] = int64(j)
					}
				}
			}
		}
		inputs[k] = x
	}
	values, shape, err = m.f.Run(inputs, int64(len(rows)), int64(length))
	if err == nil && (len(shape) == 0 || shape[0] != int64(len(rows)) || len(shape) == 3 && shape[1] != int64(length)) {
		err = fmt.Errorf("the output has the shape %v for %d texts of %d tokens", shape, len(rows), length)
	}
	return values, shape, err
}

// logits returns each row's score.
func (m *Model) logits(rows []encoder.Row) ([]float32, error) {
	values, shape, err := m.run(rows)
	if err == nil && len(values) != len(rows) {
		err = fmt.Errorf("the output has the shape %v, want one score for each pair", shape)
	}
	return values, err
}

// vectors returns each row's vector, normalized.
func (m *Model) vectors(rows []encoder.Row) ([][]float32, error) {
	values, shape, err := m.run(rows)
	if err != nil {
		return nil, err
	}
	if len(shape) == 3 && m.Config.Dense != nil {
		return nil, errors.New("the folder names a Dense module, which the file's output does not have behind it; export the whole model")
	}
	out := make([][]float32, len(rows))
	size := len(values) / len(rows)
	for i, r := range rows {
		v := values[i*size : (i+1)*size]
		if len(shape) == 3 {
			v = m.pool(v, len(r.IDs), int(shape[2]))
		}
		out[i] = normalized(v)
	}
	return out, nil
}

// pool makes one vector from the vectors of the first n tokens.
func (m *Model) pool(tokens []float32, n, width int) []float32 {
	switch m.Config.Pooling {
	case embedding.CLS:
		return tokens[:width]
	case embedding.Last:
		return tokens[(n-1)*width : n*width]
	}
	out := make([]float32, width)
	for i := range n {
		for j := range out {
			out[j] += tokens[i*width+j] / float32(n)
		}
	}
	return out
}

func normalized(v []float32) []float32 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(float64(x) / max(math.Sqrt(sum), 1e-12))
	}
	return out
}
