package serve

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"

	"rag-retrieval-go/models/modelcard"
)

// rerankBody is the body of a rerank request: the union of Cohere's, Jina's, Infinity's and TEI's.
type rerankBody struct {
	Model           string      `json:"model"`
	Query           string      `json:"query"`
	Documents       []rerankDoc `json:"documents"`
	TopN            *int        `json:"top_n"`
	ReturnDocuments bool        `json:"return_documents"`
	RawScores       bool        `json:"raw_scores"`
	// Texts and ReturnText are TEI's documents and return_documents.
	Texts      []string `json:"texts"`
	ReturnText bool     `json:"return_text"`
}

// rerankDoc is a document: a text, or an object with the field text.
type rerankDoc string

// UnmarshalJSON reads both forms.
func (d *rerankDoc) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil && string(b) != "null" {
		*d = rerankDoc(text)
		return nil
	}
	var object struct {
		Text *string `json:"text"`
	}
	if json.Unmarshal(b, &object) != nil || object.Text == nil {
		return invalid("a document is %.40s, want a text or an object with the field text", b)
	}
	*d = rerankDoc(*object.Text)
	return nil
}

// ranked is a document's place in the request, and its score.
type ranked struct {
	index int
	score float32
}

// rank scores the documents of a body, best first, of which the best top_n stay.
func (s *Server) rank(c *call, body *rerankBody) (*Model, []ranked, error) {
	if err := c.read(body); err != nil {
		return nil, nil, err
	}
	m, err := c.use(body.Model, modelcard.Reranker, modelcard.ColBERT, modelcard.Embedding)
	if err != nil {
		return nil, nil, err
	}
	if body.Query == "" {
		return nil, nil, invalid("query is missing or empty")
	}
	documents := body.Texts
	for _, d := range body.Documents {
		documents = append(documents, string(d))
	}
	if body.Texts != nil && body.Documents != nil {
		return nil, nil, invalid("the body has texts and documents, want one of them")
	}
	if err := s.countTexts("documents", len(documents)); err != nil {
		return nil, nil, err
	}
	if body.TopN != nil && *body.TopN < 1 {
		return nil, nil, invalid("top_n is %d, want at least 1", *body.TopN)
	}
	scores, err := m.scores(c.context(), body.Query, documents)
	if err != nil {
		return nil, nil, err
	}
	out := make([]ranked, len(scores))
	for i, x := range scores {
		if m.Kind() == modelcard.Reranker && !body.RawScores {
			x = sigmoid(x)
		}
		out[i] = ranked{i, x}
	}
	slices.SortStableFunc(out, func(a, b ranked) int { return cmp.Compare(b.score, a.score) })
	if body.TopN != nil {
		out = out[:min(*body.TopN, len(out))]
	}
	return m, out, nil
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

// cohereRerank answers POST /v2/rerank.
func (s *Server) cohereRerank(c *call) (any, error) {
	var body rerankBody
	_, order, err := s.rank(c, &body)
	if err != nil {
		return nil, err
	}
	var results []map[string]any
	for _, x := range order {
		results = append(results, map[string]any{"index": x.index, "relevance_score": x.score})
	}
	return map[string]any{"results": results, "meta": map[string]any{"api_version": map[string]any{"version": "2"}}}, nil
}

// jinaRerank answers POST /v1/rerank.
func (s *Server) jinaRerank(c *call) (any, error) {
	var body rerankBody
	m, order, err := s.rank(c, &body)
	if err != nil {
		return nil, err
	}
	return objectOf(m, order, &body), nil
}

// objectOf is the body of Jina's and Infinity's responses.
func objectOf(m *Model, order []ranked, body *rerankBody) any {
	results := make([]map[string]any, len(order))
	for i, x := range order {
		results[i] = map[string]any{"index": x.index, "relevance_score": x.score}
		if body.ReturnDocuments {
			results[i]["document"] = map[string]string{"text": string(body.Documents[x.index])}
		}
	}
	return map[string]any{"object": "rerank", "model": m.Name, "results": results}
}
