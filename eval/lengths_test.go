package eval_test

import (
	"testing"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/mteb"
)

func TestDifferingLengths(t *testing.T) {
	bi, longer, pair := &mteb.Lengths{QueryMaxLen: 64, PassageMaxLen: 128}, &mteb.Lengths{QueryMaxLen: 64, PassageMaxLen: 256}, &mteb.Lengths{MaxLen: 512}
	for _, c := range []struct {
		lengths []*mteb.Lengths
		want    string
	}{
		{[]*mteb.Lengths{bi, bi}, ""},
		{[]*mteb.Lengths{bi, nil}, ""},
		{[]*mteb.Lengths{bi, longer}, "texts were cut at different lengths, which changes scores too: a queries at 64 and passages at 128 tokens, " +
			"b queries at 64 and passages at 256 tokens"},
		{[]*mteb.Lengths{bi, nil, pair}, "texts were cut at different lengths, which changes scores too: a queries at 64 and passages at 128 tokens, " +
			"c pairs at 512 tokens"},
	} {
		var reports []mteb.Report
		for _, x := range c.lengths {
			reports = append(reports, mteb.Report{Lengths: x})
		}
		if got := eval.DifferingLengths([]string{"a", "b", "c"}, reports); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
