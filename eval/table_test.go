package eval

import (
	"bytes"
	"strings"
	"testing"

	"rag-retrieval-go/mteb"
)

func TestWriteReport(t *testing.T) {
	r := mteb.Report{Model: "m", Kind: "embedding", Results: []mteb.Result{
		{Task: "one", Rule: mteb.Rule1, Queries: 3, MAP: 0.5, MRR: 0.25, Seconds: 1.26},
		{Task: "two,", Rule: mteb.Rule1, Queries: 4, MAP: 0.75, MRR: 1, Seconds: 2},
	}}
	for format, want := range map[string][]string{
		"table":    {"│ one     │ mteb-1 │       3 │ 50.00 │  25.00 │     1.3 │", "│ average │        │         │ 62.50 │  62.50 │     3.3 │"},
		"markdown": {"| one     | mteb-1 |       3 | 50.00 |  25.00 |     1.3 |"},
		"csv":      {"task,rule,queries,MAP,MRR@10,seconds\none,mteb-1,3,50.00,25.00,1.3\n\"two,\",", "average,,,62.50,62.50,3.3"},
		"json":     {`"map": 0.5,`, `"kind": "embedding"`},
	} {
		var b bytes.Buffer
		check(t, WriteReport(&b, format, r))
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s lacks %q:\n%s", format, w, b.String())
			}
		}
	}
	if err := WriteReport(&bytes.Buffer{}, "xml", r); err == nil {
		t.Error("no error for an unknown format")
	}
}
