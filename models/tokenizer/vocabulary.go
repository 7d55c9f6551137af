package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fromVocabulary makes a tokenizer.json from a folder's vocab.txt and tokenizer_config.json. It equals transformers'
// BertTokenizer.
func fromVocabulary(dir string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(dir, VocabFile))
	if err != nil {
		return nil, err
	}
	vocab := map[string]int{}
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		vocab[strings.TrimSuffix(line, "\r")] = i
	}
	c, err := bertConfig(dir)
	if err != nil {
		return nil, err
	}
	specials, added := map[string]any{}, []any{}
	for _, token := range []string{c.Pad, c.Unk, c.Cls, c.Sep, c.Mask} {
		id, ok := vocab[token]
		if !ok {
			if token == c.Mask || token == c.Pad {
				continue
			}
			return nil, fmt.Errorf("%s has no %q", filepath.Join(dir, VocabFile), token)
		}
		specials[token] = map[string]any{"id": token, "ids": []int{id}, "tokens": []string{token}}
		added = append(added, map[string]any{
			"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
		})
	}
	special := func(token string, kind int) any {
		return map[string]any{"SpecialToken": map[string]any{"id": token, "type_id": kind}}
	}
	text := func(id string, kind int) any {
		return map[string]any{"Sequence": map[string]any{"id": id, "type_id": kind}}
	}
	single := []any{special(c.Cls, 0), text("A", 0), special(c.Sep, 0)}
	return json.Marshal(map[string]any{
		"version": "1.0", "added_tokens": added,
		"normalizer": map[string]any{
			"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": c.Chinese, "strip_accents": c.StripAccents, "lowercase": c.Lower,
		},
		"pre_tokenizer": map[string]any{"type": "BertPreTokenizer"},
		"post_processor": map[string]any{
			"type": "TemplateProcessing", "single": single, "special_tokens": specials,
			"pair": append(single[:3:3], text("B", 1), special(c.Sep, 1)),
		},
		"decoder": map[string]any{"type": "WordPiece", "prefix": "##", "cleanup": true},
		"model": map[string]any{
			"type": "WordPiece", "unk_token": c.Unk, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab,
		},
	})
}

// vocabulary holds the token ids of a tokenizer.json: Words for models that map words to ids, or List for Unigram, whose
// entries [word, score] are numbered in order. Added are the added tokens of either.
type vocabulary struct {
	Words map[string]int64
	List  []json.RawMessage
	Added []addedToken
}

// addedToken is a token besides the vocabulary. It is matched before a text is split into words.
type addedToken struct {
	ID                  int64
	Content             string
	Special, Normalized bool
}

// readVocabulary reads the vocabulary from the top-level keys of a tokenizer.json.
func readVocabulary(file map[string]json.RawMessage) (v vocabulary, err error) {
	if raw := file["added_tokens"]; raw != nil {
		if err := json.Unmarshal(raw, &v.Added); err != nil {
			return v, fmt.Errorf("added_tokens: %w", err)
		}
	}
	var model struct{ Vocab json.RawMessage }
	if raw := file["model"]; raw != nil {
		err = json.Unmarshal(raw, &model)
	}
	switch {
	case err != nil || len(model.Vocab) == 0:
	case model.Vocab[0] == '[':
		err = json.Unmarshal(model.Vocab, &v.List)
	default:
		err = json.Unmarshal(model.Vocab, &v.Words)
	}
	if err != nil {
		err = fmt.Errorf("model.vocab: %w", err)
	}
	return v, err
}

// largest returns the largest token id.
func (v vocabulary) largest() int64 {
	out := int64(len(v.List)) - 1
	for _, id := range v.Words {
		out = max(out, id)
	}
	for _, a := range v.Added {
		out = max(out, a.ID)
	}
	return out
}

// lookup returns the ids of words.
func (v vocabulary) lookup(words []string) map[string]int64 {
	found := map[string]int64{}
	for i, raw := range v.List {
		var entry []any
		if json.Unmarshal(raw, &entry) != nil || len(entry) == 0 {
			continue
		}
		if word, ok := entry[0].(string); ok && slices.Contains(words, word) {
			found[word] = int64(i)
		}
	}
	for _, word := range words {
		if id, ok := v.Words[word]; ok {
			found[word] = id
		}
	}
	for _, a := range v.Added {
		if slices.Contains(words, a.Content) {
			found[a.Content] = a.ID
		}
	}
	return found
}

// tokenName reads a special token of tokenizer_config.json: a string, or an object with its content.
type tokenName string

func (t *tokenName) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = tokenName(s)
		return nil
	}
	var x struct{ Content string }
	err := json.Unmarshal(b, &x)
	*t = tokenName(x.Content)
	return err
}

type bertSettings struct {
	Lower, Chinese           bool
	StripAccents             *bool
	Pad, Unk, Cls, Sep, Mask string
}

// bertConfig reads tokenizer_config.json. BertTokenizer's defaults apply for missing keys, or if there is no such file.
func bertConfig(dir string) (bertSettings, error) {
	file := struct {
		Lower   bool      `json:"do_lower_case"`
		Chinese bool      `json:"tokenize_chinese_chars"`
		Strip   *bool     `json:"strip_accents"`
		Pad     tokenName `json:"pad_token"`
		Unk     tokenName `json:"unk_token"`
		Cls     tokenName `json:"cls_token"`
		Sep     tokenName `json:"sep_token"`
		Mask    tokenName `json:"mask_token"`
	}{true, true, nil, "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
	path := filepath.Join(dir, "tokenizer_config.json")
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return bertSettings{}, fmt.Errorf("%s: %w", path, err)
	}
	return bertSettings{file.Lower, file.Chinese, file.Strip, string(file.Pad), string(file.Unk), string(file.Cls), string(file.Sep), string(file.Mask)}, nil
}
