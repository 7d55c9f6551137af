// Package progress shows how far long work is: a bar on a terminal, a line now and then elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Interactive says whether f is a terminal on which bars and colours are wanted.
func Interactive(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// Bar counts work done out of a total.
type Bar struct {
	out   io.Writer
	bar   *progressbar.ProgressBar // nil without a terminal
	what  string
	total int
	first int // done before this run
	begun time.Time
	lines *lines
}

// lines spaces out the log lines that stand for a bar.
type lines struct {
	every int // units of work; 0: by time
	last  time.Time
	wait  time.Duration
}

// New starts a bar on stderr. Without a terminal a line is written each time another interval units are done, or
// with interval 0 every ten seconds.
func New(what string, total, interval int) *Bar {
	b := &Bar{out: os.Stderr, what: what, total: total, begun: time.Now()}
	if !Interactive(os.Stderr) {
		b.lines = &lines{every: interval, last: time.Now(), wait: 10 * time.Second}
		return b
	}
	b.bar = progressbar.NewOptions(total,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionUseANSICodes(os.Getenv("NO_COLOR") == ""))
	return b
}

// Start sets how much was done before, by an earlier run.
func (b *Bar) Start(done int) {
	b.first = done
	if b.bar != nil {
		_ = b.bar.Set(done) // a bar that cannot be drawn is no reason to stop
	}
}

// Skip leaves time out of the pace: it went to other work.
func (b *Bar) Skip(d time.Duration) { b.begun = b.begun.Add(d) }

// Total sets how much there is, where New could not know.
func (b *Bar) Total(total int) {
	if b.total == total {
		return
	}
	b.total = total
	if b.bar != nil {
		b.bar.ChangeMax(total)
	}
}

// Set shows how much is done; note says more, such as a loss.
func (b *Bar) Set(done int, note string) {
	if b.bar != nil {
		b.bar.Describe(b.what + "  " + note)
		_ = b.bar.Set(done)
		return
	}
	due := b.lines.every > 0 && done%b.lines.every == 0 || b.lines.every == 0 && time.Since(b.lines.last) > b.lines.wait
	if !due && done != b.total {
		return
	}
	b.lines.last = time.Now()
	fmt.Fprintf(b.out, "%s %d/%d  %s  %s left\n", b.what, done, b.total, note, b.left(done))
}

// Say writes a line that stays, above the bar.
func (b *Bar) Say(line string) {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
	fmt.Fprintln(b.out, line)
}

// Done ends the bar.
func (b *Bar) Done() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}

// left is how long the rest takes at the pace of this run so far.
func (b *Bar) left(done int) time.Duration {
	pace := float64(time.Since(b.begun)) / float64(max(1, done-b.first))
	return time.Duration(pace * float64(b.total-done)).Round(time.Second)
}
