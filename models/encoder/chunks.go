package encoder

import (
	"sort"

	"rag-retrieval-go/ortrain"
)

// Chunk gives the limits of chunks of at most so many tokens. 0 leaves batches whole. A longer row is a chunk of its own.
func (s Shape) Chunk(tokens int) Shape {
	if tokens > 0 {
		s.Rows = min(s.Rows, (tokens+s.MaxLength-1)/s.MaxLength)
	}
	return s
}

// Chunks divides rows into chunks of at most so many tokens and returns the numbers of each chunk's rows. Every row counts as
// long as the longest of its chunk, and rows of like length go together. With 0 tokens there is one chunk, in the rows' order.
func Chunks(rows []Row, tokens int) [][]int {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	if tokens <= 0 {
		return [][]int{order}
	}
	if len(rows) == 0 {
		return nil
	}
	sort.SliceStable(order, func(i, j int) bool { return len(rows[order[i]].IDs) < len(rows[order[j]].IDs) })
	var out [][]int
	start := 0
	for i, row := range order { // in order of length: the row that is added is the longest
		if i > start && (i-start+1)*len(rows[row].IDs) > tokens {
			out, start = append(out, order[start:i]), i
		}
	}
	return append(out, order[start:])
}

// PackChunks packs rows into b or, with tokens above 0, into chunks of b, see Chunks. It calls each with every chunk's batch,
// the numbers of its rows, and their first tokens.
func (c Config) PackChunks(b *ortrain.Batch, rows []Row, groups, tokens int, each func(chunk *ortrain.Batch, members []int, starts []int64)) {
	for _, members := range Chunks(rows, tokens) {
		chunk := b
		if tokens > 0 {
			chunk = ortrain.NewBatch()
			b.Chunks = append(b.Chunks, chunk)
		}
		each(chunk, members, c.Pack(chunk, Pick(rows, members), groups))
	}
	for _, chunk := range b.Chunks {
		b.Tokens += chunk.Tokens
	}
}

// Pick returns the elements of all with the given numbers.
func Pick[T any](all []T, members []int) []T {
	out := make([]T, len(members))
	for i, m := range members {
		out[i] = all[m]
	}
	return out
}
