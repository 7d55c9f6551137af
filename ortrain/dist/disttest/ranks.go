package disttest

import (
	"fmt"
	"slices"
	"sync"

	"rag-retrieval-go/ortrain/dist"
)

// Ranks calls f as each rank of a job of n ranks, and returns the error of each. The ranks are goroutines of this process, so
// that a test can look at all of them and needs no MPI. Ranks that are in different collective operations, or that wait for a
// rank whose f has returned, get an error; with MPI they would wait forever.
func Ranks(n int, f func(c dist.Comm) error) []error {
	j := &job{size: n, left: make([]bool, n)}
	j.moved = sync.NewCond(&j.mutex)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for rank := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer j.leave(rank)
			errs[rank] = f(&member{j, rank})
		}()
	}
	wg.Wait()
	return errs
}

// job is what the ranks of a job share: the collective operation that they are in.
type job struct {
	size  int
	mutex sync.Mutex
	moved *sync.Cond
	round int // operations done
	names []string
	given []any
	last  struct { // the result of the operation before
		given []any
		err   error
	}
	left []bool // ranks that have returned
}

func (j *job) leave(rank int) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	j.left[rank] = true
	j.finish()
	j.moved.Broadcast()
}

// exchange waits until every rank has called it and returns what each gave.
func (j *job) exchange(rank int, name string, mine any) ([]any, error) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	if j.given == nil {
		j.names, j.given = make([]string, j.size), make([]any, j.size)
	}
	round := j.round
	j.names[rank], j.given[rank] = name, mine
	j.finish()
	for j.round == round {
		j.moved.Wait()
	}
	return j.last.given, j.last.err
}

// finish ends an operation that every rank has called, or that some rank never will call.
func (j *job) finish() {
	var err error
	here, first := 0, ""
	for rank, name := range j.names {
		switch {
		case name == "" && !j.left[rank]:
			return
		case name == "":
			err = fmt.Errorf("rank %d has left the job", rank)
		case first == "":
			first = name
			here++
		case name != first:
			err = fmt.Errorf("rank %d is in %s, another one in %s", rank, name, first)
			here++
		}
	}
	if here == 0 {
		return
	}
	j.last.given, j.last.err = j.given, err
	j.names, j.given = nil, nil
	j.round++
	j.moved.Broadcast()
}

// member is one rank of a job.
type member struct {
	*job
	rank int
}

func (m *member) Rank() int      { return m.rank }
func (m *member) Size() int      { return m.size }
func (m *member) LocalRank() int { return m.rank }
func (m *member) Close() error   { return nil }
func (m *member) Note(string)    {}
func (m *member) Abort(int)      {}

func (m *member) Barrier() error {
	_, err := m.exchange(m.rank, "Barrier", nil)
	return err
}

func (m *member) AllGather(mine []byte) ([][]byte, error) {
	all, err := m.exchange(m.rank, "AllGather", slices.Clone(mine))
	if err != nil {
		return nil, err
	}
	out := make([][]byte, m.size)
	for i, x := range all {
		out[i] = x.([]byte)
	}
	return out, nil
}

func (m *member) AllReduce(values []float32, op dist.Op) error {
	return reduce(m, "AllReduce", values, op)
}

func (m *member) AllReduce64(values []float64, op dist.Op) error {
	return reduce(m, "AllReduce64", values, op)
}

// reduce combines the ranks' values in the order of the ranks.
func reduce[T float32 | float64](m *member, name string, values []T, op dist.Op) error {
	all, err := m.exchange(m.rank, fmt.Sprintf("%s of %d values", name, len(values)), slices.Clone(values))
	if err != nil {
		return err
	}
	for i := range values {
		values[i] = all[0].([]T)[i]
		for _, x := range all[1:] {
			switch y := x.([]T)[i]; op {
			case dist.Sum:
				values[i] += y
			case dist.Min:
				values[i] = min(values[i], y)
			case dist.Max:
				values[i] = max(values[i], y)
			}
		}
	}
	return nil
}

// checkParts returns an error unless there is a part for each rank, and together they are n elements.
func (m *member) checkParts(n int, counts []int) error {
	for _, x := range counts {
		n -= x
	}
	if n != 0 || len(counts) != m.size {
		return fmt.Errorf("the parts %v of %d ranks have %d elements too few", counts, m.size, n)
	}
	return nil
}

func (m *member) ReduceScatter(values []float32, counts []int) error {
	if err := m.checkParts(len(values), counts); err != nil {
		return err
	}
	sums := slices.Clone(values)
	if err := reduce(m, fmt.Sprint("ReduceScatter of the parts ", counts), sums, dist.Sum); err != nil {
		return err
	}
	for rank, at := 0, 0; rank < m.size; rank++ {
		end := at + counts[rank]
		for i := at; i < end; i++ {
			if values[i] = sums[i]; rank != m.rank {
				values[i] = -1e9 // holds no meaning
			}
		}
		at = end
	}
	return nil
}

func (m *member) AllGatherParts(values []float32, counts []int) error {
	if err := m.checkParts(len(values), counts); err != nil {
		return err
	}
	all, err := m.exchange(m.rank, fmt.Sprint("AllGatherParts of the parts ", counts), slices.Clone(values))
	if err != nil {
		return err
	}
	for rank, at := 0, 0; rank < m.size; rank++ {
		end := at + counts[rank]
		copy(values[at:end], all[rank].([]float32)[at:end])
		at = end
	}
	return nil
}

func (m *member) Broadcast(values []float32) error {
	all, err := m.exchange(m.rank, fmt.Sprintf("Broadcast of %d values", len(values)), slices.Clone(values))
	if err == nil {
		copy(values, all[0].([]float32))
	}
	return err
}
