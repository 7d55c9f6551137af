package eval

import (
	"bytes"
	"html"
	"math"
	"strings"
	"testing"

	"rag-retrieval-go/mteb"
)

// report makes a report whose queries have these APs and the same RRs.
func report(model string, aps ...float64) mteb.Report {
	r := mteb.Result{Task: "task", Rule: mteb.Rule1, Queries: len(aps), Data: "hash"}
	for i, ap := range aps {
		r.PerQuery = append(r.PerQuery, mteb.Query{ID: string(rune('a' + i)), Query: "query " + string(rune('a'+i)), AP: ap, RR: ap})
		r.MAP += ap / float64(len(aps))
		r.MRR += ap / float64(len(aps))
	}
	return mteb.Report{Model: model, Kind: "embedding", Results: []mteb.Result{r}}
}

func TestCompare(t *testing.T) {
	a := report("a", 0.5, 1, 0.25, 0.2, 1, 0.5, 0.5, 0.1)
	b := report("b", 1, 0.5, 0.25, 0.9, 1, 1, 1, 0.3)
	all, err := Compare(a, b)
	check(t, err)
	c := all[0]
	if c.Won != 5 || c.Lost != 1 || math.Abs(c.MAP.Difference-0.2375) > 1e-12 || c.From != "a" || c.To != "b" {
		t.Errorf("%+v", c)
	}
	// The interval is the bootstrap's: about ±1.96 standard errors of the mean difference here.
	mean, variance := 0.2375, 0.0
	for i, q := range a.Results[0].PerQuery {
		d := b.Results[0].PerQuery[i].AP - q.AP - mean
		variance += d * d / 8
	}
	half := 1.96 * math.Sqrt(variance/8)
	if math.Abs(c.MAP.Low-(mean-half)) > 0.05 || math.Abs(c.MAP.High-(mean+half)) > 0.05 || c.MAP.Significant() != (c.MAP.Low > 0) {
		t.Errorf("interval %g to %g, want about %g to %g", c.MAP.Low, c.MAP.High, mean-half, mean+half)
	}
	if w := c.Worst(3); len(w) != 1 || w[0].ID != "b" {
		t.Errorf("worst %+v", w)
	}
	if g := c.BestQueries(2); len(g) != 2 || g[0].ID != "d" {
		t.Errorf("best %+v", g)
	}
	same, err := Compare(a, a)
	check(t, err)
	if m := same[0].MAP; m.Low != 0 || m.High != 0 || m.Significant() {
		t.Errorf("a model against itself: %+v", m)
	}
	var text, html bytes.Buffer
	check(t, WriteComparisons(&text, "table", all, 3))
	check(t, WriteComparePage(&html, all, 3))
	for _, want := range []string{"+23.75", "AP 100.00 -> 50.00  query b"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, text.String())
		}
	}
	for _, want := range []string{"<svg", "query b", "23.75"} {
		if !strings.Contains(html.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestCompareRefuses(t *testing.T) {
	a, b := report("a", 0.5, 1), report("b", 0.5, 1)
	b.Results[0].Data = "other"
	if _, err := Compare(a, b); err == nil || !strings.Contains(err.Error(), "on different data") {
		t.Errorf("other data: %v", err)
	}
	b = report("b", 0.5, 1)
	b.Results[0].Task = "other"
	if _, err := Compare(a, b); err == nil || !strings.Contains(err.Error(), "no task and rule in common") {
		t.Errorf("other task: %v", err)
	}
	if _, err := Compare(a, Baseline(report("b", 0.5, 1))); err == nil || !strings.Contains(err.Error(), `"per_query" is missing`) {
		t.Errorf("no queries: %v", err)
	}
}

func TestGate(t *testing.T) {
	base := Baseline(report("a", 0.5, 1))
	for _, c := range []struct {
		now  mteb.Report
		drop float64
		ok   bool
	}{
		{report("b", 0.5, 1), 0, true}, {report("b", 0.5, 0.99), 0.5, true}, {report("b", 0.5, 0.98), 0.5, false},
		{report("b", 1, 1), 0, true},
	} {
		checks, err := Gate(base, c.now, c.drop)
		check(t, err)
		if len(checks) != 2 || checks[0].OK != c.ok || checks[1].OK != c.ok {
			t.Errorf("%+v, want %v", checks, c.ok)
		}
	}
	other := report("b", 0.5, 1)
	other.Results[0].Data = "other"
	if _, err := Gate(base, other, 1); err == nil || !strings.Contains(err.Error(), "on other data") {
		t.Errorf("other data: %v", err)
	}
	other.Results[0].Rule = mteb.Rule2
	if _, err := Gate(base, other, 1); err == nil || !strings.Contains(err.Error(), "lack task task by rule mteb-1") {
		t.Errorf("other rule: %v", err)
	}
}

// What was computed in different precisions is told apart; a gate refuses it. The units of bf16 make one precision.
func TestPrecisions(t *testing.T) {
	in := func(precision string) mteb.Report {
		r := report("m", 0.5, 1)
		r.Precision = precision
		return r
	}
	quantized := in("") // by an earlier version
	quantized.Results[0].Int8 = &mteb.Int8Check{}
	scores := in("")
	scores.Kind = "scores"
	for _, c := range []struct {
		from, to     mteb.Report
		line, refuse string
	}{
		{in("fp32"), in("fp32"), "", ""}, {in(""), in("fp32"), "", ""}, {in(""), in(""), "", ""}, {scores, in("int8"), "", ""},
		{in("fp32"), in("bf16-amx"), "a is in fp32, b is in bf16-amx", "in bf16-amx, the baseline in fp32"},
		{quantized, in("fp32"), "a is in int8, b is in fp32", "in fp32, the baseline in int8"},
		{in("int8"), in("int8+bf16-amx"), "a is in int8, b is in int8+bf16-amx", "in int8+bf16-amx, the baseline in int8"},
		{in("bf16-amx"), in("bf16-avx512"), "a is in bf16-amx, b is in bf16-avx512", ""},
		{in(""), in("bf16-amx"), "a is in an unknown one, b is in bf16-amx", ""},
	} {
		line := DifferingPrecisions([]string{"a", "b"}, []mteb.Report{c.from, c.to})
		if (line == "") != (c.line == "") || !strings.HasSuffix(line, c.line) {
			t.Errorf("%q, want %q", line, c.line)
		}
		if _, err := Gate(c.from, c.to, 1); (err == nil) != (c.refuse == "") || err != nil && !strings.Contains(err.Error(), c.refuse) {
			t.Errorf("gate: %v, want %q", err, c.refuse)
		}
		all, err := Compare(c.from, c.to)
		check(t, err)
		var table, page bytes.Buffer
		check(t, WriteComparisons(&table, "csv", all, 0))
		check(t, WriteComparePage(&page, all, 0))
		want := "m"
		if c.line != "" {
			want += " in " + c.to.Precision
		}
		if c.to.Precision != "int8" && (!strings.Contains(table.String(), ","+want+",") || !strings.Contains(html.UnescapeString(page.String()), ": "+want+" against m")) {
			t.Errorf("no model %q in\n%s%s", want, table.String(), page.String())
		}
	}
}
