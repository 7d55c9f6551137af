package eval

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/mteb"
)

// counting is a scorer that gives sample i the score i and fails before sample stop.
type counting struct {
	stop   int
	scored *[]int
}

func (c counting) Score(_ context.Context, samples []mteb.Sample, from int, _ func(done, total int), emit func([]float32) error) error {
	for i := from; i < len(samples); i++ {
		if i == c.stop {
			return errors.New("stopped")
		}
		*c.scored = append(*c.scored, i)
		if err := emit([]float32{float32(i), 0.1, -1e-7}); err != nil {
			return err
		}
	}
	return nil
}

// A stopped evaluation continues where it was: nothing is scored twice, and the result is the same. A sample whose row in
// the journal was cut short is scored again. A finished task leaves no journal.
func TestJournal(t *testing.T) {
	task := mteb.Task{Name: "t"}
	for range 9 {
		task.Samples = append(task.Samples, mteb.Sample{Query: []string{"q"}, Positive: []string{"a"}, Negative: []string{"b", "c"}})
	}
	var scored []int
	want, err := Run(context.Background(), counting{-1, &scored}, task, mteb.Rule1, nil, func(int, int) {})
	check(t, err)
	path := filepath.Join(t.TempDir(), "journals", "j.jsonl")
	scored = nil
	j, err := OpenJournal(path, task.Samples, false)
	check(t, err)
	if _, err := Run(context.Background(), counting{6, &scored}, task, mteb.Rule1, j, func(int, int) {}); err == nil {
		t.Fatal("not stopped")
	}
	if none := (*Journal)(nil); j.Kept() != 6 || none.Kept() != 0 {
		t.Errorf("%d queries are kept, want 6; without a journal %d", j.Kept(), none.Kept())
	}
	check(t, j.Close(false))
	b, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(path, b[:len(b)-4], 0o644))
	scored = nil
	j, err = OpenJournal(path, task.Samples, false)
	check(t, err)
	if j.Kept() != 5 { // the last one was cut short
		t.Errorf("%d queries are kept, want 5", j.Kept())
	}
	got, err := Run(context.Background(), counting{-1, &scored}, task, mteb.Rule1, j, func(int, int) {})
	check(t, err)
	check(t, j.Close(true))
	if !slices.Equal(scored, []int{5, 6, 7, 8}) {
		t.Errorf("scored again: %v", scored)
	}
	for i := range want.Scores {
		if !slices.Equal(got.Scores[i], want.Scores[i]) {
			t.Errorf("sample %d: %v, want %v", i, got.Scores[i], want.Scores[i])
		}
	}
	if got.Result.MAP != want.Result.MAP {
		t.Errorf("MAP %g, want %g", got.Result.MAP, want.Result.MAP)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the journal is still there: %v", err)
	}
	other := slices.Clone(task.Samples)
	other[0].Negative = other[0].Negative[:1]
	check(t, os.WriteFile(path, b, 0o644))
	j, err = OpenJournal(path, other, false)
	check(t, err)
	if n := len(j.Scores()); n != 0 {
		t.Errorf("%d rows of other data were taken", n)
	}
	check(t, j.Close(false))
	check(t, os.WriteFile(path, b, 0o644))
	j, err = OpenJournal(path, task.Samples, false)
	check(t, err)
	var held *filelock.Held
	if _, err := OpenJournal(path, task.Samples, true); !errors.As(err, &held) {
		t.Errorf("opened twice: %v", err)
	}
	check(t, j.Close(false))
	j, err = OpenJournal(path, task.Samples, true)
	check(t, err)
	if n := len(j.Scores()); n != 0 {
		t.Errorf("%d rows of a journal that begins anew", n)
	}
	check(t, j.Close(false))
	left, err := os.ReadDir(filepath.Dir(path))
	check(t, err)
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
