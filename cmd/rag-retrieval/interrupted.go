package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/models/index"
)

// interruption is the error of an interrupted command that knows what the same command would do next.
type interruption struct {
	error
	next string
}

// Unwrap lets errors.Is find the interruption's cause.
func (i *interruption) Unwrap() error { return i.error }

// onInterrupt adds to an interruption what the same command would do next, unless that is known already. An empty text adds nothing.
func onInterrupt(err error, next string) error {
	if known := (*interruption)(nil); next == "" || !errors.Is(err, context.Canceled) || errors.As(err, &known) {
		return err
	}
	return &interruption{err, next}
}

// interruptText is the last line of an interrupted command.
func interruptText(err error) string {
	if known := (*interruption)(nil); errors.As(err, &known) {
		return "interrupted: " + known.next
	}
	return "interrupted"
}

// What the same command does next where it keeps nothing, and where it was interrupted before there was anything to keep.
const (
	beginsAgain  = "the same command begins again, for nothing is kept"
	nothingBegun = "the same command begins again: nothing is kept yet"
)

// goesOn is what the same command does next where something is kept.
func goesOn(c *cli.Context, kept string) string {
	if c.Bool("fresh") {
		return "the same command without --fresh goes on: " + kept
	}
	return "the same command goes on: " + kept
}

// keptHits is what a search by ColBERT keeps.
const keptHits = "what was found is kept from time to time"

// keptIn says what is kept in a journal; it is empty before the first query has all its scores.
func keptIn(j *eval.Journal) string {
	if j.Kept() == 0 {
		return ""
	}
	return "scored queries are kept"
}

// keptDocuments says that index.Encode writes whole chunks only.
var keptDocuments = fmt.Sprintf("whole groups of %d encoded documents are kept", index.ChunkLen)
