package encoder

import (
	"errors"
	"fmt"

	"rag-retrieval-go/models/tokenizer"
)

// Open reads a folder's config and tokenizer, and checks that they fit each other.
func Open(dir string) (Config, *tokenizer.Tokenizer, error) {
	c, err := LoadConfig(dir)
	if err != nil {
		return c, nil, err
	}
	t, err := tokenizer.Open(dir)
	if err != nil {
		return c, nil, err
	}
	if err := t.Check(c.VocabSize, c.TypeVocabSize); err != nil {
		return c, nil, errors.Join(fmt.Errorf("%s: %w", dir, err), t.Close())
	}
	return c, t, nil
}
