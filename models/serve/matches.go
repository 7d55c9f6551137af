package serve

import (
	"errors"
	"math"
	"net/http"
	"unicode/utf8"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/retriever"
)

// matchesBody is the response of POST /page/matches.
type matchesBody struct {
	Model string `json:"model"`
	// Similarity is how the score is made of the largest product of each token of the query: "maxsim", their sum, or "meanmaxsim", their
	// mean.
	Similarity string      `json:"similarity"`
	Score      float32     `json:"score"` // that of POST /rerank
	Query      matchTokens `json:"query"`
	Document   matchTokens `json:"document"`
	// Matches has a row for each token of the query that counts, with its product with each token of the document that counts.
	Matches [][]float32 `json:"matches"`
}

type matchTokens struct {
	Tokens []matchToken `json:"tokens"`
	Cut    bool         `json:"cut"` // the text has more tokens than the model reads of it
}

// matchToken is a token with its place in the text, in characters (Unicode code points). Tokens that do not stand for a part of the text
// have none.
type matchToken struct {
	ID      int64  `json:"id"`
	Text    string `json:"text"` // as the vocabulary has it
	Role    string `json:"role"` // text, prompt, special, marker or expansion
	Start   int    `json:"start"`
	End     int    `json:"end"`
	Counted bool   `json:"counted"` // its vector counts in the score
}

// pageMatches answers POST /page/matches, which the page asks for: which tokens of a document a ColBERT model matches with those of a
// query. Texts that are too long are cut, as /rerank cuts them.
func (s *Server) pageMatches(c *call) (any, error) {
	var body struct {
		Model    string `json:"model"`
		Query    string `json:"query"`
		Document string `json:"document"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	m, err := c.use(body.Model, modelcard.ColBERT)
	if err != nil {
		return nil, err
	}
	if body.Query == "" || body.Document == "" {
		return nil, invalid("query and document must be texts that are not empty")
	}
	e, err := m.m.Embedder()
	if err != nil {
		return nil, err
	}
	multi, ok := e.(retriever.MultiVector)
	if !ok {
		return nil, invalid("the model %q has one vector for a text: there are no matches of tokens", m.Name)
	}
	x, err := multi.Matches(c.context(), body.Query, body.Document)
	if errors.Is(err, retriever.ErrManyMatches) {
		return nil, &Error{Status: http.StatusRequestEntityTooLarge, Kind: validation, Message: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	if math.IsNaN(float64(x.Score)) {
		return nil, &Error{Status: http.StatusFailedDependency, Kind: backend, Message: "the model's score is not a number"}
	}
	return matchesBody{
		Model: m.Name, Similarity: m.m.Info().Similarity, Score: x.Score, Matches: x.Products,
		Query: inCharacters(body.Query, x.Query), Document: inCharacters(body.Document, x.Passage),
	}, nil
}

// inCharacters gives tokens with their places in characters. A token that begins or ends within a character has all of it.
func inCharacters(text string, l retriever.TokenList) matchTokens {
	starts := make([]int, len(text)+1) // how many characters begin before each byte
	n := 0
	for i := range len(text) {
		starts[i] = n
		if utf8.RuneStart(text[i]) {
			n++
		}
	}
	starts[len(text)] = n
	out := matchTokens{Tokens: make([]matchToken, len(l.Tokens)), Cut: l.Cut}
	for i, t := range l.Tokens {
		x := matchToken{ID: t.ID, Text: t.Name, Role: string(t.Role), Counted: t.Counted}
		if t.End > t.Start {
			x.Start, x.End = starts[t.Start], starts[t.End]
			if !utf8.RuneStart(text[t.Start]) {
				x.Start--
			}
		}
		out.Tokens[i] = x
	}
	return out
}
