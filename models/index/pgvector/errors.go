package pgvector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

var errNoExtension = errors.New("the database has no extension vector (pgvector): install it on the server, then run CREATE EXTENSION vector " +
	"in the database as its owner")

// errLost says that the connection ended in the middle of something.
var errLost = errors.New("the connection was lost")

// explain makes one line of an error of the database or the network: what the matter is, and what to do. Errors of the context and
// errors that are explained already stay as they are.
func (a address) explain(err error) error {
	var connect *pgconn.ConnectError // a server that does not answer in connect_timeout ends a context of pgx's own
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &connect) {
		return err
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	return &Error{Store: a.place, Err: err, message: message(err)}
}

// Error is an error of a store.
type Error struct {
	Store   string // such as "db.example:5432/rag"
	Err     error
	message string
}

// Error tells the store, what is wrong and what to do, in one line. Nothing of the URL but host, port and database is in it.
func (e *Error) Error() string { return "the store " + e.Store + ": " + e.message }

// Unwrap returns the error of the database or the network. Its text may have several lines.
func (e *Error) Unwrap() error { return e.Err }

// The codes of PostgreSQL's errors that say something about what to do. https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	codeWrongPassword     = "28P01"
	codeNoAuthorization   = "28000"
	codeNoDatabase        = "3D000"
	codeNoPermission      = "42501"
	codeDiskFull          = "53100"
	codeNoTable           = "42P01"
	codeConnectionClass   = "08"
	codeInterventionClass = "57P" // the server stops, crashes or starts
)

func message(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return clean(serverMessage(pg))
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		if errors.Is(err, context.DeadlineExceeded) {
			return "it cannot be reached: no answer within connect_timeout"
		}
		return clean("it cannot be reached: " + innermost(connect.Unwrap()))
	}
	if lost(err) {
		return errLost.Error() + " (" + clean(innermost(err)) + ")"
	}
	return clean(err.Error())
}

func serverMessage(pg *pgconn.PgError) string {
	text := pg.Message
	switch {
	case pg.Code == codeWrongPassword, pg.Code == codeNoAuthorization:
		return text + ": check the user and the password in the URL (or PGPASSWORD)"
	case pg.Code == codeNoDatabase:
		return text + ": make it with CREATE DATABASE, or name another in the URL"
	case pg.Code == codeNoPermission:
		return text + ": the user needs the right to create in the database for writing, and to read the schema " + schema + " for searching"
	case pg.Code == codeNoTable:
		return text + ": the collection was made anew or removed since it was opened; run this again"
	case pg.Code == codeDiskFull:
		return "the server's disk is full: " + text
	case strings.HasPrefix(pg.Code, codeConnectionClass), strings.HasPrefix(pg.Code, codeInterventionClass):
		return errLost.Error() + ": " + text
	}
	if pg.Detail != "" {
		text += ": " + pg.Detail
	}
	return text
}

// lost says whether an error is the end of a connection.
func lost(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, codeConnectionClass) || strings.HasPrefix(pg.Code, codeInterventionClass)
	}
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.As(err, &network)
}

// innermost returns the text of the last error of a chain: what the system said, without each caller's words around it. Of
// several errors, as of a host with several addresses, it is the last one.
func innermost(err error) string {
	for {
		switch x := err.(type) {
		case interface{ Unwrap() error }:
			if inner := x.Unwrap(); inner != nil {
				err = inner
				continue
			}
		case interface{ Unwrap() []error }:
			if inner := x.Unwrap(); len(inner) > 0 {
				err = inner[len(inner)-1]
				continue
			}
		}
		return err.Error()
	}
}

var spaces = regexp.MustCompile(`\s+`)

// clean makes one line of a message.
func clean(text string) string {
	return strings.TrimSpace(spaces.ReplaceAllString(text, " "))
}

var copyLine = regexp.MustCompile(`^COPY \S+, line (\d+)(?:, column (\w+))?`)

// refused finds the row of a COPY that the server did not take, from 0, and its column.
func refused(err error) (row int, column string, ok bool) {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return 0, "", false
	}
	// What is wrong with a value, not with the server.
	if !strings.HasPrefix(pg.Code, "22") && !strings.HasPrefix(pg.Code, "54") {
		return 0, "", false
	}
	for _, line := range strings.Split(pg.Where, "\n") {
		if m := copyLine.FindStringSubmatch(line); m != nil {
			n, err := strconv.Atoi(m[1])
			return n - 1, m[2], err == nil
		}
	}
	return 0, "", false
}

// notComplete is the error of searching a collection that is not whole.
func (s *Store) notComplete() error {
	c := s.collection
	if s.outdated != nil {
		return s.address.explain(s.outdated)
	}
	if c.Number == 0 {
		return fmt.Errorf("the store %s: %w: %q; index a corpus into it first", s.address.place, ErrNoCollection, s.address.collection)
	}
	return fmt.Errorf("the store %s: the collection %q is not complete, %d of %d documents are written: run the indexing again, it goes on there",
		s.address.place, s.address.collection, c.Written, c.Documents)
}

func isDiskFull(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == codeDiskFull
}

// isSharedMemory says whether the server's machine has too little shared memory, such as the 64 MB of a container.
func isSharedMemory(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == codeDiskFull || pg.Code == "53200") && strings.Contains(pg.Message, "shared memory")
}
