package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"rag-retrieval-go/models/modelcard"
)

// foreign is a key of RAG-Retrieval's files and command lines that Train does not have.
type foreign struct {
	key   string             // its name here
	why   string             // without a name here: why it has no meaning
	may   []string           // the values that may be left out; nil: all
	means map[string]Setting // values that say something in another key here
	other string             // what is told of any other value
}

// foreigns are those keys, by name.
var foreigns = map[string]foreign{
	"dataset":                 {key: "train_dataset"},
	"train_dataset_vec":       {key: "teacher_embeddings"},
	"train_dataset_vec_path":  {key: "teacher_embeddings"},
	"teacher_embedding_file":  {key: "teacher_embeddings"},
	"teacher_emebedding_file": {key: "teacher_embeddings"},
	"teacher_embedding_path":  {key: "teacher_embeddings"},
	"teacher_emebedding_dim":  {key: "teacher_embedding_dim"},
	"teatch_emebedding_dim":   {key: "teacher_embedding_dim"},

	"train_type": {
		why: "loss_type says it", may: []string{"train"},
		means: map[string]Setting{"distill": {"loss_type", "stella"}}, other: "want train or distill",
	},
	"model_type": {
		why: "the model's config.json says it", may: []string{"bert_encoder", "llm_decoder"},
		other: "want bert_encoder or llm_decoder",
	},
	"num_labels": {
		why: "a reranker has one score", may: []string{"1"}, other: "want 1: a reranker has one score",
	},
	"save_strategy": {why: "save_steps and save_on_epoch_end say it"},
	"all_gather":    {why: "one process computes"},
	"log_with":      {why: "metrics.jsonl, report.html and TensorBoard's files are always written"},
	"num_workers":   {why: "tokens are prepared while training"},
	"device":        {why: "provider says it"},
	"project_name":  {why: "nothing is sent anywhere"},
}

// Foreign gives the names of RAG-Retrieval's keys that Train does not have, sorted.
func Foreign() []string {
	var names []string
	for name := range foreigns {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Translate says what a key of RAG-Retrieval with that value is here: a key of Train with a value, or nothing, and why.
// ok is false for a name that is not among Foreign. A value that would change the training and cannot be had is an error.
func Translate(name, value string) (to Setting, why string, ok bool, err error) {
	f, ok := foreigns[name]
	if !ok {
		return Setting{name, value}, "", false, nil
	}
	if f.key != "" {
		return Setting{f.key, value}, "", true, nil
	}
	if to, is := f.means[value]; is {
		return to, "", true, nil
	}
	if f.may != nil && !slices.Contains(f.may, value) {
		return Setting{}, "", true, fmt.Errorf("%s is %q, %s", name, value, f.other)
	}
	return Setting{}, f.why, true, nil
}

// Read reads a YAML file over c. Keys that Train does not have are errors that name file and line; those of
// RAG-Retrieval without a meaning here are left out and given back, each with the reason, and so are keys of other kinds
// that would change something there. A key without a value keeps what c has.
func (c *Train) Read(path string) (left []string, err error) {
	keys, err := parse(path)
	if err != nil || keys == nil {
		return nil, err
	}
	if left, err = translate(path, keys, c.Kind); err != nil {
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
	return append(left, c.otherKinds(before)...), nil
}

// byteOrderMark stands before the text in files of some Windows editors; the library takes it for a part of the first key.
const byteOrderMark = "\xef\xbb\xbf"

// parse gives the keys of a file, nil where it has none.
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

// lineOf is the line where a node begins.
func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil {
		return t.Position.Line
	}
	return 1
}

// translate replaces RAG-Retrieval's keys in a file's tree by those of Train, and takes out those without a meaning here
// and those without a value.
func translate(path string, keys *ast.MappingNode, kind modelcard.Kind) (left []string, err error) {
	var kept []*ast.MappingValueNode
	seen, own := map[string]bool{}, ownKeys()
	for _, pair := range keys.Values {
		token := pair.Key.GetToken()
		name := token.Value
		if _, ok := foreigns[name]; !ok && own[name] == nil { // the library passes over keys that are no texts
			return nil, fmt.Errorf("%s:%d: %s is no key of this program; train %s --help lists them", path, token.Position.Line, name, kind)
		}
		if _, null := pair.Value.(*ast.NullNode); null {
			continue
		}
		value := ""
		if scalar, ok := pair.Value.(ast.ScalarNode); ok {
			value = strings.TrimSpace(fmt.Sprint(scalar.GetValue()))
		}
		to, why, ok, err := Translate(name, value)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s:%d: %w", path, token.Position.Line, err)
		case ok && to.Key == "":
			left = append(left, name+": "+why)
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
	return left, nil
}

// ownKeys are Train's, with the types of their fields.
func ownKeys() map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	for i := range reflect.TypeFor[Train]().NumField() {
		field := reflect.TypeFor[Train]().Field(i)
		keys[field.Tag.Get("yaml")] = field.Type
	}
	return keys
}

// rename gives a key of the tree another name, and another value where it is not the one that stands there. Tokens
// keep their places, for messages.
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

// otherKinds takes back the keys that were set, but are not for c's kind, and names them.
func (c *Train) otherKinds(before Train) (left []string) {
	now, was := reflect.ValueOf(c).Elem(), reflect.ValueOf(before)
	for i := range now.NumField() {
		field := now.Type().Field(i)
		if !HasKind(field, c.Kind) && !reflect.DeepEqual(now.Field(i).Interface(), was.Field(i).Interface()) {
			now.Field(i).Set(was.Field(i))
			left = append(left, fmt.Sprintf("%s: it is for %s", field.Tag.Get("yaml"), KindsOf(field)))
		}
	}
	return left
}

// readError is a mistake of a file's form in one line.
func readError(path string, err error) error {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		return fmt.Errorf("%s:%d: %s", path, at.GetToken().Position.Line, message(err))
	}
	return fmt.Errorf("%s: %s", path, message(err))
}

// message is what the library says, without the place, which is said before it.
func message(err error) string {
	var at yaml.Error
	if errors.As(err, &at) {
		return firstLine(at.GetMessage())
	}
	return firstLine(err.Error())
}

// mismatch says what is wrong with a key's value: of a value of the wrong type what it is, and what is wanted.
func mismatch(err error, key string, value ast.Node) string {
	if !errors.As(err, new(*yaml.TypeError)) && !errors.As(err, new(*yaml.OverflowError)) {
		return message(err)
	}
	return fmt.Sprintf("found %.60q, want %s", firstLine(value.String()), wanted(key))
}

// wanted is what a key's value must be.
func wanted(key string) string {
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

// ReadKind reads a file's key "kind".
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
