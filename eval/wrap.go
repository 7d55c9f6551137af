package eval

import (
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/olekukonko/tablewriter/pkg/twwidth"
	"golang.org/x/term"
)

// minColumnWidth is the smallest width that a column is wrapped to. A table with many columns stays wider than its terminal.
const minColumnWidth = 12

// Width returns the width of a line written to w: the environment variable COLUMNS, or the terminal's width, or noTerminal
// if w is not a terminal. 0 means no limit.
func Width(w io.Writer, noTerminal int) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			return n
		}
	}
	return noTerminal
}

// FitToWidth wraps the cells of the widest columns until the table is at most width wide, if that is possible. It returns
// new rows.
func FitToWidth(header []string, rows [][]string, width int) [][]string {
	if width <= 0 {
		return rows
	}
	widths := make([]int, len(header))
	total := 1
	for i := range header {
		widths[i] = twwidth.Width(header[i])
		for _, r := range rows {
			for line := range strings.Lines(r[i]) {
				widths[i] = max(widths[i], twwidth.Width(strings.TrimSuffix(line, "\n")))
			}
		}
		total += widths[i] + 3
	}
	out := make([][]string, len(rows))
	for i, r := range rows {
		out[i] = append([]string(nil), r...)
	}
	for total > width {
		widest := 0
		for i := range widths {
			if widths[i] > widths[widest] {
				widest = i
			}
		}
		to := max(widths[widest]-(total-width), minColumnWidth, twwidth.Width(header[widest]))
		for i, w := range widths { // not narrower than the second widest column, which is wrapped next
			if i != widest && w < widths[widest] {
				to = max(to, w)
			}
		}
		if to >= widths[widest] {
			to = widths[widest] - 1 // columns of equal width shrink in turn
			if to < max(minColumnWidth, twwidth.Width(header[widest])) {
				break
			}
		}
		total -= widths[widest] - to
		widths[widest] = to
	}
	for _, r := range out {
		for i := range header {
			r[i] = wrap(r[i], widths[i])
		}
	}
	return out
}

// wrap breaks a text into lines of at most width: at spaces, and within a longer word, if possible after a slash.
func wrap(text string, width int) string {
	if twwidth.Width(text) <= width {
		return text
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for {
			joined := word
			if line != "" {
				joined = line + " " + word
			}
			if twwidth.Width(joined) <= width {
				line = joined
				break
			}
			if line != "" {
				lines, line = append(lines, line), ""
				continue
			}
			head := wordPrefix(word, width)
			lines, word = append(lines, head), word[len(head):]
		}
	}
	return strings.Join(append(lines, line), "\n")
}

// wordPrefix returns the beginning of a word that fits into width: up to its last slash there, or as many characters as fit.
func wordPrefix(word string, width int) string {
	end := 0
	for i, r := range word {
		next := i + len(string(r))
		if i > 0 && twwidth.Width(word[:next]) > width {
			break
		}
		end = next
	}
	if slash := strings.LastIndexByte(word[:end], '/'); slash > 0 {
		end = slash + 1
	}
	return word[:end]
}
