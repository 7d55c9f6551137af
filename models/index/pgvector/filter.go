package pgvector

import (
	"encoding/json"
	"errors"
	"fmt"
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
			return nil, errors.New("the filter has a character that PostgreSQL cannot hold")
		}
		f = append(f, Condition{field, value})
	}
	return f, nil
}

// alternatives are the JSON values that a condition's value may be.
func (c Condition) alternatives() []any {
	var x any
	if json.Unmarshal([]byte(c.Value), &x) != nil {
		return []any{c.Value}
	}
	switch x := x.(type) {
	case string:
		return []any{x}
	case bool, float64:
		return []any{json.RawMessage(c.Value), c.Value} // a number as it is written: PostgreSQL's have any length
	}
	return []any{c.Value}
}

// sql returns the filter as a condition in SQL on the column metadata, with the arguments that it adds to args. Each is a
// containment, for which there is an index.
func (f Filter) sql(args []any) (string, []any) {
	var all []string
	for _, c := range f {
		var either []string
		for _, value := range c.alternatives() {
			b, err := json.Marshal(map[string]any{c.Field: value})
			if err != nil { // cannot be: texts and numbers have JSON
				continue
			}
			args = append(args, string(b))
			either = append(either, fmt.Sprintf("metadata @> $%d::jsonb", len(args)))
		}
		all = append(all, "("+strings.Join(either, " OR ")+")")
	}
	return strings.Join(all, " AND "), args
}
