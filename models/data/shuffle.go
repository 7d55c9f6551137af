package data

import (
	"math/rand/v2"
	"strings"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/splitmix"
)

// minShuffledLength is the number of characters above which a text may be shuffled.
const minShuffledLength = 100

// shuffled returns the row with each passage shuffled with probability rate, as RAG-Retrieval's shuffle_rate does: a text
// of more than 100 characters is cut into three parts of about equal length, which are put in another order. The draw
// differs by epoch; RAG-Retrieval draws only once.
func (r Row) shuffled(rate float64, seed uint64, example, epoch int) Row {
	if rate == 0 {
		return r
	}
	rng := rand.New(rand.NewPCG(splitmix.Mix(seed)^uint64(example)<<20, uint64(epoch)))
	text := func(s string) string {
		if rng.Float64() >= rate {
			return s
		}
		return shuffleText(rng, s)
	}
	texts := func(from jsonl.Strings) jsonl.Strings {
		out := make(jsonl.Strings, len(from))
		for i, s := range from {
			out[i] = text(s)
		}
		return out
	}
	if r.Content != nil {
		s := text(*r.Content)
		r.Content = &s
	}
	hits := make([]Hit, len(r.Hits))
	for i, h := range r.Hits {
		s := text(*h.Content)
		hits[i] = Hit{&s, h.Label}
	}
	if r.Hits != nil {
		r.Hits = hits
	}
	if r.Pos != nil {
		r.Pos = texts(r.Pos)
	}
	if r.Neg != nil {
		r.Neg = texts(r.Neg)
	}
	return r
}

func shuffleText(rng *rand.Rand, s string) string {
	whole := []rune(strings.TrimSpace(s))
	if len(whole) <= minShuffledLength {
		return s
	}
	size := len(whole)/3 + 1
	var parts []string
	for at := 0; at < len(whole); at += size {
		parts = append(parts, string(whole[at:min(at+size, len(whole))]))
	}
	rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return strings.Join(parts, " ")
}
