// Package nearest finds the name that a mistyped one may stand for.
package nearest

import (
	"strings"

	"github.com/xrash/smetrics"
)

// least is the Jaro-Winkler similarity from which on a name is taken for the other one mistyped: "modle" and "model" have 0.96,
// "epoch" and "epochs" 0.97, "lr" and "merge" 0.
const least = 0.85

// Name returns the one of names that is most like word, or "" if none is like it. Case and the kinds of dashes do not count.
func Name(word string, names []string) (best string) {
	similarity := least
	for _, name := range names {
		if s := smetrics.JaroWinkler(normal(word), normal(name), 0.7, 4); s > similarity { // the usual boost for a common beginning
			best, similarity = name, s
		}
	}
	return best
}

func normal(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "-")) }
