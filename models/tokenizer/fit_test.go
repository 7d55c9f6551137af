package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// changed is a copy of the tiny tokenizer with added tokens, beside a tokenizer_config.json; "" is none.
func changed(t *testing.T, added string, config string) *Tokenizer {
	t.Helper()
	b, err := os.ReadFile("../embedding/testdata/tiny/" + File)
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]json.RawMessage
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	file["added_tokens"] = json.RawMessage("[" + added + "]")
	if b, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string]string{File: string(b)}
	if config != "" {
		files["tokenizer_config.json"] = config
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return open(t, dir)
}

const (
	kept    = `{"id": 2, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}`
	beyond  = `{"id": 61, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}`
	ordinal = `{"id": 61, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false}`
)

// A special token that the table has no row for is plain text; another such token is an error.
func TestFitDropsSpecialTokens(t *testing.T) {
	tok := changed(t, kept+","+beyond, "")
	if got, want := tok.Encode("a<end>", 9), []int64{2, 5, 61, 3}; !reflect.DeepEqual(got, want) {
		t.Errorf("before: %v, want %v", got, want)
	}
	if err := tok.Fit(61, 2); err != nil {
		t.Fatal(err)
	}
	if got, want := tok.Encode("[CLS]a<end>", 9), []int64{2, 2, 5, 1, 9, 44, 34, 1, 3}; !reflect.DeepEqual(got, want) {
		t.Errorf("after: %v, want %v", got, want)
	}
	if found, err := tok.Lookup("<end>", "[CLS]"); err != nil || found["[CLS]"] != 2 {
		t.Errorf("%v, %v", found, err)
	}
	if err := changed(t, ordinal, "").Fit(61, 2); err == nil || !strings.Contains(err.Error(), "the tokenizer has the token id 61, but vocab_size in config.json is 61") {
		t.Errorf("%v", err)
	}
	if err := changed(t, beyond, "").Fit(62, 2); err != nil {
		t.Error(err)
	}
}

// With the model's config.json in the folder, the tokenizer has from the start what Fit leaves.
func TestOpenKnowsTheModelsSize(t *testing.T) {
	dir := filepath.Dir(changed(t, kept+","+beyond, "").path)
	for config, want := range map[string][]int64{
		`{"vocab_size": 61}`: {2, 5, 1, 9, 44, 34, 1, 3}, `{"vocab_size": 62}`: {2, 5, 61, 3}, `{"vocab_size": "a"}`: {2, 5, 61, 3}, `{}`: {2, 5, 61, 3}, ``: {2, 5, 61, 3},
	} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		tok := open(t, dir)
		if got := tok.Encode("a<end>", 9); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", config, got, want)
		}
		if native := tok.t; tok.Fit(62, 2) != nil || tok.t != native {
			t.Errorf("%s: the tokenizer was made again", config)
		}
	}
}

// The second text of a pair has type 1, unless the model has one type only or transformers gives it none.
func TestFitTypes(t *testing.T) {
	for _, x := range []struct {
		config string
		types  int64
		want   int64
	}{
		{"", 2, 1}, {"", 1, 0}, {"", 0, 0}, {`{"tokenizer_class": "BertTokenizer"}`, 2, 1}, {`{"tokenizer_class": "TokenizersBackend"}`, 2, 0},
		{`{"model_input_names": ["input_ids", "attention_mask"]}`, 2, 0},
		{`{"tokenizer_class": "TokenizersBackend", "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}`, 2, 1},
	} {
		tok := changed(t, "", x.config)
		if err := tok.Fit(61, x.types); err != nil {
			t.Fatal(err)
		}
		if _, types := tok.EncodePair("a", "b", 9, OnlySecond); !reflect.DeepEqual(types, []int64{0, 0, 0, x.want, x.want}) {
			t.Errorf("%s, %d types: %v, want %d at the end", x.config, x.types, types, x.want)
		}
	}
}
