// Package dist connects the ranks of a data-parallel job: processes that run the same program at the same time, each on its
// own part of the data. MPI starts and connects them; the package has no launcher and no transport of its own. It knows
// nothing of models or training.
//
//	comm, err := dist.Connect() // of a process that mpirun started; else a job of one rank
//	defer comm.Close()
//	err = comm.AllReduce(gradients, dist.Sum)
//
// Every operation is collective: all ranks call it, in the same order, with buffers of the same length. One goroutine of a
// process calls at a time.
package dist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Op is how values of several ranks become one.
type Op int

// The operations.
const (
	Sum Op = iota
	Min
	Max
)

// Comm connects this process with the other ranks of its job.
type Comm interface {
	// Rank is this process's number, from 0 to Size-1. Rank 0 writes the job's files.
	Rank() int
	// Size is the number of ranks.
	Size() int
	// LocalRank is this process's number among the ranks of its host.
	LocalRank() int
	// AllReduce replaces every value by the sum, or the least or largest, of the ranks' values at its place. All ranks get the
	// same bits.
	AllReduce(values []float32, op Op) error
	// AllReduce64 is AllReduce for counts and losses.
	AllReduce64(values []float64, op Op) error
	// AllGather returns the bytes of every rank, which may differ in length.
	AllGather(mine []byte) ([][]byte, error)
	// ReduceScatter sums the ranks' values in parts: rank r gets the sums of its part only, at the part's place. The parts lie
	// one after the other and have the lengths counts, one for each rank. The other parts hold no meaning afterwards.
	ReduceScatter(values []float32, counts []int) error
	// AllGatherParts fills every rank's values with the parts of all ranks, in the places that ReduceScatter describes. Each rank
	// has its own part at its place.
	AllGatherParts(values []float32, counts []int) error
	// Broadcast replaces the values by rank 0's.
	Broadcast(values []float32) error
	// Barrier returns when every rank has called it.
	Barrier() error
	// Note sets what this rank prints besides the reason if the job breaks, such as where it can go on.
	Note(text string)
	// Close leaves the job. Every rank must call it.
	Close() error
	// Abort ends all ranks of the job at once, for a rank that cannot reach the next collective operation. It does not return
	// if the job has other ranks.
	Abort(code int)
}

// Agree makes an error of one rank an error of all, a *RankError: on ranks that have one it wraps err, on the others it has the
// text of the first rank that has one. So no rank goes on alone to a collective operation that the others never reach. If the
// error of any rank is one of kinds, by errors.Is, then the errors of all ranks are, so that all can act on it alike. All ranks
// give the same kinds, at most 8.
func Agree(c Comm, err error, kinds ...error) error {
	if c.Size() == 1 {
		return err
	}
	var mine []byte
	if err != nil {
		mine = append([]byte{kindsOf(err, kinds)}, err.Error()...)
	}
	all, failed := c.AllGather(mine)
	if failed != nil {
		return errors.Join(err, failed)
	}
	first, set, same := -1, byte(0), true // the first rank with an error, the kinds of all errors, and whether all have the same one
	for rank, b := range all {
		same = same && bytes.Equal(b, all[0])
		if len(b) == 0 {
			continue
		}
		set |= b[0]
		if first < 0 {
			first = rank
		}
	}
	if first < 0 {
		return nil
	}
	out := err
	var named *RankError
	switch {
	case err == nil:
		out = &RankError{Rank: first, Err: errors.New(string(all[first][1:]))}
	case errors.As(err, &named): // by an earlier Agree
	default:
		printed := slices.IndexFunc(all, func(b []byte) bool { return bytes.Equal(b, mine) })
		out = &RankError{Rank: c.Rank(), Err: err, All: same, Quiet: printed != c.Rank()}
	}
	return withKinds(out, set&^kindsOf(out, kinds), kinds)
}

// withKinds returns an error with the text of err that is also of the kinds in a set.
func withKinds(err error, set byte, kinds []error) error {
	if set == 0 {
		return err
	}
	out := &kindError{err, []error{err}}
	for i, kind := range kinds {
		if set&(1<<i) != 0 {
			out.all = append(out.all, kind)
		}
	}
	return out
}

// kindError has the text of an error, and is all of these.
type kindError struct {
	error
	all []error
}

func (e *kindError) Unwrap() []error { return e.all }

// kindsOf returns a set of bits: bit i says that err is kinds[i].
func kindsOf(err error, kinds []error) (set byte) {
	for i, kind := range kinds {
		if errors.Is(err, kind) {
			set |= 1 << i
		}
	}
	return set
}

// RankError is the error of a rank of a job. The error of another rank has only its text.
type RankError struct {
	Rank  int
	Err   error
	All   bool // all ranks have this error
	Quiet bool // another rank prints it; Leave sets it for errors of other ranks
}

func (e *RankError) Error() string {
	if e.All {
		return fmt.Sprintf("all ranks: %v", e.Err)
	}
	return fmt.Sprintf("rank %d: %v", e.Rank, e.Err)
}

func (e *RankError) Unwrap() error { return e.Err }

// Quiet says whether another rank prints this error, so that it is printed once.
func Quiet(err error) bool {
	var of *RankError
	return errors.As(err, &of) && of.Quiet
}

// GatherJSON returns the values of all ranks, which travel as JSON. An error of one rank is an error of all.
func GatherJSON[T any](c Comm, mine T) ([]T, error) {
	b, err := json.Marshal(mine)
	if err := Agree(c, err); err != nil {
		return nil, err
	}
	all, err := c.AllGather(b)
	if err != nil {
		return nil, err
	}
	out := make([]T, len(all))
	for rank, b := range all {
		if err := json.Unmarshal(b, &out[rank]); err != nil {
			return nil, fmt.Errorf("what rank %d says of itself: %w", rank, err)
		}
	}
	return out, nil
}

// Alone is a job of one rank.
type Alone struct{}

// Rank is 0.
func (Alone) Rank() int { return 0 }

// Size is 1.
func (Alone) Size() int { return 1 }

// LocalRank is 0.
func (Alone) LocalRank() int { return 0 }

// AllReduce changes nothing.
func (Alone) AllReduce([]float32, Op) error { return nil }

// AllReduce64 changes nothing.
func (Alone) AllReduce64([]float64, Op) error { return nil }

// AllGather returns mine only.
func (Alone) AllGather(mine []byte) ([][]byte, error) { return [][]byte{mine}, nil }

// ReduceScatter changes nothing.
func (Alone) ReduceScatter([]float32, []int) error { return nil }

// AllGatherParts changes nothing.
func (Alone) AllGatherParts([]float32, []int) error { return nil }

// Broadcast changes nothing.
func (Alone) Broadcast([]float32) error { return nil }

// Barrier returns at once.
func (Alone) Barrier() error { return nil }

// Note does nothing: a process that dies alone says nothing.
func (Alone) Note(string) {}

// Close does nothing.
func (Alone) Close() error { return nil }

// Abort does nothing: the caller ends its own process.
func (Alone) Abort(int) {}
