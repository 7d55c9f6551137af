package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"rag-retrieval-go/internal/nearest"
	"rag-retrieval-go/models/modelcard"
)

// originalKey is a key of RAG-Retrieval's files and command lines that Train does not have.
type originalKey struct {
	key        string             // the key of Train with the same meaning; "" if there is none
	reason     string             // why a key without such a key is ignored
	ignored    []string           // the values that can be ignored; nil means all
	equivalent map[string]Setting // values that equal a setting of another key
	expected   string             // the error for all other values
}

// originalKeys holds these keys by name.
var originalKeys = map[string]originalKey{
	"dataset":                 {key: "train_dataset"},
	"train_dataset_vec":       {key: "teacher_embeddings"},
	"train_dataset_vec_path":  {key: "teacher_embeddings"},
	"teacher_embedding_file":  {key: "teacher_embeddings"},
	"teacher_emebedding_file": {key: "teacher_embeddings"},
	"teacher_embedding_path":  {key: "teacher_embeddings"},
	"teacher_emebedding_dim":  {key: "teacher_embedding_dim"},
	"teatch_emebedding_dim":   {key: "teacher_embedding_dim"},

	"train_type": {
		reason: "loss_type says it", ignored: []string{"train"},
		equivalent: map[string]Setting{"distill": {"loss_type", "stella"}}, expected: "want train or distill",
	},
	"model_type": {
		reason: "the model's config.json says it", ignored: []string{"bert_encoder", "llm_decoder"},
		expected: "want bert_encoder or llm_decoder",
	},
	"num_labels": {
		reason: "a reranker has one score", ignored: []string{"1"}, expected: "want 1: a reranker has one score",
	},
	"save_strategy": {reason: "save_steps and save_on_epoch_end say it"},
	"log_with":      {reason: "metrics.jsonl, report.html and TensorBoard's files are always written"},
	"num_workers":   {reason: "tokens are prepared while training"},
	"device":        {reason: "provider says it"},
	"project_name":  {reason: "nothing is sent anywhere"},
}

// OriginalKeys returns the names of RAG-Retrieval's keys that Train does not have, sorted.
func OriginalKeys() []string {
	var names []string
	for name := range originalKeys {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Translate translates a key of RAG-Retrieval and its value into a key of Train and a value. If the key has no meaning here,
// to is empty and reason says why. If name is not one of OriginalKeys, ok is false. A value that would change the training
// and is not supported is an error.
func Translate(name, value string) (to Setting, reason string, ok bool, err error) {
	f, ok := originalKeys[name]
	if !ok {
		return Setting{name, value}, "", false, nil
	}
	if f.key != "" {
		return Setting{f.key, value}, "", true, nil
	}
	if to, is := f.equivalent[value]; is {
		return to, "", true, nil
	}
	if f.ignored != nil && !slices.Contains(f.ignored, value) {
		return Setting{}, "", true, fmt.Errorf("%s is %q, %s", name, value, f.expected)
	}
	return Setting{}, f.reason, true, nil
}

// Read sets the keys of c that a YAML file has. A key that Train does not have is an error with file and line. Ignored are
// RAG-Retrieval's keys without a meaning here and keys of other kinds of models; the notes name them and say why. A key
// without a value is ignored too.
func (c *Train) Read(path string) (notes []string, err error) {
	keys, err := parse(path)
	if err != nil || keys == nil {
		return nil, err
	}
	if notes, err = translate(path, keys, c.Kind); err != nil {
		return nil, err
	}
	before := *c
	d := yaml.NewDecoder(bytes.NewReader(nil))
	for _, pair := range keys.Values { // one by one, so that each mistake has its line
		if err := d.DecodeFromNode(ast.Mapping(keys.Start, false, pair), c); err != nil {
			at := pair.Key.GetToken()
			return nil, fmt.Errorf("%s:%d: %s: %s", path, at.Position.Line, at.Value, mismatch(err, at.Value, pair.Value))
		}
	}
	return append(notes, c.revertOtherKinds(before)...), nil
}

// byteOrderMark is at the start of files from some Windows editors. The YAML library would read it as part of the first key.
const byteOrderMark = "\xef\xbb\xbf"

// parse returns the keys of a file, or nil if it has none.
func parse(path string) (*ast.MappingNode, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := parser.ParseBytes(bytes.TrimPrefix(b, []byte(byteOrderMark)), 0)
	if err != nil {
		return nil, readError(path, err)
	}
	var keys *ast.MappingNode
	for i, doc := range f.Docs {
		switch body := doc.Body.(type) {
		case nil, *ast.NullNode, *ast.CommentGroupNode:
		case *ast.MappingNode:
			if i > 0 && keys != nil {
				return nil, fmt.Errorf("%s:%d: want one document", path, lineOf(doc))
			}
			keys = body
		default:
			return nil, fmt.Errorf("%s:%d: want keys with values", path, lineOf(body))
		}
	}
	return keys, nil
}

// lineOf returns the line where a node begins.
func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil {
		return t.Position.Line
	}
	return 1
}

// translate replaces RAG-Retrieval's keys in a file's syntax tree by those of Train. It removes keys without a value and
// keys without a meaning here; the notes name the latter and say why.
func translate(path string, keys *ast.MappingNode, kind modelcard.Kind) (notes []string, err error) {
	var kept []*ast.MappingValueNode
	seen, own := map[string]bool{}, ownKeys()
	for _, pair := range keys.Values {
		token := pair.Key.GetToken()
		name := token.Value
		if _, ok := originalKeys[name]; !ok && own[name] == nil { // also for keys that are not strings, which the library would ignore
			return nil, fmt.Errorf("%s:%d: %s is not a known key%s; train %s --help lists them", path, token.Position.Line, name, like(name, own), kind)
		}
		if _, null := pair.Value.(*ast.NullNode); null {
			continue
		}
		value := ""
		if scalar, ok := pair.Value.(ast.ScalarNode); ok {
			value = strings.TrimSpace(fmt.Sprint(scalar.GetValue()))
		}
		to, reason, ok, err := Translate(name, value)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s:%d: %w", path, token.Position.Line, err)
		case ok && to.Key == "":
			notes = append(notes, name+": "+reason)
			continue
		case seen[to.Key]:
			return nil, fmt.Errorf("%s:%d: %s: %s was given before", path, token.Position.Line, name, to.Key)
		case ok:
			rename(pair, to, value)
		}
		seen[to.Key] = true
		kept = append(kept, pair)
	}
	keys.Values = kept
	return notes, nil
}

// ownKeys returns the keys of Train with the types of their fields.
func ownKeys() map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	for i := range reflect.TypeFor[Train]().NumField() {
		field := reflect.TypeFor[Train]().Field(i)
		keys[field.Tag.Get("yaml")] = field.Type
	}
	return keys
}

// like names a key that a mistyped one may stand for, or is empty.
func like(name string, own map[string]reflect.Type) string {
	if name == "model" { // the short name of the flag
		return " (did you mean model_name_or_path?)"
	}
	if key := nearest.Name(name, append(slices.Sorted(maps.Keys(own)), OriginalKeys()...)); key != "" {
		return fmt.Sprintf(" (did you mean %s?)", key)
	}
	return ""
}

// rename replaces a key in the syntax tree and, if it differs, its value. The new tokens keep the position of the old ones,
// for error messages.
func rename(pair *ast.MappingValueNode, to Setting, value string) {
	key := pair.Key.GetToken().Clone()
	key.Value = to.Key
	pair.Key = ast.String(key)
	if to.Value != value {
		text := pair.Value.GetToken().Clone()
		text.Value = to.Value
		pair.Value = ast.String(text)
	}
}

// revertOtherKinds resets the keys that are not for c's kind to their values before. The notes name them.
func (c *Train) revertOtherKinds(before Train) (notes []string) {
	now, old := reflect.ValueOf(c).Elem(), reflect.ValueOf(before)
	for i := range now.NumField() {
		field := now.Type().Field(i)
		if !HasKind(field, c.Kind) && !reflect.DeepEqual(now.Field(i).Interface(), old.Field(i).Interface()) {
			now.Field(i).Set(old.Field(i))
			notes = append(notes, fmt.Sprintf("%s: it is for %s", field.Tag.Get("yaml"), KindsOf(field)))
		}
	}
	return notes
}

// readError turns a YAML syntax error into one line with file and line.
func readError(path string, err error) error {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		return fmt.Errorf("%s:%d: %s", path, at.GetToken().Position.Line, message(err))
	}
	return fmt.Errorf("%s: %s", path, message(err))
}

// message returns the YAML library's message without the position.
func message(err error) string {
	var at yaml.Error
	if errors.As(err, &at) {
		return firstLine(at.GetMessage())
	}
	return firstLine(err.Error())
}

// mismatch describes an error of a key's value. For a value of the wrong type it says what was found and what is expected.
func mismatch(err error, key string, value ast.Node) string {
	if !errors.As(err, new(*yaml.TypeError)) && !errors.As(err, new(*yaml.OverflowError)) {
		return message(err)
	}
	return fmt.Sprintf("found %.60q, want %s", firstLine(value.String()), expectedType(key))
}

// expectedType says in words which type of value a key has.
func expectedType(key string) string {
	switch reflect.Zero(ownKeys()[key]).Interface().(type) {
	case bool:
		return "true or false"
	case int, int64:
		return "a whole number"
	case uint64:
		return "a whole number of at least 0"
	case float64:
		return "a number"
	case List:
		return "a text or a list of texts"
	case Ints, Floats:
		return "a list of numbers"
	}
	return "a text"
}

func firstLine(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	return first
}

// ReadKind reads the key "kind" of a configuration file.
func ReadKind(path string) (modelcard.Kind, error) {
	keys, err := parse(path)
	if err != nil {
		return "", err
	}
	kind := modelcard.Kind("")
	if keys != nil {
		for _, pair := range keys.Values {
			if at := pair.Key.GetToken(); at.Value == "kind" {
				if err := yaml.NodeToValue(pair.Value, &kind); err != nil {
					return "", fmt.Errorf("%s:%d: kind: %s", path, at.Position.Line, mismatch(err, at.Value, pair.Value))
				}
			}
		}
	}
	if _, ok := Losses[kind]; !ok {
		return "", fmt.Errorf("%s: kind is %q, want one of %v; or name the kind on the command line", path, kind, modelcard.Kinds)
	}
	return kind, nil
}
