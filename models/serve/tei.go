package serve

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/runtime"
)

// teiOptions are the fields of TEI's requests that say how texts are read.
type teiOptions struct {
	Truncate            *bool  `json:"truncate"` // false refuses texts that are too long
	TruncationDirection string `json:"truncation_direction"`
	PromptName          string `json:"prompt_name"`
}

// long says what is read of a text that is too long.
func (o teiOptions) long() (retriever.LongText, error) {
	left, err := direction(o.TruncationDirection)
	switch {
	case err != nil:
		return 0, err
	case o.Truncate != nil && !*o.Truncate:
		return retriever.Refuse, nil
	case left:
		return retriever.CutStart, nil
	}
	return retriever.CutEnd, nil
}

// direction reads a truncation_direction: left is true where texts are cut at their beginning.
func direction(d string) (left bool, err error) {
	switch d { // TEI's own spelling, and that of its Python client
	case "", "Right", "right":
		return false, nil
	case "Left", "left":
		return true, nil
	}
	return false, about("truncation_direction", invalid("truncation_direction is %q, want Left or Right", d))
}

// query says whether texts have the model's prompt for queries.
func (o teiOptions) query() (bool, error) {
	switch o.PromptName {
	case "query":
		return true, nil
	case "", "document", "passage":
		return false, nil
	}
	return false, about("prompt_name", invalid("prompt_name is %q, want query, document or passage", o.PromptName))
}

// teiVectors makes the vectors of a request's texts.
func (s *Server) teiVectors(c *call, in inputs, o teiOptions, dimensions *int) (*Model, []retriever.Embedding, error) {
	m, err := c.use("", modelcard.Embedding)
	if err != nil {
		return nil, nil, err
	}
	var encode retriever.EncodeOptions
	if encode.Long, err = o.long(); err != nil {
		return nil, nil, err
	}
	query, err := o.query()
	if err != nil {
		return nil, nil, err
	}
	if encode.Dimension, err = readDimensions(dimensions); err != nil {
		return nil, nil, err
	}
	for _, x := range in {
		if x.ids != nil && o.PromptName != "" {
			return nil, nil, about("prompt_name", invalid("prompt_name is for texts: token ids are a finished sequence"))
		}
	}
	c.characters = in.characters()
	embeddings, err := m.embed(c.context(), in, query, encode)
	c.setTEIHeaders()
	return m, embeddings, err
}

// teiEmbed answers POST /embed: an array of vectors.
func (s *Server) teiEmbed(c *call) (any, error) {
	var body struct {
		Inputs     json.RawMessage `json:"inputs"`
		Normalize  *bool           `json:"normalize"`
		Dimensions *int            `json:"dimensions"`
		teiOptions
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	if body.Normalize != nil && !*body.Normalize {
		return nil, about("normalize", invalid("normalize is false: this server's models make vectors of length one"))
	}
	in, err := readInputs("inputs", body.Inputs, true)
	if err == nil {
		err = s.countTexts("inputs", len(in), 0)
	}
	if err != nil {
		return nil, err
	}
	_, embeddings, err := s.teiVectors(c, in, body.teiOptions, body.Dimensions)
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(embeddings))
	for i, e := range embeddings {
		out[i] = e.Values
	}
	return out, nil
}

// teiSimilarity answers POST /similarity: an array of cosines.
func (s *Server) teiSimilarity(c *call) (any, error) {
	var body struct {
		Inputs struct {
			Source    *string         `json:"source_sentence"`
			Sentences json.RawMessage `json:"sentences"`
		} `json:"inputs"`
		Parameters teiOptions `json:"parameters"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	if body.Inputs.Source == nil {
		return nil, missing("inputs.source_sentence")
	}
	sentences, err := readTexts("inputs.sentences", body.Inputs.Sentences)
	if err == nil {
		err = s.countTexts("inputs.sentences", len(sentences), 0)
	}
	if err != nil {
		return nil, err
	}
	in := inputs{{text: *body.Inputs.Source}}
	for _, x := range sentences {
		in = append(in, input{text: x})
	}
	m, embeddings, err := s.teiVectors(c, in, body.Parameters, nil)
	if err != nil {
		return nil, err
	}
	e, err := m.m.Embedder()
	if err != nil {
		return nil, err
	}
	return e.Similarity(embeddings[0], embeddings[1:])
}

// teiAny answers POST /, where huggingface_hub's client sends what it is asked: TEI's /embed, /similarity or /rerank by the body's form.
func (s *Server) teiAny(c *call) (any, error) {
	var body struct {
		Query, Texts, Documents json.RawMessage
		Inputs                  json.RawMessage `json:"inputs"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	switch {
	case given(body.Texts) || given(body.Documents) || given(body.Query):
		return s.rerank(c)
	case strings.HasPrefix(string(body.Inputs), "{"):
		return s.teiSimilarity(c)
	}
	return s.teiEmbed(c)
}

// teiToken is a token as TEI's /tokenize shows it. Special tokens have no place in the text.
type teiToken struct {
	ID      int64  `json:"id"`
	Text    string `json:"text"`
	Special bool   `json:"special"`
	Start   *int   `json:"start"`
	Stop    *int   `json:"stop"`
}

// teiTokenize answers POST /tokenize: the tokens of each text, uncut.
func (s *Server) teiTokenize(c *call) (any, error) {
	var body struct {
		Inputs     json.RawMessage `json:"inputs"`
		Special    *bool           `json:"add_special_tokens"`
		PromptName string          `json:"prompt_name"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	m, err := c.use("", modelcard.Embedding, modelcard.ColBERT, modelcard.Reranker)
	if err != nil {
		return nil, err
	}
	in, err := readInputs("inputs", body.Inputs, false)
	if err == nil {
		err = s.countTexts("inputs", len(in), 0)
	}
	if err != nil {
		return nil, err
	}
	query, err := teiOptions{PromptName: body.PromptName}.query()
	if err != nil {
		return nil, err
	}
	around := prompt.Format{} // without a name, no prompt: what is shown is the text
	if body.PromptName != "" {
		format := m.m.Info().DocumentFormat
		if query {
			format = m.m.Info().QueryFormat
		}
		if around, err = prompt.Parse(format); err != nil {
			return nil, err
		}
	}
	out := make([][]teiToken, len(in))
	for i, x := range in {
		tokens, err := m.m.Tokenize(c.context(), around.Before+x.text+around.After, body.Special == nil || *body.Special)
		if err != nil {
			return nil, err
		}
		out[i] = teiTokens(tokens)
	}
	return out, nil
}

func teiTokens(tokens []tokenizer.Token) []teiToken {
	out := make([]teiToken, len(tokens))
	for i, t := range tokens {
		out[i] = teiToken{ID: t.ID, Text: t.Text, Special: t.Special}
		if !t.Special {
			out[i].Start, out[i].Stop = &tokens[i].Start, &tokens[i].End
		}
	}
	return out
}

// teiInfo answers GET /info: of the first model that POST / would use.
func (s *Server) teiInfo(c *call) (any, error) {
	m, err := c.use("", modelcard.Embedding, modelcard.Reranker, modelcard.ColBERT)
	if err != nil {
		return nil, err
	}
	info := m.m.Info()
	dtype := "float32"
	switch {
	case info.Int8:
		dtype = "int8"
	case info.BF16 != kernels.None:
		dtype = "bfloat16"
	}
	kind := map[string]any{"embedding": map[string]string{"pooling": info.Pooling}}
	switch info.Kind {
	case modelcard.Reranker:
		kind = map[string]any{"reranker": map[string]any{"id2label": map[string]string{"0": "LABEL_0"}, "label2id": map[string]int{"LABEL_0": 0}}}
	case modelcard.ColBERT:
		kind = map[string]any{"embedding": map[string]string{"pooling": "colbert"}}
	}
	return map[string]any{
		"model_id": m.publicID, "model_sha": nil, "model_dtype": dtype, "served_model_name": m.Name, "model_type": kind, "max_concurrent_requests": s.o.MaxConcurrent,
		"max_input_length": longest(info), "max_batch_tokens": m.batchTokens, "max_batch_requests": nil, "max_client_batch_size": s.o.MaxTexts,
		"auto_truncate": true, "tokenization_workers": s.o.MaxConcurrent, "version": s.o.Version, "sha": nil, "docker_label": nil,
	}, nil
}

// setTEIHeaders sets TEI's headers: what the request was, and how long it took, in milliseconds. The time of tokenization is that which neither
// the queue nor the model took.
func (c *call) setTEIHeaders() {
	if c.header == nil || c.model == nil {
		return
	}
	totals, total := c.trace.Totals(), time.Since(c.record.start)
	tokenization := max(0, total-totals.Waited-totals.Ran)
	device := "cpu"
	if c.model.m.Info().Provider == runtime.CUDA {
		device = "gpu"
	}
	for key, value := range map[string]any{
		"X-Compute-Type": device, "X-Compute-Time": total.Milliseconds(), "X-Compute-Characters": c.characters, "X-Compute-Tokens": totals.Tokens,
		"X-Total-Time": total.Milliseconds(), "X-Tokenization-Time": tokenization.Milliseconds(), "X-Queue-Time": totals.Waited.Milliseconds(),
		"X-Inference-Time": totals.Ran.Milliseconds(),
	} {
		c.header.Set(key, fmt.Sprint(value))
	}
}
