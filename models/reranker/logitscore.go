package reranker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
)

// A language model is a reranker if its folder has sentence-transformers' module LogitScore. The prompt asks for one of two tokens, which
// the module names, and the score is the difference of their logits: for Qwen3-Reranker that of "yes" minus that of "no".
const (
	transformerModule = "sentence_transformers.base.modules.transformer.Transformer"

	logitScoreModule = "LogitScore"
	logitScoreDir    = "1_LogitScore"
)

// logitScoreConfig is the module's config.json.
type logitScoreConfig struct {
	True  *int64 `json:"true_token_id"`
	False *int64 `json:"false_token_id"` // null: the score is the logit of True alone
}

// The head of a language model is a matrix [vocab_size, hidden_size]. It is the word embeddings, unless config.json says that the two
// are not tied: then it is the tensor lmHead. Of that tensor only the rows of the tokens [tokens, hidden_size] are read and trained,
// as the parameter lmHeadRows.
const (
	lmHead     = "lm_head.weight"
	lmHeadRows = "lm_head.rows"
)

// logitScore returns the tokens of a folder's LogitScore module, or nil if it has none, and reports whether the head is tied to the
// word embeddings.
func logitScore(dir string, enc encoder.Config) (tokens []int64, isTied bool, err error) {
	modules, err := hf.Modules(dir)
	at := slices.IndexFunc(modules, func(m hf.Module) bool { return m.Name() == logitScoreModule })
	if err != nil || at < 0 {
		return nil, false, err
	}
	if !filepath.IsLocal(modules[at].Path) {
		return nil, false, fmt.Errorf("%s: the path %q of a module leads out of the folder", filepath.Join(dir, hf.ModulesFile), modules[at].Path)
	}
	var tied struct {
		Tied bool `json:"tie_word_embeddings"`
	}
	if err := enc.Keys.Read(&tied); err != nil {
		return nil, false, fmt.Errorf("%s: %w", filepath.Join(dir, "config.json"), err)
	}
	path := filepath.Join(dir, modules[at].Path, "config.json")
	var c logitScoreConfig
	if err := hf.ReadJSON(path, &c); err != nil {
		return nil, false, err
	}
	if c.True == nil {
		return nil, false, fmt.Errorf("%s: true_token_id is not there", path)
	}
	tokens = []int64{*c.True}
	if c.False != nil {
		tokens = append(tokens, *c.False)
	}
	for _, id := range tokens {
		if id < 0 || id >= enc.VocabSize {
			return nil, false, fmt.Errorf("%s: token %d, want 0 to %d", path, id, enc.VocabSize-1)
		}
	}
	return tokens, tied.Tied, nil
}

// writeLogitScore writes the files of the module LogitScore.
func writeLogitScore(dir string, tokens []int64) error {
	c := logitScoreConfig{True: &tokens[0]}
	if len(tokens) > 1 {
		c.False = &tokens[1]
	}
	type module struct {
		Index int    `json:"idx"`
		Name  string `json:"name"`
		Path  string `json:"path"`
		Type  string `json:"type"`
	}
	return errors.Join(
		hf.WriteJSON(filepath.Join(dir, hf.ModulesFile), []module{
			{0, "0", "", transformerModule},
			{1, "1", logitScoreDir, "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"},
		}),
		os.MkdirAll(filepath.Join(dir, logitScoreDir), 0o755),
		hf.WriteJSON(filepath.Join(dir, logitScoreDir, "config.json"), c),
	)
}

// withHead replaces the trained rows of a head that is not tied by the whole head, so that the folder remains a language model.
func (m *Model) withHead(tensors []safetensors.Tensor) ([]safetensors.Tensor, error) {
	w, err := hf.OpenWeights(m.Dir)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	whole, ok := w.Tensor(lmHead)
	if !ok {
		return nil, fmt.Errorf("%s: no tensor %q", w.Path, lmHead)
	}
	values, err := whole.Float32()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.Path, err)
	}
	var out []safetensors.Tensor
	for _, t := range tensors {
		at := slices.IndexFunc(m.head.tokens, func(id int64) bool { return t.Name == hf.RowName(lmHead, id) })
		if at < 0 {
			out = append(out, t)
			continue
		}
		from := m.head.tokens[at] * m.Encoder.HiddenSize
		if err := t.Read(values[from : from+m.Encoder.HiddenSize]); err != nil {
			return nil, err
		}
	}
	return append(out, safetensors.FromFloat32(lmHead, values, whole.Shape...)), nil
}

// The prompt of Qwen3-Reranker, as its model card gives it.
const (
	judgeSystem      = `Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".`
	judgeStart       = "<|im_start|>system\n" + judgeSystem + "<|im_end|>\n<|im_start|>user\n<Instruct>: "
	judgeInstruction = "Given a web search query, retrieve relevant passages that answer the query"
	judgeQuery       = "\n<Query>: "
	judgeEnd         = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)

// judgePrompt returns the formats of a folder with the module LogitScore. They are those of its card, if it has any. Otherwise the chat
// template must be Qwen3-Reranker's, whose prompt is used with the folder's default prompt f.Query as the instruction. Other chat
// templates are programs, which are not run here.
func judgePrompt(dir string, f prompt.Formats) (prompt.Formats, error) {
	c, _, err := modelcard.Read(dir)
	if err != nil || c.QueryFormat != "" || c.DocumentFormat != "" {
		return f, err
	}
	template, path, err := chatTemplate(dir)
	if err != nil {
		return f, err
	}
	if !strings.Contains(template, judgeSystem) {
		return f, fmt.Errorf("%s: the chat template is not Qwen3-Reranker's, and others are not run: write the prompt as query_format and document_format into %s", path, filepath.Join(dir, modelcard.File))
	}
	instruction := judgeInstruction
	if f.Query.Before != "" {
		instruction = f.Query.Before
	}
	return prompt.Formats{
		Query:    prompt.Format{Before: judgeStart + instruction + judgeQuery, After: "\n"},
		Document: prompt.Format{Before: "<Document>: ", After: judgeEnd},
	}, nil
}

// ownPrompt returns what stands before a query whose row has the prompt own. In Qwen3-Reranker's prompt, own is the instruction.
func (m *Model) ownPrompt(own string) string {
	if own == "" || !strings.HasPrefix(m.Formats.Query.Before, judgeStart) {
		return own
	}
	return judgeStart + own + judgeQuery
}

// chatTemplate returns a folder's chat template and the file where it is looked for.
func chatTemplate(dir string) (template, path string, err error) {
	path = filepath.Join(dir, "chat_template.jinja")
	b, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return string(b), path, err
	}
	var c struct {
		Template any `json:"chat_template"`
	}
	path = filepath.Join(dir, "tokenizer_config.json")
	if err := hf.ReadJSON(path, &c); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", path, err
	}
	template, _ = c.Template.(string)
	return template, path, nil
}
