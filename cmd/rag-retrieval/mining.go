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
	"rag-retrieval-go/models/mine"
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
	model   string // or bm25
	done    bool   // the output is written
	next    string // what the same command does after an interruption
	counts  mine.Report
}

func mineNegatives(c *cli.Context, j job) (err error) {
	m := &mining{c: c, job: j, begun: time.Now(), next: nothingBegun}
	defer func() { err = onInterrupt(err, m.next) }()
	if err := m.readFlags(); err != nil {
		return err
	}
	if m.bm25() { // seconds of work, which rank 0 does
		m.next = beginsAgain
		if !j.first() {
			return nil
		}
		m.job = job{dist.Alone{}}
	}
	if err := m.outputIsNoInput(); err != nil {
		return err
	}
	if err := m.job.checkOutputs(c, []string{"output", "json"}, []string{"vectors"}); err != nil {
		return err
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
	m.done = true
	return m.report()
}

// outputIsNoInput returns an error if a file that is read would be replaced.
func (m *mining) outputIsNoInput() error {
	for _, flag := range []string{"output", "json"} {
		to, err := os.Stat(m.c.String(flag))
		if err != nil {
			continue // a new file, or what writing it will tell
		}
		for _, input := range append(m.c.StringSlice("train-dataset"), m.c.StringSlice("corpus")...) {
			if from, err := os.Stat(input); err == nil && os.SameFile(from, to) {
				return usagef("--%s would replace %s, which is read", flag, input)
			}
		}
	}
	return nil
}

func (m *mining) bm25() bool { return m.c.String("kind") == kindBM25 }

// indexed says whether an index is searched.
func (m *mining) indexed() bool { return m.c.IsSet("index") || m.c.IsSet("store") }

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
		var files [2][]string
		for i, flag := range []string{"train-dataset", "corpus"} {
			for _, path := range m.c.StringSlice(flag) {
				file, err := resolver().Data(m.c.Context, path)
				if err != nil {
					return err
				}
				files[i] = append(files[i], file)
			}
		}
		var err error
		m.set, err = mine.OpenSet(m.c.Context, files[0], files[1], mine.SetOptions{Cache: cache, Note: note, Find: m.indexed()})
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
	if err == nil && m.job.first() {
		header, rows := report.Table() // before an error that no query has negatives: it tells why
		err = errors.Join(eval.WriteTable(os.Stderr, "table", header, rows), flush())
	}
	m.counts = report
	return m.job.agree(err)
}

// progress shows a bar of a step.
func (m *mining) progress(step string) func(done, total int) {
	var bar *progress.Bar
	return func(done, total int) {
		if bar == nil {
			bar = progress.New(os.Stderr, step, total, 0)
			bar.Start(done) // an earlier call may have done most of it: it says nothing of the pace
			m.close = append(m.close, func() error {
				bar.Done() // of a step that was interrupted: the error's line is not to stand beside it
				return nil
			})
		}
		if bar.Set(done, ""); done == total {
			bar.Done()
		}
	}
}

// writer gives what writes a mined query, and what ends the file; nil on ranks besides 0, which write nothing.
func (m *mining) writer(to io.Writer) (emit func(mine.Mined) error, flush func() error) {
	if to == nil {
		return nil, nil
	}
	b := bufio.NewWriterSize(to, 1<<20)
	w := mine.NewWriter(b, m.format, m.c.Bool("output-scores"), m.options.NumNegatives)
	return w.Write, func() error {
		if w.Rows == 0 && m.format == mine.NTuple {
			return fmt.Errorf("no query has the %d negatives that %s needs: nothing is written to %s", m.options.NumNegatives, m.format, m.c.String("output"))
		}
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

// report tells that the output is written.
func (m *mining) report() error {
	if !m.job.first() {
		return nil
	}
	fmt.Fprintf(os.Stderr, "%d rows for %s\n", m.rows, m.c.String("output"))
	if m.c.String("json") == "" {
		return nil
	}
	return atomicdir.WriteJSON(m.c.String("json"), mineReport{
		Model: m.model, TrainDataset: m.c.StringSlice("train-dataset"), Corpus: m.c.StringSlice("corpus"), Output: m.c.String("output"),
		Format: m.format, Rows: m.rows, Options: m.options, Report: m.counts, Seconds: time.Since(m.begun).Seconds(), PeakBytes: memory.Peak(), Ranks: m.job.Size(),
	})
}
