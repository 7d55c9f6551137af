package eval

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/olekukonko/tablewriter/pkg/twwidth"
)

// A table is wrapped to the given width without losing text.
func TestTableFits(t *testing.T) {
	header := []string{"part", "state", "found"}
	library := "/home/someone/.cache/rag-retrieval/onnxruntime-1.32.0-linux-x86_64/libonnxruntime.so"
	rows := [][]string{
		{"ONNX Runtime", "ok", "1.32.0 " + library},
		{"CUDA", "none", "this library has no CUDA in it: " + library + " (run scripts/setup.sh --cuda, or set RAG_RETRIEVAL_ORT_LIB)"},
		{"中文", "ok", strings.Repeat("检索增强", 30)},
		{"long", "ok", strings.Repeat("x", 150)},
		{"cores", "ok", "2"},
	}
	for _, width := range []int{60, 80, 100, 180} {
		var b bytes.Buffer
		if err := WriteTable(&b, "table", header, FitToWidth(header, rows, width)); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if w := twwidth.Width(strings.TrimSuffix(line, "\n")); w > width {
				t.Errorf("width %d: a line of %d columns: %s", width, w, line)
			}
		}
		for i, r := range FitToWidth(header, rows, width) {
			for j, cell := range r {
				if unspaced := strings.NewReplacer("\n", "", " ", ""); unspaced.Replace(cell) != unspaced.Replace(rows[i][j]) {
					t.Errorf("width %d: %q became %q", width, rows[i][j], cell)
				}
			}
		}
	}
	if got := FitToWidth(header, rows, 0); got[3][2] != rows[3][2] {
		t.Error("without a limit a cell was wrapped")
	}
	narrow := FitToWidth(header, rows, 5) // cannot be reached
	if len(narrow) != len(rows) {
		t.Errorf("%d rows of %d", len(narrow), len(rows))
	}
}

// COLUMNS overrides the terminal's width. A file is not a terminal.
func TestWidth(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Setenv("COLUMNS", "")
	if got := Width(f, 100); got != 100 {
		t.Errorf("a file's width: %d, want 100", got)
	}
	t.Setenv("COLUMNS", "72")
	if got := Width(f, 100); got != 72 {
		t.Errorf("COLUMNS=72: %d", got)
	}
}
