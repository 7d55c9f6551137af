package retriever

import (
	"context"
	"errors"
	"fmt"

	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/prompt"
)

// maxMatches bounds what Matches computes, and a server's response: about 10 MB as JSON.
const maxMatches = 1_000_000

// ErrManyMatches says that two texts have too many pairs of tokens.
var ErrManyMatches = errors.New("the query and the passage have too many pairs of tokens")

// Token is a token of a text as a ColBERT model reads it.
type Token = colbert.Token

// Matches are the products of a query's tokens with a passage's: what a MaxSim score is made of.
type Matches struct {
	Query, Passage TokenList
	// Products has a row for each token of the query that counts, with a number for each token of the passage that counts.
	Products [][]float32
	// Score is the score of a ranking: the sum of the rows' largest products, or with Info's similarity "meanmaxsim" their mean.
	Score float32
}

// TokenList is a text's tokens. Those that do not count in MaxSim are among them.
type TokenList struct {
	Tokens []Token
	Cut    bool // the text has more tokens than the model reads of it
}

func (l TokenList) counted() (ids []int64) {
	for _, t := range l.Tokens {
		if t.Counted {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// Matches implements MultiVector.
func (e *multiVector) Matches(ctx context.Context, query, passage string) (m Matches, err error) {
	texts := []prompt.Text{{Query: true, Text: query}, {Text: passage}}
	for i, x := range []struct {
		to     *TokenList
		maxLen int
	}{{&m.Query, e.info.QueryMaxLen}, {&m.Passage, e.info.PassageMaxLen}} {
		err := e.b.Queue.Tokenize(ctx, func() (err error) {
			if x.to.Tokens, x.to.Cut, err = e.scorer.Tokens(texts[i], x.maxLen); err != nil {
				err = &TextError{Index: i, Err: err}
			}
			return err
		})
		if err != nil {
			return m, err
		}
	}
	if n := len(m.Query.counted()) * len(m.Passage.counted()); n > maxMatches {
		return m, fmt.Errorf("%w: %d, want at most %d", ErrManyMatches, n, maxMatches)
	}
	embeddings, err := e.Encode(ctx, texts, EncodeOptions{})
	if err != nil {
		return m, err
	}
	for i, l := range []TokenList{m.Query, m.Passage} {
		if n := len(l.counted()); n != embeddings[i].Vectors() {
			return m, &TextError{Index: i, Err: fmt.Errorf("%d tokens count, and there are %d vectors", n, embeddings[i].Vectors())}
		}
	}
	scores, err := e.Similarity(embeddings[0], embeddings[1:])
	if err != nil {
		return m, err
	}
	m.Score = scores[0]
	m.Products = products(embeddings[0].Values, embeddings[1].Values, int(e.info.Dimension))
	return m, nil
}

// products multiplies each vector of a with each of b. Both have vectors of a width, end to end.
func products(a, b []float32, width int) [][]float32 {
	out := make([][]float32, 0, len(a)/width)
	for ; len(a) > 0; a = a[width:] {
		row := make([]float32, 0, len(b)/width)
		for k := 0; k < len(b); k += width {
			sum := float32(0)
			for i, x := range b[k : k+width] {
				sum += a[i] * x
			}
			row = append(row, sum)
		}
		out = append(out, row)
	}
	return out
}
