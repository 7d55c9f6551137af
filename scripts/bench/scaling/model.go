package main

import (
	"math"
	"math/rand/v2"
)

// Link is a way between processors: every transfer of n bytes takes Latency + n/Bandwidth seconds.
type Link struct {
	Latency   float64 // seconds
	Bandwidth float64 // bytes a second, in each direction
}

// ringAllReduce returns the seconds in which n processors add up a buffer over equal links: 2(n-1) messages of 1/n of the buffer
// each, one after the other (Patarasuk and Yuan, 2009).
func ringAllReduce(n int, bytes float64, l Link) float64 {
	return 2 * ringAllGather(n, bytes, l)
}

// ringAllGather returns the seconds in which n processors that have 1/n of a buffer each get all of it.
func ringAllGather(n int, bytes float64, l Link) float64 {
	if n == 1 {
		return 0
	}
	return float64(n-1) * (l.Latency + bytes/float64(n)/l.Bandwidth)
}

// Cluster is a number of hosts with GPUs. The GPUs of a host share its link to the other hosts.
type Cluster struct {
	Hosts, PerHost  int
	Inside, Between Link
	// Copy is the link of a GPU to its host's memory. It counts where gradients go through that memory; zero where they do not.
	Copy Link
}

// GPUs is their number.
func (c Cluster) GPUs() int { return c.Hosts * c.PerHost }

// allReduce returns the seconds to add up a buffer of every GPU: within each host, then between the hosts, each GPU its part of
// the buffer, then within each host again.
func (c Cluster) allReduce(bytes float64) float64 {
	if c.GPUs() == 1 {
		return 0
	}
	seconds := ringAllReduce(c.PerHost, bytes, c.Inside) + ringAllReduce(c.Hosts, bytes, c.Between)
	return seconds + 2*c.copy(bytes)
}

// allGather returns the seconds until every GPU has the parts of all, which are bytes together.
func (c Cluster) allGather(bytes float64) float64 {
	if c.GPUs() == 1 {
		return 0
	}
	return ringAllGather(c.PerHost, bytes, c.Inside) + ringAllGather(c.Hosts, bytes, c.Between) + c.copy(bytes)
}

func (c Cluster) copy(bytes float64) float64 {
	if c.Copy.Bandwidth == 0 {
		return 0
	}
	return c.Copy.Latency + bytes/c.Copy.Bandwidth
}

// Work is what one rank does in a step, whatever the number of ranks.
type Work struct {
	Seconds float64 // of the forward and backward pass, on average
	Fixed   float64 // of the update, which every rank makes whole
	// Spread is the standard deviation of Seconds over ranks and steps, as a share of it: ranks have texts of other lengths.
	Spread         float64
	GradientBytes  float64
	EmbeddingBytes float64 // that a rank gives to the others; 0 where negatives are its own
	// LossSeconds is the time of the loss over a rank's own queries and passages. With the negatives of all ranks a rank compares
	// its queries with n times as many passages.
	LossSeconds float64
}

// Step is the parts of a step, in seconds.
type Step struct{ Compute, Waiting, Gradients, Embeddings float64 }

// Total is the whole step.
func (s Step) Total() float64 { return s.Compute + s.Waiting + s.Gradients + s.Embeddings }

// Predict returns the parts of a step on a cluster: the slowest rank's passes, then the transfers, which do not overlap with them.
func Predict(w Work, c Cluster) Step {
	n := c.GPUs()
	s := Step{Compute: w.Seconds + w.Fixed + w.LossSeconds, Waiting: w.Seconds * w.Spread * expectedMax(n), Gradients: c.allReduce(w.GradientBytes)}
	if w.EmbeddingBytes > 0 {
		s.Compute += float64(n-1) * w.LossSeconds
		// The embeddings are gathered, and their gradients are summed and scattered.
		s.Embeddings = 2 * c.allGather(float64(n)*w.EmbeddingBytes)
	}
	return s
}

// Efficiency is the throughput of n GPUs as a share of n times one GPU's.
func Efficiency(w Work, c Cluster) float64 {
	return Predict(w, Cluster{Hosts: 1, PerHost: 1}).Total() / Predict(w, c).Total()
}

// expectedMax returns the mean of the largest of n draws from the standard normal distribution.
func expectedMax(n int) float64 {
	if n < 2 {
		return 0
	}
	draw, sum := rand.New(rand.NewPCG(1, 2)), 0.0
	const repeats = 20000
	for range repeats {
		most := math.Inf(-1)
		for range n {
			most = max(most, draw.NormFloat64())
		}
		sum += most
	}
	return sum / repeats
}

// fitLink fits seconds = a + b·bytes to measured pairs by least squares of relative errors, so that short transfers count as much
// as long ones, and returns a and 1/b as a link. The worst relative error says how well the line fits.
func fitLink(bytes, seconds []float64) (l Link, worst float64) {
	var sw, sx, sy, sxx, sxy float64
	for i, x := range bytes {
		w := 1 / (seconds[i] * seconds[i])
		sw, sx, sy, sxx, sxy = sw+w, sx+w*x, sy+w*seconds[i], sxx+w*x*x, sxy+w*x*seconds[i]
	}
	b := (sw*sxy - sx*sy) / (sw*sxx - sx*sx)
	a := (sy - b*sx) / sw
	for i, x := range bytes {
		worst = max(worst, math.Abs(a+b*x-seconds[i])/seconds[i])
	}
	return Link{Latency: a, Bandwidth: 1 / b}, worst
}
