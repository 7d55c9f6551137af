package config

import (
	"fmt"
	"strings"
)

// List is one text or a list of them in a YAML file.
type List []string

// UnmarshalYAML reads either form.
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
	*l = many
	return nil
}

func (l List) String() string { return strings.Join(l, ", ") }

// Ints is a list of numbers in a YAML file, or a text of numbers with commas between them, as RAG-Retrieval writes it.
type Ints []int

// UnmarshalYAML reads either form.
func (l *Ints) UnmarshalYAML(unmarshal func(any) error) error {
	var many []int
	if err := unmarshal(&many); err == nil {
		*l = many
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
		var n int
		if _, err := fmt.Sscanf(part, "%d", &n); err != nil || fmt.Sprint(n) != part {
			return nil, fmt.Errorf("%q is not a number", part)
		}
		out = append(out, n)
	}
	return out, nil
}
