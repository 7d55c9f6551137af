package retriever

import (
	"context"
	"fmt"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/tokenizer"
)

// Tokenize gives the tokens of a text as the model's tokenizer makes them, without the model's prompt and uncut. special adds the
// special tokens around it. It waits for a core as every call of a queue does, and returns the context's error if that ends before.
func (m *Model) Tokenize(ctx context.Context, text string, special bool) (tokens []tokenizer.Token, err error) {
	err = m.tokenize(ctx, func() error {
		tokens = m.texts.Tokenize(text, special)
		return nil
	})
	return tokens, err
}

// tokenize calls f, which tokenizes one text, when the model's queue has a core left for it.
func (m *Model) tokenize(ctx context.Context, f func() error) error {
	if m.tokenizing != nil {
		return m.tokenizing(ctx, f)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f()
}

// CutTexts cuts each text to its first n tokens, special tokens not counted. Where the model reads no more in any case, texts stay
// as they are. It stops when the context ends.
func (m *Model) CutTexts(ctx context.Context, texts []string, n int) ([]string, error) {
	if n >= max(m.info.PassageMaxLen, m.info.MaxLen) {
		return texts, nil
	}
	out := make([]string, len(texts))
	for i, t := range texts {
		err := m.tokenize(ctx, func() error {
			out[i] = m.texts.Cut(t, n)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// EncodeIDs gives the embedding of each sequence of tokens, by their numbers in the model's vocabulary: finished sequences, to which
// no prompt and no special token is added. Long ones are cut unless o.Long says otherwise. An error about a sequence is a
// *TextError with its number. A reranker makes no vectors: that is an error.
func (m *Model) EncodeIDs(ctx context.Context, sequences [][]int64, o EncodeOptions) ([]Embedding, error) {
	if _, err := m.Embedder(); err != nil {
		return nil, err
	}
	rows := make([]encoder.Row, len(sequences))
	for i, ids := range sequences {
		ids, err := m.checkIDs(ids, o.Long)
		if err != nil {
			return nil, &TextError{Index: i, Err: err}
		}
		rows[i].IDs = ids
	}
	return m.embedder.(interface {
		encodeRows(ctx context.Context, rows []encoder.Row, o EncodeOptions) ([]Embedding, error)
	}).encodeRows(ctx, rows, o)
}

// checkIDs gives the tokens that the model reads of a sequence.
func (m *Model) checkIDs(ids []int64, long LongText) ([]int64, error) {
	if len(ids) == 0 {
		return nil, fmt.Errorf("it has no token")
	}
	for _, id := range ids {
		if largest := m.texts.LargestID(); id < 0 || id > largest {
			return nil, fmt.Errorf("the token id %d is not in the model's vocabulary, want 0 to %d", id, largest)
		}
	}
	limit := m.info.PassageMaxLen
	switch over := len(ids) - limit; {
	case over <= 0:
	case long == Refuse:
		return nil, &LengthError{Tokens: len(ids), Limit: limit}
	case long == CutStart:
		ids = ids[over:]
	default:
		ids = ids[:limit]
	}
	return ids, nil
}
