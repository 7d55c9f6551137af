package reranker

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/ortrain"
)

// hits makes a row of grouped passages "0", "1", … with these labels.
func hits(labels ...float64) data.Row {
	query := "q"
	r := data.Row{Query: &query, Hits: []data.Hit{}}
	for i := range labels {
		text := fmt.Sprint(i)
		r.Hits = append(r.Hits, data.Hit{Content: &text, Label: &labels[i]})
	}
	return r
}

func grouped(size int) *Task {
	return &Task{c: config.Train{GroupSize: size, LossType: "listwise_ce", Seed: 7, MaxLabel: 1}, loss: losses["listwise_ce"]}
}

// A row of hits makes ceil(hits / size) groups an epoch, drawn anew each epoch: every hit comes, a short last group is
// filled up with others, none twice in a group. A row below the size is one short group.
func TestGroups(t *testing.T) {
	for _, c := range []struct{ hits, size, groups, last int }{
		{20, 10, 2, 10}, {23, 10, 3, 10}, {11, 10, 2, 10}, {10, 10, 1, 10}, {4, 10, 1, 4}, {3, 2, 2, 2}, {2, 2, 1, 2},
	} {
		task := grouped(c.size)
		labels := make([]float64, c.hits)
		labels[0] = 1
		r := hits(labels...)
		n, err := task.Examples(r)
		if err != nil || n != c.groups {
			t.Fatalf("%+v: %d groups, %v", c, n, err)
		}
		epochs := map[int][][]string{}
		for epoch := range 2 {
			seen := map[string]int{}
			for item := range n {
				texts, labels := task.group(data.Example{Row: r, IndexInRow: item, Number: 40 + item}, epoch)
				if want := map[bool]int{true: c.last, false: c.size}[item == n-1]; len(texts) != want || len(labels) != want {
					t.Errorf("%+v: group %d has %d texts, want %d", c, item, len(texts), want)
				}
				for i, text := range texts {
					seen[text]++
					if (text == "0") != (labels[i] == 1) || slices.Index(texts, text) != i {
						t.Errorf("%+v: %v has labels %v", c, texts, labels)
					}
				}
				epochs[epoch] = append(epochs[epoch], texts)
			}
			if len(seen) != c.hits {
				t.Errorf("%+v: %d of %d hits came", c, len(seen), c.hits)
			}
		}
		if c.hits > 3 && c.groups > 1 && reflect.DeepEqual(epochs[0], epochs[1]) {
			t.Errorf("%+v: both epochs have %v", c, epochs[0])
		}
		again, _ := grouped(c.size).group(data.Example{Row: r, IndexInRow: n - 1, Number: 40 + n - 1}, 1)
		if !reflect.DeepEqual(again, epochs[1][n-1]) {
			t.Errorf("%+v: the draw depends on what was drawn before", c)
		}
	}
}

// A row of positives and negatives stays one group, with a positive in it.
func TestGroupOfPositivesAndNegatives(t *testing.T) {
	query := "q"
	r := data.Row{Query: &query, Pos: []string{"p"}, Neg: []string{"a", "b", "c", "d", "e"}}
	task := grouped(3)
	if n, err := task.Examples(r); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	for epoch := range 20 {
		texts, labels := task.group(data.Example{Row: r}, epoch)
		if len(texts) != 3 || texts[0] != "p" || !reflect.DeepEqual(labels, []float64{1, 0, 0}) {
			t.Errorf("%v %v", texts, labels)
		}
	}
}

// Rows in which nothing can be told apart are idle.
func TestIdleGroups(t *testing.T) {
	same := hits(1, 0)
	same.Hits[1].Content = same.Hits[0].Content
	for _, r := range []data.Row{hits(1), hits(2, 2, 2), hits(0, 0), same} {
		if n, err := grouped(4).Examples(r); n != 0 || !errors.Is(err, data.ErrUninformative) {
			t.Errorf("%d examples, %v", n, err)
		}
	}
}

// Groups without a difference count nothing: the targets' weight is over the others, and a batch of such groups alone is
// zeros. Labels far beyond exp's range are told apart as small ones are.
func TestTargets(t *testing.T) {
	bind := func(groups ...[]float64) []float32 {
		b := ortrain.NewBatch()
		places := make([]int64, 0)
		for i := range len(slices.Concat(groups...)) {
			places = append(places, int64(i))
		}
		bindTargets(b, groups, places)
		bindOrder(b, groups, places)
		for name, a := range b.Floats {
			for _, x := range a.Data {
				if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
					t.Errorf("%v: %s has %g", groups, name, x)
				}
			}
		}
		if len(b.Ints[betterInput].Data) == 0 {
			t.Errorf("%v: an empty input", groups)
		}
		return b.Floats[groupTargets].Data
	}
	e := float32(math.E / (1 + math.E))
	for _, c := range []struct {
		groups [][]float64
		want   []float32
	}{
		{[][]float64{{1, 0}}, []float32{1, 0}},
		{[][]float64{{1, 0}, {0, 0}}, []float32{1, 0, 0, 0}},
		{[][]float64{{1, 0}, {2, 2}, {0, 3}}, []float32{0.5, 0, 0, 0, 0, 0.5}},
		{[][]float64{{5, 5}}, []float32{0, 0}},
		{[][]float64{{1000, 999}}, []float32{e, 1 - e}},
		{[][]float64{{-1000, -1001}}, []float32{e, 1 - e}},
		{[][]float64{{-5000, 0}}, []float32{1, 0}},
	} {
		got := bind(c.groups...)
		for i := range c.want {
			if math.Abs(float64(got[i]-c.want[i])) > 1e-6 {
				t.Errorf("%v: %v, want %v", c.groups, got, c.want)
			}
		}
	}
}
