package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"rag-retrieval-go/ortrain/dist"
)

// collectiveTimes is what -measure writes.
type collectiveTimes struct {
	Ranks     int        `json:"ranks"`
	MPI       string     `json:"mpi"`
	AllReduce []transfer `json:"all_reduce"`
	AllGather []transfer `json:"all_gather"`
}

// transfer is the time of an operation on a buffer: the median over repeats of the slowest rank's.
type transfer struct {
	Bytes   float64 `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// The sizes that are measured, in float32 values.
const (
	fewestValues = 1 << 10
	mostValues   = 1 << 24
	repeats      = 9
)

// measure runs as one rank of a job. Rank 0 writes the file. The largest buffer has most values.
func measure(path string, most int) error {
	comm, err := dist.Connect()
	if err != nil {
		return err
	}
	if comm.Size() == 1 {
		return fmt.Errorf("-measure is for two ranks or more: start it with mpirun -n 2")
	}
	out := collectiveTimes{Ranks: comm.Size(), MPI: dist.Version(comm)}
	values := make([]float32, most)
	for n := fewestValues; n <= most; n *= 4 {
		some, parts := values[:n], make([]int, comm.Size())
		for i := range parts {
			parts[i] = n*(i+1)/len(parts) - n*i/len(parts)
		}
		reduce, err := timeOf(comm, func() error { return comm.AllReduce(some, dist.Sum) })
		if err != nil {
			return err
		}
		gather, err := timeOf(comm, func() error { return comm.AllGatherParts(some, parts) })
		if err != nil {
			return err
		}
		out.AllReduce = append(out.AllReduce, transfer{4 * float64(n), reduce})
		out.AllGather = append(out.AllGather, transfer{4 * float64(n), gather})
	}
	if comm.Rank() == 0 {
		b, err := json.MarshalIndent(out, "", " ")
		if err == nil {
			err = os.WriteFile(path, append(b, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return comm.Close()
}

// timeOf returns the median time of an operation that all ranks begin together.
func timeOf(comm dist.Comm, operation func() error) (float64, error) {
	var all []float64
	for range repeats + 1 {
		if err := comm.Barrier(); err != nil {
			return 0, err
		}
		begun := time.Now()
		if err := operation(); err != nil {
			return 0, err
		}
		slowest := []float64{time.Since(begun).Seconds()}
		if err := comm.AllReduce64(slowest, dist.Max); err != nil {
			return 0, err
		}
		all = append(all, slowest[0])
	}
	return median(all[1:]), nil // the first one touches the memory
}

// fit returns the link between ranks that explains the all-reduces best, and the worst relative error.
func (c collectiveTimes) fit() (Link, float64, error) {
	if c.Ranks < 2 || len(c.AllReduce) < 2 {
		return Link{}, 0, fmt.Errorf("%d all-reduces of %d ranks, want two or more of both", len(c.AllReduce), c.Ranks)
	}
	messages := 2 * float64(c.Ranks-1)
	var bytes, seconds []float64
	for _, t := range c.AllReduce {
		if !(t.Bytes > 0 && t.Seconds > 0) {
			return Link{}, 0, fmt.Errorf("an all-reduce of %g bytes in %g s", t.Bytes, t.Seconds)
		}
		bytes, seconds = append(bytes, t.Bytes*messages/float64(c.Ranks)), append(seconds, t.Seconds)
	}
	l, worst := fitLink(bytes, seconds)
	l.Latency /= messages
	return l, worst, nil
}

func median(values []float64) float64 {
	v := slices.Clone(values)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// relativeSpread is the standard deviation of values as a share of their mean.
func relativeSpread(values []float64) float64 {
	mean, square := 0.0, 0.0
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		square += (v - mean) * (v - mean)
	}
	return math.Sqrt(square/float64(len(values)-1)) / mean
}
