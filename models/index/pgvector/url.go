package pgvector

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// address is what messages call a store.
type address struct {
	place      string // "host:port/database", or "folder/database" of a socket
	collection string
}

// DefaultCollection is the collection of a URL that names none.
const DefaultCollection = "default"

// IsURL says whether a text is the URL of a store, and not the name of a folder.
func IsURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// connectTimeout ends an attempt to connect if neither the URL has connect_timeout nor the environment PGCONNECT_TIMEOUT.
const connectTimeout = 10 * time.Second

// errURL quotes nothing of the URL: where it is wrong, any part of it may be a piece of the password.
var errURL = errors.New("the store's URL cannot be read, want postgres://USER:PASSWORD@HOST:PORT/DATABASE?collection=NAME; " +
	"in a password, write @ as %40, / as %2F, ? as %3F, # as %23 and % as %25")

// secondQuery finds ?collection=NAME behind a URL that has parameters already, such as that of scripts/postgres.sh. It would become a
// part of the value before it.
var secondQuery = regexp.MustCompile(`\?[A-Za-z_]+=`)

var errSecondQuery = errors.New("the store's URL has a second ?: parameters are joined by &, as in " +
	"postgres://USER@/DATABASE?host=FOLDER&collection=NAME; in a value, write ? as %3F")

func parseURL(text string) (address, *pgxpool.Config, error) {
	if !IsURL(text) {
		return address{}, nil, errURL
	}
	// An @ behind the host is that of a password with / ? or # in it.
	_, rest, _ := strings.Cut(text, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 && strings.Contains(rest[i:], "@") || strings.Contains(rest, "#") {
		return address{}, nil, errURL
	}
	u, err := url.Parse(text)
	if err != nil {
		return address{}, nil, errURL
	}
	if secondQuery.MatchString(u.RawQuery) {
		return address{}, nil, errSecondQuery
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return address{}, nil, errURL
	}
	a := address{collection: DefaultCollection}
	if query.Has("collection") {
		a.collection = query.Get("collection")
		if err := checkName(a.collection); err != nil {
			return address{}, nil, err
		}
		query.Del("collection")
	}
	u.RawQuery = query.Encode()
	config, err := pgxpool.ParseConfig(u.String())
	if err != nil { // its text has the URL, what it wraps tells what is wrong with a parameter
		if inner := errors.Unwrap(err); inner != nil {
			return address{}, nil, fmt.Errorf("the store's URL: %s", clean(inner.Error()))
		}
		return address{}, nil, errURL
	}
	c := config.ConnConfig
	if !query.Has("connect_timeout") && os.Getenv("PGCONNECT_TIMEOUT") == "" {
		c.ConnectTimeout = connectTimeout
	}
	a.place = fmt.Sprintf("%s:%d/%s", c.Host, c.Port, c.Database)
	if strings.HasPrefix(c.Host, "/") {
		a.place = c.Host + "/" + c.Database
	}
	return a, config, nil
}

// checkName returns an error if a collection cannot have the name.
func checkName(name string) error {
	if name == "" || len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0xFFFD }) {
		return fmt.Errorf("the collection's name %.20q has no characters, more than 200 bytes, or control characters", name)
	}
	return nil
}
