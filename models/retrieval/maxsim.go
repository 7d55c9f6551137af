package retrieval

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/dist"
)

// MaxSim compares a ColBERT model's vectors of every document with those of every query. Memory holds the vectors of all queries
// and of one chunk of documents.
type MaxSim struct {
	Embedder retriever.MultiVector
	// State is a file that keeps what was found, now and then and at the end, so that a stopped search goes on. Its name must differ
	// for everything that scores depend on. The caller removes it. "" keeps nothing.
	State string
	// Warn hears why the file cannot be read or written; the search goes on without it. It may be nil.
	Warn func(error)
	// Ranks share the work if they are several: every rank makes the same call, and rank 0 has the file. Nil: this process does all.
	Ranks *dist.Dealer
}

const (
	// chunkLen is how many documents are encoded together.
	chunkLen = 1024
	// queryPiece is how many queries a rank compares with a chunk at once.
	queryPiece = 64
)

// stateInterval is the time between two writes of the state. Tests shorten it.
var stateInterval = 20 * time.Second

// maxSimState is what a search has found in the first Done documents.
type maxSimState struct {
	Done int
	Hits mteb.Run
}

// Search implements mteb.Searcher.
func (m MaxSim) Search(ctx context.Context, t mteb.RetrievalTask, k int, progress func(stage string, done, total int)) (mteb.Run, error) {
	queries, err := encodeQueries(ctx, m.Embedder, t, progress)
	if err != nil {
		return nil, err
	}
	found := make([]best, len(queries))
	done, err := m.resume(found, k)
	if err != nil {
		return nil, err
	}
	saved := time.Now()
	for n := t.Corpus.Len(); done < n; {
		end := min(done+chunkLen, n)
		passages, err := m.encodeChunk(ctx, t, done, end, progress)
		if err != nil {
			return nil, err
		}
		err = m.compare(ctx, queries, passages, func(query, passage int, score float32) {
			found[query].add(mteb.Hit{Document: done + passage, Score: score})
		})
		if err != nil {
			return nil, err
		}
		if done = end; done == n || time.Since(saved) > stateInterval {
			m.save(done, found)
			saved = time.Now()
		}
	}
	return runOf(found), nil
}

func runOf(found []best) mteb.Run {
	run := make(mteb.Run, len(found))
	for i := range found {
		run[i] = found[i].hits()
	}
	return run
}

func (m MaxSim) first() bool { return !m.Ranks.Shares() || m.Ranks.Comm().Rank() == 0 }

// encodeChunk encodes the documents from, from+1, … to-1.
func (m MaxSim) encodeChunk(ctx context.Context, t mteb.RetrievalTask, from, to int, progress func(stage string, done, total int)) ([]retriever.Embedding, error) {
	texts := make([]prompt.Text, 0, to-from)
	var err error
	for i := from; i < to && err == nil; i++ {
		var passage string
		passage, err = t.Corpus.Passage(i)
		texts = append(texts, prompt.Text{Text: passage})
	}
	if err := m.Ranks.Agree(err); err != nil {
		return nil, err
	}
	out, err := m.Embedder.Encode(ctx, texts, retriever.EncodeOptions{Progress: func(done int) { progress(encodingDocuments, from+done, t.Corpus.Len()) }})
	if wrong := (*retriever.TextError)(nil); errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s: %w", t.Corpus.Location(from+wrong.Index), wrong.Err)
	}
	return out, err
}

// compare gives each query's score with each passage to add. The ranks share the queries.
func (m MaxSim) compare(ctx context.Context, queries, passages []retriever.Embedding, add func(query, passage int, score float32)) error {
	pieces := (len(queries) + queryPiece - 1) / queryPiece
	score := func(piece int, add func(query, passage int, score float32)) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		from := piece * queryPiece
		scores, err := m.Embedder.Similarities(queries[from:min(from+queryPiece, len(queries))], passages)
		if err != nil {
			return err
		}
		for q, list := range scores {
			for p, x := range list {
				if math.IsNaN(float64(x)) {
					return fmt.Errorf("the score of query %d and a passage is not a number", from+q+1)
				}
				add(from+q, p, x)
			}
		}
		return nil
	}
	if !m.Ranks.Shares() {
		for piece := range pieces {
			if err := score(piece, add); err != nil {
				return err
			}
		}
		return nil
	}
	costs := make([]float64, pieces)
	for i := range costs {
		costs[i] = float64(min((i+1)*queryPiece, len(queries)) - i*queryPiece)
	}
	all, err := m.Ranks.Deal(ctx, costs, func(piece int) (b []byte, err error) {
		err = score(piece, func(_, _ int, x float32) { b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x)) })
		return b, err
	})
	if err != nil {
		return err
	}
	for piece, b := range all {
		if len(b) != 4*int(costs[piece])*len(passages) {
			return fmt.Errorf("another rank has %d bytes of scores, want %d", len(b), 4*int(costs[piece])*len(passages))
		}
		for i := range len(b) / 4 {
			add(piece*queryPiece+i/len(passages), i%len(passages), math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
		}
	}
	return nil
}

// resume fills in what a stopped search has found, and returns in how many documents.
func (m MaxSim) resume(found []best, k int) (done int, err error) {
	for i := range found {
		found[i].k = k
	}
	var b []byte
	if m.State != "" && m.first() {
		var err error
		if b, err = os.ReadFile(m.State); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.warn(err)
		}
	}
	if m.Ranks.Shares() {
		all, err := m.Ranks.Comm().AllGather(b)
		if err != nil {
			return 0, err
		}
		b = all[0]
	}
	var state maxSimState
	if len(b) == 0 || gob.NewDecoder(bytes.NewReader(b)).Decode(&state) != nil || len(state.Hits) != len(found) {
		return 0, nil // a file of another form is one that a later version wrote
	}
	for i, hits := range state.Hits {
		for _, h := range hits {
			found[i].add(h)
		}
	}
	return state.Done, nil
}

// save writes what was found in the first documents.
func (m MaxSim) save(done int, found []best) {
	if m.State == "" || !m.first() {
		return
	}
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(maxSimState{done, runOf(found)})
	if err == nil {
		err = atomicdir.WriteFile(m.State, b.Bytes())
	}
	if err != nil {
		m.warn(err)
	}
}

func (m MaxSim) warn(err error) {
	if m.Warn != nil {
		m.Warn(err)
	}
}
