package encoder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Keys are the entries of a config.json. An architecture, and a head over it, reads them through Read alone, which notes
// what was read: so a user can be told what of the file was understood and what was ignored. A key inside an object is named
// with dots, such as "rope_parameters.rope_theta".
type Keys struct {
	file    []byte
	values  map[string]string // every key with its value as it is written
	read    map[string]bool
	ignores map[string]string // the architecture's
}

// IgnoredKey is a key that stands in a config.json and changes nothing.
type IgnoredKey struct{ Key, Value, Why string }

// unknownKey is the reason where there is no better one.
const unknownKey = "not known to this program"

// ignores are keys of every architecture that change nothing here, with the reasons.
var ignores = map[string]string{
	"_name_or_path": "where a copy came from", "transformers_version": "what wrote the file", "auto_map": "code in a folder is not run",
	"dtype": "weights are read as they are stored, and computed with in float32", "torch_dtype": "weights are read as they are stored, and computed with in float32",
	"use_cache": "for generating text only", "tie_word_embeddings": "for a language model's head only", "id2label": "the names of labels", "label2id": "the names of labels",
	"num_labels": "the weights say it", "problem_type": "the loss says it", "add_cross_attention": "there is nothing to attend to but the text",
	"gradient_checkpointing": "the run's own key says it",
	"bos_token_id":           "the tokenizer's files say it", "cls_token_id": "the tokenizer's files say it", "eos_token_id": "the tokenizer's files say it",
	"sep_token_id": "the tokenizer's files say it", "mask_token_id": "the tokenizer's files say it", "unk_token_id": "the tokenizer's files say it",
	"sentence_transformers.activation_fn": "scores are given as they are, without an activation", "sentence_transformers.version": "what wrote the file",
	"output_attentions": "for transformers' outputs only", "output_hidden_states": "for transformers' outputs only", "return_dict": "for transformers' outputs only",
}

// parseKeys reads a config.json.
func parseKeys(b []byte) (*Keys, error) {
	k := &Keys{file: b, values: map[string]string{}, read: map[string]bool{}}
	var file map[string]json.RawMessage
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	return k, k.flatten("", file)
}

// flatten notes the values of an object and of those inside it.
func (k *Keys) flatten(prefix string, object map[string]json.RawMessage) error {
	for key, raw := range object {
		var inner map[string]json.RawMessage
		if json.Unmarshal(raw, &inner) == nil && len(inner) > 0 {
			if err := k.flatten(prefix+key+".", inner); err != nil {
				return err
			}
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			return err
		}
		k.values[prefix+key] = compact.String()
	}
	return nil
}

// Read fills a struct as json.Unmarshal does, and notes the keys that its fields name. Nil Keys have none.
func (k *Keys) Read(to any) error {
	if k == nil {
		return nil
	}
	k.note("", reflect.TypeOf(to))
	err := json.Unmarshal(k.file, to)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Errorf("%s is of the kind %s, want %s", keyOf(reflect.TypeOf(to), wrong.Field), wrong.Value, jsonKind(wrong.Type))
	}
	return err
}

// keyOf takes the names of embedded structs out of a field's path.
func keyOf(t reflect.Type, path string) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	first, rest, _ := strings.Cut(path, ".")
	if t.Kind() == reflect.Struct {
		if f, ok := t.FieldByName(first); ok && f.Anonymous {
			return keyOf(f.Type, rest)
		}
	}
	return path
}

// jsonKind is what JSON calls the values of a type.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return jsonKind(t.Elem())
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// note marks the keys of a struct's fields as read; those of a struct in it are keys of their own.
func (k *Keys) note(prefix string, t reflect.Type) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		k.read[strings.TrimSuffix(prefix, ".")] = true
		return
	}
	for i := range t.NumField() {
		if t.Field(i).Anonymous {
			k.note(prefix, t.Field(i).Type)
			continue
		}
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			k.note(prefix+name+".", t.Field(i).Type)
		}
	}
}

// understood says whether a key, or the object that it stands in, was read as a whole.
func (k *Keys) understood(key string) bool {
	for ; ; key = key[:strings.LastIndex(key, ".")] {
		if k.read[key] {
			return true
		}
		if !strings.Contains(key, ".") {
			return false
		}
	}
}

// Understood are the keys of the file that were read, each as "key=value", sorted.
func (k *Keys) Understood() (out []string) {
	if k == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(k.values)) {
		if k.understood(key) {
			out = append(out, key+"="+k.values[key])
		}
	}
	return out
}

// Ignored are the other keys of the file, sorted. An object of which nothing was read is one key.
func (k *Keys) Ignored() (out []IgnoredKey) {
	if k == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(k.values)) {
		if k.understood(key) {
			continue
		}
		about, value := k.unread(key), k.values[key]
		if about != key {
			value = "{…}"
		}
		if n := len(out); n == 0 || out[n-1].Key != about {
			out = append(out, IgnoredKey{about, value, k.why(about)})
		}
	}
	return out
}

// unread is the outermost object around a key of which nothing was read and no part has a reason of its own, or the key.
func (k *Keys) unread(key string) string {
	for at := range key {
		if key[at] != '.' {
			continue
		}
		inside := func(name string) bool { return strings.HasPrefix(name, key[:at+1]) }
		known := slices.ContainsFunc(slices.Collect(maps.Keys(ignores)), inside)
		if !known && !slices.ContainsFunc(slices.Collect(maps.Keys(k.read)), inside) {
			return key[:at]
		}
	}
	return key
}

func (k *Keys) why(key string) string {
	for _, reasons := range []map[string]string{k.ignores, ignores} {
		if why, ok := reasons[key]; ok {
			return why
		}
	}
	return unknownKey
}
