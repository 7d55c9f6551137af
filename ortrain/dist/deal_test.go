package dist_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"rag-retrieval-go/ortrain/dist"
)

func init() {
	for name, job := range map[string]func(dist.Comm) error{
		"gather": gather, "deal": deal, "deal fails": dealFails, "deal ends": dealEnds, "unequal": unequal, "stdio": stdio, "stdio fails": stdioFails,
	} {
		jobs[name] = job
	}
}

// Ranks can gather more than one call of MPI does.
func TestGatherInParts(t *testing.T) {
	if out, err := mpirun(t, 2, "gather"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func gather(c dist.Comm) error {
	bytesOf := func(rank int) []byte {
		b := make([]byte, 1<<20+rank*(40<<20))
		for i := range b {
			b[i] = byte(i>>20 + rank)
		}
		return b
	}
	all, err := c.AllGather(bytesOf(c.Rank()))
	if err != nil {
		return err
	}
	for rank, b := range all {
		if !bytes.Equal(b, bytesOf(rank)) {
			return fmt.Errorf("rank %d's %d bytes differ", rank, len(b))
		}
	}
	return nil
}

// Every piece is computed once, and every rank has all results in order.
func TestDeal(t *testing.T) {
	for _, n := range []int{1, 2, 3} {
		if out, err := mpirun(t, n, "deal"); err != nil {
			t.Errorf("%d ranks: %v\n%s", n, err, out)
		}
	}
}

func deal(c dist.Comm) error {
	d := dist.NewDealer(c)
	for _, n := range []int{0, 1, 2, 50} {
		costs, computed := make([]float64, n), make([]float64, n)
		for i := range costs {
			costs[i] = float64(100 - i)
		}
		results, err := d.Deal(context.Background(), costs, func(i int) ([]byte, error) {
			computed[i]++
			return fmt.Appendf(nil, "%*d", i, i), nil // of different lengths
		})
		if err != nil || len(results) != n {
			return fmt.Errorf("%d pieces: %d results, %w", n, len(results), err)
		}
		for i, b := range results {
			if want := fmt.Sprintf("%*d", i, i); string(b) != want {
				return fmt.Errorf("%d pieces: result %d is %q", n, i, b)
			}
		}
		if err := c.AllReduce64(computed, dist.Sum); err != nil {
			return err
		}
		for i, times := range computed {
			if times != 1 {
				return fmt.Errorf("%d pieces: piece %d was computed %g times", n, i, times)
			}
		}
	}
	return nil
}

// An error of one rank ends all of them, with the same text.
func TestDealFails(t *testing.T) {
	out, err := mpirun(t, 3, "deal fails")
	if err == nil || strings.Count(out, "rank 1: piece 1: the disk is full\n") < 3 {
		t.Errorf("%v\n%s", err, out)
	}
}

func dealFails(c dist.Comm) error {
	_, err := dist.NewDealer(c).Deal(context.Background(), []float64{1, 1, 1}, func(i int) ([]byte, error) {
		if c.Rank() > 0 { // the first rank's error counts
			return nil, fmt.Errorf("piece %d: the disk is full", i)
		}
		return nil, nil
	})
	fmt.Println(err)
	if failed := c.Barrier(); failed != nil { // the launcher ends the others when one fails
		return failed
	}
	return err
}

// A rank whose context has ended ends all of them as if theirs had.
func TestDealEnds(t *testing.T) {
	if out, err := mpirun(t, 2, "deal ends"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func dealEnds(c dist.Comm) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if c.Rank() == 1 {
		cancel()
	}
	_, err := dist.NewDealer(c).Deal(ctx, []float64{1}, func(int) ([]byte, error) { return nil, nil })
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("want context.Canceled, not %w", err)
	}
	return nil
}

// A rank that is slower gets less to do.
func TestDealUnequal(t *testing.T) {
	if out, err := mpirun(t, 2, "unequal"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func unequal(c dist.Comm) error {
	d, costs := dist.NewDealer(c), make([]float64, 40)
	for i := range costs {
		costs[i] = 1
	}
	mine := []float64{0}
	for range 3 {
		mine[0] = 0
		_, err := d.Deal(context.Background(), costs, func(int) ([]byte, error) {
			mine[0]++
			time.Sleep(time.Duration(1+9*c.Rank()) * time.Millisecond)
			return nil, nil
		})
		if err != nil {
			return err
		}
	}
	slow := []float64{mine[0]}
	if c.Rank() == 0 {
		slow[0] = 0
	}
	if err := c.AllReduce64(slow, dist.Sum); err != nil || slow[0] < 1 || slow[0] > 15 {
		return fmt.Errorf("the slow rank had %g of 40 pieces, %w", slow[0], err)
	}
	return nil
}

// Every rank reads what rank 0 reads, and only rank 0 writes.
func TestStdio(t *testing.T) {
	for _, n := range []int{1, 2, 3} {
		if out, err := mpirun(t, n, "stdio"); err != nil {
			t.Errorf("%d ranks: %v\n%s", n, err, out)
		}
	}
}

func stdio(c dist.Comm) error {
	text := strings.Repeat("a line\n", 20_000)
	var in io.Reader
	if c.Rank() == 0 {
		in = strings.NewReader(text)
	}
	var out strings.Builder
	s := dist.NewStdio(c)
	r, w := bufio.NewReader(s.Reader(in)), s.Writer(&out)
	var err error
	for n := 0; err == nil; n++ {
		var line string
		if line, err = r.ReadString('\n'); line != "" {
			fmt.Fprint(w, line)
		}
	}
	want := text
	if c.Rank() > 0 {
		want = ""
	}
	if !errors.Is(err, io.EOF) || out.String() != want {
		return fmt.Errorf("%w; %d bytes written, want %d", err, out.Len(), len(want))
	}
	return s.Err()
}

// What goes wrong with rank 0's input or output ends all ranks.
func TestStdioFails(t *testing.T) {
	if out, err := mpirun(t, 2, "stdio fails"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func stdioFails(c dist.Comm) error {
	broken := errors.New("broken")
	_, err := io.ReadAll(dist.NewStdio(c).Reader(iotest.ErrReader(broken)))
	if err == nil || err.Error() != "rank 0: broken" {
		return fmt.Errorf("reading: %w", err)
	}
	s := dist.NewStdio(c)
	r, w := s.Reader(strings.NewReader("text")), s.Writer(brokenWriter{})
	fmt.Fprint(w, "something")
	if _, err := io.ReadAll(r); err == nil || err.Error() != "rank 0: no space" {
		return fmt.Errorf("reading after a failed write: %w", err)
	}
	if err := s.Err(); err == nil || err.Error() != "rank 0: no space" {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space") }
