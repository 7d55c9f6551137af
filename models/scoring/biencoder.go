package scoring

import (
	"context"
	"slices"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/ortrain/dist"
)

// How many documents' encodings a BiEncoder holds at once as a rule: vectors, and a vector of every token, of which 512 take a
// quarter of a megabyte.
const (
	VectorBlock      = 2048
	TokenVectorBlock = 1024
)

// BiEncoder encodes each text by itself, and ranks by comparing encodings. V is a text's encoding: a vector, or a vector of
// each token.
type BiEncoder[V any] struct {
	// Rows makes a text's tokens: one row, or with Windows one row for each window of a long text.
	Rows func(x prompt.Text, long LongText) ([]encoder.Row, error)
	// Forward encodes one batch.
	Forward func(rows []encoder.Row) ([]V, error)
	// Similarity gives a query's score with each passage.
	Similarity func(query V, passages []V) ([]float32, error)
	// Windows ranks a passage that is too long by the best of its windows instead of by its beginning.
	Windows bool
	// Block is how many documents' encodings are held at once, besides those that later queries share.
	Block int
	// BatchTokens bounds a batch's padded tokens; 0: DefaultBatchTokens.
	BatchTokens int
	// Ranks share the work if they are several: every rank makes the same calls, and all get every encoding and every score. Nil:
	// this process does all. Carrier takes encodings from rank to rank.
	Ranks   *dist.Dealer
	Carrier Carrier[V]
	// Queue joins the batches of concurrent calls. Nil: each call runs its own.
	Queue *Queue[V]
}

func (b BiEncoder[V]) batching() batching[V] {
	return batching[V]{tokens: b.BatchTokens, forward: b.Forward, queue: b.Queue, ranks: b.Ranks, carrier: b.Carrier}
}

// Encode gives each text's encoding and the number of tokens that the model read of it. Equal texts are encoded once. long says
// what is read of a long one; it is not Windows. progress hears how many texts are done; it may be nil. An error about a text is a
// *TextError with its number.
func (b BiEncoder[V]) Encode(ctx context.Context, texts []prompt.Text, long LongText, progress func(done int)) (encodings []V, tokens []int, err error) {
	distinct, place, copies := distinctTexts(texts)
	rows := make([]encoder.Row, len(distinct))
	err = tokenizeEach(ctx, b.Queue, b.Ranks, len(distinct), func(i int) error {
		one, err := b.Rows(distinct[i], long)
		if err != nil {
			return &TextError{Index: slices.Index(texts, distinct[i]), Err: err}
		}
		rows[i] = one[0]
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	values, err := b.EncodeRows(ctx, rows, copies, progress)
	if err != nil {
		return nil, nil, err
	}
	encodings, tokens = make([]V, len(texts)), make([]int, len(texts))
	for i, j := range place {
		encodings[i], tokens[i] = values[j], len(rows[j].IDs)
	}
	return encodings, tokens, nil
}

// EncodeRows gives the encoding of each row of tokens. progress hears how many texts are done, of which row i stands for copies[i]; it
// may be nil.
func (b BiEncoder[V]) EncodeRows(ctx context.Context, rows []encoder.Row, copies []int, progress func(done int)) ([]V, error) {
	done := 0
	return b.batching().run(ctx, rows, nil, func(batch []int) {
		if progress == nil {
			return
		}
		for _, i := range batch {
			done += copies[i]
		}
		progress(done)
	})
}

// distinctTexts gives the distinct texts, the place of each text among them, and how often each one occurs.
func distinctTexts(texts []prompt.Text) (distinct []prompt.Text, place, copies []int) {
	index := map[prompt.Text]int{}
	place = make([]int, len(texts))
	for i, t := range texts {
		j, known := index[t]
		if !known {
			j = len(distinct)
			index[t] = j
			distinct, copies = append(distinct, t), append(copies, 0)
		}
		place[i] = j
		copies[j]++
	}
	return distinct, place, copies
}

// sharedText tracks one distinct text of a ranking: the last query that needs it, and its encodings while any remaining
// query still needs them.
type sharedText[V any] struct {
	lastQuery int
	tokenized bool
	encodings []V // one, or one for each window
}

// Rank implements Ranker: each distinct text is encoded once. Progress counts texts.
func (b BiEncoder[V]) Rank(ctx context.Context, queries []Query, o RankOptions, emit func(scores []float32) error) error {
	r := ranking[V]{b: b, queries: queries, start: o.Start, refuse: o.RefuseLong, texts: map[prompt.Text]*sharedText[V]{}}
	for i, q := range queries {
		for t := range q.each {
			if r.texts[t] == nil {
				r.texts[t] = &sharedText[V]{}
			}
			r.texts[t].lastQuery = i
		}
	}
	total, done := 0, 0
	for _, t := range r.texts {
		if t.lastQuery >= o.Start {
			total++
		}
	}
	start := 0
	for _, end := range blocks(queries, b.Block, func(q Query) int { return len(q.Documents) }) {
		err := r.encode(ctx, start, end, func(n int) {
			done += n
			o.report(done, total)
		})
		if err != nil {
			return err
		}
		if err := b.Ranks.Agree(r.emit(start, end, emit)); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// emit scores the queries start to end, and drops the encodings that no later one needs.
func (r ranking[V]) emit(start, end int, emit func(scores []float32) error) error {
	for i := start; i < end; i++ {
		if i >= r.start {
			scores, err := r.scores(r.queries[i])
			if err != nil {
				return err
			}
			if err := emit(scores); err != nil {
				return err
			}
		}
		r.forget(i)
	}
	return nil
}

// query is one of the query's wordings.
func (q Query) query(text string) prompt.Text {
	return prompt.Text{Query: true, Prompt: q.Prompt, Text: text}
}

// each yields the query's wordings, then its documents.
func (q Query) each(yield func(prompt.Text) bool) {
	for _, text := range q.Texts {
		if !yield(q.query(text)) {
			return
		}
	}
	for _, d := range q.Documents {
		if !yield(prompt.Text{Text: d}) {
			return
		}
	}
}

// ranking is one call of BiEncoder.Rank.
type ranking[V any] struct {
	b       BiEncoder[V]
	queries []Query
	start   int  // the first query that is scored
	refuse  bool // a text that is too long
	texts   map[prompt.Text]*sharedText[V]
}

// encode fills in the encodings of the texts of a block, queries start to end, that no block before it had. progress hears how
// many more texts are done.
func (r ranking[V]) encode(ctx context.Context, start, end int, progress func(n int)) error {
	var fresh []prompt.Text
	var queryOf []int // the number of each fresh text's first query
	needed := false
	for i, q := range r.queries[start:end] {
		for t := range q.each {
			if x := r.texts[t]; !x.tokenized {
				x.tokenized = true
				fresh, queryOf = append(fresh, t), append(queryOf, start+i)
				needed = needed || x.lastQuery >= r.start
			}
		}
	}
	if !needed {
		return nil
	}
	var rows []encoder.Row
	var textOf []*sharedText[V]      // each row's text
	left := map[*sharedText[V]]int{} // how many of its rows are not encoded yet
	err := tokenizeEach(ctx, r.b.Queue, r.b.Ranks, len(fresh), func(i int) error {
		t := fresh[i]
		windows, err := r.b.Rows(t, r.long(t))
		if err != nil {
			return &TextError{queryOf[i], r.queries[queryOf[i]].Origin, err}
		}
		for range windows {
			textOf = append(textOf, r.texts[t])
		}
		left[r.texts[t]] = len(windows)
		rows = append(rows, windows...)
		return nil
	})
	if err != nil {
		return err
	}
	wanted := func(row int) bool { return textOf[row].lastQuery >= r.start }
	values, err := r.b.batching().run(ctx, rows, wanted, func(batch []int) {
		n := 0
		for _, row := range batch {
			if left[textOf[row]]--; left[textOf[row]] == 0 && wanted(row) {
				n++
			}
		}
		progress(n)
	})
	if err != nil {
		return err
	}
	for row, v := range values {
		if wanted(row) {
			textOf[row].encodings = append(textOf[row].encodings, v)
		}
	}
	return nil
}

// long says what is read of a text that is too long.
func (r ranking[V]) long(t prompt.Text) LongText {
	switch {
	case r.refuse:
		return Refuse
	case r.b.Windows && !t.Query:
		return Windows
	}
	return CutEnd
}

// scores gives a query's scores: of its wordings the best one counts, and of a document's windows.
func (r ranking[V]) scores(q Query) ([]float32, error) {
	var passages []V
	var documentOf []int // the number of each passage's document
	for i, d := range q.Documents {
		for _, v := range r.texts[prompt.Text{Text: d}].encodings {
			passages, documentOf = append(passages, v), append(documentOf, i)
		}
	}
	out := lowestScores(len(q.Documents))
	for _, text := range q.Texts {
		scores, err := r.b.Similarity(r.texts[q.query(text)].encodings[0], passages)
		if err != nil {
			return nil, err
		}
		for row, x := range scores {
			keepBest(out, documentOf[row], x)
		}
	}
	return out, nil
}

// forget drops the encodings that no query after number i needs.
func (r ranking[V]) forget(i int) {
	for t := range r.queries[i].each {
		if r.texts[t].lastQuery == i {
			r.texts[t].encodings = nil
		}
	}
}
