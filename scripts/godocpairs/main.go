// Command godocpairs builds a retrieval data set from the sources of the Go installation. A query is the first sentence of
// a function's doc comment; its positive is the function's source.
//
//	go run ./scripts/godocpairs --out DIR [--src GOROOT/src] [--train-rows 2048] [--train-negatives 0] [--test-queries 400]
//
// It writes DIR/train.jsonl, rows {"query", "pos"[, "neg"]} drawn at random from nine in ten packages, and DIR/test.jsonl,
// rows {"query", "positive", "negative"} from the other packages. Negatives are the functions that BM25 ranks highest: 19
// for a test row, --train-negatives from the training rows for a training row. DIR/retrieval has the test queries as a retrieval
// task in BEIR's form: the corpus is all documented functions of the test packages. The same Go version gives the same files.
package main

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/bm25"
	"rag-retrieval-go/internal/jsonl"
)

const (
	maxSource = 1500 // bytes of a function's source that are kept
	minWords  = 5    // of a query
	testShare = 10   // one package in ten is for testing
	negatives = 19   // candidates of a test query besides its own function
)

// pair is a function with its doc comment's first sentence.
type pair struct{ query, source, pkg string }

func main() {
	out := flag.String("out", "", "folder for train.jsonl, test.jsonl and retrieval")
	src := flag.String("src", "", "source tree (default: that of the installed Go)")
	rows := flag.Int("train-rows", 2048, "training rows; 0: all")
	hard := flag.Int("train-negatives", 0, "hard negatives of a training row")
	queries := flag.Int("test-queries", 400, "test queries, evenly spaced")
	seed := flag.Uint64("seed", 42, "of the choice of training rows")
	flag.Parse()
	if err := run(*out, *src, *rows, *hard, *queries, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "godocpairs:", err)
		os.Exit(1)
	}
}

func run(out, src string, rows, hard, queries int, seed uint64) error {
	if out == "" {
		return fmt.Errorf("--out is missing")
	}
	if src == "" {
		root, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return fmt.Errorf("go env GOROOT: %w", err)
		}
		src = filepath.Join(strings.TrimSpace(string(root)), "src")
	}
	pairs, err := collect(src)
	if err != nil {
		return err
	}
	var train, test []pair
	for _, p := range pairs {
		h := fnv.New32a()
		h.Write([]byte(p.pkg))
		if h.Sum32()%testShare == 0 {
			test = append(test, p)
		} else {
			train = append(train, p)
		}
	}
	if len(train) < 2 || len(test) <= negatives {
		return fmt.Errorf("%s has %d documented functions, too few for a data set", src, len(pairs))
	}
	if rows > 0 {
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(train), func(i, j int) { train[i], train[j] = train[j], train[i] })
		train = train[:min(rows, len(train))]
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if err := writeTrain(filepath.Join(out, "train.jsonl"), train, hard); err != nil {
		return err
	}
	n := min(queries, len(test))
	if err := writeTest(filepath.Join(out, "test.jsonl"), test, n); err != nil {
		return err
	}
	if err := writeRetrieval(filepath.Join(out, "retrieval"), test, n); err != nil {
		return err
	}
	fmt.Printf("%d functions: %d training rows, %d test queries, for retrieval in %d functions\n", len(pairs), len(train), n, len(test))
	return nil
}

func writeTrain(path string, pairs []pair, hard int) error {
	type row struct {
		Query string   `json:"query"`
		Pos   string   `json:"pos"`
		Neg   []string `json:"neg,omitempty"`
	}
	docs := sources(pairs)
	var index *bm25.Index
	if hard > 0 {
		index = bm25.NewIndex(docs, words, nil)
	}
	rows := make([]row, len(pairs))
	for i, p := range pairs {
		rows[i] = row{Query: p.query, Pos: p.source}
		if index == nil {
			continue
		}
		for _, j := range index.Top(p.query, hard, i) {
			rows[i].Neg = append(rows[i].Neg, docs[j])
		}
	}
	return jsonl.Write(path, rows)
}

var word = regexp.MustCompile(`[a-z0-9]+`)

// words splits a text into terms for BM25.
func words(text string) []string { return word.FindAllString(strings.ToLower(text), -1) }

func sources(pairs []pair) []string {
	docs := make([]string, len(pairs))
	for i, p := range pairs {
		docs[i] = p.source
	}
	return docs
}

func writeTest(path string, pairs []pair, n int) error {
	type row struct {
		Query    string   `json:"query"`
		Positive []string `json:"positive"`
		Negative []string `json:"negative"`
	}
	docs := sources(pairs)
	index := bm25.NewIndex(docs, words, nil)
	rows := make([]row, n)
	for k := range rows {
		i := spaced(k, n, len(pairs))
		r := row{Query: pairs[i].query, Positive: []string{docs[i]}}
		for _, j := range index.Top(pairs[i].query, negatives, i) {
			r.Negative = append(r.Negative, docs[j])
		}
		rows[k] = r
	}
	return jsonl.Write(path, rows)
}

// spaced is the number of the pair of test query k, of n evenly spaced ones.
func spaced(k, n, pairs int) int { return k * pairs / n }

// writeRetrieval writes corpus.jsonl, queries.jsonl and qrels/test.tsv: the task to find each query's function among all pairs.
func writeRetrieval(dir string, pairs []pair, n int) error {
	type document struct {
		ID       string            `json:"_id"`
		Text     string            `json:"text"`
		Metadata map[string]string `json:"metadata"`
	}
	type query struct {
		ID   string `json:"_id"`
		Text string `json:"text"`
	}
	documents, queries := make([]document, len(pairs)), make([]query, n)
	for i, p := range pairs {
		documents[i] = document{fmt.Sprintf("f%d", i), p.source, map[string]string{"package": p.pkg}}
	}
	qrels := "query-id\tcorpus-id\tscore\n"
	for k := range queries {
		i := spaced(k, n, len(pairs))
		queries[k] = query{fmt.Sprintf("q%d", i), pairs[i].query}
		qrels += fmt.Sprintf("%s\t%s\t1\n", queries[k].ID, documents[i].ID)
	}
	if err := os.MkdirAll(filepath.Join(dir, "qrels"), 0o755); err != nil {
		return err
	}
	return errors.Join(
		jsonl.Write(filepath.Join(dir, "corpus.jsonl"), documents), jsonl.Write(filepath.Join(dir, "queries.jsonl"), queries),
		atomicdir.WriteFile(filepath.Join(dir, "qrels", "test.tsv"), []byte(qrels)),
	)
}

// collect reads every package below root in lexical order. It skips queries and sources that it has seen before.
func collect(root string) ([]pair, error) {
	var pairs []pair
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "testdata" || n == "vendor" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, p := range functions(string(text), filepath.ToSlash(pkg)) {
			if !seen["q"+p.query] && !seen["p"+p.source] {
				seen["q"+p.query], seen["p"+p.source] = true, true
				pairs = append(pairs, p)
			}
		}
		return nil
	})
	return pairs, err
}

// functions returns the documented functions of one file, or none if it does not parse.
func functions(text, pkg string) []pair {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil
	}
	var out []pair
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Doc == nil || f.Body == nil || len(f.Body.List) == 0 {
			continue
		}
		if query := sentence(f); len(strings.Fields(query)) >= minWords {
			source := text[files.Position(f.Pos()).Offset:files.Position(f.End()).Offset]
			out = append(out, pair{query, cut(source), pkg})
		}
	}
	return out
}

// sentence returns the first sentence of f's doc comment, without f's name at its start.
func sentence(f *ast.FuncDecl) string {
	s := new(doc.Package).Synopsis(f.Doc.Text())
	if first, rest, ok := strings.Cut(s, " "); ok && strings.Trim(first, ".,:;()") == f.Name.Name {
		s = rest
	}
	return strings.TrimSpace(s)
}

// cut shortens s to at most maxSource bytes, at the end of a character.
func cut(s string) string {
	if len(s) <= maxSource {
		return s
	}
	s = s[:maxSource]
	for len(s) > 0 {
		if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
			break
		}
		s = s[:len(s)-1]
	}
	return s
}
