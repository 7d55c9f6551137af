package serve

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

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

// embeddings reads the body, and makes the vectors of its texts. formats are the values of encoding_format that the route knows.
func (s *Server) embeddings(c *call, body *openAIBody, formats []string, kinds ...modelcard.Kind) (*Model, []retriever.Embedding, error) {
	if err := c.read(body); err != nil {
		return nil, nil, err
	}
	m, err := c.use(body.Model, kinds...)
	if err != nil {
		return nil, nil, err
	}
	if f := body.EncodingFormat; f != "" && !slices.Contains(formats, f) {
		return nil, nil, about("encoding_format", invalid("encoding_format is %q, want %s", f, fieldName(strings.Join(formats, " or "))))
	}
	if !given(body.Input) && given(body.Messages) {
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
	if o.Dimension, err = readDimensions(body.Dimensions); err != nil {
		return nil, nil, err
	}
	if n, limit := body.TruncatePromptTokens, longest(m.m.Info()); n != nil && *n != -1 && *n < limit {
		return nil, nil, about("truncate_prompt_tokens", invalid("truncate_prompt_tokens is %d, want -1 or at least the model's own length, %d", *n, limit))
	}
	if m.Kind() == modelcard.ColBERT {
		if err := m.checkNumbers(c.context(), in, maxNumbers); err != nil {
			return nil, nil, err
		}
	}
	c.characters = in.characters()
	embeddings, err := m.embed(c.context(), in, body.InputType == "query" || body.InputType == "search_query", o)
	return m, embeddings, err
}

// maxNumbers is how many numbers a response of POST /pooling may have: about 200 MB as JSON.
const maxNumbers = 1 << 24

// checkNumbers returns an error if a ColBERT model's vectors of all tokens of some texts have more numbers than a response may. It comes
// before the model computes them. Texts whose bytes are few enough are not counted in tokens: these are at most as
// many. It ends with the context.
func (m *Model) checkNumbers(ctx context.Context, in inputs, numbers int) error {
	info := m.m.Info()
	tokens := func(count func(string) int) (n int) {
		for _, x := range in {
			if k := len(x.ids); x.ids != nil {
				n += min(k, longest(info))
			} else {
				n += min(max(count(x.text), info.QueryMaxLen), longest(info)) // queries are filled up to their length
			}
		}
		return n
	}
	width := int(info.Dimension)
	most := numbers / max(1, width)
	if tokens(func(text string) int { return len(text) + markerTokens }) <= most {
		return nil
	}
	var failed error
	n := tokens(func(text string) int {
		t, err := m.m.Tokenize(ctx, text, true)
		failed = cmp.Or(failed, err)
		return len(t) + markerTokens
	})
	if failed != nil {
		return failed
	}
	if n > most {
		return &Error{
			Status: http.StatusRequestEntityTooLarge, Kind: validation, Param: "input", Code: tooMany,
			Message: fmt.Sprintf("input has %d tokens with %d numbers each, want at most %d tokens in a request", n, width, most),
		}
	}
	return nil
}

// markerTokens is how many tokens a model may add to a text: the special ones at its ends, and a ColBERT model's marker.
const markerTokens = 8

// longest is the length in tokens at which a model's texts are cut.
func longest(i retriever.Info) int { return max(i.PassageMaxLen, i.MaxLen) }

// openAIEmbeddings answers POST /v1/embeddings.
func (s *Server) openAIEmbeddings(c *call) (any, error) {
	var body openAIBody
	m, embeddings, err := s.embeddings(c, &body, []string{"float", "base64"}, modelcard.Embedding)
	if err != nil {
		return nil, err
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
	m, embeddings, err := s.embeddings(c, &body, []string{"float"}, modelcard.ColBERT, modelcard.Embedding)
	if err != nil {
		return nil, err
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
