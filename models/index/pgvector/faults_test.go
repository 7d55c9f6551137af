package pgvector

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"rag-retrieval-go/models/index/pgvector/pgtest"
)

// oneLine reports an error that is not one line with the wanted beginning and end.
func oneLine(t *testing.T, what string, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want %q", what, want)
		return
	}
	t.Logf("%s: %v", what, err)
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v\nwant %q", what, err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") || len(err.Error()) > 350 {
		t.Errorf("%s: not one short line: %q", what, err)
	}
}

// Without a server, with a wrong password, user or database: one line that tells what to do, without the password.
func TestCannotConnect(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	check(t, listener.Close())
	_, err = Open(t.Context(), fmt.Sprintf("postgres://me:geheim@127.0.0.1:%d/rag", port))
	oneLine(t, "nothing listens", err, fmt.Sprintf("the store 127.0.0.1:%d/rag: it cannot be reached: ", port), "connection refused")

	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	check(t, err)
	t.Cleanup(func() { silent.Close() })
	_, err = Open(t.Context(), fmt.Sprintf("postgres://me:geheim@%s/rag?sslmode=disable&connect_timeout=1", silent.Addr()))
	oneLine(t, "no answer", err, fmt.Sprintf("the store %s/rag: it cannot be reached: no answer within connect_timeout", silent.Addr()))

	url := pgtest.URL(t)
	pgtest.Exec(t, url, "CREATE ROLE reader LOGIN PASSWORD 'geheim'")
	pgtest.RequirePasswords(t, url, "reader")
	_, err = Open(t.Context(), pgtest.With(t, url, "reader", "falsch", ""))
	oneLine(t, "wrong password", err, `password authentication failed for user "reader": check the user and the password in the URL (or PGPASSWORD)`)
	_, err = Open(t.Context(), pgtest.With(t, url, "nobody", "falsch", ""))
	oneLine(t, "unknown user", err, `role "nobody" does not exist: check the user`)
	_, err = Open(t.Context(), pgtest.With(t, url, "reader", "geheim", "nowhere"))
	oneLine(t, "unknown database", err, `database "nowhere" does not exist: make it with CREATE DATABASE, or name another in the URL`)

	// Rights: none to make tables, then none to read them, then to read only.
	docs := madeUp(20, 3)
	reader := open(t, pgtest.With(t, url, "reader", "geheim", ""))
	oneLine(t, "no right to create", reader.Build(t.Context(), buildOf(docs, 4, Exact)), "permission denied", "the right to create in the database")
	_, err = reader.Search(t.Context(), [][]float32{{1, 0, 0, 0}}, 3, nil)
	oneLine(t, "nothing there", err, `there is no such collection: "default"; index a corpus into it first`)
	s := open(t, url)
	check(t, s.Build(t.Context(), buildOf(docs, 4, Exact)))
	_, err = Open(t.Context(), pgtest.With(t, url, "reader", "geheim", ""))
	oneLine(t, "no right to read", err, "permission denied for schema rag_retrieval", "to read the schema rag_retrieval for searching")
	pgtest.Exec(t, url, "GRANT USAGE ON SCHEMA rag_retrieval TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA rag_retrieval TO reader")
	reader = open(t, pgtest.With(t, url, "reader", "geheim", ""))
	if hits, err := reader.Search(t.Context(), [][]float32{{1, 0, 0, 0}}, 3, nil); err != nil || len(hits[0]) != 3 {
		t.Errorf("%v, %v", hits, err)
	}
	if hits, err := reader.BM25(t.Context(), []string{"title"}, 3, nil); err != nil || len(hits[0]) != 3 {
		t.Errorf("%v, %v", hits, err)
	}
	b := buildOf(docs[:10], 4, Exact)
	b.Fresh = true
	oneLine(t, "no right to write", reader.Build(t.Context(), b), "must be owner of table", "the right to create")
}

// A database without the extension, with one that is too old, and with a schema of a newer program.
func TestWrongDatabase(t *testing.T) {
	docs := madeUp(20, 3)
	server := pgtest.Start(t, pgtest.Dir(t), "-c", "extension_control_path=/nowhere")
	s := open(t, server.Database(t))
	oneLine(t, "no extension", s.Build(t.Context(), buildOf(docs, 4, Exact)), "the database has no extension vector (pgvector): install it on the server")

	url := pgtest.URL(t)
	s = open(t, url)
	check(t, s.Build(t.Context(), buildOf(docs, 4, Exact)))
	pgtest.Exec(t, url, "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
	_, err := Open(t.Context(), url)
	oneLine(t, "old extension", err, "(pgvector) is version 0.7.4, want 0.8 or newer: install it, then run ALTER EXTENSION vector UPDATE")
	pgtest.Exec(t, url, "UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'vector'; UPDATE rag_retrieval.schema_version SET version = 2")
	_, err = Open(t.Context(), url)
	oneLine(t, "newer schema", err, "its schema rag_retrieval has version 2, this program knows versions to 1: use a newer program")
	oneLine(t, "newer schema", s.Build(t.Context(), buildOf(docs, 4, Exact)), "use a newer program")

	// The extension in a schema of its own, which is not in the search path.
	url = pgtest.URL(t)
	pgtest.Exec(t, url, `CREATE SCHEMA "my Extensions"; CREATE EXTENSION vector SCHEMA "my Extensions"`)
	s = open(t, url)
	check(t, s.Build(t.Context(), buildOf(docs, 4, HNSW)))
	if hits, err := s.Search(t.Context(), [][]float32{{1, 0, 0, 0}}, 3, nil); err != nil || len(hits[0]) != 3 {
		t.Errorf("%v, %v", hits, err)
	}
}

// No error of a URL has a piece of its password.
func TestURL(t *testing.T) {
	for _, url := range []string{
		"postgres://me:gehxyz/eim@host/db", "postgres://me:gehxyz?eim@host/db", "postgres://me:gehxyz#eim@host/db", "postgres://me:geh%xyz@host/db",
		"postgres://me:geh xyz@host/db", "postgres://me:geh@xyz/a@host/db", "postgres://me:gehxyz@host:port/db", "postgres://me:gehxyz@[host/db",
		"postgres://me:gehxyz@host/db?sslmode=maybe", "postgres://me:gehxyz@host/db?collection=", "postgres://me:gehxyz@host/db?%zz", "mysql://me:gehxyz@host/db",
		"host=h password=gehxyz", "postgres://me:gehxyz@host/db?connect_timeout=soon", "postgres://me@host/db?password=gehxyz&port=x", "",
		"postgres://me:gehxyz@127.0.0.1:1/db", "postgres://me@127.0.0.1:1/db?password=gehxyz", "postgres://me:gehxyz@127.0.0.1:1,127.0.0.1:2/db",
		"postgres://me:gehxyz@/db?host=/nowhere",
	} {
		_, err := Open(t.Context(), url)
		if err == nil || strings.Contains(err.Error(), "geh") || strings.Contains(err.Error(), "xyz") || strings.Contains(err.Error(), "eim") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for url, want := range map[string]string{
		"postgres://me@host/db?sslmode=maybe":        "the store's URL: sslmode is invalid",
		"postgres://me@host/db?connect_timeout=soon": "the store's URL: strconv.ParseInt: parsing \"soon\": invalid syntax",
		"postgres://me@/db?host=/s?collection=news":  errSecondQuery.Error(),
		"postgres://me@/db?collection=news?host=/s":  errSecondQuery.Error(),
		"postgres://me@host/db?collection=":          "the collection's name \"\" has no characters, more than 200 bytes, or control characters",
	} {
		if _, err := Open(t.Context(), url); err == nil || err.Error() != want {
			t.Errorf("%s: %v", url, err)
		}
	}
}
