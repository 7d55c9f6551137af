package eval

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/mteb"
)

// The suites of this project have only known tasks, and a published value for every model and task.
func TestSuites(t *testing.T) {
	files, err := filepath.Glob("../scripts/suites/*.yaml")
	check(t, err)
	if len(files) != 3 {
		t.Fatalf("%d suites", len(files))
	}
	for _, path := range files {
		s, err := ReadSuite(path)
		check(t, err)
		for _, m := range s.Models {
			if len(m.Published) != len(s.Tasks) {
				t.Errorf("%s: %s has %d published values for %d tasks", path, m.Name, len(m.Published), len(s.Tasks))
			}
		}
	}
}

func TestWriteSuite(t *testing.T) {
	s := Suite{Rule: mteb.Rule1, Tasks: []string{"T2Reranking", "MMarcoReranking"}}
	rows := []SuiteRow{
		{
			Model:  SuiteModel{Name: "a", Published: map[string]float64{"T2Reranking": 66, "MMarcoReranking": 30}},
			SizeGB: 0.41,
			Results: []mteb.Result{
				{Task: "T2Reranking", Rule: mteb.Rule1, MAP: 0.665}, {Task: "MMarcoReranking", Rule: mteb.Rule1, MAP: 0.29},
			},
		},
		{
			Model:   SuiteModel{Name: "b", Published: map[string]float64{"T2Reranking": 50}},
			Missing: map[string]string{"T2Reranking": "no network", "MMarcoReranking": "no network"},
		},
	}
	var b bytes.Buffer
	check(t, WriteSuite(&b, "csv", s, rows))
	want := `model,size (GB),T2Reranking,MMarcoReranking,average
a,0.41,66.50 / 66.00 (+0.50),29.00 / 30.00 (-1.00),47.75 / 48.00 (-0.25)
b,,- / 50.00,-,-
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if r := rows[1].Reasons(s.Tasks); len(r) != 1 || r[0] != "b, T2Reranking, MMarcoReranking: no network" {
		t.Errorf("reasons %q", r)
	}
}

func TestReadSuiteRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"tasks: [T2Reranking]\n":                                                          "\"tasks\" or \"models\" is missing or empty",
		"tasks: [T9]\nmodels: [{name: a, model: b}]\n":                                    `no task "T9"`,
		"tasks: [T2Reranking]\nmodels: [{name: a}]\n":                                     `"name" or "model" is missing`,
		"tasks: [T2Reranking]\nmodel: [{name: a, model: b}]\n":                            "unknown field",
		"tasks: [T2Reranking]\nmodels: [{name: a, model: b, published: {CMedQAv1: 1}}]\n": "want a task's own name",
	} {
		path := filepath.Join(t.TempDir(), "s.yaml")
		check(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := ReadSuite(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
