package scoring

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/mteb"
)

// texts of a task: some shared by many samples, lengths that differ.
func task(n int) []mteb.Sample {
	var out []mteb.Sample
	for i := range n {
		s := mteb.Sample{ID: fmt.Sprint(i), Query: []string{fmt.Sprintf("query %d", i)}}
		if i%3 == 0 {
			s.Query = append(s.Query, "a query of several samples")
		}
		for j := range 2 + i%4 {
			s.Positive = append(s.Positive, fmt.Sprintf("%*d", 1+(7*i+3*j)%11, i+j))
		}
		for j := range 5 {
			s.Negative = append(s.Negative, fmt.Sprintf("%*d", 1+(5*i+j)%13, 3*j))
		}
		out = append(out, s)
	}
	return out
}

func rowOf(text string) encoder.Row { return encoder.Row{IDs: make([]int64, len(text))} }

// rowsOf are a query's row, or a passage's windows.
func rowsOf(x prompt.Text, long LongText) ([]encoder.Row, error) {
	if long != Windows {
		return []encoder.Row{rowOf(x.Text)}, nil
	}
	return windowsOf(x.Text), nil
}

func windowsOf(text string) []encoder.Row {
	if len(text) < 8 {
		return []encoder.Row{rowOf(text)}
	}
	return []encoder.Row{rowOf(text[:7]), rowOf(text[7:])}
}

// Scores of a run that begins later are those of the run from the beginning, to the bit, even where a text's value depends
// on its batch, as this test's does.
func TestScoresDoNotDependOnTheStart(t *testing.T) {
	rows := 0
	batchOf := func(batch []encoder.Row) float32 {
		rows += len(batch)
		sum := float32(len(batch))
		for _, r := range batch {
			sum = sum*1.01 + float32(len(r.IDs))
		}
		return sum
	}
	bi := BiEncoder[float32]{
		Rows: rowsOf, Windows: true, Block: 40,
		Forward: func(batch []encoder.Row) ([]float32, error) {
			out := make([]float32, len(batch))
			x := batchOf(batch)
			for i, r := range batch {
				out[i] = x + float32(len(r.IDs))
			}
			return out, nil
		},
		Similarity: func(query float32, passages []float32) ([]float32, error) {
			out := make([]float32, len(passages))
			for i, p := range passages {
				out[i] = query * p
			}
			return out, nil
		},
	}
	cross := CrossEncoder{
		Rows: func(p Pair, _ LongText) ([]encoder.Row, error) { return windowsOf(p.Query + p.Passage), nil }, Forward: bi.Forward,
	}
	samples := task(60)
	for name, ranker := range map[string]Ranker{"bi-encoder": bi, "cross-encoder": cross} {
		s := SampleScorer{ranker}
		whole, err := mteb.ScoreAll(context.Background(), s, samples)
		if err != nil || len(whole) != len(samples) {
			t.Fatal(len(whole), err)
		}
		for _, from := range []int{1, 5, 17, 59, 60} {
			var rest [][]float32
			last, total := 0, 0
			rows = 0
			err := s.Score(context.Background(), samples, from, func(done, of int) { last, total = done, of }, func(x []float32) error {
				rest = append(rest, x)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if last != total {
				t.Errorf("%s from %d: progress ends at %d of %d", name, from, last, total)
			}
			if len(rest) != len(samples)-from {
				t.Fatalf("%s from %d: %d samples", name, from, len(rest))
			}
			if from == 60 && rows > 0 {
				t.Errorf("%s: %d rows ran for nothing", name, rows)
			}
			for i, x := range rest {
				if !slices.Equal(x, whole[from+i]) {
					t.Errorf("%s from %d, sample %d: %v, from the beginning %v", name, from, from+i, x, whole[from+i])
				}
			}
		}
	}
}

// Each text is encoded once, however many blocks use it.
func TestEachTextOnce(t *testing.T) {
	seen := map[string]int{}
	bi := BiEncoder[string]{
		Rows: func(x prompt.Text, _ LongText) ([]encoder.Row, error) {
			seen[fmt.Sprint(x.Query, x.Text)]++
			return []encoder.Row{rowOf(x.Text)}, nil
		},
		Forward:    func(rows []encoder.Row) ([]string, error) { return make([]string, len(rows)), nil },
		Similarity: func(_ string, p []string) ([]float32, error) { return make([]float32, len(p)), nil },
		Block:      16,
	}
	if _, err := mteb.ScoreAll(context.Background(), SampleScorer{bi}, task(40)); err != nil {
		t.Fatal(err)
	}
	for text, n := range seen {
		if n != 1 {
			t.Errorf("%q was encoded %d times", text, n)
		}
	}
}

// Every kind of ranker emits a score for each document, also of a query without a wording: the lowest.
func TestQueryWithoutWording(t *testing.T) {
	bi := BiEncoder[string]{
		Rows:    func(x prompt.Text, _ LongText) ([]encoder.Row, error) { return []encoder.Row{rowOf(x.Text)}, nil },
		Forward: func(rows []encoder.Row) ([]string, error) { return make([]string, len(rows)), nil },
	}
	cross := CrossEncoder{
		Rows:    func(p Pair, _ LongText) ([]encoder.Row, error) { return []encoder.Row{rowOf(p.Passage)}, nil },
		Forward: func(rows []encoder.Row) ([]float32, error) { return make([]float32, len(rows)), nil },
	}
	for _, r := range []Ranker{bi, cross} {
		got, err := RankAll(context.Background(), r, []Query{{Documents: []string{"a", "b"}}})
		if err != nil || len(got) != 1 || !slices.Equal(got[0], lowestScores(2)) {
			t.Errorf("%T: %v, %v", r, got, err)
		}
	}
}
