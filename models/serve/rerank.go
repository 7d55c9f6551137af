package serve

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"unicode/utf8"

	"rag-retrieval-go/models/modelcard"
)

// cohereTokens is Cohere's max_tokens_per_doc where a request has none.
const cohereTokens = 4096

// rerankBody is the body of a rerank request: the union of Cohere's, Jina's, Infinity's, vLLM's and TEI's.
type rerankBody struct {
	Model           string            `json:"model"`
	Query           string            `json:"query"`
	Documents       []json.RawMessage `json:"documents"`
	TopN            *int              `json:"top_n"`
	ReturnDocuments *bool             `json:"return_documents"`
	RawScores       bool              `json:"raw_scores"`
	// MaxTokensPerDoc cuts each document to so many tokens first.
	MaxTokensPerDoc *int `json:"max_tokens_per_doc"`
	// Texts and ReturnText are TEI's documents and return_documents.
	Texts               json.RawMessage `json:"texts"`
	ReturnText          bool            `json:"return_text"`
	Truncate            *bool           `json:"truncate"` // false refuses pairs that are too long
	TruncationDirection string          `json:"truncation_direction"`

	// RankFields and MaxChunksPerDoc are of the first version of Cohere's API, and are not heeded: they only tell its requests from Jina's.
	RankFields      json.RawMessage `json:"rank_fields"`
	MaxChunksPerDoc json.RawMessage `json:"max_chunks_per_doc"`

	texts []string // the documents in whichever form they came
}

// check says whether the fields are right, and fills in texts.
func (b *rerankBody) check(s *Server) error {
	switch {
	case b.Query == "":
		return missing("query")
	case given(b.Texts) && b.Documents != nil:
		return about("documents", invalid("the body has texts and documents, want one of them"))
	case b.TopN != nil && *b.TopN < 1:
		return about("top_n", invalid("top_n is %d, want at least 1", *b.TopN))
	case b.MaxTokensPerDoc != nil && *b.MaxTokensPerDoc < 1:
		return about("max_tokens_per_doc", invalid("max_tokens_per_doc is %d, want at least 1", *b.MaxTokensPerDoc))
	}
	if d, err := direction(b.TruncationDirection); err != nil || d {
		return cmp.Or(err, about("truncation_direction", invalid("truncation_direction is Left: the documents of a query are cut at their ends, want Right")))
	}
	if given(b.Texts) {
		texts, err := readTexts("texts", b.Texts)
		if b.texts = texts; err != nil {
			return err
		}
		return s.countTexts("texts", len(texts), 0)
	}
	for i, raw := range b.Documents {
		d, ok := readDocument(raw)
		if !ok {
			return about("documents", invalid("documents[%d] is %.40s, want a text or an object with the field text", i, []byte(raw)))
		}
		b.texts = append(b.texts, d)
	}
	return s.countTexts("documents", len(b.texts), 0)
}

// readDocument reads a document: a text, or an object with the field text.
func readDocument(b json.RawMessage) (text string, ok bool) {
	var object struct {
		Text *string `json:"text"`
	}
	switch {
	case b[0] == '"':
		return text, json.Unmarshal(b, &text) == nil
	case json.Unmarshal(b, &object) != nil || object.Text == nil:
		return "", false
	}
	return *object.Text, true
}

// ranked is a document's place in the request, and its score.
type ranked struct {
	index int
	score float32
}

// rank scores the documents of a body, best first, of which the best top_n stay. Each is cut to maxTokens tokens first, or to the body's
// own number; 0: only where the model cuts it.
func (s *Server) rank(c *call, body *rerankBody, maxTokens int) (*Model, []ranked, error) {
	if err := c.read(body); err != nil {
		return nil, nil, err
	}
	m, err := c.use(body.Model, modelcard.Reranker, modelcard.ColBERT, modelcard.Embedding)
	if err == nil {
		err = body.check(s)
	}
	if err != nil {
		return nil, nil, err
	}
	if body.MaxTokensPerDoc != nil {
		maxTokens = *body.MaxTokensPerDoc
	}
	documents := body.texts
	if maxTokens > 0 {
		if documents, err = m.m.CutTexts(c.context(), documents, maxTokens); err != nil {
			return nil, nil, err
		}
	}
	c.characters = len(documents) * utf8.RuneCountInString(body.Query)
	for _, d := range documents {
		c.characters += utf8.RuneCountInString(d)
	}
	scores, err := m.scores(c.context(), body.Query, documents, body.Truncate != nil && !*body.Truncate)
	if err != nil {
		return nil, nil, err
	}
	order, err := inOrder(scores)
	if err != nil {
		return nil, nil, err
	}
	if m.Kind() == modelcard.Reranker && !body.RawScores {
		for i := range order {
			order[i].score = sigmoid(order[i].score)
		}
	}
	if body.TopN != nil {
		order = order[:min(*body.TopN, len(order))]
	}
	return m, order, nil
}

// inOrder sorts documents by their scores, best first; those of equal scores stay in order. They are the model's own scores: the sigmoids
// of large ones are equal.
func inOrder(scores []float32) ([]ranked, error) {
	out := make([]ranked, len(scores))
	for i, x := range scores {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return nil, &Error{Status: http.StatusInternalServerError, Kind: backend, Message: fmt.Sprintf("the score of document %d is %v", i, x)}
		}
		out[i] = ranked{i, x}
	}
	slices.SortStableFunc(out, func(a, b ranked) int { return cmp.Compare(b.score, a.score) })
	return out, nil
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

// cohereRerank answers POST /v2/rerank.
func (s *Server) cohereRerank(c *call) (any, error) {
	var body rerankBody
	_, order, err := s.rank(c, &body, cohereTokens)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"id": c.record.id, "results": resultsOf(order, &body),
		"meta": map[string]any{
			"api_version": map[string]any{"version": "2"}, "tokens": map[string]int{"input_tokens": c.trace.Totals().Tokens, "output_tokens": 0},
		},
	}, nil
}

// jinaRerank answers POST /v1/rerank: Jina's route, and that of the first version of Cohere's API. A response has the documents unless the
// request says otherwise, as Jina's clients expect; only where it has a field of Cohere's alone, it has none, as in that API.
func (s *Server) jinaRerank(c *call) (any, error) {
	var body rerankBody
	m, order, err := s.rank(c, &body, 0)
	if err != nil {
		return nil, err
	}
	if body.ReturnDocuments == nil {
		ofJina := !given(body.RankFields) && !given(body.MaxChunksPerDoc)
		body.ReturnDocuments = &ofJina
	}
	return objectOf(c, m, order, &body), nil
}

// objectOf is the body of Jina's, vLLM's and Infinity's responses.
func objectOf(c *call, m *Model, order []ranked, body *rerankBody) any {
	tokens := c.trace.Totals().Tokens
	return map[string]any{
		"id": c.record.id, "object": "rerank", "created": c.record.start.Unix(), "model": m.Name, "results": resultsOf(order, body),
		"usage": map[string]int{"prompt_tokens": tokens, "total_tokens": tokens},
	}
}

func resultsOf(order []ranked, body *rerankBody) []map[string]any {
	results := make([]map[string]any, len(order))
	for i, x := range order {
		results[i] = map[string]any{"index": x.index, "relevance_score": x.score}
		if body.ReturnDocuments != nil && *body.ReturnDocuments {
			results[i]["document"] = map[string]string{"text": body.texts[x.index]}
		}
	}
	return results
}

// rerank answers POST /rerank: TEI's bare array for a body with texts, Infinity's and Jina's object for one with documents.
func (s *Server) rerank(c *call) (any, error) {
	var body rerankBody
	m, order, err := s.rank(c, &body, 0)
	if err != nil {
		return nil, err
	}
	c.setTEIHeaders()
	if !given(body.Texts) {
		return objectOf(c, m, order, &body), nil
	}
	out := make([]map[string]any, len(order))
	for i, x := range order {
		out[i] = map[string]any{"index": x.index, "score": x.score}
		if body.ReturnText {
			out[i]["text"] = body.texts[x.index]
		}
	}
	return out, nil
}
