package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
)

// decode reads a request's JSON body. An error names the field that is wrong.
func decode(b []byte, to any) error {
	err := json.Unmarshal(b, to)
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field == "":
		return invalid("the body is %s, want an object", fieldName(article(wrong.Value)))
	case errors.As(err, &wrong):
		return about(wrong.Field, invalid("%s is %s, want %s", fieldName(wrong.Field), fieldName(article(wrong.Value)), fieldName(wanted(wrong.Type))))
	case errors.As(err, &syntax):
		e := invalid("the body is not JSON: %v at byte %d", err, syntax.Offset).(*Error)
		e.Code = invalidJSON
		return e
	}
	return invalid("the body is not as it should be: %v", err)
}

// article names what encoding/json found, such as "number 1.5" or "array".
func article(value string) string {
	kind, number, _ := strings.Cut(value, " ")
	switch kind {
	case "number":
		if number != "" {
			return "the number " + number
		}
		return "a number"
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "array":
		return "a list"
	case "object":
		return "an object"
	}
	return value
}

// wanted names a field's type.
func wanted(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list of " + wanted(t.Elem()) + "s"
	}
	return "an object"
}

// inputs are the texts of a request. Some clients send token ids in place of a text: a finished sequence in the model's own vocabulary.
type inputs []input

type input struct {
	text string
	ids  []int64 // nil: it is a text
}

// given tells whether a body has a field. Clients write null for those that they leave out.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// readDimensions reads the field dimensions; 0: all of a vector.
func readDimensions(d *int) (int, error) {
	switch {
	case d == nil:
		return 0, nil
	case *d < 1:
		return 0, about("dimensions", invalid("dimensions is %d, want at least 1", *d))
	}
	return *d, nil
}

// readInputs reads a field that has a text, or a list of texts; or with ids also token ids in place of each text.
func readInputs(field string, raw json.RawMessage, ids bool) (inputs, error) {
	what := "a text or a list of texts"
	if ids {
		what = "a text, a list of texts, or token ids in place of texts"
	}
	wrong := func(at string, b []byte) error {
		return about(field, invalid("%s is %.40s, want %s", fieldName(field+at), []byte(b), fieldName(what)))
	}
	var one string
	switch {
	case !given(raw):
		return nil, about(field, missing(field))
	case json.Unmarshal(raw, &one) == nil:
		return inputs{{text: one}}, nil
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return nil, wrong("", raw)
	}
	if sequence := []int64(nil); ids && len(items) > 0 && items[0][0] != '"' && items[0][0] != '[' { // one sequence
		for i, b := range items {
			var id *int64
			if json.Unmarshal(b, &id) != nil || id == nil {
				return nil, wrong(fmt.Sprintf("[%d]", i), b)
			}
			sequence = append(sequence, *id)
		}
		return inputs{{ids: sequence}}, nil
	}
	out := make(inputs, len(items))
	for i, b := range items {
		x, ok := readInput(b, ids)
		if !ok {
			return nil, wrong(fmt.Sprintf("[%d]", i), b)
		}
		out[i] = x
	}
	return out, nil
}

// readTexts reads a field that has a list of texts.
func readTexts(field string, raw json.RawMessage) ([]string, error) {
	if given(raw) && raw[0] != '[' {
		return nil, about(field, invalid("%s is %.40s, want a list of texts", fieldName(field), []byte(raw)))
	}
	in, err := readInputs(field, raw, false)
	texts := make([]string, len(in))
	for i, x := range in {
		texts[i] = x.text
	}
	return texts, err
}

// readInput reads a text or a sequence of token ids.
func readInput(b json.RawMessage, ids bool) (x input, ok bool) {
	switch {
	case b[0] == '"':
		return x, json.Unmarshal(b, &x.text) == nil
	case b[0] == '[' && ids:
		var sequence []*int64
		if json.Unmarshal(b, &sequence) != nil {
			return x, false
		}
		x.ids = []int64{}
		for _, id := range sequence {
			if id == nil {
				return x, false
			}
			x.ids = append(x.ids, *id)
		}
		return x, true
	}
	return x, false
}

// characters counts the characters of all texts, and token ids as one each, as TEI does.
func (x inputs) characters() int {
	n := 0
	for _, in := range x {
		n += len(in.ids) + utf8.RuneCountInString(in.text)
	}
	return n
}

// embed makes the vectors of inputs, in order.
func (m *Model) embed(ctx context.Context, in inputs, queries bool, o retriever.EncodeOptions) ([]retriever.Embedding, error) {
	e, err := m.m.Embedder()
	if err != nil {
		return nil, err
	}
	var texts []prompt.Text
	var sequences [][]int64
	for _, x := range in {
		if x.ids != nil {
			sequences = append(sequences, x.ids)
		} else {
			texts = append(texts, prompt.Text{Query: queries, Text: x.text})
		}
	}
	var ofTexts, ofIDs []retriever.Embedding
	if len(texts) > 0 {
		if ofTexts, err = e.Encode(ctx, texts, o); err != nil {
			return nil, err
		}
	}
	if len(sequences) > 0 {
		if ofIDs, err = m.m.EncodeIDs(ctx, sequences, o); err != nil {
			return nil, err
		}
	}
	out := make([]retriever.Embedding, len(in))
	for i, x := range in {
		from := &ofTexts
		if x.ids != nil {
			from = &ofIDs
		}
		out[i], *from = (*from)[0], (*from)[1:]
	}
	return out, nil
}

// countTexts returns an error if a request has no text, or more than the server or the API takes; 0: the API has no limit.
func (s *Server) countTexts(field string, n, ofAPI int) error {
	most := s.o.MaxTexts
	if ofAPI > 0 {
		most = min(most, ofAPI)
	}
	switch {
	case n == 0:
		return about(field, missing(field))
	case n > most:
		return &Error{Status: http.StatusRequestEntityTooLarge, Kind: validation, Param: field, Code: tooMany, Message: fmt.Sprintf("%s has %d texts, want at most %d", field, n, most)}
	}
	return nil
}

// missing is the error of a field that is not there or has nothing in it.
func missing(field string) error {
	return &Error{Status: http.StatusBadRequest, Kind: empty, Param: field, Message: field + " is missing or empty"}
}
