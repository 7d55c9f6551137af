package mine

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func limit(x float64) *float64 { return &x }

// ranked has candidates 10, 11, … with these scores, and positives 0, 1, ….
func ranked(positives []float32, candidates ...float32) Ranked {
	r := Ranked{Key: 5}
	for i, s := range positives {
		r.Positives = append(r.Positives, Candidate{i, s})
	}
	for i, s := range candidates {
		r.Candidates = append(r.Candidates, Candidate{10 + i, s})
	}
	return r
}

func documents(c []Candidate) (out []int) {
	for _, x := range c {
		out = append(out, x.Document)
	}
	return out
}

func TestSelect(t *testing.T) {
	ten := ranked([]float32{0.75, 0.5}, 0.9, 0.75, 0.5, 0.25, 0.125)
	below := ranked([]float32{-0.5}, -0.25, -0.5, -0.75, -1)
	for name, x := range map[string]struct {
		o    Options
		from Ranked
		want []int
	}{
		"top":                             {Options{}, ten, []int{10, 11}},
		"range_min":                       {Options{RangeMin: 2}, ten, []int{12, 13}},
		"range_min after a limit":         {Options{RangeMin: 2, MaxScore: limit(0.75)}, ten, []int{13, 14}},
		"range_max":                       {Options{RangeMax: 1}, ten, []int{10}},
		"range_max after a limit":         {Options{RangeMax: 1, MaxScore: limit(0.6)}, ten, []int{12}},
		"a score at max_score stays":      {Options{MaxScore: limit(0.9)}, ranked([]float32{1}, 0.9), []int{10}},
		"a score at min_score stays":      {Options{MinScore: limit(0.9)}, ranked([]float32{1}, 0.9), []int{10}},
		"below min_score":                 {Options{MinScore: limit(0.8)}, ten, []int{10}},
		"absolute, of the lowest":         {Options{AbsoluteMargin: limit(0)}, ten, []int{12, 13}},
		"absolute, at the limit":          {Options{AbsoluteMargin: limit(0.25)}, ten, []int{13, 14}},
		"relative, at the limit":          {Options{RelativeMargin: limit(0.5)}, ten, []int{13, 14}},
		"relative to a negative positive": {Options{RelativeMargin: limit(0.5)}, below, []int{12, 13}},
		"nothing is left":                 {Options{MaxScore: limit(-1)}, ten, nil},
		"a positive is no candidate":      {Options{}, Ranked{Positives: []Candidate{{7, 1}}, Candidates: []Candidate{{7, 1}, {8, 0.5}}}, []int{8}},
		"but may be one":                  {Options{IncludePositives: true}, Ranked{Positives: []Candidate{{7, 1}}, Candidates: []Candidate{{7, 1}, {8, 0.5}}}, []int{7, 8}},
		"equal scores":                    {Options{}, ranked([]float32{1}, 0.5, 0.5, 0.5), []int{10, 11}},
		"other order":                     {Options{}, ranked([]float32{1}, 0.1, 0.5, 0.9), []int{12, 11}},
	} {
		x.o.NumNegatives, x.o.SamplingStrategy = 2, Top
		if x.o.RangeMax == 0 {
			x.o.RangeMax = 10
		}
		got, n := x.o.Select(x.from)
		if !reflect.DeepEqual(documents(got), x.want) {
			t.Errorf("%s: %v, want %v", name, documents(got), x.want)
		}
		if sum := n.AbsoluteMargin + n.RelativeMargin + n.MaxScore + n.MinScore + n.RangeMin + n.NotChosen + n.Chosen; sum != n.Candidates || n.NotChosen < 0 {
			t.Errorf("%s: %+v does not add up", name, n)
		}
	}
}

// A draw is without repetition, in the candidates' order, the same for the same seed and key, and uniform.
func TestDraw(t *testing.T) {
	o := Options{NumNegatives: 3, SamplingStrategy: Random, RangeMax: 10, RangeMin: 1}
	from := ranked([]float32{1}, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
	counts := map[int]int{}
	const keys = 3000
	for key := range uint64(keys) {
		from.Key = key
		got, _ := o.Select(from)
		again, _ := o.Select(from)
		if len(got) != 3 || !reflect.DeepEqual(got, again) {
			t.Fatalf("%v, then %v", got, again)
		}
		for i, c := range got {
			counts[c.Document]++
			if i > 0 && got[i-1].Document >= c.Document {
				t.Fatalf("%v is out of order", got)
			}
		}
	}
	for d := 10; d < 16; d++ {
		want := 0.6 * keys
		if d == 10 { // range_min skips it
			want = 0
		}
		if n := float64(counts[d]); n < want*0.93 || n > want*1.07 {
			t.Errorf("document %d was drawn %g times, want about %g", d, n, want)
		}
	}
	first, _ := o.Select(from)
	o.Seed++
	differs := false
	for key := range uint64(20) {
		from.Key = key
		a, _ := o.Select(from)
		o.Seed++
		b, _ := o.Select(from)
		differs = differs || !reflect.DeepEqual(a, b)
	}
	if !differs {
		t.Errorf("the seed changes nothing: %v", first)
	}
}

func TestOptionsCheck(t *testing.T) {
	good := Options{NumNegatives: 3, SamplingStrategy: Top}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	nan := 0.0
	nan /= nan
	for want, change := range map[string]func(o *Options){
		"sampling_strategy": func(o *Options) { o.SamplingStrategy = "best" },
		"num_negatives":     func(o *Options) { o.NumNegatives = 0 },
		"range_min":         func(o *Options) { o.RangeMin = -1 },
		"range_max":         func(o *Options) { o.RangeMin, o.RangeMax = 2, 4 },
		"cross_encoder":     func(o *Options) { o.Rescored = true },
		"max_score":         func(o *Options) { o.MaxScore = &nan },
	} {
		o := good
		change(&o)
		if err := o.Check(); err == nil || !strings.HasPrefix(err.Error(), want+" ") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func ExampleOptions_Select() {
	o := Options{NumNegatives: 2, RangeMax: 10, SamplingStrategy: Top, RelativeMargin: limit(0.05)}
	negatives, counts := o.Select(Ranked{
		Positives:  []Candidate{{Document: 3, Score: 0.8}},
		Candidates: []Candidate{{8, 0.85}, {3, 0.8}, {5, 0.77}, {1, 0.7}, {9, 0.6}, {4, 0.5}},
	})
	fmt.Println(negatives, counts.RelativeMargin, "dropped")
	// Output: [{1 0.7} {9 0.6}] 2 dropped
}
