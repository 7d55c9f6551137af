// Package prompt says what stands around a model's texts: one rule for training, validation, evaluation and every command.
//
// A model has a format for queries and one for passages, such as "query: {}"; sentence-transformers' prompts are formats
// that end with the text. A data row's own prompt stands in place of what the query's format has before the text, never
// beside it. Source of the formats: RAG-Retrieval's query_format and document_format.
//
//	f := prompt.Formats{Query: prompt.Prefix("query: ")}
//	f.Around(prompt.Text{Query: true, Text: "how"}).String()               // "query: how"
//	f.Around(prompt.Text{Query: true, Prompt: "ask: ", Text: "how"}).String() // "ask: how"
package prompt

import (
	"fmt"
	"strings"
)

// Format is what stands around a text.
type Format struct{ Before, After string }

// Prefix is the format of a prompt before the text.
func Prefix(p string) Format { return Format{Before: p} }

// Parse reads a Python format string with exactly one "{}"; "{{" and "}}" are braces.
func Parse(s string) (Format, error) {
	var parts []string
	var part strings.Builder
	for i := 0; i < len(s); i++ {
		switch two := s[i:min(i+2, len(s))]; {
		case two == "{{" || two == "}}":
			part.WriteByte(s[i])
			i++
		case two == "{}":
			parts = append(parts, part.String())
			part.Reset()
			i++
		case s[i] == '{' || s[i] == '}':
			return Format{}, fmt.Errorf("%q has a %q at byte %d that is not part of {}, {{ or }}", s, s[i], i+1)
		default:
			part.WriteByte(s[i])
		}
	}
	if len(parts) != 1 {
		return Format{}, fmt.Errorf("%q has %d places for the text, want one {}", s, len(parts))
	}
	return Format{parts[0], part.String()}, nil
}

// String is the format as Parse reads it.
func (f Format) String() string {
	escape := strings.NewReplacer("{", "{{", "}", "}}").Replace
	return escape(f.Before) + "{}" + escape(f.After)
}

// Formats are a model's; the zero value leaves texts as they are.
type Formats struct {
	Query, Document Format
	// Seq and SpecialToken are texts of a reranker that is a decoder: a pair is the query, Seq, the passage, SpecialToken, each
	// tokenized by itself. Where both are empty the tokenizer says how a pair is laid out.
	// Source of the names: RAG-Retrieval's model_type llm_decoder.
	Seq, SpecialToken string
}

// Joined says that Seq and SpecialToken lay out a pair.
func (f Formats) Joined() bool { return f.Seq != "" || f.SpecialToken != "" }

// Text is a text as data have it.
type Text struct {
	Query  bool   // a query, not a passage
	Prompt string // the row's own prompt, in place of the model's; empty: it has none
	Text   string
}

// Texts are queries, or passages, without prompts of their own.
func Texts(queries bool, texts ...string) []Text {
	out := make([]Text, len(texts))
	for i, t := range texts {
		out[i] = Text{Query: queries, Text: t}
	}
	return out
}

// String names a text for messages.
func (x Text) String() string {
	if x.Query {
		return fmt.Sprintf("the query %.60q", x.Prompt+x.Text)
	}
	return fmt.Sprintf("the passage %.60q", x.Text)
}

// Framed is a text with what stands around it. Windows of a long text each keep Before and After.
type Framed struct{ Before, Text, After string }

// String is what is tokenized.
func (x Framed) String() string { return x.Before + x.Text + x.After }

// Around puts a text's format around it.
func (f Formats) Around(x Text) Framed {
	format := f.Document
	if x.Query {
		format = f.Query
	}
	if x.Prompt != "" {
		format.Before = x.Prompt
	}
	return Framed{format.Before, x.Text, format.After}
}
