// Package prompt puts a model's prompts around texts, by the same rule in training, validation, evaluation and every command.
//
// A model has a format for queries and one for passages, such as "query: {}"; sentence-transformers' prompts are formats
// that end with the text. A data row's own prompt replaces the part of the query's format before the text. Source of the formats:
// RAG-Retrieval's query_format and document_format.
//
//	f := prompt.Formats{Query: prompt.Prefix("query: ")}
//	f.Around(prompt.Text{Query: true, Text: "how"}).String()               // "query: how"
//	f.Around(prompt.Text{Query: true, Prompt: "ask: ", Text: "how"}).String() // "ask: how"
package prompt

import (
	"fmt"
	"strings"
)

// Format is the text before and after a query or a passage.
type Format struct{ Before, After string }

// Prefix returns the format with only a prompt before the text.
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

// String returns the format in the form that Parse reads.
func (f Format) String() string {
	escape := strings.NewReplacer("{", "{{", "}", "}}").Replace
	return escape(f.Before) + "{}" + escape(f.After)
}

// Formats are the formats of a model. The zero value leaves texts unchanged.
type Formats struct {
	Query, Document Format
	// Seq and SpecialToken are texts of a reranker that is a decoder: a pair is the query, Seq, the passage, SpecialToken, each
	// tokenized by itself. Where both are empty the tokenizer says how a pair is laid out.
	// Source of the names: RAG-Retrieval's model_type llm_decoder.
	Seq, SpecialToken string
}

// Joined reports whether Seq and SpecialToken lay out a pair.
func (f Formats) Joined() bool { return f.Seq != "" || f.SpecialToken != "" }

// Text is a text as it stands in data, without the model's prompt.
type Text struct {
	Query  bool   // the text is a query; otherwise it is a passage
	Prompt string // replaces the model's prompt; empty: the model's prompt is used
	Text   string
}

// Texts makes queries, or passages, that have no prompt of their own.
func Texts(queries bool, texts ...string) []Text {
	out := make([]Text, len(texts))
	for i, t := range texts {
		out[i] = Text{Query: queries, Text: t}
	}
	return out
}

// String describes a text for messages.
func (x Text) String() string {
	if x.Query {
		return fmt.Sprintf("the query %.60q", x.Prompt+x.Text)
	}
	return fmt.Sprintf("the passage %.60q", x.Text)
}

// Framed is a text between the two parts of its format. Each window of a long text keeps Before and After.
type Framed struct{ Before, Text, After string }

// String returns the whole text, which is tokenized.
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
