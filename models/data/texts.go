package data

// Texts are the texts of examples whose loss compares each query with passages.
type Texts struct {
	Queries   []Text
	Passages  []Text     // of each example, the positive and then the negatives
	Positives []int      // the passage that is the positive of each query
	Known     [][]string // all positives of each query in its row
}

// TaughtTexts returns the texts of examples that each are a query with one passage that a teacher scored, and the scores.
func TaughtTexts(examples []Example) (t Texts, scores []float64) {
	for i, e := range examples {
		texts, all := e.Row.Taught()
		t.Queries, t.Known = append(t.Queries, e.Query()), append(t.Known, e.Row.Pos)
		t.Positives = append(t.Positives, i)
		t.Passages = append(t.Passages, e.Passages(texts[e.IndexInRow])...)
		scores = append(scores, all[e.IndexInRow])
	}
	return t, scores
}

// TextsOf returns the texts of examples, with so many negatives of each that are drawn for an epoch, see Draw.
func TextsOf(examples []Example, seed uint64, epoch, negatives int) Texts {
	var t Texts
	for _, e := range examples {
		t.Queries, t.Known = append(t.Queries, e.Query()), append(t.Known, e.Row.Pos)
		t.Positives = append(t.Positives, len(t.Passages))
		t.Passages = append(t.Passages, e.Passages(e.Row.Pos[e.IndexInRow])...)
		t.Passages = append(t.Passages, e.Passages(Draw(seed, e.Number, epoch, negatives, e.Row.Neg)...)...)
	}
	return t
}
