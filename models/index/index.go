// Package index keeps the vectors of a corpus's documents in a memory-mapped file and finds the nearest ones to a query. Mining,
// retrieval evaluation and search share it.
//
//	v, err := index.Encode{Dir: "out/vectors", Source: documents, Embedder: e, Fingerprint: f}.Vectors(ctx) // goes on where it was interrupted
//	defer v.Close()
//	x, err := index.NewExact(v, runtime.Options{})
//	defer x.Close()
//	hits, err := x.Search(ctx, queries, 10, index.SearchOptions{})
//
// Memory holds one chunk of texts while encoding and one block of scores while searching, whatever the size of the corpus.
// The package knows embedding models only as a retriever.Embedder of one vector for each text.
package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/dist"
)

// Source is a list of passages that need not be in memory. A *corpus.Corpus is one.
type Source interface {
	Len() int
	// Passage reads passage i, from 0.
	Passage(i int) (string, error)
	// Location is where passage i stands, such as a file and a line, for messages.
	Location(i int) string
	// Hash stands for all passages in their order.
	Hash() string
}

// Encode makes the vectors of a source's passages in a folder.
type Encode struct {
	Dir      string
	Source   Source
	Embedder retriever.Embedder
	// Fingerprint stands for everything besides the source that vectors depend on, see retriever.Model.Fingerprint.
	Fingerprint string
	// Dimension keeps so many numbers at the beginning of each vector, see retriever.EncodeOptions. 0: all.
	Dimension int
	// Fresh begins anew where the folder has vectors of another source or fingerprint, or whole ones.
	Fresh bool
	// Progress hears how many passages are done. It may be nil.
	Progress func(done, total int)
	// Ranks share the encoding if they are several: every rank makes the same call. Rank 0 writes the folder, which all ranks
	// must see. Nil: this process does all.
	Ranks *dist.Dealer
}

// manifest tells what the vectors in a folder are of.
type manifest struct {
	Version     int    `json:"version"`
	Model       string `json:"model"`
	Fingerprint string `json:"fingerprint"`
	Source      string `json:"source_sha256"`
	Documents   int    `json:"documents"`
	Cut         int    `json:"dimension,omitempty"` // Encode.Dimension
}

const (
	manifestFile    = "vectors.json"
	manifestVersion = 1
	lockFile        = ".lock"
)

// ErrOtherVectors says that a folder has the vectors of another model, or of other documents.
var ErrOtherVectors = errors.New("the folder has other vectors")

// Vectors encodes what the folder does not have yet, and opens the vectors. An interrupted call leaves what is encoded: the next
// one goes on after the last whole chunk, with the same bytes as if it had not been interrupted. Vectors of another source or
// fingerprint in the folder are ErrOtherVectors, unless Fresh. If another process is writing the folder, the error is a
// *filelock.Held.
func (x Encode) Vectors(ctx context.Context) (*Vectors, error) {
	if x.Source.Len() == 0 {
		return nil, errors.New("there are no passages to encode")
	}
	if _, err := x.Embedder.Encode(ctx, nil, retriever.EncodeOptions{Dimension: x.Dimension}); err != nil { // wrong options leave no files
		return nil, err
	}
	first := !x.Ranks.Shares() || x.Ranks.Comm().Rank() == 0
	var w *writer
	var lock *filelock.Lock
	var err error
	if first {
		w, lock, err = x.open()
	}
	if err := x.Ranks.Agree(err); err != nil {
		return nil, err
	}
	err = x.encode(ctx, w)
	if first {
		err = errors.Join(err, w.Close(), lock.Close())
	}
	if err := x.Ranks.Agree(err); err != nil { // now rank 0 has closed the files
		return nil, err
	}
	v, err := OpenVectors(x.Dir)
	if err != nil && !first {
		err = fmt.Errorf("%w (all ranks must see the folder that rank 0 writes)", err)
	}
	if err := x.Ranks.Agree(err); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// open locks the folder and opens its files for what is left to encode.
func (x Encode) open() (*writer, *filelock.Lock, error) {
	if err := os.MkdirAll(x.Dir, 0o755); err != nil {
		return nil, nil, err
	}
	lock, err := lockFolder(x.Dir)
	if err != nil {
		return nil, nil, err
	}
	w, err := x.openLocked()
	if err != nil {
		err = errors.Join(err, lock.Close())
	}
	return w, lock, err
}

// lockFolder lets only this process write a folder. The lock is nil, which can be closed too, where the file system has none.
func lockFolder(dir string) (*filelock.Lock, error) {
	lock, err := filelock.Try(filepath.Join(dir, lockFile))
	if errors.Is(err, filelock.ErrNoLocks) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s is being written: %w", dir, err)
	}
	return lock, nil
}

// refuseOthersFile returns an error if a folder without vectors has a file of somebody else, of a name that is to be written.
func refuseOthersFile(dir, name string) error {
	if _, err := os.Stat(filepath.Join(dir, manifestFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	path := filepath.Join(dir, name)
	if st, err := os.Stat(path); err == nil && st.Size() > 0 {
		return fmt.Errorf("%s is there already, without the %s of an index: choose another folder", path, manifestFile)
	}
	return nil
}

func (x Encode) openLocked() (*writer, error) {
	if err := refuseOthersFile(x.Dir, VectorsFile); err != nil {
		return nil, err
	}
	want := manifest{manifestVersion, x.Embedder.Info().Ref, x.Fingerprint, x.Source.Hash(), x.Source.Len(), x.Dimension}
	found, err := readManifest(x.Dir)
	switch absent := errors.Is(err, fs.ErrNotExist); {
	case x.Fresh || absent:
		w, err := openWriter(x.Dir, x.Source.Len(), true) // before the manifest, which must never name the old vectors
		if err == nil {
			err = atomicdir.WriteJSON(filepath.Join(x.Dir, manifestFile), want)
		}
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		return w, nil
	case err != nil:
		return nil, err
	}
	if err := found.differs(want); err != nil {
		return nil, fmt.Errorf("%s: %w", x.Dir, err)
	}
	return openWriter(x.Dir, x.Source.Len(), false)
}

func readManifest(dir string) (m manifest, err error) {
	path := filepath.Join(dir, manifestFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: not JSON: %w", path, err)
	}
	if m.Version != manifestVersion {
		return m, fmt.Errorf("%s: version %d of the format, this program reads version %d", path, m.Version, manifestVersion)
	}
	return m, nil
}

// differs returns an error that says in what the vectors differ from the wanted ones.
func (m manifest) differs(want manifest) error {
	switch {
	case m.Fingerprint != want.Fingerprint:
		return fmt.Errorf("%w: they are of the model %s, or it has changed, or was opened with other options", ErrOtherVectors, m.Model)
	case m.Cut != want.Cut:
		return fmt.Errorf("%w: they were cut to dimension %d, now %d is wanted (0: all)", ErrOtherVectors, m.Cut, want.Cut)
	case m.Source != want.Source:
		return fmt.Errorf("%w: they are of other documents (%d; now there are %d), or of an older state of them", ErrOtherVectors, m.Documents, want.Documents)
	}
	return nil
}

// encode encodes and writes the chunks that are missing. Ranks other than 0 have no writer.
func (x Encode) encode(ctx context.Context, w *writer) error {
	if w == nil {
		return x.Chunks(ctx, 0, nil)
	}
	return x.Chunks(ctx, w.done, func(_ int, vectors [][]float32) error { return w.add(vectors) })
}

// Chunks encodes the passages from number start on, a multiple of ChunkLen, and hands each chunk's vectors to emit, with the number of
// its first passage. It needs neither Dir nor Fingerprint. Of several ranks, only rank 0's start and emit are used.
func (x Encode) Chunks(ctx context.Context, start int, emit func(from int, vectors [][]float32) error) error {
	first := true
	if x.Ranks.Shares() {
		all, err := dist.GatherJSON(x.Ranks.Comm(), start)
		if err != nil {
			return err
		}
		start, first = all[0], x.Ranks.Comm().Rank() == 0
	}
	n := x.Source.Len()
	for from := start; from < n; from += ChunkLen {
		texts, err := x.texts(from, min(from+ChunkLen, n))
		if err := x.Ranks.Agree(err); err != nil {
			return err
		}
		vectors, err := x.chunk(ctx, from, texts)
		if err != nil {
			return err
		}
		if first {
			err = emit(from, vectors)
		}
		if err := x.Ranks.Agree(err); err != nil {
			return err
		}
	}
	return nil
}

// texts reads the passages of a chunk.
func (x Encode) texts(from, to int) ([]prompt.Text, error) {
	var out []prompt.Text
	for i := from; i < to; i++ {
		text, err := x.Source.Passage(i)
		if err != nil {
			return nil, err
		}
		out = append(out, prompt.Text{Text: text})
	}
	return out, nil
}

// chunk encodes the texts of a chunk, on all ranks.
func (x Encode) chunk(ctx context.Context, from int, texts []prompt.Text) ([][]float32, error) {
	o := retriever.EncodeOptions{Dimension: x.Dimension}
	if x.Progress != nil {
		o.Progress = func(done int) { x.Progress(from+done, x.Source.Len()) }
	}
	embeddings, err := x.Embedder.Encode(ctx, texts, o)
	if wrong := (*retriever.TextError)(nil); errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s: %w", x.Source.Location(from+wrong.Index), wrong.Err)
	}
	if err != nil {
		return nil, err
	}
	vectors := make([][]float32, len(embeddings))
	for i, e := range embeddings {
		if e.TokenIDs != nil {
			return nil, fmt.Errorf("%s is a model of kind %s, with a vector for each token: want an embedding model", x.Embedder.Info().Ref, x.Embedder.Info().Kind)
		}
		if !finite(e.Values) {
			return nil, fmt.Errorf("%s: the model's vector has a value that is no number", x.Source.Location(from+i))
		}
		vectors[i] = e.Values
	}
	return vectors, nil
}
