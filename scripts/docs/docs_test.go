// Package docs holds the pictures of the documents, and the tests that keep the documents true: every relative link leads
// somewhere, every quoted piece of Go code is in the file it was taken from, and every command runs.
package docs

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

const root = "../.."

// document is one parsed Markdown file of the checkout.
type document struct {
	path   string // relative to the root, with slashes
	source []byte
	tree   ast.Node
}

// block is a fenced block of a document, such as a list of commands.
type block struct {
	language string
	note     string // the text of the HTML comment just before it, or empty
	text     string
	line     int // of the block's first line in the document
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func parse(path string, source []byte) document {
	p := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID())).Parser()
	return document{path: path, source: source, tree: p.Parse(text.NewReader(source))}
}

// documents parses every Markdown file of the checkout, less what lies in bin and in folders such as .rag-retrieval.
func documents(t *testing.T) []document {
	t.Helper()
	var out []document
	check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (d.Name() == "bin" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".github") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		out = append(out, parse(filepath.ToSlash(name), source))
		return nil
	}))
	if len(out) < 6 {
		t.Fatalf("%d Markdown files, want at least 6", len(out))
	}
	return out
}

// blocks lists the fenced blocks, those inside lists and quotes too.
func (d document) blocks() []block {
	var out []block
	_ = ast.Walk(d.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		f, ok := n.(*ast.FencedCodeBlock)
		if !ok || !entering {
			return ast.WalkContinue, nil
		}
		b := block{language: string(f.Language(d.source)), text: string(f.Lines().Value(d.source))}
		if f.Lines().Len() > 0 {
			b.line = bytes.Count(d.source[:f.Lines().At(0).Start], []byte("\n")) + 1
		}
		if h, ok := n.PreviousSibling().(*ast.HTMLBlock); ok {
			comment := strings.TrimSpace(string(h.Lines().Value(d.source)))
			b.note = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(comment, "<!--"), "-->"))
		}
		out = append(out, b)
		return ast.WalkContinue, nil
	})
	return out
}

// links lists the targets of links and pictures.
func (d document) links() []string {
	var out []string
	_ = ast.Walk(d.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			switch n := n.(type) {
			case *ast.Link:
				out = append(out, string(n.Destination))
			case *ast.Image:
				out = append(out, string(n.Destination))
			}
		}
		return ast.WalkContinue, nil
	})
	return out
}

// anchors lists what a link may name after #: the headings as GitHub numbers and spells them.
func (d document) anchors() []string {
	var out []string
	seen := map[string]int{}
	_ = ast.Walk(d.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if h, ok := n.(*ast.Heading); ok && entering {
			a := anchor(headingText(h, d.source))
			if k := seen[a]; k > 0 {
				out = append(out, fmt.Sprintf("%s-%d", a, k))
			} else {
				out = append(out, a)
			}
			seen[a]++
		}
		return ast.WalkContinue, nil
	})
	return out
}

// headingText is a heading without its markup.
func headingText(h ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(h, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Segment.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchor is GitHub's: lower case, punctuation left out, a hyphen for each space.
func anchor(heading string) string {
	return strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// linkError says what is wrong with a link in a document; links to other sites are not followed.
func linkError(from document, target string, anchors map[string][]string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	if u.Scheme != "" || u.Host != "" {
		return nil
	}
	to := from.path
	if u.Path != "" {
		if strings.HasPrefix(u.Path, "/") {
			return fmt.Errorf("the link %s does not begin at the document: want a relative path", target)
		}
		to = filepath.ToSlash(filepath.Join(filepath.Dir(from.path), filepath.FromSlash(u.Path)))
		if _, err := os.Stat(filepath.Join(root, to)); err != nil || to == ".." || strings.HasPrefix(to, "../") {
			return fmt.Errorf("the link %s leads to %s, which is not in the checkout", target, to)
		}
	}
	if u.Fragment == "" {
		return nil
	}
	known, ok := anchors[to]
	if !ok {
		return fmt.Errorf("the link %s names a heading of %s, which is no Markdown file", target, to)
	}
	if !slices.Contains(known, u.Fragment) {
		return fmt.Errorf("the link %s: %s has no heading %q", target, to, u.Fragment)
	}
	return nil
}

// Every relative link leads to a file or folder of the checkout, and every anchor to a heading.
func TestLinks(t *testing.T) {
	anchors := map[string][]string{}
	all := documents(t)
	for _, d := range all {
		anchors[d.path] = d.anchors()
	}
	links := 0
	for _, d := range all {
		for _, target := range d.links() {
			links++
			if err := linkError(d, target, anchors); err != nil {
				t.Errorf("%s: %v", d.path, err)
			}
		}
	}
	if links < 20 {
		t.Errorf("%d links, want at least 20: are they still found?", links)
	}
	broken := parse("models/x.md", []byte("[a](nowhere.md) ![b](../README.md#nothing) | c |\n\n| [d](/tmp) | \n"))
	for _, target := range append(broken.links(), "../../out.md", "config#x") {
		if linkError(broken, target, anchors) == nil {
			t.Errorf("the broken link %s was not found", target)
		}
	}
}

// A Go block that follows the comment <!-- from FILE --> is a piece of that file, so that examples stay as the code is.
func TestQuotedCode(t *testing.T) {
	quoted := 0
	for _, d := range documents(t) {
		for _, b := range d.blocks() {
			file, ok := strings.CutPrefix(b.note, "from ")
			if b.language == "go" && !ok {
				t.Errorf("%s:%d: a Go block needs the comment <!-- from FILE --> before it", d.path, b.line)
			}
			if !ok {
				continue
			}
			quoted++
			content, err := os.ReadFile(filepath.Join(root, file))
			check(t, err)
			if !strings.Contains(string(content), b.text) {
				t.Errorf("%s:%d: %s has no longer these lines; quote it as it is now:\n%s", d.path, b.line, file, b.text)
			}
		}
	}
	if quoted < 5 {
		t.Errorf("%d quoted blocks, want at least 5", quoted)
	}
}

// The fixtures that the table of architectures names are there.
func TestNamedFixtures(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "models", "README.md"))
	check(t, err)
	_, table, _ := strings.Cut(string(b), "| architecture |")
	table, _, _ = strings.Cut(table, "\n\n")
	names := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(table, -1)
	if len(names) < 20 {
		t.Fatalf("%d fixtures in the table of models/README.md, want at least 20", len(names))
	}
	for _, name := range names {
		found := false
		for _, path := range []string{
			"models/finetune/testdata/" + name[1] + ".json", "models/finetune/testdata/folders/" + name[1], "models/encoder/testdata/" + name[1],
			"models/reranker/testdata/" + name[1] + ".json",
		} {
			_, err := os.Stat(filepath.Join(root, path))
			found = found || err == nil
		}
		if !found {
			t.Errorf("models/README.md names the fixture %s, which is in no folder of fixtures", name[1])
		}
	}
}
