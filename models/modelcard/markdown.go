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

// MarkdownFile is the card for readers: the hub's model page, where it is renamed to README.md.
const MarkdownFile = "model_card.md"

//go:embed model_card.md.tmpl
var markdownText string

var markdown = template.Must(template.New(MarkdownFile).Funcs(template.FuncMap{
	"percent": func(x float64) string { return fmt.Sprintf("%.2f", 100*x) },
	"gain":    func(after, before float64) string { return fmt.Sprintf("%+.2f", 100*(after-before)) },
	"list": func(paths []string) string { // names without folders: a card is for others
		var names []string
		for _, p := range paths {
			names = append(names, filepath.Base(p))
		}
		return strings.Join(names, ", ")
	},
	// A path of this machine means nothing to a reader, and the hub's pages want an id.
	"base": func(ref string) string {
		if isID(ref) {
			return ref
		}
		return filepath.Base(ref)
	},
	"isID": isID,
}).Parse(markdownText))

// isID says whether a base model has the form of a hub's id rather than of a path.
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
