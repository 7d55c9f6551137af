package bm25

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/mapped"
)

// An index on disk is a folder of segments, each an inverted index of up to segmentLen documents in their order. Only one segment
// is in memory while they are written, and none while they are searched: their files are mapped. A segment's file has
//
//	magic                       8 bytes
//	documents, terms            4 bytes each
//	lengths                     4 bytes for each document: its number of terms
//	entries, sorted by term     12 bytes for each term: where it ends in names, how many documents have it, where its postings end
//	names                       the terms, end to end
//	postings                    of each term: for each document the distance from the one before and the term's count, as varints
//
// Numbers are little-endian.
const (
	segmentLen   = 1 << 16
	segmentMagic = "rr-bm25\x01"
	headerLen    = len(segmentMagic) + 8
	entryLen     = 12
)

// Writer writes an index on disk, document by document.
type Writer struct {
	dir      string
	terms    func(text string) []string
	segments int
	lengths  []uint32
	postings map[string]*writtenPostings
}

// writtenPostings are a term's postings in the segment that is being written.
type writtenPostings struct {
	documents uint32
	last      int // the number in the segment of the last document that has the term
	varints   []byte
}

// NewWriter begins an index in a folder, which must exist and have no segments. terms is a function such as Terms.
func NewWriter(dir string, terms func(text string) []string) *Writer {
	return &Writer{dir: dir, terms: terms, postings: map[string]*writtenPostings{}}
}

// Add adds the next document.
func (w *Writer) Add(text string) error {
	if len(w.lengths) == segmentLen {
		if err := w.flush(); err != nil {
			return err
		}
	}
	words := w.terms(text)
	counts := make(map[string]uint64, len(words))
	for _, t := range words {
		counts[t]++
	}
	document := len(w.lengths)
	for t, n := range counts {
		p := w.postings[t]
		if p == nil {
			p = &writtenPostings{}
			w.postings[t] = p
		}
		p.varints = binary.AppendUvarint(binary.AppendUvarint(p.varints, uint64(document-p.last)), n)
		p.last = document
		p.documents++
	}
	w.lengths = append(w.lengths, uint32(len(words)))
	return nil
}

// Close writes what is left. An index without Close is not whole.
func (w *Writer) Close() error { return w.flush() }

func segmentPath(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("bm25-%05d", i)) }

var segmentName = regexp.MustCompile(`^(bm25-\d{5,}|\.bm25-\d{5,}\.tmp-.*)$`)

// Remove removes the segments of a folder, and what a killed Writer has left.
func Remove(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if segmentName.MatchString(e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the segment.
func (w *Writer) flush() error {
	if len(w.lengths) == 0 {
		return nil
	}
	names := make([]string, 0, len(w.postings))
	for t := range w.postings {
		names = append(names, t)
	}
	sort.Strings(names)
	var head []byte
	head = append(head, segmentMagic...)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(w.lengths)))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(names)))
	for _, n := range w.lengths {
		head = binary.LittleEndian.AppendUint32(head, n)
	}
	var nameEnd, postingsEnd uint64
	for _, t := range names {
		p := w.postings[t]
		nameEnd, postingsEnd = nameEnd+uint64(len(t)), postingsEnd+uint64(len(p.varints))
		head = binary.LittleEndian.AppendUint32(head, uint32(nameEnd))
		head = binary.LittleEndian.AppendUint32(head, p.documents)
		head = binary.LittleEndian.AppendUint32(head, uint32(postingsEnd))
	}
	if max(nameEnd, postingsEnd) > math.MaxUint32 {
		return fmt.Errorf("%d documents have more than 4 GiB of words", len(w.lengths))
	}
	err := atomicdir.Create(segmentPath(w.dir, w.segments), func(out io.Writer) error {
		if _, err := out.Write(head); err != nil {
			return err
		}
		for _, t := range names {
			if _, err := io.WriteString(out, t); err != nil {
				return err
			}
		}
		for _, t := range names {
			if _, err := out.Write(w.postings[t].varints); err != nil {
				return err
			}
		}
		return nil
	})
	w.segments++
	w.lengths = w.lengths[:0]
	clear(w.postings)
	return err
}

// Stored is an open index on disk. Several goroutines may search it.
type Stored struct {
	terms    func(text string) []string
	segments []*segment
	docs     int
	mean     float64 // length of a document
}

// segment is a mapped file, in its parts.
type segment struct {
	file                              []byte
	first, docs, terms                int
	lengths, entries, names, postings []byte
}

// OpenStored opens an index that a Writer has written with the same terms. A file that is not whole is an error.
func OpenStored(dir string, terms func(text string) []string) (x *Stored, err error) {
	x = &Stored{terms: terms}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
		}
	}()
	total := uint64(0)
	for i := 0; ; i++ {
		path := segmentPath(dir, i)
		file, err := mapped.Open(path)
		if errors.Is(err, os.ErrNotExist) && i > 0 {
			break
		}
		if err != nil {
			return x, fmt.Errorf("%s: %w", path, err)
		}
		s := &segment{file: file, first: x.docs}
		x.segments = append(x.segments, s)
		if err := s.parse(); err != nil {
			return x, fmt.Errorf("%s: %w", path, err)
		}
		x.docs += s.docs
		for d := range s.docs {
			total += uint64(s.length(d))
		}
	}
	x.mean = float64(total) / float64(max(1, x.docs))
	return x, nil
}

var errSegment = errors.New("not a whole file of an index for BM25: make the index again (--fresh)")

// parse finds the parts of a segment and checks that they end with the file.
func (s *segment) parse() error {
	b := s.file
	if len(b) < headerLen || !bytes.HasPrefix(b, []byte(segmentMagic)) {
		return errSegment
	}
	s.docs = int(binary.LittleEndian.Uint32(b[len(segmentMagic):]))
	s.terms = int(binary.LittleEndian.Uint32(b[len(segmentMagic)+4:]))
	if b = b[headerLen:]; len(b) < 4*s.docs+entryLen*s.terms {
		return errSegment
	}
	s.lengths, b = b[:4*s.docs], b[4*s.docs:]
	s.entries, b = b[:entryLen*s.terms], b[entryLen*s.terms:]
	namesLen, postingsLen := 0, 0
	if s.terms > 0 {
		namesLen, _, postingsLen = s.entry(s.terms - 1)
	}
	if len(b) != namesLen+postingsLen {
		return errSegment
	}
	s.names, s.postings = b[:namesLen], b[namesLen:]
	return nil
}

func (s *segment) length(document int) uint32 {
	return binary.LittleEndian.Uint32(s.lengths[4*document:])
}

// entry returns what is known of term i: where it ends in names, how many documents have it, and where its postings end.
func (s *segment) entry(i int) (nameEnd, documents, postingsEnd int) {
	if i < 0 {
		return 0, 0, 0
	}
	e := s.entries[entryLen*i:]
	return int(binary.LittleEndian.Uint32(e)), int(binary.LittleEndian.Uint32(e[4:])), int(binary.LittleEndian.Uint32(e[8:]))
}

// find returns how many documents have a term, and its postings. A damaged file may have any numbers in its entries.
func (s *segment) find(term string) (documents int, postings []byte) {
	name := func(i int) string {
		from, _, _ := s.entry(i - 1)
		to, _, _ := s.entry(i)
		if from > to || to > len(s.names) {
			return ""
		}
		return string(s.names[from:to])
	}
	i := sort.Search(s.terms, func(i int) bool { return name(i) >= term })
	if i == s.terms || name(i) != term {
		return 0, nil
	}
	_, _, from := s.entry(i - 1)
	_, documents, to := s.entry(i)
	if from > to || to > len(s.postings) {
		return 0, nil
	}
	return documents, s.postings[from:to]
}

// Len is the number of documents.
func (x *Stored) Len() int { return x.docs }

// Scores returns the score of every document for a query: the same as Index.Scores.
func (x *Stored) Scores(query string) []float64 {
	words := x.terms(query)
	slices.Sort(words) // a fixed order of summation
	scores := make([]float64, x.docs)
	for _, t := range words {
		documents, lists := 0, make([][]byte, len(x.segments))
		for i, s := range x.segments {
			n, list := s.find(t)
			documents, lists[i] = documents+n, list
		}
		idf := math.Log(1 + (float64(x.docs-documents)+0.5)/(float64(documents)+0.5))
		for i, s := range x.segments {
			s.add(scores[s.first:s.first+s.docs], lists[i], idf, x.mean)
		}
	}
	return scores
}

// add adds a term's part to the scores of a segment's documents.
func (s *segment) add(scores []float64, list []byte, idf, mean float64) {
	for document := uint64(0); len(list) > 0; {
		distance, n := binary.Uvarint(list)
		count, m := binary.Uvarint(list[max(n, 0):])
		if document += distance; n <= 0 || m <= 0 || document >= uint64(len(scores)) {
			return // damaged
		}
		list = list[n+m:]
		weight := float64(count) * (K1 + 1) / (float64(count) + normOf(float64(s.length(int(document))), mean))
		scores[document] += idf * weight
	}
}

// Close unmaps the files.
func (x *Stored) Close() error {
	var errs []error
	for _, s := range x.segments {
		errs = append(errs, mapped.Close(s.file))
	}
	x.segments = nil
	return errors.Join(errs...)
}
