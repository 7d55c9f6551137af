package modelcard

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// MarkdownFile is the card for people. Renamed to README.md it is the model's page on the hub.
const MarkdownFile = "model_card.md"

//go:embed model_card.md.tmpl
var markdownText string

var markdown = template.Must(template.New(MarkdownFile).Funcs(template.FuncMap{
	"percent": func(x float64) string { return fmt.Sprintf("%.2f", 100*x) },
	"gain":    func(after, before float64) string { return fmt.Sprintf("%+.2f", 100*(after-before)) },
	"list": func(paths []string) string { // without folders, which mean nothing on another machine
		var names []string
		for _, p := range paths {
			names = append(names, filepath.Base(p))
		}
		return strings.Join(names, ", ")
	},
	// A path means nothing on another machine, and the hub expects an id.
	"base": func(ref string) string {
		if isID(ref) {
			return ref
		}
		return filepath.Base(ref)
	},
	"isID": isID,
}).Parse(markdownText))

// isID reports whether a base model has the form of a hub id and not of a path.
func isID(ref string) bool {
	return strings.Count(ref, "/") == 1 && !strings.HasPrefix(ref, ".") && !strings.HasPrefix(ref, "/")
}

func (c Card) writeMarkdown(path string) error {
	var b bytes.Buffer
	if err := markdown.Execute(&b, c); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
