package config

import (
	"fmt"
	"strconv"
	"strings"
)

// List is a text or a list of texts in a YAML file.
type List []string

// UnmarshalYAML reads both forms.
func (l *List) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if err := unmarshal(&one); err == nil {
		*l = nil
		if one != "" {
			*l = List{one}
		}
		return nil
	}
	var many []string
	if err := unmarshal(&many); err != nil {
		return fmt.Errorf("want a text or a list of texts: %w", err)
	}
	*l = nil
	if len(many) > 0 {
		*l = many
	}
	return nil
}

func (l List) String() string { return strings.Join(l, ", ") }

// Split returns the parts of all texts between commas, without blanks around them.
func (l List) Split() (out []string) {
	for _, text := range l {
		for _, part := range strings.Split(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// Ints is a list of numbers in a YAML file, or a text of numbers with commas between them, as RAG-Retrieval writes it.
type Ints []int

// UnmarshalYAML reads both forms.
func (l *Ints) UnmarshalYAML(unmarshal func(any) error) error {
	var many []int
	if err := unmarshal(&many); err == nil {
		*l = nil
		if len(many) > 0 { // an empty list is nil, as without the key, so that a written file reads back the same
			*l = many
		}
		return nil
	}
	var text string
	if err := unmarshal(&text); err != nil {
		return fmt.Errorf("want a list of numbers: %w", err)
	}
	v, err := ParseInts(text)
	*l = v
	return err
}

// ParseInts reads numbers with commas between them.
func ParseInts(text string) (Ints, error) {
	var out Ints
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", part)
		}
		out = append(out, n)
	}
	return out, nil
}

// Floats is a list of numbers in a YAML file, or a text of numbers with commas between them.
type Floats []float64

// UnmarshalYAML reads both forms.
func (l *Floats) UnmarshalYAML(unmarshal func(any) error) error {
	var many []float64
	if err := unmarshal(&many); err == nil {
		*l = nil
		if len(many) > 0 { // an empty list is nil, as without the key, so that a written file reads back the same
			*l = many
		}
		return nil
	}
	var text string
	if err := unmarshal(&text); err != nil {
		return fmt.Errorf("want a list of numbers: %w", err)
	}
	v, err := ParseFloats(text)
	*l = v
	return err
}

// ParseFloats reads numbers with commas between them.
func ParseFloats(text string) (Floats, error) {
	var out Floats
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		x, err := strconv.ParseFloat(part, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", part)
		}
		out = append(out, x)
	}
	return out, nil
}
