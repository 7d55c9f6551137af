package mteb

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// judgment is a row of qrels: how relevant a document is to a query.
type judgment struct {
	Query    rowID    `json:"query-id"`
	Document rowID    `json:"corpus-id"`
	Score    *float64 `json:"score"`
}

// rowID is an id, which some data sets write as a number.
type rowID string

// UnmarshalJSON reads a text or a whole number.
func (x *rowID) UnmarshalJSON(b []byte) error {
	var text string
	var number json.Number
	switch {
	case json.Unmarshal(b, &text) == nil: // null leaves it empty
		*x = rowID(text)
	case json.Unmarshal(b, &number) == nil && !strings.ContainsAny(number.String(), ".eE"):
		*x = rowID(number)
	default:
		return fmt.Errorf("an id is %.40s, want a text or a whole number", b)
	}
	return nil
}

// isTSV says whether a file is tab-separated.
func isTSV(path string) bool { return strings.Contains(filepath.Base(path), ".tsv") } // an unpacked .tsv.gz ends in .tsv.jsonl

// eachJudgment calls f for each row of qrels, with the row's file and line. Files are JSON lines, or tab-separated in BEIR's form.
func eachJudgment(files []string, f func(origin string, r judgment) error) error {
	for _, path := range files {
		read := eachRow[judgment]
		if isTSV(path) {
			read = eachTSVRow
		}
		err := read([]string{path}, func(origin string, r judgment) error {
			if r.Query == "" || r.Document == "" {
				return errors.New(`"query-id" or "corpus-id" is missing or empty`)
			}
			if r.Score == nil {
				return errors.New(`"score" is missing`)
			}
			if x := *r.Score; x != math.Trunc(x) || math.Abs(x) > math.MaxInt32 {
				return fmt.Errorf(`"score" is %g, want a whole number`, x)
			}
			return f(origin, r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tsvHeader is the first line of BEIR's qrels.
const tsvHeader = "query-id\tcorpus-id\tscore"

// eachTSVRow calls f for each row of tab-separated files, with the row's file and line. The first line is a header.
func eachTSVRow(files []string, f func(origin string, r judgment) error) error {
	return eachLine(files, func(origin string, line int, b []byte) error {
		text := strings.TrimRight(string(b), "\r\n")
		if line == 1 && text == tsvHeader {
			return nil
		}
		r, err := judgmentOf(strings.Split(text, "\t"))
		if err != nil {
			return err
		}
		return f(origin, r)
	})
}

func judgmentOf(cells []string) (judgment, error) {
	if len(cells) != 3 {
		return judgment{}, fmt.Errorf("%d tab-separated columns, want query-id, corpus-id and score", len(cells))
	}
	score, err := strconv.ParseFloat(cells[2], 64)
	if err != nil || math.IsNaN(score) {
		return judgment{}, fmt.Errorf("the score is %.40q, want a whole number (the header is %q)", cells[2], tsvHeader)
	}
	return judgment{rowID(cells[0]), rowID(cells[1]), &score}, nil
}
