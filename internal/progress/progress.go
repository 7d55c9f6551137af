// Package progress shows the progress of long work: as a bar on a terminal, otherwise as a line now and then.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Interactive says whether f is a terminal that can show bars and colours.
func Interactive(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// Bar shows how many of a total number of units are done.
type Bar struct {
	out        io.Writer
	bar        *progressbar.ProgressBar // nil without a terminal
	task       string
	total      int
	doneBefore int // units done before this run
	started    time.Time
	lines      *logLines
}

// logLines decides when a line is due, if there is no terminal.
type logLines struct {
	interval int // units of work between two lines; 0 means by time
	last     time.Time
	wait     time.Duration
}

// New starts a bar on out. If out is not a terminal, it writes a line after the first unit and every interval units, or every ten
// seconds if interval is 0.
func New(out io.Writer, task string, total, interval int) *Bar {
	b := &Bar{out: out, task: task, total: total, started: time.Now()}
	if f, ok := out.(*os.File); !ok || !Interactive(f) {
		b.lines = &logLines{interval: interval, last: time.Now(), wait: 10 * time.Second}
		return b
	}
	b.bar = progressbar.NewOptions(total,
		progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(task),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionUseANSICodes(os.Getenv("NO_COLOR") == ""))
	return b
}

// Start sets how many units an earlier run has done.
func (b *Bar) Start(done int) {
	b.doneBefore = done
	if b.bar != nil {
		_ = b.bar.Set(done) // an error while drawing must not stop the work
	}
}

// Skip subtracts time that went to other work, so that it does not count in the time left.
func (b *Bar) Skip(d time.Duration) { b.started = b.started.Add(d) }

// SetTotal sets the total, if it was not known when the bar was made.
func (b *Bar) SetTotal(total int) {
	if b.total == total {
		return
	}
	b.total = total
	if b.bar != nil {
		b.bar.ChangeMax(total)
	}
}

// Set shows how many units are done. note is shown beside it, such as a loss.
func (b *Bar) Set(done int, note string) {
	if b.bar != nil {
		b.bar.Describe(b.task + "  " + note)
		_ = b.bar.Set(done)
		return
	}
	due := b.lines.interval > 0 && (done%b.lines.interval == 0 || done == b.doneBefore+1) || b.lines.interval == 0 && time.Since(b.lines.last) > b.lines.wait
	if !due && done != b.total {
		return
	}
	b.lines.last = time.Now()
	fmt.Fprintf(b.out, "%s %d/%d  %s  %s left\n", b.task, done, b.total, note, b.timeLeft(done))
}

// Print writes a line above the bar.
func (b *Bar) Print(line string) {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
	fmt.Fprintln(b.out, line)
}

// Done removes the bar.
func (b *Bar) Done() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}

// timeLeft estimates how long the rest takes at the pace of this run so far.
func (b *Bar) timeLeft(done int) time.Duration {
	pace := float64(time.Since(b.started)) / float64(max(1, done-b.doneBefore))
	return time.Duration(pace * float64(b.total-done)).Round(time.Second)
}
