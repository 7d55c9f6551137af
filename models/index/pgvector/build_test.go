package pgvector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/index/pgvector/pgtest"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/dist/disttest"
)

// contents is a sum of all rows of a collection, and its manifest.
func contents(t testing.TB, s *Store) string {
	t.Helper()
	out := fmt.Sprintf("%+v %d", s.collection.Manifest, s.collection.Terms)
	for _, x := range []struct{ table, order string }{{s.collection.documentsTable(), "document"}, {s.collection.postingsTable(), "term, block"}} {
		var sum string
		check(t, s.pool.QueryRow(t.Context(), fmt.Sprintf(`SELECT count(*) || ' ' || md5(string_agg(x::text, '|' ORDER BY %s)) FROM rag_retrieval.%s AS x`, x.order, x.table)).Scan(&sum))
		out += "\n" + sum
	}
	return out
}

// pause makes the server sleep in the midst of Build: while it copies document 1500, or at the end of an ALTER TABLE or CREATE INDEX.
type pause string

const (
	inCopy    pause = "COPY"
	inJoining pause = "ALTER TABLE" // the last step in joining postings
	inIndex   pause = "CREATE INDEX"
)

// in makes a Build pause on the server.
func (p pause) in(t testing.TB, url string, b *Build) {
	install := func() {
		pgtest.Exec(t, url, `CREATE FUNCTION pause() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); END';
			CREATE EVENT TRIGGER pause ON ddl_command_end WHEN TAG IN ('`+string(p)+`') EXECUTE FUNCTION pause()`)
	}
	switch p {
	case inCopy:
		b.Embedder.(*hashed).before = func(texts int) error {
			if texts == ChunkLen {
				pgtest.Exec(t, url, `CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
					CREATE TRIGGER pause BEFORE INSERT ON rag_retrieval.documents_1 FOR EACH ROW WHEN (NEW.document = 1500) EXECUTE FUNCTION pause()`)
			}
			return nil
		}
	case inJoining, inIndex:
		b.Stage = func(what string) {
			if what == map[pause]string{inJoining: "joining the postings", inIndex: "indexing the vectors"}[p] {
				install()
			}
		}
	}
}

// end lets the next call run through.
func (p pause) end(t testing.TB, url string, b *Build) {
	b.Stage, b.Embedder.(*hashed).before = nil, nil
	if p == inCopy {
		pgtest.Exec(t, url, `DROP TRIGGER pause ON rag_retrieval.documents_1; DROP FUNCTION pause`)
		return
	}
	pgtest.Exec(t, url, `DROP EVENT TRIGGER pause; DROP FUNCTION pause`)
}

// whenPaused calls a function when a process of the server sleeps, with the process's number. It returns a function that waits for that.
func whenPaused(t testing.TB, url string, do func(pid int)) (wait func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	conn, err := pgx.Connect(ctx, url)
	check(t, err)
	done := make(chan bool)
	go func() {
		defer close(done)
		for {
			var pid int
			err := conn.QueryRow(ctx, `SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()`).Scan(&pid)
			if err == nil {
				do(pid)
				return
			}
			if !errors.Is(err, pgx.ErrNoRows) {
				t.Errorf("the server did not pause: %v", err)
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	return func() {
		<-done
		conn.Close(ctx)
		cancel()
	}
}

// An interrupted call leaves whole chunks, and the next one goes on after them: the rows are those of an undisturbed call. The
// embedder fails; the connection ends between chunks, in the midst of copying, of joining postings and of indexing.
func TestInterrupted(t *testing.T) {
	docs := madeUp(2200, 8)
	undisturbed := contents(t, built(t, docs, 8, HNSW))
	for name, c := range map[string]struct {
		pause   pause
		written int // documents that are there then
	}{
		"embedder": {"", 2048},
		"between":  {"", 1024},
		"copying":  {inCopy, 1024},
		"joining":  {inJoining, 2200},
		"indexing": {inIndex, 2200},
	} {
		t.Run(name, func(t *testing.T) {
			url := pgtest.URL(t)
			s, b := open(t, url), buildOf(docs, 8, HNSW)
			e := b.Embedder.(*hashed)
			if c.pause == "" {
				e.before = func(texts int) error {
					if texts == c.written && name == "embedder" {
						return errors.New("out of memory")
					}
					if texts == c.written {
						pgtest.Exec(t, url, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
					}
					return nil
				}
			} else {
				c.pause.in(t, url, &b)
				defer whenPaused(t, url, func(pid int) { pgtest.Exec(t, url, fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid)) })()
			}
			err := s.Build(t.Context(), b)
			if err == nil || strings.Contains(err.Error(), "\n") || name != "embedder" && !strings.Contains(err.Error(), "the connection was lost") {
				t.Fatalf("%v", err)
			}
			t.Log(err)
			again := open(t, url)
			if m, _ := again.Manifest(); m.Written != c.written || m.Complete {
				t.Fatalf("%+v", m)
			}
			_, err = again.Search(t.Context(), [][]float32{make([]float32, 8)}, 1, nil)
			oneLine(t, "search", err, fmt.Sprintf(`the collection "default" is not complete, %d of 2200 documents are written: run the indexing again, it goes on there`, c.written))
			if c.pause != "" {
				c.pause.end(t, url, &b)
			}
			e.before, e.encoded = nil, 0
			check(t, again.Build(t.Context(), b))
			if e.encoded != len(docs)-c.written {
				t.Errorf("%d texts were encoded", e.encoded)
			}
			if got := contents(t, again); got != undisturbed {
				t.Errorf("%s\nwant %s", got, undisturbed)
			}
		})
	}
}

// A call whose context ends while the server works ends at once, and the server stops too: the next call can begin.
func TestCancelled(t *testing.T) {
	docs := madeUp(2200, 5)
	url := pgtest.URL(t)
	s, b := open(t, url), buildOf(docs, 8, HNSW)
	ctx, cancel := context.WithCancel(t.Context())
	inIndex.in(t, url, &b)
	defer whenPaused(t, url, func(int) { cancel() })()
	if err := s.Build(ctx, b); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	inIndex.end(t, url, &b)
	before := b.Embedder.(*hashed).encoded
	check(t, s.Build(t.Context(), b))
	if n := b.Embedder.(*hashed).encoded; n != before {
		t.Errorf("%d texts were encoded again", n-before)
	}
}

// A server that dies in the midst of copying comes back with the chunks before.
func TestServerDies(t *testing.T) {
	docs := madeUp(2100, 8)
	undisturbed := contents(t, built(t, docs, 8, Exact))
	server := pgtest.Start(t, pgtest.Dir(t))
	url := server.Database(t)
	s, b := open(t, url), buildOf(docs, 8, Exact)
	inCopy.in(t, url, &b)
	wait := whenPaused(t, url, func(int) { server.Kill(t) })
	err := s.Build(t.Context(), b)
	wait()
	oneLine(t, "killed", err, "the connection was lost", "; 1024 of 2100 documents are written, run it again to go on")
	_, err = Open(t.Context(), url)
	oneLine(t, "no server", err, "it cannot be reached: ")
	server.Restart(t)
	inCopy.end(t, url, &b)
	check(t, s.Build(t.Context(), b)) // the same Store connects again
	if got := contents(t, s); got != undisturbed {
		t.Errorf("%s\nwant %s", got, undisturbed)
	}
}

// Another model, another state of the corpus and another dimension are refused. Fresh begins anew. Other collections stay.
func TestOtherCollection(t *testing.T) {
	docs := madeUp(40, 5)
	url := pgtest.URL(t)
	s, second := open(t, url), open(t, url+"&collection=second%20one")
	check(t, s.Build(t.Context(), buildOf(docs, 8, Exact)))
	check(t, second.Build(t.Context(), buildOf(docs[:30], 8, HNSW)))
	before := contents(t, s)
	changed := append(source{}, docs...)
	changed[7].Text += "x"
	for want, change := range map[string]func(b *Build){
		"has vectors of 8 numbers, now they have 16":              func(b *Build) { b.Embedder = &hashed{dimension: 16, name: "m"} },
		"has vectors of the model models/m, or it has changed":    func(b *Build) { b.Fingerprint = "g" },
		"has vectors of other documents (40; now there are 40)":   func(b *Build) { b.Source = changed },
		"has vectors of other documents (40; now there are 39)":   func(b *Build) { b.Source = docs[:39] },
		"has vectors cut to dimension 0, now 8 is wanted (0: who": func(b *Build) { b.Dimension = 8 },
	} {
		b := buildOf(docs, 8, Exact)
		change(&b)
		err := s.Build(t.Context(), b)
		if !errors.Is(err, ErrOtherCollection) || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), "(--fresh), or name another (?collection=NAME)") {
			t.Errorf("%v, want %s", err, want)
		}
		if b.Embedder.(*hashed).encoded > 0 {
			t.Error("texts were encoded first")
		}
	}
	if got := contents(t, s); got != before {
		t.Errorf("%s\nwant %s", got, before)
	}
	// A failing fresh start leaves the old collection as long as nothing is encoded.
	b := buildOf(changed, 16, HNSW)
	b.Fresh = true
	b.Embedder.(*hashed).before = func(int) error { return errors.New("no memory") }
	if err := s.Build(t.Context(), b); err == nil {
		t.Error("no error")
	}
	if got := contents(t, open(t, url)); got != before {
		t.Errorf("%s\nwant %s", got, before)
	}
	b.Embedder.(*hashed).before = nil
	reader := open(t, url)
	check(t, s.Build(t.Context(), b))
	_, err := reader.Search(t.Context(), [][]float32{make([]float32, 8)}, 1, nil)
	oneLine(t, "replaced", err, "the collection was made anew or removed since it was opened; run this again")
	if m, _ := s.Manifest(); m.Dimension != 16 || m.ANN != HNSW || !m.Complete {
		t.Errorf("%+v", m)
	}
	var tables int
	check(t, s.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'rag_retrieval' AND tablename ~ '[0-9]$'`).Scan(&tables))
	if tables != 4 {
		t.Errorf("%d tables, want documents and postings of two collections", tables)
	}
	if m, _ := open(t, url+"&collection=second%20one").Manifest(); m.Collection != "second one" || m.Documents != 30 || m.ANN != HNSW {
		t.Errorf("%+v", m)
	}
	if _, exists := open(t, url+"&collection=third").Manifest(); exists {
		t.Error("there is a third collection")
	}
}

// Two processes that begin in an empty database make the schema once; the same collection is written by one of them.
func TestTwoWriters(t *testing.T) {
	docs := madeUp(40, 5)
	url := pgtest.URL(t)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			s := open(t, fmt.Sprint(url, "&collection=", i))
			errs[i] = s.Build(t.Context(), buildOf(docs, 8, HNSW))
		})
	}
	wg.Wait()
	check(t, errors.Join(errs...))

	s := open(t, url)
	w, err := s.Writer(t.Context(), Manifest{Model: "m", Documents: 3, ANN: Exact}, false)
	check(t, err)
	err = open(t, url).Build(t.Context(), buildOf(docs, 8, HNSW))
	if err == nil || !strings.HasSuffix(err.Error(), `the collection "default" is being written by another process`) {
		t.Errorf("%v", err)
	}
	// A Writer with vectors from elsewhere.
	for i := range 3 {
		check(t, w.Write(t.Context(), docs[i:i+1], [][]float32{vectorOf(fmt.Sprint(i), 6)}))
	}
	for want, err := range map[string]error{
		"document 4 of a corpus of 3":          w.Write(t.Context(), docs[:1], [][]float32{vectorOf("", 6)}),
		"2 documents with 1 vectors, want as":  w.Write(t.Context(), docs[:2], [][]float32{vectorOf("", 6)}),
		"0 documents with 0 vectors, want as ": w.Write(t.Context(), nil, nil),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	check(t, w.Finish(t.Context()))
	w.Close()
	hits, err := s.Search(t.Context(), [][]float32{vectorOf("1", 6)}, 1, nil)
	check(t, err)
	if hits[0][0].Document != 1 {
		t.Errorf("%v", hits)
	}
	check(t, s.Build(t.Context(), func() Build { b := buildOf(docs, 8, HNSW); b.Fresh = true; return b }()))
}

// A document that PostgreSQL cannot hold is named with its file, line, id and column. The chunks before stay.
func TestBadDocument(t *testing.T) {
	for column, change := range map[string]func(d *corpus.Document){
		"text":     func(d *corpus.Document) { d.Text = "a\x00b" },
		"id":       func(d *corpus.Document) { d.ID = "d\x00" },
		"metadata": func(d *corpus.Document) { d.Metadata = []byte(`{"a":"\u0000"}`) },
	} {
		docs := madeUp(1100, 3)
		change(&docs[1050])
		s := open(t, pgtest.URL(t))
		err := s.Build(t.Context(), buildOf(docs, 4, Exact))
		want := fmt.Sprintf("corpus.jsonl:1051: document %q: PostgreSQL cannot hold its %s: ", docs[1050].ID, column)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

// Ranks write what one process writes, and rank 0's error ends all.
func TestRanks(t *testing.T) {
	docs := madeUp(1500, 5)
	alone := contents(t, built(t, docs, 8, Exact))
	url := pgtest.URL(t)
	build := func(c dist.Comm) error {
		s, err := Open(t.Context(), url)
		if err != nil {
			return err
		}
		defer s.Close()
		b := buildOf(docs, 8, Exact)
		b.Ranks = dist.NewDealer(c)
		if err := s.Build(t.Context(), b); err != nil {
			return err
		}
		if m, _ := s.Manifest(); !m.Complete {
			return fmt.Errorf("rank %d sees %+v", c.Rank(), m)
		}
		return nil
	}
	check(t, errors.Join(disttest.Ranks(3, build)...))
	if got := contents(t, open(t, url)); got != alone {
		t.Errorf("%s\nwant %s", got, alone)
	}
	docs = docs[:1400]
	for rank, err := range disttest.Ranks(2, build) {
		if err == nil || !strings.Contains(err.Error(), "has vectors of other documents") {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}
