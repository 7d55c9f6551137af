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
	if n := t.Size(); n > c.VocabSize {
		err := fmt.Errorf("%s: the tokenizer knows %d tokens, vocab_size in config.json is %d", dir, n, c.VocabSize)
		return c, nil, errors.Join(err, t.Close())
	}
	return c, t, nil
}
