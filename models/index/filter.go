package index

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode"
)

// Filter keeps the documents that meet all its conditions. A nil Filter keeps all.
type Filter []Condition

// Condition is a field of the metadata and its value.
type Condition struct{ Field, Value string }

// ParseFilter reads conditions such as "lang=zh" and "year=2020". A value that is a number, true or false keeps documents that have
// it as such or as a text; in double quotes it is a text only.
func ParseFilter(conditions ...string) (Filter, error) {
	var f Filter
	for _, c := range conditions {
		field, value, ok := strings.Cut(c, "=")
		if !ok || field == "" {
			return nil, fmt.Errorf("the filter is %.100q, want FIELD=VALUE", c)
		}
		if strings.ContainsFunc(c, func(r rune) bool { return r == 0 || r == unicode.ReplacementChar }) {
			return nil, errors.New("the filter has a character that a database cannot hold")
		}
		f = append(f, Condition{field, value})
	}
	return f, nil
}

// Alternatives are the JSON values that the field may have: texts, numbers and truth values, in JSON's spelling.
func (c Condition) Alternatives() []json.RawMessage {
	text, err := json.Marshal(c.Value)
	if err != nil { // cannot be: every text has JSON
		return nil
	}
	var x any
	if json.Unmarshal([]byte(c.Value), &x) == nil {
		switch x.(type) {
		case string:
			return []json.RawMessage{json.RawMessage(c.Value)}
		case bool, float64:
			return []json.RawMessage{json.RawMessage(c.Value), text}
		}
	}
	return []json.RawMessage{text}
}

// Matches says whether a document with these metadata, a JSON object or nil, is kept.
func (f Filter) Matches(metadata json.RawMessage) bool {
	if len(f) == 0 {
		return true
	}
	var fields map[string]json.RawMessage
	if metadata == nil || json.Unmarshal(metadata, &fields) != nil {
		return false
	}
	for _, c := range f {
		if value, ok := fields[c.Field]; !ok || !c.matches(value) {
			return false
		}
	}
	return true
}

func (c Condition) matches(value json.RawMessage) bool {
	for _, a := range c.Alternatives() {
		if equalValues(a, value) {
			return true
		}
	}
	return false
}

// equalValues compares two JSON values that are no lists or objects. Numbers are equal in any spelling: 1.5 and 1.50.
func equalValues(a, b json.RawMessage) bool {
	var x, y any
	if decodeNumber(a, &x) != nil || decodeNumber(b, &y) != nil {
		return false
	}
	m, isNumber := x.(json.Number)
	n, bothNumbers := y.(json.Number)
	if isNumber && bothNumbers {
		p, ok := new(big.Float).SetPrec(256).SetString(m.String()) // 77 digits; 1e999999999 costs no memory
		q, both := new(big.Float).SetPrec(256).SetString(n.String())
		return ok && both && p.Cmp(q) == 0
	}
	switch x := x.(type) {
	case string:
		y, ok := y.(string)
		return ok && x == y
	case bool:
		y, ok := y.(bool)
		return ok && x == y
	}
	return false
}

func decodeNumber(b json.RawMessage, to *any) error {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	return d.Decode(to)
}
