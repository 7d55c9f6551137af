package serve

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/retriever"
)

// openAITexts is how many texts OpenAI's API takes in a request.
const openAITexts = 2048

// openAIBody is the body of an embeddings or pooling request. Fields that change nothing here, such as user, are not read.
type openAIBody struct {
	Model          string          `json:"model"`
	Input          json.RawMessage `json:"input"`
	EncodingFormat string          `json:"encoding_format"`
	Dimensions     *int            `json:"dimensions"`
	// InputType is Cohere's and others': a query has the model's prompt for queries, and a ColBERT model expands it.
	InputType string `json:"input_type"`
	// TruncatePromptTokens is vLLM's: mteb sends the length that GET /v1/models told it.
	TruncatePromptTokens *int `json:"truncate_prompt_tokens"`
	// Messages are a chat, for models that read images.
	Messages json.RawMessage `json:"messages"`
}

// embeddings reads the body, and makes the vectors of its texts.
func (s *Server) embeddings(c *call, body *openAIBody, kinds ...modelcard.Kind) (*Model, []retriever.Embedding, error) {
	if err := c.read(body); err != nil {
		return nil, nil, err
	}
	m, err := c.use(body.Model, kinds...)
	if err != nil {
		return nil, nil, err
	}
	if body.Input == nil && body.Messages != nil {
		return nil, nil, about("messages", invalid("messages are not read here, want input; mteb's wrappers send it with use_chat_template=False"))
	}
	in, err := readInputs("input", body.Input, true)
	if err == nil {
		err = s.countTexts("input", len(in), openAITexts)
	}
	if err != nil {
		return nil, nil, err
	}
	var o retriever.EncodeOptions
	if d := body.Dimensions; d != nil {
		if o.Dimension = *d; *d < 1 {
			return nil, nil, about("dimensions", invalid("dimensions is %d, want at least 1", *d))
		}
	}
	if n, limit := body.TruncatePromptTokens, longest(m.m.Info()); n != nil && *n != -1 && *n < limit {
		return nil, nil, about("truncate_prompt_tokens", invalid("truncate_prompt_tokens is %d, want -1 or at least the model's own length, %d", *n, limit))
	}
	c.characters = in.characters()
	embeddings, err := m.embed(c.context(), in, body.InputType == "query" || body.InputType == "search_query", o)
	return m, embeddings, err
}

// longest is the length in tokens at which a model's texts are cut.
func longest(i retriever.Info) int { return max(i.PassageMaxLen, i.MaxLen) }

// openAIEmbeddings answers POST /v1/embeddings.
func (s *Server) openAIEmbeddings(c *call) (any, error) {
	var body openAIBody
	m, embeddings, err := s.embeddings(c, &body, modelcard.Embedding)
	if err != nil {
		return nil, err
	}
	if f := body.EncodingFormat; f != "" && f != "float" && f != "base64" {
		return nil, about("encoding_format", invalid("encoding_format is %q, want float or base64", f))
	}
	type embedding struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"`
	}
	data := make([]embedding, len(embeddings))
	for i, e := range embeddings {
		data[i] = embedding{"embedding", i, encodeVector(e.Values, body.EncodingFormat)}
	}
	c.setTEIHeaders()
	return map[string]any{"object": "list", "data": data, "model": m.Name, "usage": usageOf(embeddings)}, nil
}

func encodeVector(v []float32, format string) any {
	if format != "base64" {
		return v
	}
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// usageOf counts the tokens that the model read.
func usageOf(embeddings []retriever.Embedding) map[string]int {
	n := 0
	for _, e := range embeddings {
		n += e.Tokens
	}
	return map[string]int{"prompt_tokens": n, "total_tokens": n}
}

// pooling answers POST /pooling, vLLM's route that mteb uses for ColBERT models: the vectors of each text's tokens, or the one vector of
// an embedding model.
func (s *Server) pooling(c *call) (any, error) {
	var body openAIBody
	m, embeddings, err := s.embeddings(c, &body, modelcard.ColBERT, modelcard.Embedding)
	if err != nil {
		return nil, err
	}
	if f := body.EncodingFormat; f != "" && f != "float" {
		return nil, about("encoding_format", invalid("encoding_format is %q, want float", f))
	}
	width := int(m.m.Info().Dimension)
	data := make([]map[string]any, len(embeddings))
	for i, e := range embeddings {
		data[i] = map[string]any{"object": "pooling", "index": i, "data": e.Values}
		if e.TokenIDs != nil {
			vectors := make([][]float32, e.Vectors())
			for k := range vectors {
				vectors[k] = e.Values[k*width : (k+1)*width]
			}
			data[i]["data"] = vectors
		}
	}
	return map[string]any{"id": c.record.id, "object": "list", "created": c.record.start.Unix(), "model": m.Name, "data": data, "usage": usageOf(embeddings)}, nil
}

// openAIModels answers GET /v1/models.
func (s *Server) openAIModels(*call) (any, error) {
	models := s.Models()
	data := make([]map[string]any, len(models))
	for i, m := range models {
		data[i] = openAIModel(m)
	}
	return map[string]any{"object": "list", "data": data}, nil
}

// openAIOneModel answers GET /v1/models/{id}.
func (s *Server) openAIOneModel(c *call) (any, error) {
	m, err := c.use(c.PathValue("id"), modelcard.Kinds...)
	if err != nil {
		return nil, err
	}
	return openAIModel(m), nil
}

func openAIModel(m *Model) map[string]any {
	info := m.m.Info()
	return map[string]any{"id": m.Name, "object": "model", "created": 0, "owned_by": "rag-retrieval", "kind": info.Kind, "max_model_len": longest(info)}
}
