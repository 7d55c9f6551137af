package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/memory"
	"rag-retrieval-go/internal/progress"
	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/mine"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// mining is one call of the command.
type mining struct {
	c       *cli.Context
	job     job
	options mine.Options
	format  string
	rows    int // written
	begun   time.Time
	set     *mine.Set
	ranks   *dist.Dealer
	close   []func() error
	unused  string // a folder of the cache that nobody needs once the output is written
}

func mineNegatives(c *cli.Context, j job) (err error) {
	m := &mining{c: c, job: j, begun: time.Now()}
	if err := m.readFlags(); err != nil {
		return err
	}
	if m.bm25() { // seconds of work, which rank 0 does
		if !j.first() {
			return nil
		}
		m.job = job{dist.Alone{}}
	}
	defer func() { err = errors.Join(err, m.closeAll()) }()
	if err := m.job.inStep(m.openSet); err != nil {
		return err
	}
	if m.job.Size() > 1 {
		m.ranks = dist.NewDealer(m.job)
	}
	if err := m.writeTo(c.String("output"), m.run); err != nil {
		return err
	}
	return os.RemoveAll(m.unused)
}

func (m *mining) bm25() bool { return m.c.String("kind") == kindBM25 }

// closeAll closes what was opened, the last first.
func (m *mining) closeAll() error {
	var errs []error
	for i := range m.close {
		errs = append(errs, m.close[len(m.close)-1-i]())
	}
	return errors.Join(errs...)
}

// openSet reads and checks all data, the same on all ranks.
func (m *mining) openSet() error {
	cache, err := runtime.InHome("indices")
	if err != nil {
		cache = "" // then no index is kept
	}
	err = m.job.inTurn(func() error { // rank 0 makes the indices of the rows
		rows, err := m.files("train-dataset")
		if err != nil {
			return err
		}
		docs, err := m.files("corpus")
		if err != nil {
			return err
		}
		m.set, err = mine.OpenSet(m.c.Context, rows, docs, mine.SetOptions{Cache: cache, Note: note})
		return err
	})
	if m.set != nil {
		m.close = append(m.close, m.set.Close)
	}
	if err != nil || m.job.Size() == 1 {
		return err
	}
	return m.job.agree(m.job.compare("its data are other ones", map[string]string{"the training rows": fmt.Sprint(m.set.Checksums()), "the documents": m.set.Hash()}))
}

// files gives a flag's files as JSON lines. What is on the hub is fetched, what is packed is unpacked.
func (m *mining) files(flag string) ([]string, error) {
	var out []string
	for _, ref := range m.c.StringSlice(flag) {
		path, err := resolver().Data(m.c.Context, ref)
		if err != nil {
			return nil, err
		}
		out = append(out, path)
	}
	return out, nil
}

// writeTo writes a file on rank 0, whole or not at all. fill gets nil on the other ranks.
func (m *mining) writeTo(path string, fill func(w io.Writer) error) error {
	if !m.job.first() {
		if err := m.job.agree(nil); err != nil {
			return err
		}
		return fill(nil)
	}
	begun := false
	err := atomicdir.Create(path, func(w io.Writer) error {
		begun = true
		if err := m.job.agree(nil); err != nil {
			return err
		}
		return fill(w)
	})
	if !begun {
		return m.job.agree(err)
	}
	return err
}

// run mines, and reports.
func (m *mining) run(to io.Writer) error {
	j := mine.Job{Set: m.set, Options: m.options, Ranks: m.ranks, Progress: m.progress("mining")}
	if err := m.openSearcher(&j); err != nil {
		return err
	}
	if err := m.openCrossEncoder(&j); err != nil {
		return err
	}
	emit, flush := m.writer(to)
	report, err := mine.Run(m.c.Context, j, emit)
	if err == nil {
		err = flush()
	}
	if err := m.job.agree(err); err != nil {
		return err
	}
	return m.report(report)
}

// progress shows a bar of a step.
func (m *mining) progress(step string) func(done, total int) {
	var bar *progress.Bar
	return func(done, total int) {
		if bar == nil {
			bar = progress.New(os.Stderr, step, total, 0)
		}
		if bar.Set(done, ""); done == total {
			bar.Done()
		}
	}
}

// openSearcher opens what finds candidates. With a model it encodes the documents.
func (m *mining) openSearcher(j *mine.Job) error {
	if m.bm25() {
		x, err := mine.NewBM25(m.c.Context, m.set)
		j.Searcher = x
		return err
	}
	o := scoringOptions(m.c)
	o.TrainingLengths = true
	if err := m.shareThreads(&o); err != nil {
		return err
	}
	model, err := m.openModel(m.c.String("model"), o)
	if err != nil {
		return err
	}
	if k := model.Info().Kind; k != modelcard.Embedding {
		return fmt.Errorf("%s is a model of kind %s: mining needs an embedding model, with one vector for each text", m.c.String("model"), k)
	}
	e, err := model.Embedder()
	if err != nil {
		return err
	}
	documents, err := m.vectors(model, e)
	if err != nil {
		return err
	}
	exact, err := index.NewExact(documents, runtime.Options{Provider: model.Info().Provider, DeviceID: o.DeviceID, Threads: o.Threads})
	if err := m.job.agree(err); err != nil {
		return err
	}
	m.close = append(m.close, exact.Close)
	j.Searcher = mine.Vectors{Embedder: e, Documents: documents, Exact: exact, Ranks: m.ranks}
	return nil
}

// shareThreads sets a rank's threads and device, for the model and for the search.
func (m *mining) shareThreads(o *retriever.Options) error {
	if m.job.Size() == 1 {
		return nil
	}
	places, err := dist.Places(m.job)
	if err != nil {
		return err
	}
	if o.Threads == 0 {
		o.Threads = dist.Threads(places, m.job.Rank())
	}
	if !m.c.IsSet("device-id") {
		o.DeviceID = m.job.LocalRank()
	}
	return nil
}

func (m *mining) openModel(ref string, o retriever.Options) (*retriever.Model, error) {
	model, err := m.job.open(m.c, ref, o)
	if err == nil {
		m.close = append(m.close, model.Close)
	}
	return model, err
}

// vectors encodes the documents, or opens their vectors where an earlier call has encoded them.
func (m *mining) vectors(model *retriever.Model, e retriever.Embedder) (*index.Vectors, error) {
	fingerprint, err := model.Fingerprint(version)
	if err != nil {
		return nil, err
	}
	dir, err := fromFirst(m.job, func() (string, error) {
		if m.c.String("index") != "" {
			return m.c.String("index"), nil
		}
		return runtime.InHome("vectors", fmt.Sprintf("%.24s-%.24s", fingerprint, m.set.Hash()))
	})
	if err != nil {
		return nil, err
	}
	if m.c.String("index") == "" && m.job.first() {
		m.unused = dir
	}
	v, err := index.Encode{
		Dir: dir, Source: m.set, Embedder: e, Fingerprint: fingerprint, Fresh: m.c.Bool("fresh"), Progress: m.progress("encoding documents"), Ranks: m.ranks,
	}.Vectors(m.c.Context)
	if err == nil {
		m.close = append(m.close, v.Close)
	}
	return v, err
}

// openCrossEncoder opens the reranker.
func (m *mining) openCrossEncoder(j *mine.Job) error {
	ref := m.c.String("cross-encoder")
	if ref == "" {
		return nil
	}
	model, err := m.openModel(ref, engineOptions(m.c))
	if err != nil {
		return err
	}
	j.CrossEncoder = model
	if model.Info().Kind == modelcard.Reranker {
		j.Activation, err = reranker.Activation(model.Info().Dir)
	}
	return m.job.agree(err)
}

// writer gives what writes a mined query, and what ends the file. Only rank 0 writes.
func (m *mining) writer(to io.Writer) (emit func(mine.Mined) error, flush func() error) {
	if to == nil {
		return func(mine.Mined) error { return nil }, func() error { return nil }
	}
	b := bufio.NewWriterSize(to, 1<<20)
	w := mine.NewWriter(b, m.format, m.c.Bool("output-scores"), m.options.NumNegatives)
	return w.Write, func() error {
		if w.Rows == 0 {
			return fmt.Errorf("no query has negatives: nothing is written to %s", m.c.String("output"))
		}
		m.rows = w.Rows
		return b.Flush()
	}
}

// mineReport is what --json writes.
type mineReport struct {
	Model        string       `json:"model"` // or bm25
	TrainDataset []string     `json:"train_dataset"`
	Corpus       []string     `json:"corpus,omitempty"`
	Output       string       `json:"output"`
	Format       string       `json:"output_format"`
	Rows         int          `json:"rows"` // written
	Options      mine.Options `json:"options"`
	mine.Report
	Seconds   float64 `json:"seconds"`
	PeakBytes int64   `json:"peak_memory_bytes"` // of rank 0
	Ranks     int     `json:"ranks"`
}

// report prints the counts.
func (m *mining) report(r mine.Report) error {
	if !m.job.first() {
		return nil
	}
	header, rows := r.Table()
	if err := eval.WriteTable(os.Stderr, "table", header, rows); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d rows for %s\n", m.rows, m.c.String("output"))
	if m.c.String("json") == "" {
		return nil
	}
	model := m.c.String("model")
	if m.bm25() {
		model = kindBM25
	}
	return atomicdir.WriteJSON(m.c.String("json"), mineReport{
		Model: model, TrainDataset: m.c.StringSlice("train-dataset"), Corpus: m.c.StringSlice("corpus"), Output: m.c.String("output"),
		Format: m.format, Rows: m.rows, Options: m.options, Report: r, Seconds: time.Since(m.begun).Seconds(), PeakBytes: memory.Peak(), Ranks: m.job.Size(),
	})
}
