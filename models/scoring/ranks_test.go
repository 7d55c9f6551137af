package scoring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/dist/disttest"
)

// rankers are models of each kind whose values depend on the batch. before is called before each batch.
func rankers(ranks *dist.Dealer, before func(rows int) error) map[string]Ranker {
	value := func(batch []encoder.Row, i int) float32 {
		return float32(len(batch)) + 1.01*float32(len(batch[0].IDs)) + float32(len(batch[i].IDs))/7
	}
	bi := BiEncoder[[]float32]{
		Rows: rowsOf, Windows: true, Block: 40, BatchTokens: 24, Ranks: ranks, Carrier: Vectors,
		Forward: func(batch []encoder.Row) ([][]float32, error) {
			out := make([][]float32, len(batch))
			for i := range batch {
				out[i] = []float32{value(batch, i), 1}
			}
			return out, before(len(batch))
		},
		Similarity: func(query []float32, passages [][]float32) ([]float32, error) {
			out := make([]float32, len(passages))
			for i, p := range passages {
				out[i] = query[0] * p[0]
			}
			return out, nil
		},
	}
	cross := CrossEncoder{
		Rows: func(p Pair, _ LongText) ([]encoder.Row, error) { return windowsOf(p.Query + p.Passage), nil }, BatchTokens: 24, Ranks: ranks,
		Forward: func(batch []encoder.Row) ([]float32, error) {
			out := make([]float32, len(batch))
			for i := range batch {
				out[i] = value(batch, i)
			}
			return out, before(len(batch))
		},
	}
	return map[string]Ranker{"bi-encoder": bi, "cross-encoder": cross}
}

func allScores(r Ranker, from int) (scores [][]float32, progress [][2]int, err error) {
	err = SampleScorer{r}.Score(context.Background(), task(60), from, func(done, total int) { progress = append(progress, [2]int{done, total}) },
		func(x []float32) error {
			scores = append(scores, x)
			return nil
		})
	return scores, progress, err
}

// Ranks have the scores of one rank, to the bit, from the beginning and from later on. Together they run as many rows.
func TestRanksScoreAsOne(t *testing.T) {
	for _, name := range []string{"bi-encoder", "cross-encoder"} {
		for _, from := range []int{0, 17} {
			var alone atomic.Int64
			want, _, err := allScores(rankers(nil, func(n int) error { alone.Add(int64(n)); return nil })[name], from)
			check(t, err)
			for _, n := range []int{2, 3, 5} {
				var together atomic.Int64
				check(t, errors.Join(disttest.Ranks(n, func(c dist.Comm) error {
					got, progress, err := allScores(rankers(dist.NewDealer(c), func(n int) error { together.Add(int64(n)); return nil })[name], from)
					if err != nil || !slices.EqualFunc(got, want, slices.Equal) {
						return fmt.Errorf("%s from %d: rank %d of %d has other scores, %w", name, from, c.Rank(), n, err)
					}
					if last := progress[len(progress)-1]; last[0] != last[1] || !slices.IsSortedFunc(progress, func(a, b [2]int) int { return a[0] - b[0] }) {
						return fmt.Errorf("%s from %d: progress is %v", name, from, progress)
					}
					return nil
				})...))
				if together.Load() != alone.Load() {
					t.Errorf("%s from %d: %d ranks run %d rows, one %d", name, from, n, together.Load(), alone.Load())
				}
			}
		}
	}
}

// Ranks encode as one.
func TestRanksEncodeAsOne(t *testing.T) {
	var texts []prompt.Text
	for _, s := range task(20) {
		texts = append(texts, prompt.Texts(false, s.Candidates()...)...)
	}
	encode := func(ranks *dist.Dealer) (string, error) {
		b := rankers(ranks, func(int) error { return nil })["bi-encoder"].(BiEncoder[[]float32])
		vectors, tokens, err := b.Encode(context.Background(), texts, CutEnd, nil)
		return fmt.Sprint(vectors, tokens), err
	}
	want, err := encode(nil)
	check(t, err)
	check(t, errors.Join(disttest.Ranks(3, func(c dist.Comm) error {
		if got, err := encode(dist.NewDealer(c)); err != nil || got != want {
			return fmt.Errorf("rank %d: %w, other vectors", c.Rank(), err)
		}
		return nil
	})...))
}

// What fails on one rank, in a batch or with what was scored, ends all of them at the same place.
func TestRanksFailToScoreTogether(t *testing.T) {
	full := errors.New("the disk is full")
	for _, name := range []string{"bi-encoder", "cross-encoder"} {
		for rank, err := range disttest.Ranks(3, func(c dist.Comm) error {
			batches := 0
			_, _, err := allScores(rankers(dist.NewDealer(c), func(int) error {
				if batches++; batches > 2 && c.Rank() == 1 {
					return full
				}
				return nil
			})[name], 0)
			return err
		}) {
			if err == nil || !strings.HasSuffix(err.Error(), "rank 1: the disk is full") {
				t.Errorf("%s: rank %d: %v", name, rank, err)
			}
		}
		for rank, err := range disttest.Ranks(3, func(c dist.Comm) error {
			r := rankers(dist.NewDealer(c), func(int) error { return nil })[name]
			return SampleScorer{r}.Score(context.Background(), task(60), 0, func(int, int) {}, func([]float32) error {
				if c.Rank() == 0 {
					return full
				}
				return nil
			})
		}) {
			if err == nil || err.Error() != "rank 0: the disk is full" {
				t.Errorf("%s: rank %d: %v", name, rank, err)
			}
		}
	}
}
