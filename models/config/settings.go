package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"rag-retrieval-go/models/modelcard"
)

// Setting is one key of the configuration with its value as text.
type Setting struct{ Key, Value string }

// Settings returns the keys of the configuration's kind that have a value, in Train's order.
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

// HasKind says whether a field of Train is a key of kind k.
func HasKind(field reflect.StructField, k modelcard.Kind) bool {
	kinds := field.Tag.Get("kinds")
	return kinds == "" || slices.Contains(strings.Fields(kinds), string(k))
}

// KindsOf names the kinds that have a field of Train, if not all have it.
func KindsOf(field reflect.StructField) string {
	return strings.ReplaceAll(field.Tag.Get("kinds"), " ", " and ")
}
