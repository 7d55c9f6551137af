package index

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	goruntime "runtime"
	"slices"
	"sync"

	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// Hit is a document that a search found.
type Hit struct {
	Document int     // its number in the corpus, from 0
	Score    float32 // inner product; of vectors of length one it is the cosine
}

// compareHits orders hits, best first: by score, and of equal scores by document.
func compareHits(a, b Hit) int {
	return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Document, b.Document))
}

// How a search is cut into runs: a run scores queriesPerRun queries with documentsPerRun documents, 16 MB of scores, so that they
// stay in the processor's cache. Ranks share the work by pieces of up to queriesPerPiece queries, each of which reads all vectors once.
// The sizes do not depend on the number of ranks or threads, so that scores do not either.
const (
	queriesPerRun   = 256
	documentsPerRun = 16384
	queriesPerPiece = 2048
	// candidatesPerPiece bounds the candidates in memory, 2k for each query of a piece, where k is large.
	candidatesPerPiece = 1 << 24
)

// pieceLen is how many queries of a search for k documents are a piece.
func pieceLen(k int) int { return max(1, min(queriesPerPiece, candidatesPerPiece/(2*k))) }

// Exact finds the documents with the highest inner products by comparing each query with every vector: a matrix product in ONNX
// Runtime, block by block. On CUDA, TopK follows in the graph, so that only the best scores of a block leave the GPU. On the CPU,
// TopK would take from a quarter to twice the time of the product: it knows nothing of the blocks before. There the scores are
// compared with the worst of the k best so far, which almost all of them fail. Vectors must be finite, as Encode makes them. An
// Exact is used by one goroutine at a time.
type Exact struct {
	vectors *Vectors
	session *runtime.Session
	binding *runtime.Binding
	threads int
	topK    bool      // the graph has TopK
	scores  []float32 // of the last run: [queries, documents], or with TopK [queries, k]
	indices []int64   // with TopK: of the scores' documents in the block
}

// NewExact opens a search of vectors. The options say on which provider and with how many threads it computes. Vectors must stay
// open until Close.
func NewExact(v *Vectors, o runtime.Options) (*Exact, error) {
	return newExact(v, o, o.Provider == runtime.CUDA)
}

func newExact(v *Vectors, o runtime.Options, topK bool) (e *Exact, err error) {
	o = o.WithoutOpenVINO()
	e = &Exact{vectors: v, topK: topK, threads: cmp.Or(o.Threads, goruntime.GOMAXPROCS(0))}
	if !topK { // the threads that compare scores need the cores between two runs
		o.Config = map[string]string{"session.intra_op.allow_spinning": "0"}
	}
	model, err := e.graph().Bytes()
	if err != nil {
		return nil, err
	}
	if e.session, err = runtime.NewSession(model, o); err == nil {
		e.binding, err = e.session.NewBinding()
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// graph takes queries [q, d] and documents [n, d] to their inner products [q, n], or with TopK and k [1] to the k highest of each
// query, and their indices, [q, k].
func (e *Exact) graph() *onnx.Graph {
	g := onnx.NewGraph("search")
	d := onnx.FixedDim(int64(e.vectors.Dimension()))
	queries := g.Input("queries", onnx.Float32, onnx.NamedDim("queries"), d)
	documents := g.Input("documents", onnx.Float32, onnx.NamedDim("documents"), d)
	scores := g.Gemm(queries, documents, nil, onnx.GemmAttrs{TransB: true})
	if e.topK {
		var indices *onnx.Value
		scores, indices = g.TopK(scores, g.Input("k", onnx.Int64, onnx.FixedDim(1)), 1)
		g.Output("indices", indices)
	}
	g.Output("scores", scores)
	return g
}

// Close frees the session.
func (e *Exact) Close() error {
	if e == nil {
		return nil
	}
	var errs []error
	if e.binding != nil {
		errs = append(errs, e.binding.Close())
	}
	return errors.Join(append(errs, e.session.Close())...)
}

// SearchOptions say what is searched. The zero value searches all documents.
type SearchOptions struct {
	// Documents, if it is not nil, are the only documents that are searched, by their numbers in ascending order.
	Documents []int
	// Progress hears how many queries are done. It may be nil.
	Progress func(done, total int)
	// Ranks share the queries if they are several: every rank calls with the same queries and gets every result. Nil: this process
	// does all.
	Ranks *dist.Dealer
}

// finite says whether all values are numbers.
func finite(values []float32) bool {
	return !slices.ContainsFunc(values, func(x float32) bool { return math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) })
}

// CheckQueries returns an error if a query is not a vector of so many numbers. what is what is searched, for the message.
func CheckQueries(queries [][]float32, dimension int, what string) error {
	for i, q := range queries {
		if len(q) != dimension {
			return fmt.Errorf("query %d is a vector of %d numbers, the %s has vectors of %d", i+1, len(q), what, dimension)
		}
		if !finite(q) {
			return fmt.Errorf("query %d is a vector with a value that is no number", i+1)
		}
	}
	return nil
}

// Search gives for each query the k documents with the highest scores, best first; of equal scores, the document with the lower
// number comes first. A query is a vector of the vectors' dimension. There are fewer hits if there are fewer documents. It ends
// with the context.
func (e *Exact) Search(ctx context.Context, queries [][]float32, k int, o SearchOptions) ([][]Hit, error) {
	if k < 1 {
		return nil, fmt.Errorf("a search for %d documents, want at least 1", k)
	}
	if err := CheckQueries(queries, e.vectors.Dimension(), "index"); err != nil {
		return nil, err
	}
	k = min(k, max(1, e.vectors.Len())) // a list holds 2k candidates
	if !o.Ranks.Shares() {
		return e.searchPieces(ctx, queries, k, o)
	}
	return e.searchShared(ctx, queries, k, o)
}

func (e *Exact) searchPieces(ctx context.Context, queries [][]float32, k int, o SearchOptions) ([][]Hit, error) {
	out := make([][]Hit, 0, len(queries))
	for piece := range slices.Chunk(queries, pieceLen(k)) {
		before := len(out)
		hits, err := e.search(ctx, piece, k, o.Documents, func(done int) {
			if o.Progress != nil {
				o.Progress(before+done, len(queries))
			}
		})
		if err != nil {
			return nil, err
		}
		out = append(out, hits...)
	}
	return out, nil
}

// searchShared is searchPieces where ranks share the pieces.
func (e *Exact) searchShared(ctx context.Context, queries [][]float32, k int, o SearchOptions) ([][]Hit, error) {
	pieces := slices.Collect(slices.Chunk(queries, pieceLen(k)))
	costs := make([]float64, len(pieces))
	for i, p := range pieces {
		costs[i] = float64(len(p))
	}
	results, err := o.Ranks.Deal(ctx, costs, func(i int) ([]byte, error) {
		hits, err := e.search(ctx, pieces[i], k, o.Documents, func(int) {})
		return encodeHits(hits), err
	})
	if err != nil {
		return nil, err
	}
	var out [][]Hit
	for i, b := range results {
		hits, err := decodeHits(b)
		if err != nil || len(hits) != len(pieces[i]) {
			return nil, errors.Join(fmt.Errorf("another rank's hits are not those of %d queries", len(pieces[i])), err)
		}
		out = append(out, hits...)
	}
	if o.Progress != nil {
		o.Progress(len(queries), len(queries))
	}
	return out, nil
}

// search is Search of one piece. Each block of documents is read once for all queries of the piece.
func (e *Exact) search(ctx context.Context, queries [][]float32, k int, only []int, progress func(done int)) ([][]Hit, error) {
	d, n := e.vectors.Dimension(), e.vectors.Len()
	if only != nil {
		n = len(only)
	}
	flat := slices.Concat(queries...)
	lists := make([]best, len(queries))
	for q := range lists {
		lists[q] = newBest(k)
	}
	var picked []float32
	for from := 0; from < n; from += documentsPerRun {
		to := min(from+documentsPerRun, n)
		documents, number := []float32(nil), func(i int) int { return from + i }
		if only == nil {
			documents = e.vectors.Rows(from, to)
		} else {
			picked = picked[:0]
			for _, i := range only[from:to] {
				picked = append(picked, e.vectors.Row(i)...)
			}
			documents, number = picked, func(i int) int { return only[from+i] }
		}
		for q := 0; q < len(queries); q += queriesPerRun {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			end := min(q+queriesPerRun, len(queries))
			if err := e.run(flat[q*d:end*d], documents, min(k, to-from)); err != nil {
				return nil, err
			}
			e.collect(lists[q:end], number)
			progress((from*len(queries) + (to-from)*end) / n)
		}
		if only == nil {
			e.vectors.release(from, to)
		}
	}
	out := make([][]Hit, len(queries))
	for q := range lists {
		out[q] = lists[q].hits()
	}
	return out, nil
}

// run scores a block of documents for some queries.
func (e *Exact) run(queries, documents []float32, k int) error {
	d := e.vectors.Dimension()
	q, n := len(queries)/d, len(documents)/d
	width := n
	var errs []error
	if e.topK {
		width = k
		e.indices = slices.Grow(e.indices[:0], q*k)[:q*k]
		errs = append(errs, e.binding.Ints("k", []int64{int64(k)}, 1), e.binding.OutputInts("indices", e.indices, int64(q), int64(k)))
	}
	e.scores = slices.Grow(e.scores[:0], q*width)[:q*width]
	err := errors.Join(append(errs,
		e.binding.Floats("queries", queries, int64(q), int64(d)),
		e.binding.Floats("documents", documents, int64(n), int64(d)),
		e.binding.OutputFloats("scores", e.scores, int64(q), int64(width)))...)
	if err == nil {
		err = e.binding.Run()
	}
	if err != nil {
		return fmt.Errorf("searching: %w", err)
	}
	return nil
}

// collect offers the scores of the last run to the queries' lists.
func (e *Exact) collect(lists []best, number func(i int) int) {
	width := len(e.scores) / len(lists)
	var wait sync.WaitGroup
	for t := range e.threads {
		wait.Go(func() {
			for q := t; q < len(lists); q += e.threads {
				number := number
				if e.topK {
					indices := e.indices[q*width : (q+1)*width]
					inBlock := number
					number = func(i int) int { return inBlock(int(indices[i])) }
				}
				lists[q].offer(e.scores[q*width:(q+1)*width], number)
			}
		})
	}
	wait.Wait()
}

// encodeHits writes hits for other ranks: of each query their count, and of each hit its document and score.
func encodeHits(hits [][]Hit) []byte {
	var b []byte
	for _, list := range hits {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(list)))
		for _, h := range list {
			b = binary.LittleEndian.AppendUint32(b, uint32(h.Document))
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(h.Score))
		}
	}
	return b
}

// decodeHits reads what encodeHits wrote.
func decodeHits(b []byte) (out [][]Hit, err error) {
	for len(b) > 0 {
		if len(b) < 4 || (len(b)-4)/8 < int(binary.LittleEndian.Uint32(b)) {
			return nil, errors.New("hits are cut short")
		}
		list := make([]Hit, binary.LittleEndian.Uint32(b))
		b = b[4:]
		for i := range list {
			list[i] = Hit{int(binary.LittleEndian.Uint32(b)), math.Float32frombits(binary.LittleEndian.Uint32(b[4:]))}
			b = b[8:]
		}
		out = append(out, list)
	}
	return out, nil
}
