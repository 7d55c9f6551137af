// Package pgtest gives tests a PostgreSQL server with pgvector: the one that scripts/setup.sh --postgres brought. Where there is
// none, tests are skipped.
//
//	store, err := pgvector.Open(ctx, pgtest.URL(t)) // a database of its own on a server that the whole test binary shares
package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

var (
	shared struct {
		once   sync.Once
		server *Server
		err    error
	}
	databases struct {
		sync.Mutex
		made int
	}
)

// URL makes an empty database on the shared server, and returns its URL. The server ends with the test binary.
func URL(t testing.TB) string {
	t.Helper()
	skipWithout(t)
	shared.once.Do(func() {
		shared.server, shared.err = start("--temporary")
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server.Database(t)
}

// Server is a server of one test.
type Server struct {
	dir     string
	options []string
	url     string
	stdin   io.Closer // the server stops when it is closed
	process *exec.Cmd
}

// Start starts a server whose data lie in a folder that exists and is empty, such as the root of a small file system. Options are
// those of the program postgres. It stops with the test.
func Start(t testing.TB, dir string, options ...string) *Server {
	t.Helper()
	skipWithout(t)
	s, err := start(dir, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	return s
}

// Dir makes a folder for Start. t.TempDir does not do: for root the server runs as nobody, who cannot reach it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Stop stops the server. The data stay.
func (s *Server) Stop() {
	if s.process != nil {
		s.stdin.Close()
		_ = s.process.Wait() // a server that a test killed says so
		s.process = nil
	}
}

// Kill ends the server's processes in the midst of what they are doing, as a crash does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _, _ := strings.Cut(string(b), "\n")
	if out, err := exec.Command("kill", "-QUIT", pid).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.Stop()
}

// Restart starts the server again after Stop or Kill, with the same URL.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	again, err := start(s.dir, s.options...)
	if err != nil {
		t.Fatal(err)
	}
	*s = *again
}

// Database makes an empty database, and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	databases.Lock()
	databases.made++
	name := fmt.Sprintf("test%d", databases.made)
	databases.Unlock()
	Exec(t, s.url, "CREATE DATABASE "+name)
	return strings.Replace(s.url, "/postgres?", "/"+name+"?", 1)
}

// Exec runs SQL as the database's owner.
func Exec(t testing.TB, url, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// With changes parts of a URL of this package: the user with an optional password, the database.
func With(t testing.TB, address, user, password, database string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if u.User = url.User(user); password != "" {
		u.User = url.UserPassword(user, password)
	}
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}

func start(dir string, options ...string) (*Server, error) {
	root, err := checkout()
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, options: options}
	// Nothing is written safely to disk: the data need not survive the machine's crash.
	s.process = exec.Command(filepath.Join(root, "scripts", "postgres.sh"), append([]string{"run", dir, "-c", "fsync=off"}, options...)...)
	stdin, err := s.process.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.stdin = stdin
	stdout, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var messages strings.Builder
	s.process.Stderr = &messages
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("scripts/postgres.sh run %s: %s%v", dir, messages.String(), err)
	}
	s.url = strings.TrimSpace(line)
	return s, nil
}

// skipWithout skips a test where there is no server to start.
func skipWithout(t testing.TB) {
	t.Helper()
	root, err := checkout()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, ".rag-retrieval", "postgres")); errors.Is(err, os.ErrNotExist) {
		t.Skip("there is no PostgreSQL here: scripts/setup.sh --postgres brings it")
	}
}

// checkout finds the checkout's folder: tests run in the folder of their package.
func checkout() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("no folder above the working folder has a go.mod")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// RequirePasswords makes the server of a URL ask a user for the password. Other users need none.
func RequirePasswords(t testing.TB, address, user string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(u.Query().Get("host")), "data", "pg_hba.conf")
	rules, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte("local all "+user+" scram-sha-256\n"), rules...), 0o600); err != nil {
		t.Fatal(err)
	}
	Exec(t, address, "SELECT pg_reload_conf()")
}

// Give makes a folder that of the server's user.
func (s *Server) Give(t testing.TB, folder string) {
	t.Helper()
	out, err := exec.Command("chown", "--reference="+filepath.Join(s.dir, "data"), folder).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
