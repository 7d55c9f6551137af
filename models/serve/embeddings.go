package serve

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
)

// openAIEmbeddings answers POST /v1/embeddings.
func (s *Server) openAIEmbeddings(c *call) (any, error) {
	var body struct {
		Model          string `json:"model"`
		Input          inputs `json:"input"`
		EncodingFormat string `json:"encoding_format"`
		Dimensions     int    `json:"dimensions"`
		// InputType is Cohere's and others': a query has the model's prompt for queries.
		InputType string `json:"input_type"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	if f := body.EncodingFormat; f != "" && f != "float" && f != "base64" {
		return nil, invalid("encoding_format is %q, want float or base64", f)
	}
	m, err := c.use(body.Model, modelcard.Embedding)
	if err != nil {
		return nil, err
	}
	if err := s.countTexts("input", len(body.Input)); err != nil {
		return nil, err
	}
	embeddings, err := m.embed(c.context(), body.Input.texts(body.InputType == "query" || body.InputType == "search_query"), body.Dimensions)
	if err != nil {
		return nil, err
	}
	type embedding struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"`
	}
	var data []embedding
	for i, e := range embeddings {
		data = append(data, embedding{"embedding", i, encodeVector(e.Values, body.EncodingFormat)})
	}
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

// inputs are one text or several.
type inputs []string

// UnmarshalJSON reads both forms.
func (x *inputs) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil && string(b) != "null" {
		*x = inputs{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return invalid("the input is %.40s, want a text or a list of texts", b)
	}
	*x = many
	return nil
}

func (x inputs) texts(queries bool) []prompt.Text { return prompt.Texts(queries, x...) }

// countTexts returns an error if a request has no or too many texts.
func (s *Server) countTexts(field string, n int) error {
	if n == 0 {
		return invalid("%s is missing or empty", name(field))
	}
	if n > s.o.MaxTexts {
		return &Error{Status: http.StatusRequestEntityTooLarge, Kind: validation, Message: "too many texts in " + field}
	}
	return nil
}

// openAIModels answers GET /v1/models.
func (s *Server) openAIModels(*call) (any, error) {
	var data []map[string]any
	for _, m := range s.Models() {
		info := m.m.Info()
		data = append(data, map[string]any{
			"id": m.Name, "object": "model", "created": 0, "owned_by": "rag-retrieval", "kind": info.Kind, "max_model_len": max(info.PassageMaxLen, info.MaxLen),
		})
	}
	return map[string]any{"object": "list", "data": data}, nil
}
