package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/index/pgvector"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/runtime"
)

func searchCommand() *cli.Command {
	return &cli.Command{
		Name: "search", Usage: "find documents in an index", ArgsUsage: "[QUERY …]",
		Description: `Queries are the arguments, or rows {"query": "…"} on stdin. Each gives one row {"query": "…", "hits": [{"id", "score", "title",
"text", "metadata"}, …]}, the best document first. Scores are cosines, BM25, or with hybrid the sum of 1/(60+rank) over both; with
--rerank they are the reranker's.

Examples:
  rag-retrieval search --index index "how do I reverse a slice"
  rag-retrieval search --index index --by hybrid --top-k 5 --format table "reverse a slice" "read a file"
  rag-retrieval search --index index --filter lang=en --filter year=2024 "reverse a slice"
  rag-retrieval search --store 'postgres://me@localhost/rag?collection=news' --rerank out-reranker/model "reverse a slice"
  echo '{"query": "reverse a slice"}' | rag-retrieval search --index index`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "index", Usage: "folder that rag-retrieval index has made"},
			&cli.StringFlag{Name: "store", Usage: "database of the index: postgres://USER:PASSWORD@HOST/DATABASE?collection=NAME"},
			&cli.StringFlag{Name: "by", Usage: "how documents are found: vectors, bm25, or hybrid, which is both", Value: index.ByVectors},
			&cli.IntFlag{Name: "top-k", Usage: "documents of each query", Value: 10},
			&cli.StringSliceFlag{Name: "filter", Usage: "only documents with this value in a field: FIELD=VALUE; may be given several times"},
			&cli.StringFlag{Name: "rerank", Usage: "a model, reranker or other, that scores the best candidates again"},
			&cli.IntFlag{Name: "candidates", Usage: "with --rerank or --by hybrid: documents that are found first", Value: 100},
			&cli.StringFlag{Name: "model", Usage: "where the model of the index is now; default: where it was"},
			&cli.StringFlag{Name: "format", Usage: "json or table", Value: "json"},
		}, engineFlags()...),
		OnUsageError: onUsageError,
		Action:       search,
	}
}

func search(c *cli.Context) (err error) {
	filter, filterErr := index.ParseFilter(c.StringSlice("filter")...)
	switch by := c.String("by"); {
	case (c.String("index") == "") == (c.String("store") == ""):
		return usagef("want either --index or --store")
	case !slices.Contains(index.Ways, by):
		return usagef("--by is %q, want one of %v", by, index.Ways)
	case c.Int("top-k") < 1:
		return usagef("--top-k is %d, want at least 1", c.Int("top-k"))
	case c.Int("candidates") < 1:
		return usagef("--candidates is %d, want at least 1", c.Int("candidates"))
	case c.IsSet("candidates") && c.String("rerank") == "" && by != index.ByBoth:
		return usagef("--candidates goes with --rerank or --by %s", index.ByBoth)
	case c.IsSet("model") && by == index.ByWords:
		return usagef("--model goes with vectors, not with --by %s", by)
	case filterErr != nil:
		return usagef("--filter: %v", filterErr)
	case c.String("format") != "json" && c.String("format") != "table":
		return usagef("--format is %q, want json or table", c.String("format"))
	}
	var closers []func() error
	defer func() {
		for _, f := range slices.Backward(closers) {
			err = errors.Join(err, f())
		}
	}()
	s := index.Searcher{By: c.String("by"), Candidates: c.Int("candidates"), Filter: filter}
	use, close, err := openStore(c, &s)
	if err != nil {
		return err
	}
	closers = append(closers, close)
	for _, open := range []func(*cli.Context, index.Use, *index.Searcher) (*retriever.Model, error){openQueryModel, openReranker} {
		m, err := open(c, use, &s)
		if err != nil {
			return err
		}
		if m != nil {
			closers = append(closers, m.Close)
		}
	}
	a := &answering{c: c, s: s}
	if c.Args().Present() {
		return a.answer(c.Args().Slice())
	}
	return a.answerRows()
}

// openStore opens the index and tells how its model was opened.
func openStore(c *cli.Context, s *index.Searcher) (use index.Use, close func() error, err error) {
	if dir := c.String("index"); dir != "" {
		provider, reason, err := runtime.Resolve(c.String("provider"), c.Int("device-id"))
		if err != nil {
			return use, nil, err
		}
		if reason != nil {
			note(fmt.Sprintf("running on the CPU: %v", reason))
		}
		f, err := index.OpenFolder(dir, runtime.Options{Provider: provider, DeviceID: c.Int("device-id"), Threads: c.Int("threads")})
		if err != nil {
			return use, nil, err
		}
		s.Store, s.Dimension = f, f.Use.Dimension
		return f.Use, f.Close, nil
	}
	db, err := pgvector.Open(c.Context, c.String("store"))
	if err != nil {
		return use, nil, err
	}
	m, err := db.Complete()
	if err == nil && s.By != index.ByWords {
		use, err = index.UseOf(m.Model, m.Fingerprint)
	}
	if err != nil {
		db.Close()
		return use, nil, err
	}
	s.Store, s.Dimension = db, m.Cut
	return use, func() error { db.Close(); return nil }, nil
}

// openQueryModel opens the model of the index with the lengths and prompts of the index. Whether it computes in 8-bit integers is for
// the search to choose: the queries' vectors are close. A model that has changed is an error.
func openQueryModel(c *cli.Context, use index.Use, s *index.Searcher) (m *retriever.Model, err error) {
	if s.By == index.ByWords {
		return nil, nil
	}
	o := engineOptions(c)
	asIndexed(&o, use)
	ref := orText(c.String("model"), use.Model)
	if m, err = openWith(c, ref, o); err != nil {
		return nil, fmt.Errorf("the model of the index: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	content, err := contentOf(c.Context, m)
	if err == nil {
		err = checkContent(ref, content, use)
	}
	if err != nil {
		return m, err
	}
	s.Embedder, err = m.Embedder()
	return m, err
}

// asIndexed sets a model's options to those that an index was made with.
func asIndexed(o *retriever.Options, use index.Use) {
	o.Kind, o.QueryPrompt, o.PassagePrompt = modelcard.Embedding, use.QueryPrompt, use.PassagePrompt
	o.QueryMaxLen, o.PassageMaxLen = use.QueryMaxLen, use.PassageMaxLen
}

// checkContent returns an error if a model's files are not those of the index. content is contentOf the model.
func checkContent(ref, content string, use index.Use) error {
	if content != use.Content {
		return fmt.Errorf("%s is not the model that the index was made with, or has changed since: make the index again, or say where that model is (--model)", ref)
	}
	return nil
}

// openReranker opens the model of --rerank.
func openReranker(c *cli.Context, _ index.Use, s *index.Searcher) (*retriever.Model, error) {
	ref := c.String("rerank")
	if ref == "" {
		return nil, nil
	}
	m, err := openWith(c, ref, engineOptions(c))
	if err != nil {
		return nil, err
	}
	s.Reranker = m
	return m, nil
}

// found is a row of the output.
type found struct {
	Query string `json:"query"`
	Hits  []hit  `json:"hits"`
}

type hit struct {
	ID       string          `json:"id"`
	Score    float32         `json:"score"`
	Title    string          `json:"title,omitempty"`
	Text     string          `json:"text"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

// answering is one call of the command.
type answering struct {
	c            *cli.Context
	s            index.Searcher
	knownFilters bool // the filter's fields were looked up, and there are such fields
}

// answer prints what is found for some queries.
func (a *answering) answer(queries []string) error {
	c := a.c
	all, err := a.s.Search(c.Context, queries, c.Int("top-k"))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(list []index.Found) bool { return len(list) > 0 }) {
		if err := a.checkFilter(); err != nil {
			return err
		}
	}
	if c.String("format") == "table" {
		return answerTables(queries, all)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for i, list := range all {
		row := found{queries[i], []hit{}}
		for _, f := range list {
			row.Hits = append(row.Hits, hit{f.ID, f.Score, f.Title, f.Text, f.Metadata})
		}
		if err := out.Encode(row); err != nil {
			return err
		}
	}
	return nil
}

// shownFields is how many of the fields that documents have an error lists.
const shownFields = 20

// checkFilter returns an error if the filter has a field that no document has, which finds nothing for any query.
func (a *answering) checkFilter() error {
	if a.knownFilters {
		return nil
	}
	field, known, err := a.s.UnknownField(a.c.Context)
	if err != nil || field == "" {
		a.knownFilters = err == nil
		return err
	}
	fields := "documents have no fields besides _id, title and text"
	if len(known) > 0 {
		fields = "the fields are " + strings.Join(known[:min(len(known), shownFields)], ", ")
	}
	if more := len(known) - shownFields; more > 0 {
		fields += fmt.Sprintf(" and %d more", more)
	}
	return usagef("--filter: no document has the field %q%s; %s", field, didYouMean("", field, known), fields)
}

func answerTables(queries []string, all [][]index.Found) error {
	for i, list := range all {
		if len(queries) > 1 {
			fmt.Println(queries[i])
		}
		var rows [][]string
		for rank, f := range list {
			rows = append(rows, []string{eval.OneLine(f.Passage()), fmt.Sprint(rank + 1), fmt.Sprintf("%.4f", f.Score), f.ID})
		}
		if err := eval.WriteTable(os.Stdout, "table", []string{"document", "rank", "score", "id"}, rows); err != nil {
			return err
		}
	}
	return nil
}

// searchChunk is how many rows of stdin are searched together at most.
const searchChunk = 256

// answerRows answers the rows of stdin. Rows that have come are answered before it waits for more, so that a program may ask one
// query at a time; and before a row that is wrong.
func (a *answering) answerRows() error {
	in := bufio.NewReader(os.Stdin)
	var queries []string
	flush := func() error {
		if len(queries) == 0 {
			return nil
		}
		err := a.answer(queries)
		queries = queries[:0]
		return err
	}
	rows := 0
	for line, end := 1, error(nil); end == nil; line++ {
		var b []byte
		if b, end = in.ReadBytes('\n'); end != nil && !errors.Is(end, io.EOF) {
			return errors.Join(flush(), fmt.Errorf("stdin: %w", end))
		}
		if len(bytes.TrimSpace(b)) == 0 {
			continue
		}
		query, err := searchRow(b)
		if err != nil {
			return errors.Join(flush(), fmt.Errorf("stdin:%d: %w", line, err))
		}
		queries = append(queries, query)
		rows++
		if len(queries) == searchChunk || in.Buffered() == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if rows == 0 {
		return errors.New(`stdin has no rows {"query": "…"}; or give queries as arguments`)
	}
	return flush()
}

func searchRow(b []byte) (string, error) {
	var row struct {
		Query *string `json:"query"`
	}
	if err := jsonl.Decode(b, &row); err != nil {
		return "", err
	}
	if row.Query == nil {
		return "", errors.New(`"query" is missing`)
	}
	return *row.Query, nil
}
