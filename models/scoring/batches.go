package scoring

import (
	"context"
	"slices"
	"sort"

	"rag-retrieval-go/models/encoder"
)

const (
	// batchTokens bounds a batch's padded tokens and batchRows its texts: enough work per run, and values that stay in the
	// cache (at 8,192 tokens encoding takes an eighth longer).
	batchTokens = 2048
	batchRows   = 256
)

// ByLength cuts rows, longest first, into batches of at most batchTokens padded tokens and batchRows rows. The batches
// depend on the rows alone.
func ByLength(rows []encoder.Row) [][]int {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return len(rows[order[i]].IDs) > len(rows[order[j]].IDs) })
	var out [][]int
	for len(order) > 0 {
		n := min(len(order), batchRows, max(1, batchTokens/max(1, len(rows[order[0]].IDs))))
		out = append(out, order[:n])
		order = order[n:]
	}
	return out
}

// Run gives every row's value, in the rows' order, from batches of rows of like length. Batches without a wanted row are
// left out, and their rows' values with them; nil wants all. done hears of the rows of each batch that ran.
func Run[V any](ctx context.Context, rows []encoder.Row, forward func(rows []encoder.Row) ([]V, error),
	wanted func(row int) bool, done func(rows []int)) ([]V, error) {
	out := make([]V, len(rows))
	for _, batch := range ByLength(rows) {
		if wanted != nil && !anyOf(batch, wanted) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		values, err := forward(encoder.Pick(rows, batch))
		if err != nil {
			return nil, err
		}
		for k, i := range batch {
			out[i] = values[k]
		}
		done(batch)
	}
	return out, nil
}

func anyOf(rows []int, wanted func(row int) bool) bool {
	for _, i := range rows {
		if wanted(i) {
			return true
		}
	}
	return false
}

// RunTexts is Run for texts of one row each; equal texts run once. Progress is told in texts, if it is not nil.
func RunTexts[V any](ctx context.Context, texts []string, row func(text string) (encoder.Row, error),
	forward func(rows []encoder.Row) ([]V, error), progress func(done int)) ([]V, error) {
	distinct, place, copies := Distinct(texts)
	rows := make([]encoder.Row, len(distinct))
	for i, t := range distinct {
		var err error
		if rows[i], err = row(t); err != nil {
			return nil, &TextError{Index: slices.Index(texts, t), Err: err}
		}
	}
	done := 0
	values, err := Run(ctx, rows, forward, nil, func(batch []int) {
		for _, i := range batch {
			done += copies[i]
		}
		if progress != nil {
			progress(done)
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]V, len(texts))
	for i, j := range place {
		out[i] = values[j]
	}
	return out, nil
}

// Distinct gives the distinct texts, the place of each text among them, and how often each one occurs.
func Distinct(texts []string) (distinct []string, place, copies []int) {
	index := map[string]int{}
	place = make([]int, len(texts))
	for i, t := range texts {
		j, seen := index[t]
		if !seen {
			j = len(distinct)
			index[t] = j
			distinct, copies = append(distinct, t), append(copies, 0)
		}
		place[i] = j
		copies[j]++
	}
	return distinct, place, copies
}
