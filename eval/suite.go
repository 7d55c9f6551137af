package eval

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"rag-retrieval-go/mteb"
)

// Suite describes a table of models and tasks, with published values to compare with. It is read from a YAML file.
type Suite struct {
	Title  string       `yaml:"title"`
	Source string       `yaml:"source"` // of the published values
	Rule   mteb.Rule    `yaml:"rule"`
	Tasks  []string     `yaml:"tasks"`
	Models []SuiteModel `yaml:"models"`
}

// SuiteModel is a row of the table.
type SuiteModel struct {
	Name  string `yaml:"name"`
	Model string `yaml:"model"` // folder or hub id
	Kind  string `yaml:"kind"`  // "" means that the model's folder tells the kind
	// QueryPrompt replaces an embedding model's own prompt, if the published values used one that its folder does not have.
	QueryPrompt string             `yaml:"query_prompt"`
	Published   map[string]float64 `yaml:"published"` // MAP in percent, by task
}

// ReadSuite reads a suite's file.
func ReadSuite(path string) (Suite, error) {
	s := Suite{Rule: mteb.Rule1}
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&s); err != nil {
		first, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
		return s, fmt.Errorf("%s: %s", path, first)
	}
	if len(s.Tasks) == 0 || len(s.Models) == 0 {
		return s, fmt.Errorf(`%s: "tasks" or "models" is missing or empty`, path)
	}
	for i, name := range s.Tasks {
		k, err := mteb.FindTask(name)
		if err != nil {
			return s, fmt.Errorf("%s: tasks: %w", path, err)
		}
		s.Tasks[i] = k.Name
	}
	for _, m := range s.Models {
		if m.Name == "" || m.Model == "" {
			return s, fmt.Errorf(`%s: models: "name" or "model" is missing`, path)
		}
		for task := range m.Published {
			if k, err := mteb.FindTask(task); err != nil || k.Name != task {
				return s, fmt.Errorf("%s: models: %s: published has the task %q, want a task's own name", path, m.Name, task)
			}
		}
	}
	return s, nil
}

// SuiteRow holds the results of one model.
type SuiteRow struct {
	Model   SuiteModel
	SizeGB  float64 // of its weights; 0 means not known
	Results []mteb.Result
	Missing map[string]string // why a task has no result, by task
}

// WriteSuite writes the table. A cell has the measured value, the published value and the difference.
func WriteSuite(w io.Writer, format string, s Suite, rows []SuiteRow) error {
	header := append(append([]string{"model", "size (GB)"}, s.Tasks...), "average")
	var table [][]string
	for _, r := range rows {
		size := ""
		if r.SizeGB > 0 {
			size = fmt.Sprintf("%.2f", r.SizeGB)
		}
		cells := []string{r.Model.Name, size}
		sum, published, n, known := 0.0, 0.0, 0, 0
		for _, task := range s.Tasks {
			measured, ok := mteb.Report{Results: r.Results}.Find(task, s.Rule)
			value, has := r.Model.Published[task]
			cells = append(cells, cell(100*measured.MAP, ok, value, has))
			if ok {
				sum, n = sum+100*measured.MAP, n+1
			}
			if has {
				published, known = published+value, known+1
			}
		}
		all := len(s.Tasks)
		table = append(table, append(cells, cell(sum/float64(all), n == all, published/float64(all), known == all)))
	}
	return WriteTable(w, format, header, table)
}

// cell formats a measured and a published value. A missing value is a dash.
func cell(measured float64, ok bool, published float64, has bool) string {
	switch {
	case ok && has:
		return fmt.Sprintf("%.2f / %.2f (%+.2f)", measured, published, measured-published)
	case ok:
		return fmt.Sprintf("%.2f", measured)
	case has:
		return fmt.Sprintf("- / %.2f", published)
	}
	return "-"
}

// Reasons returns lines that say which tasks have no result and why. Consecutive tasks with the same reason share a line.
func (r SuiteRow) Reasons(tasks []string) []string {
	var out []string
	var last string
	for _, t := range tasks {
		why := r.Missing[t]
		if why == "" {
			last = ""
			continue
		}
		if why == last {
			out[len(out)-1] = strings.Replace(out[len(out)-1], ": ", ", "+t+": ", 1)
			continue
		}
		out, last = append(out, fmt.Sprintf("%s, %s: %s", r.Model.Name, t, why)), why
	}
	return out
}
