// Command search makes vectors and searches them, to measure time and memory. scripts/bench/search.py calls it beside faiss.
//
//	go run ./scripts/bench/search make   -dir DIR -documents 1000000 -dimension 384 -queries 1000
//	go run ./scripts/bench/search search -dir DIR -k 100 -threads 2
//
// The vectors are random, of length one. They go through the same code as those of a model: they are encoded chunk by chunk into
// DIR/vectors.npy. Queries lie in DIR/queries, in the same form.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"rag-retrieval-go/internal/memory"
	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/runtime"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 || args[0] != "make" && args[0] != "search" {
		return errors.New("want make or search")
	}
	f := flag.NewFlagSet(args[0], flag.ExitOnError)
	dir := f.String("dir", "", "folder of the vectors")
	documents := f.Int("documents", 1_000_000, "make: vectors of documents")
	queries := f.Int("queries", 1000, "make: vectors of queries")
	dimension := f.Int("dimension", 384, "make: of the vectors")
	k := f.Int("k", 100, "search: documents of each query")
	threads := f.Int("threads", 2, "search: threads")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "search" {
		return search(*dir, *k, *threads)
	}
	begun := time.Now()
	for path, n := range map[string]int{*dir: *documents, filepath.Join(*dir, "queries"): *queries} {
		x := index.Encode{Dir: path, Source: numbers(n), Embedder: &randomEmbedder{*dimension, rand.New(rand.NewPCG(uint64(n), 1))}}
		v, err := x.Vectors(context.Background())
		if err != nil {
			return err
		}
		if err := v.Close(); err != nil {
			return err
		}
	}
	return report(map[string]any{"seconds": time.Since(begun).Seconds()})
}

// report prints a row, with the peak of this process's resident memory so far. It counts the pages of mapped files that were in
// memory at the same time.
func report(row map[string]any) error {
	row["peak_bytes"] = memory.Peak()
	return json.NewEncoder(os.Stdout).Encode(row)
}

// search searches all queries, and writes the documents of each to DIR/hits.json.
func search(dir string, k, threads int) error {
	v, err := index.OpenVectors(dir)
	if err != nil {
		return err
	}
	defer v.Close()
	q, err := index.OpenVectors(filepath.Join(dir, "queries"))
	if err != nil {
		return err
	}
	defer q.Close()
	var queries [][]float32
	for i := range q.Len() {
		queries = append(queries, q.Row(i))
	}
	e, err := index.NewExact(v, runtime.Options{Threads: threads})
	if err != nil {
		return err
	}
	defer e.Close()
	begun := time.Now()
	hits, err := e.Search(context.Background(), queries, k, index.SearchOptions{})
	if err != nil {
		return err
	}
	seconds := time.Since(begun).Seconds()
	b, err := json.Marshal(hits)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "hits.json"), b, 0o644); err != nil {
		return err
	}
	return report(map[string]any{"seconds": seconds, "documents": v.Len(), "queries": q.Len(), "k": k})
}

// numbers is a source of so many texts.
type numbers int

func (n numbers) Len() int                      { return int(n) }
func (n numbers) Passage(i int) (string, error) { return fmt.Sprint(i), nil }
func (n numbers) Location(i int) string         { return fmt.Sprint("text ", i) }
func (n numbers) Hash() string                  { return fmt.Sprint(int(n)) }

// randomEmbedder makes random vectors of length one.
type randomEmbedder struct {
	dimension int
	rng       *rand.Rand
}

func (e *randomEmbedder) Encode(_ context.Context, texts []prompt.Text, _ retriever.EncodeOptions) ([]retriever.Embedding, error) {
	out := make([]retriever.Embedding, len(texts))
	for i := range out {
		values, sum := make([]float32, e.dimension), 0.0
		for j := range values {
			x := e.rng.NormFloat64()
			values[j], sum = float32(x), sum+x*x
		}
		for j := range values {
			values[j] /= float32(math.Sqrt(sum))
		}
		out[i] = retriever.Embedding{Values: values}
	}
	return out, nil
}

func (e *randomEmbedder) Similarity(retriever.Embedding, []retriever.Embedding) ([]float32, error) {
	return nil, errors.New("not used")
}

func (e *randomEmbedder) Info() retriever.Info {
	return retriever.Info{Ref: "random", Kind: modelcard.Embedding, Dimension: int64(e.dimension)}
}
