package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"rag-retrieval-go/models/modelcard"
)

// Setting is one key with its value, for showing.
type Setting struct{ Key, Value string }

// Settings are the keys that the configuration's kind has, in Train's order; those without a value are left out.
func (c Train) Settings() []Setting {
	var out []Setting
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		field := v.Type().Field(i)
		value := fmt.Sprint(v.Field(i).Interface())
		if strings.ContainsAny(value, "\r\n") {
			value = strconv.Quote(value)
		}
		if HasKind(field, c.Kind) && value != "" && value != "[]" {
			out = append(out, Setting{field.Tag.Get("yaml"), value})
		}
	}
	return out
}

// HasKind says whether a field of Train is a key of that kind.
func HasKind(field reflect.StructField, k modelcard.Kind) bool {
	kinds := field.Tag.Get("kinds")
	return kinds == "" || slices.Contains(strings.Fields(kinds), string(k))
}

// KindsOf names the kinds that have a field of Train which not all have.
func KindsOf(field reflect.StructField) string {
	return strings.ReplaceAll(field.Tag.Get("kinds"), " ", " and ")
}
