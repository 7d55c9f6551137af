package main

import (
	"math"
	"testing"
)

func near(a, b, within float64) bool { return math.Abs(a-b) <= within*math.Abs(b) }

// Each term against a value worked out by hand.
func TestTerms(t *testing.T) {
	l := Link{Latency: 1e-3, Bandwidth: 1e9}
	for name, c := range map[string]struct{ got, want float64 }{
		"all-reduce of one":         {ringAllReduce(1, 1e9, l), 0},
		"all-reduce of two":         {ringAllReduce(2, 1e9, l), 2*1e-3 + 1},    // 2(n-1)/n = 1
		"all-reduce of four":        {ringAllReduce(4, 1e9, l), 6*1e-3 + 1.5},  // 2·3/4
		"all-gather of four":        {ringAllGather(4, 1e9, l), 3*1e-3 + 0.75}, // 3/4
		"a cluster of one host":     {Cluster{Hosts: 1, PerHost: 4, Inside: l}.allReduce(1e9), 6*1e-3 + 1.5},
		"the largest of two":        {expectedMax(2), 1 / math.Sqrt(math.Pi)},
		"the largest of eight":      {expectedMax(8), 1.4236},
		"the largest of sixty-four": {expectedMax(64), 2.3601},
	} {
		if math.Abs(c.got-c.want) > 0.02*math.Abs(c.want) {
			t.Errorf("%s: %g, want %g", name, c.got, c.want)
		}
	}
	both := Cluster{Hosts: 2, PerHost: 2, Inside: l, Between: Link{Bandwidth: 5e8}, Copy: Link{Bandwidth: 4e9}}
	if got, want := both.allReduce(1e9), (2e-3+1)+2+0.5; !near(got, want, 1e-9) {
		t.Errorf("two hosts of two: %g, want %g", got, want)
	}
}

// Without transfers, unequal shares and work that grows with the ranks, nothing is lost.
func TestEfficiency(t *testing.T) {
	c := Cluster{Hosts: 8, PerHost: 8, Inside: Link{Bandwidth: math.Inf(1)}, Between: Link{Bandwidth: math.Inf(1)}}
	if got := Efficiency(Work{Seconds: 1, Fixed: 0.1, GradientBytes: 1e9}, c); !near(got, 1, 1e-12) {
		t.Errorf("%g, want 1", got)
	}
	c.Between.Bandwidth = 1e9
	w := Work{Seconds: 1, GradientBytes: 1e9, EmbeddingBytes: 1e6, LossSeconds: 1e-3}
	if a, b := Efficiency(w, Cluster{Hosts: 1, PerHost: 8, Inside: c.Inside}), Efficiency(w, c); a >= 1 || b >= a {
		t.Errorf("8 GPUs %g, 64 GPUs %g", a, b)
	}
}

// A line comes back from its own points.
func TestFitLink(t *testing.T) {
	var bytes, seconds []float64
	for x := 4096.0; x < 1e9; x *= 4 {
		bytes, seconds = append(bytes, x), append(seconds, 2e-5+x/3e9)
	}
	l, worst := fitLink(bytes, seconds)
	if !near(l.Latency, 2e-5, 1e-6) || !near(l.Bandwidth, 3e9, 1e-6) || worst > 1e-6 {
		t.Errorf("%+v, worst %g", l, worst)
	}
}
