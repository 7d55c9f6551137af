package dist_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/dist/disttest"
)

// rankVariable names, in a process that a test started as a rank of a job, what that rank does.
const rankVariable = "RAG_RETRIEVAL_TEST_RANK"

// jobs are what ranks do, by name.
var jobs = map[string]func(c dist.Comm) error{"collectives": mpiCollectives, "agree": agree, "abort": abort,
	"killed": killed, "silent": silent, "silent0": silent, "busy": busy, "leave": leave, "common": common, "alone": alone, "early": dist.Comm.Barrier}

func TestMain(m *testing.M) {
	name := os.Getenv(rankVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	if name == "early" && os.Getenv("PMI_RANK")+os.Getenv("OMPI_COMM_WORLD_RANK") == "1" {
		fmt.Println("ended by a flag that is wrong")
		os.Exit(2)
	}
	c, err := dist.Connect()
	if err == nil {
		err = dist.Leave(c, jobs[name](c))
	}
	if err != nil {
		if !dist.Quiet(err) {
			fmt.Println("ended by", err)
		}
		os.Exit(1)
	}
	os.Exit(0)
}

// mpirun runs this test program as a job of n ranks, and gives what they print.
func mpirun(t *testing.T, n int, job string) (string, error) {
	t.Helper()
	cmd := disttest.Command(t, n, os.Args[0])
	cmd.Env = append(cmd.Env, rankVariable+"="+job)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestCollectives(t *testing.T) {
	for _, n := range []int{2, 3, 4} {
		if out, err := mpirun(t, n, "collectives"); err != nil {
			t.Errorf("%d ranks: %v\n%s", n, err, out)
		}
	}
}

// The ranks within a process that other tests use do the same as MPI's.
func TestCollectivesInProcess(t *testing.T) {
	for _, n := range []int{2, 3, 4} {
		if err := errors.Join(disttest.Ranks(n, collectives)...); err != nil {
			t.Errorf("%d ranks: %v", n, err)
		}
	}
}

func mpiCollectives(c dist.Comm) error {
	if dist.Version(c) == "" {
		return errors.New("the library has no version")
	}
	if err := collectives(c); err != nil {
		return err
	}
	dist.SetMost(c, 4) // buffers are larger than one call of MPI takes
	return collectives(c)
}

// collectives checks each operation against what it says.
func collectives(c dist.Comm) error {
	r, n := c.Rank(), c.Size()
	if r < 0 || r >= n || c.LocalRank() != r {
		return fmt.Errorf("rank %d of %d, local rank %d", r, n, c.LocalRank())
	}
	x := make([]float32, 1001)
	for i := range x {
		x[i] = float32(i + r)
	}
	if err := c.AllReduce(x, dist.Sum); err != nil {
		return err
	}
	for i := range x {
		if want := float32(n*i + n*(n-1)/2); x[i] != want {
			return fmt.Errorf("the sum at %d is %g, want %g", i, x[i], want)
		}
	}
	for op, want := range []float64{dist.Sum: float64(n*(n+1)) / 2, dist.Min: 1, dist.Max: float64(n)} { // in the same order on all ranks
		y := []float64{float64(r + 1)}
		if err := c.AllReduce64(y, dist.Op(op)); err != nil || y[0] != want {
			return fmt.Errorf("operation %d gives %g, %v, want %g", op, y[0], err, want)
		}
	}
	if err := parts(c); err != nil {
		return err
	}
	z := []float32{float32(r), float32(-r)}
	if err := c.Broadcast(z); err != nil || z[0] != 0 || z[1] != 0 {
		return fmt.Errorf("broadcast gives %v, %v", z, err)
	}
	all, err := c.AllGather(bytes.Repeat([]byte{byte('a' + r)}, r)) // rank 0 has none
	if err != nil {
		return err
	}
	for i, b := range all {
		if want := strings.Repeat(string(rune('a'+i)), i); string(b) != want {
			return fmt.Errorf("rank %d's bytes are %q, want %q", i, b, want)
		}
	}
	return errors.Join(c.AllReduce(nil, dist.Sum), c.Broadcast(nil), c.Barrier())
}

// parts checks the operations on parts of different lengths, of which rank 1's is empty.
func parts(c dist.Comm) error {
	counts, total, first := make([]int, c.Size()), 0, 0
	for i := range counts {
		if i != 1 {
			counts[i] = 3 + 2*i
		}
		if i < c.Rank() {
			first += counts[i]
		}
		total += counts[i]
	}
	x := make([]float32, total)
	for i := range x {
		x[i] = float32(i + c.Rank())
	}
	if err := c.ReduceScatter(x, counts); err != nil {
		return err
	}
	n := c.Size()
	for i := first; i < first+counts[c.Rank()]; i++ {
		if want := float32(n*i + n*(n-1)/2); x[i] != want {
			return fmt.Errorf("the sum at %d is %g, want %g", i, x[i], want)
		}
	}
	for i := range x {
		if i < first || i >= first+counts[c.Rank()] {
			x[i] = -1
		}
	}
	if err := c.AllGatherParts(x, counts); err != nil {
		return err
	}
	for i := range x {
		if want := float32(n*i + n*(n-1)/2); x[i] != want {
			return fmt.Errorf("the gathered sum at %d is %g, want %g", i, x[i], want)
		}
	}
	if c.ReduceScatter(x, counts[1:]) == nil || c.AllGatherParts(x[1:], counts) == nil {
		return errors.New("parts of other lengths are accepted")
	}
	return nil
}

// An error of one rank ends all of them, with its text.
func TestAgree(t *testing.T) {
	out, err := mpirun(t, 3, "agree")
	if err == nil || strings.Count(out, "rank 1: the disk is full") < 3 {
		t.Errorf("%v\n%s", err, out)
	}
}

func agree(c dist.Comm) error {
	if err := dist.Agree(c, nil); err != nil {
		return fmt.Errorf("unexpected: %w", err)
	}
	var mine error
	if c.Rank() == 1 {
		mine = errors.New("the disk is full")
	}
	err := dist.Agree(c, mine)
	fmt.Println(err)
	if failed := c.Barrier(); failed != nil { // the launcher ends the others when one fails
		return failed
	}
	return err
}

// The kind of one rank's error is the kind of all ranks' errors; each rank keeps its own error too.
func TestAgreeOnKinds(t *testing.T) {
	full, broken, other := errors.New("full"), errors.New("broken"), errors.New("other")
	for name, own := range map[string][]error{
		"one rank":  {nil, fmt.Errorf("the disk is %w", full), nil},
		"two ranks": {broken, fmt.Errorf("the disk is %w", full), nil},
	} {
		errs := disttest.Ranks(3, func(c dist.Comm) error { return dist.Agree(c, own[c.Rank()], other, full) })
		for rank, err := range errs {
			var named *dist.RankError
			if !errors.Is(err, full) || errors.Is(err, other) || !errors.As(err, &named) || own[rank] != nil && !errors.Is(err, own[rank]) {
				t.Errorf("%s: rank %d has %v", name, rank, err)
			}
		}
		if errs[2].Error() != "rank 1: the disk is full" && errs[2].Error() != "rank 0: broken" {
			t.Errorf("%s: %v", name, errs[2])
		}
	}
}

// The kind of an error that one rank adds after an earlier Agree becomes that of all ranks too.
func TestAgreeAgain(t *testing.T) {
	full := errors.New("full")
	for rank, err := range disttest.Ranks(2, func(c dist.Comm) error {
		var mine error
		if c.Rank() == 1 {
			mine = errors.New("no room")
		}
		err := dist.Agree(c, mine)
		if c.Rank() == 1 {
			err = fmt.Errorf("%w: %w", full, err)
		}
		return dist.Agree(c, err, full)
	}) {
		if !errors.Is(err, full) || !strings.HasSuffix(err.Error(), "rank 1: no room") {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// An error that all ranks have is not blamed on one of them.
func TestAgreeOnTheSameError(t *testing.T) {
	for rank, err := range disttest.Ranks(2, func(c dist.Comm) error { return dist.Agree(c, fmt.Errorf("open x: %w", os.ErrNotExist)) }) {
		if !errors.Is(err, os.ErrNotExist) || err.Error() != "all ranks: open x: file does not exist" || dist.Quiet(err) != (rank > 0) {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// Ranks that lose each other get an error in a test, where with MPI they would wait.
func TestRanksInProcess(t *testing.T) {
	errs := disttest.Ranks(2, func(c dist.Comm) error {
		if c.Rank() == 0 {
			return c.Barrier()
		}
		return nil
	})
	if errs[0] == nil || errs[1] != nil {
		t.Error(errs)
	}
	for rank, err := range disttest.Ranks(2, func(c dist.Comm) error {
		if c.Rank() == 0 {
			return c.Barrier()
		}
		return c.Broadcast(nil)
	}) {
		if err == nil {
			t.Errorf("rank %d was in another operation", rank)
		}
	}
}

// A rank that aborts ends the others, which wait for it.
func TestAbort(t *testing.T) {
	if out, err := mpirun(t, 2, "abort"); err == nil || strings.Contains(out, "went on") {
		t.Errorf("%v\n%s", err, out)
	}
}

func abort(c dist.Comm) error {
	if c.Rank() == 1 {
		c.Abort(3)
	}
	err := c.Barrier()
	if err == nil {
		fmt.Println("went on")
	}
	return err
}

// faulty runs a job of two or four ranks that is to fail, and checks that it ends soon and what it prints, and how often.
func faulty(t *testing.T, n int, job string, times int, text ...string) {
	t.Helper()
	t.Setenv(dist.SilenceVariable, "4")
	started := time.Now()
	out, err := mpirun(t, n, job)
	if err == nil || time.Since(started) > 30*time.Second {
		t.Errorf("%v after %v", err, time.Since(started))
	}
	for _, x := range text {
		if strings.Count(out, x) != times {
			t.Errorf("want %d times %q: %s", times, x, out)
		}
	}
}

// A rank that dies ends the job, with its name and the job's note.
func TestKilled(t *testing.T) {
	faulty(t, 2, "killed", 1, "rank 1 of 2 on host ", ") died; the last checkpoint is of step 7")
	faulty(t, 4, "killed", 1, "rank 1 of 4 on host ", ") died; the last checkpoint is of step 7")
}

func killed(c dist.Comm) error {
	c.Note("the last checkpoint is of step 7")
	if c.Rank() == 1 {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return c.Barrier()
}

// A rank that stops ends the job, be it rank 0 or another. A stopped process stands for a host without a network.
func TestSilent(t *testing.T) {
	faulty(t, 2, "silent", 1, "rank 1 of 2 on host ", "has been silent for ", ": all ranks end; the last checkpoint is of step 7")
	faulty(t, 4, "silent", 1, "rank 1 of 4 on host ", "has been silent for ", ": all ranks end; the last checkpoint is of step 7")
	faulty(t, 4, "silent0", 1, "rank 0 of 4 on host ", "has been silent for ", ": all ranks end; the last checkpoint is of step 7")
}

func silent(c dist.Comm) error {
	c.Note("the last checkpoint is of step 7")
	if (c.Rank() == 1) == (os.Getenv(rankVariable) == "silent") && c.Rank() < 2 {
		return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
	return c.Barrier()
}

// A rank that fails before it has joined the job ends the others, which wait for it there.
func TestEarly(t *testing.T) {
	faulty(t, 2, "early", 1, "ended by a flag that is wrong")
	faulty(t, 4, "early", 1, "ended by a flag that is wrong")
}

// A rank that computes for longer than a silent one may is not silent, nor are those that wait for it.
func TestBusy(t *testing.T) {
	t.Setenv(dist.SilenceVariable, "2")
	for _, n := range []int{2, 4} {
		if out, err := mpirun(t, n, "busy"); err != nil || strings.Contains(out, "silent") {
			t.Errorf("%d ranks: %v: %s", n, err, out)
		}
	}
}

func busy(c dist.Comm) error {
	if c.Rank() == 0 {
		for started := time.Now(); time.Since(started) < 3*time.Second; {
		}
	}
	return c.Barrier()
}

// An error that ranks agree on is printed once, by the rank that has it, before the launcher ends the others. So is an error that
// all ranks have. An error of one rank that the others do not learn of ends them.
func TestLeave(t *testing.T) {
	faulty(t, 4, "leave", 1, "ended by rank 2: the disk is full")
	faulty(t, 4, "common", 1, "ended by all ranks: no such file")
	faulty(t, 4, "alone", 1, "ended by rank 1: it lost its way")
}

func leave(c dist.Comm) error {
	if c.Rank() == 2 {
		time.Sleep(500 * time.Millisecond)
		return dist.Agree(c, errors.New("the disk is full"))
	}
	return dist.Agree(c, nil)
}

func common(c dist.Comm) error { return dist.Agree(c, errors.New("no such file")) }

func alone(c dist.Comm) error {
	if c.Rank() == 1 {
		return errors.New("it lost its way")
	}
	return c.Barrier()
}

func TestAlone(t *testing.T) {
	c, err := dist.Connect()
	if err != nil || c.Size() != 1 {
		t.Fatalf("%v, %v", c, err)
	}
	x, all := []float32{1, 2}, [][]byte(nil)
	if err := errors.Join(c.AllReduce(x, dist.Sum), c.Broadcast(x), c.Barrier(), dist.Agree(c, nil)); err != nil || x[0] != 1 || x[1] != 2 {
		t.Errorf("%v, %v", x, err)
	}
	if all, err = c.AllGather([]byte("x")); err != nil || len(all) != 1 || string(all[0]) != "x" {
		t.Errorf("%q, %v", all, err)
	}
	if err := dist.Agree(c, os.ErrClosed); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}
