package index

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/bm25"
	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/mapped"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/runtime"
)

// Use says how a model was opened for an index, so that queries are encoded like its documents.
type Use struct {
	Model string `json:"model,omitempty"` // a folder, a hub id or a file
	// Content is a hash of the model's files. It stays the same where they are copied.
	Content       string  `json:"content_sha256"`
	QueryPrompt   *string `json:"query_prompt,omitempty"` // nil: the model's own
	PassagePrompt *string `json:"passage_prompt,omitempty"`
	QueryMaxLen   int     `json:"query_max_len"` // in tokens
	PassageMaxLen int     `json:"passage_max_len"`
	Dimension     int     `json:"dimension,omitempty"` // to which vectors are cut; 0: they are whole
	Int8          bool    `json:"int8,omitempty"`
	// BF16 is the unit of the CPU that computed products in bfloat16, or empty.
	BF16 kernels.Unit `json:"bf16,omitempty"`
}

// Fingerprint stands for everything besides the documents that vectors depend on. It is the use as JSON, without the model's place:
// the same model may be in another one.
func (u Use) Fingerprint() (string, error) {
	u.Model = ""
	b, err := json.Marshal(u)
	return string(b), err
}

// UseOf is the use of a model's place and a fingerprint, which a database keeps.
func UseOf(model, fingerprint string) (u Use, err error) {
	if err := json.Unmarshal([]byte(fingerprint), &u); err != nil || u.Content == "" {
		return u, fmt.Errorf("the index of the model %s was not made by rag-retrieval index: its fingerprint is %.40q", model, fingerprint)
	}
	u.Model = model
	return u, nil
}

// Store is an index that is open to search: a Folder, or a collection of a database, see package pgvector. Several goroutines may
// search it at once.
type Store interface {
	// Search gives the k nearest documents to each query, a vector of length one, best first. Of equal scores, the document with the
	// lower number comes first. There are fewer where fewer documents meet the filter.
	Search(ctx context.Context, queries [][]float32, k int, filter Filter) ([][]Hit, error)
	// BM25 gives the k documents with the highest scores by BM25 for each query. Documents without a word of the query are no hits.
	BM25(ctx context.Context, queries []string, k int, filter Filter) ([][]Hit, error)
	// Documents reads documents by their numbers, in the order of these.
	Documents(ctx context.Context, numbers []int) ([]corpus.Document, error)
	// Fields lists the fields on which a filter can be, those of any document's metadata, sorted. It reads all documents.
	Fields(ctx context.Context) ([]string, error)
}

// Documents is a Source whose documents can be read whole. A *corpus.Corpus is one.
type Documents interface {
	Source
	Document(i int) (corpus.Document, error)
}

// FolderManifest tells what an index in a folder is.
type FolderManifest struct {
	Version   int    `json:"version"`
	Use       Use    `json:"use"`
	Len       int    `json:"documents"`
	Dimension int    `json:"dimension"`
	Source    string `json:"source_sha256"`
}

// The files of an index in a folder, besides those of its vectors and of BM25.
const (
	folderFile    = "index.json" // is written last
	documentsFile = "documents.jsonl"
	startsFile    = "documents.starts" // where each row begins, and where the last one ends, in 8 bytes each
	folderVersion = 1
)

// Stages of WriteFolder.
const (
	StageEncode = "encoding"
	StageBM25   = "indexing words"
)

// WriteFolder makes an index of documents: their vectors, their words for BM25, and a copy of the documents, so that the folder is
// all that a search needs besides the model. An interrupted call goes on where it was. x.Fingerprint is the use's, and x.Source is
// left out. An index that is there already is not made again, unless x.Fresh. All ranks of a job make the call; rank 0 writes.
func WriteFolder(ctx context.Context, x Encode, documents Documents, use Use, progress func(stage string, done, total int)) error {
	var err error
	if x.Fingerprint, err = use.Fingerprint(); err != nil {
		return err
	}
	x.Source, x.Dimension = documents, use.Dimension
	x.Progress = func(done, total int) { progress(StageEncode, done, total) }
	if err := x.Ranks.Agree(refuseOthersFile(x.Dir, documentsFile)); err != nil {
		return err
	}
	v, err := x.Vectors(ctx)
	if err != nil {
		return err
	}
	manifest := FolderManifest{folderVersion, use, documents.Len(), v.Dimension(), documents.Hash()}
	if err := v.Close(); err != nil {
		return err
	}
	if !x.Ranks.Shares() || x.Ranks.Comm().Rank() == 0 {
		err = x.writeRest(ctx, documents, manifest, progress)
	}
	return x.Ranks.Agree(err)
}

// writeRest writes all but the vectors, unless it is there.
func (x Encode) writeRest(ctx context.Context, documents Documents, manifest FolderManifest, progress func(stage string, done, total int)) (err error) {
	lock, err := lockFolder(x.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	// Nobody had the lock for a moment.
	if found, err := readManifest(x.Dir); err != nil || found.Source != manifest.Source || found.Fingerprint != x.Fingerprint {
		return errors.Join(fmt.Errorf("%s: %w: another process has replaced them", x.Dir, ErrOtherVectors), err)
	}
	path := filepath.Join(x.Dir, folderFile)
	if found, err := readFolderManifest(x.Dir); err == nil && found.Source == manifest.Source && !x.Fresh {
		return atomicdir.WriteJSON(path, manifest) // the model may be another, or in another place
	}
	if err := removeRest(x.Dir); err != nil {
		return err
	}
	var starts []byte
	err = atomicdir.Create(filepath.Join(x.Dir, documentsFile), func(out io.Writer) (err error) {
		starts, err = writeDocuments(ctx, x.Dir, documents, out, progress)
		return err
	})
	if err == nil {
		err = atomicdir.WriteFile(filepath.Join(x.Dir, startsFile), starts)
	}
	if err != nil {
		return err
	}
	return atomicdir.WriteJSON(path, manifest)
}

// removeRest removes an index's manifest and words, and what a killed process has left. The manifest goes first: an index without
// it is not whole.
func removeRest(dir string) error {
	if err := os.Remove(filepath.Join(dir, folderFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(bm25.Remove(dir), atomicdir.Clean(filepath.Join(dir, documentsFile)), atomicdir.Clean(filepath.Join(dir, startsFile)))
}

// writeDocuments copies the documents and makes the index for BM25. It returns the contents of startsFile.
func writeDocuments(ctx context.Context, dir string, documents Documents, out io.Writer, progress func(stage string, done, total int)) (starts []byte, err error) {
	to, words, at := bufio.NewWriterSize(out, 1<<20), bm25.NewWriter(dir, bm25.Terms), uint64(0)
	starts = binary.LittleEndian.AppendUint64(nil, 0)
	for i := range documents.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, err := documents.Document(i)
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", documents.Location(i), err)
		}
		if _, err := to.Write(append(b, '\n')); err != nil {
			return nil, err
		}
		if err := words.Add(d.Passage()); err != nil {
			return nil, err
		}
		at += uint64(len(b)) + 1
		starts = binary.LittleEndian.AppendUint64(starts, at)
		if i%ChunkLen == 0 {
			progress(StageBM25, i, documents.Len())
		}
	}
	progress(StageBM25, documents.Len(), documents.Len())
	return starts, errors.Join(words.Close(), to.Flush())
}

func readFolderManifest(dir string) (m FolderManifest, err error) {
	path := filepath.Join(dir, folderFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: not JSON: %w", path, err)
	}
	if m.Version != folderVersion {
		return m, fmt.Errorf("%s: version %d of the format, this program reads version %d: make the index again (--fresh)", path, m.Version, folderVersion)
	}
	return m, nil
}

// Folder is an open index in a folder. It implements Store.
type Folder struct {
	FolderManifest
	dir       string
	vectors   *Vectors
	exact     chan *Exact // holds it while nobody searches
	words     *bm25.Stored
	documents *os.File
	starts    []byte // mapped
	filtered  struct {
		sync.Mutex
		by        Filter // the last filter
		documents []int  // that meet it
	}
}

// OpenFolder opens an index that WriteFolder has made. The options say what computes.
func OpenFolder(dir string, o runtime.Options) (x *Folder, err error) {
	x = &Folder{dir: dir, exact: make(chan *Exact, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
		}
	}()
	if _, err := os.Stat(dir); err != nil {
		return x, err
	}
	if x.FolderManifest, err = readFolderManifest(dir); errors.Is(err, fs.ErrNotExist) {
		return x, fmt.Errorf("%s has no whole index (no %s): make it with rag-retrieval index, which goes on where it was interrupted", dir, folderFile)
	} else if err != nil {
		return x, err
	}
	if x.vectors, err = OpenVectors(dir); err != nil {
		return x, err
	}
	if err := x.checkVectors(); err != nil {
		return x, err
	}
	if x.documents, err = os.Open(filepath.Join(dir, documentsFile)); err != nil {
		return x, err
	}
	path := filepath.Join(dir, startsFile)
	if x.starts, err = mapped.Open(path); err != nil {
		return x, fmt.Errorf("%s: %w", path, err)
	}
	if x.words, err = bm25.OpenStored(dir, bm25.Terms); err != nil {
		return x, err
	}
	if x.vectors.Len() != x.Len || len(x.starts) != 8*(x.Len+1) || x.words.Len() != x.Len {
		return x, fmt.Errorf("%s: %d vectors, %d documents and %d documents for BM25, want %d of each: make the index again (--fresh)",
			dir, x.vectors.Len(), len(x.starts)/8-1, x.words.Len(), x.Len)
	}
	e, err := NewExact(x.vectors, o)
	if err == nil {
		x.exact <- e
	}
	return x, err
}

// checkVectors returns an error if the vectors are not those that the manifest describes: a making of another index in the folder
// was interrupted after it had replaced them.
func (x *Folder) checkVectors() error {
	found, err := readManifest(x.dir)
	if err != nil {
		return err
	}
	fingerprint, err := x.Use.Fingerprint()
	if err != nil {
		return err
	}
	if found.Fingerprint != fingerprint || found.Source != x.Source {
		return fmt.Errorf("%s: its vectors are newer than its documents: run rag-retrieval index again, which goes on where it was interrupted", x.dir)
	}
	return nil
}

// Close closes the files. No search may be in progress.
func (x *Folder) Close() error {
	var errs []error
	select {
	case e := <-x.exact:
		errs = append(errs, e.Close())
	default:
	}
	if x.words != nil {
		errs = append(errs, x.words.Close())
	}
	if x.documents != nil {
		errs = append(errs, x.documents.Close())
	}
	errs = append(errs, x.vectors.Close(), mapped.Close(x.starts))
	x.starts = nil
	return errors.Join(errs...)
}

// Search implements Store. It is exact.
func (x *Folder) Search(ctx context.Context, queries [][]float32, k int, filter Filter) ([][]Hit, error) {
	only, err := x.matching(ctx, filter)
	if err != nil {
		return nil, err
	}
	var e *Exact
	select {
	case e = <-x.exact:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { x.exact <- e }()
	return e.Search(ctx, queries, k, SearchOptions{Documents: only})
}

// BM25 implements Store.
func (x *Folder) BM25(ctx context.Context, queries []string, k int, filter Filter) ([][]Hit, error) {
	only, err := x.matching(ctx, filter)
	if err != nil {
		return nil, err
	}
	out := make([][]Hit, len(queries))
	for i, q := range queries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		scores := x.words.Scores(q)
		if only != nil {
			kept := make([]float64, len(scores))
			for _, d := range only {
				kept[d] = scores[d]
			}
			scores = kept
		}
		for _, d := range bm25.Best(scores, k) {
			out[i] = append(out[i], Hit{d, float32(scores[d])})
		}
	}
	return out, nil
}

// matching lists the documents that meet a filter, in ascending order; nil without a filter. It remembers the last filter's: a
// search by vectors and words, and the next query, ask again.
func (x *Folder) matching(ctx context.Context, filter Filter) ([]int, error) {
	if len(filter) == 0 {
		return nil, nil
	}
	x.filtered.Lock()
	defer x.filtered.Unlock()
	if slices.Equal(filter, x.filtered.by) {
		return x.filtered.documents, nil
	}
	documents := []int{}
	err := x.scan(ctx, func(i int, metadata json.RawMessage) {
		if filter.Matches(metadata) {
			documents = append(documents, i)
		}
	})
	if err != nil {
		return nil, err
	}
	x.filtered.by, x.filtered.documents = slices.Clone(filter), documents
	return documents, nil
}

// Fields implements Store.
func (x *Folder) Fields(ctx context.Context) ([]string, error) {
	known := map[string]bool{}
	err := x.scan(ctx, func(_ int, metadata json.RawMessage) {
		var fields map[string]json.RawMessage
		if metadata == nil || json.Unmarshal(metadata, &fields) != nil {
			return
		}
		for name := range fields {
			known[name] = true
		}
	})
	return slices.Sorted(maps.Keys(known)), err
}

// scan reads the metadata of all documents, in order.
func (x *Folder) scan(ctx context.Context, emit func(i int, metadata json.RawMessage)) error {
	i := 0
	rows := io.NewSectionReader(x.documents, 0, x.start(x.Len))
	err := jsonl.Scan(rows, filepath.Join(x.dir, documentsFile), func(_ int64, line int, b []byte) error {
		var row struct {
			Metadata json.RawMessage `json:"metadata"`
		}
		if err := jsonl.Decode(b, &row); err != nil {
			return fmt.Errorf("%s:%d: %w", filepath.Join(x.dir, documentsFile), line, err)
		}
		emit(i, row.Metadata)
		i++
		return ctx.Err()
	})
	if err == nil && i != x.Len {
		err = fmt.Errorf("%s: %d documents, want %d: make the index again (--fresh)", filepath.Join(x.dir, documentsFile), i, x.Len)
	}
	return err
}

func (x *Folder) start(i int) int64 { return int64(binary.LittleEndian.Uint64(x.starts[8*i:])) }

// Documents implements Store.
func (x *Folder) Documents(_ context.Context, numbers []int) ([]corpus.Document, error) {
	out := make([]corpus.Document, len(numbers))
	for i, n := range numbers {
		if n < 0 || n >= x.Len {
			return nil, fmt.Errorf("document %d, want 0 to %d", n, x.Len-1)
		}
		size := x.start(n+1) - x.start(n)
		if size < 0 || size > 1<<31 {
			return nil, fmt.Errorf("%s: damaged: make the index again (--fresh)", filepath.Join(x.dir, startsFile))
		}
		b := make([]byte, size)
		if _, err := x.documents.ReadAt(b, x.start(n)); err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", filepath.Join(x.dir, documentsFile), n, err)
		}
		if err := jsonl.Decode(b, &out[i]); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", filepath.Join(x.dir, documentsFile), n+1, err)
		}
	}
	return out, nil
}
