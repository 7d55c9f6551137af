package encoder

import (
	"errors"
	"fmt"
	"slices"

	"rag-retrieval-go/models/hf"
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
	if err := checkExtras(dir, t); err != nil {
		return c, nil, errors.Join(err, t.Close())
	}
	if err := t.Fit(c.VocabSize, c.TypeVocabSize); err != nil {
		return c, nil, errors.Join(fmt.Errorf("%s: %w", dir, err), t.Close())
	}
	return c, t, nil
}

// OwnLength is the default length, in tokens, at which texts are cut for a folder's model: the model_max_length of its tokenizer,
// as in transformers, or the most that the model can read.
func (c Config) OwnLength(dir string) (int, error) {
	n, err := hf.ModelMaxLength(dir)
	if n == 0 {
		n = c.MaxLength()
	}
	return min(n, c.MaxLength()), err
}

// checkExtras returns an error for files of the folder that would change the result in other programs and are not supported.
func checkExtras(dir string, t *tokenizer.Tokenizer) error {
	b, err := hf.ReadSentenceBertConfig(dir)
	if err == nil && b.LowerCase && !slices.Equal(t.Encode("A", t.SpecialTokens()+9), t.Encode("a", t.SpecialTokens()+9)) {
		return fmt.Errorf("%s: do_lower_case is true in sentence_bert_config.json, but the tokenizer tells capitals apart, which is not supported", dir)
	}
	return err
}
