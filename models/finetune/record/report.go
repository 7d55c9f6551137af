package record

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"path/filepath"
	"sort"
	"time"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/page"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/finetune"
)

// ReportFile is an HTML page about a run. It needs no network and no other file.
const ReportFile = "report.html"

//go:embed report.html.tmpl
var reportText string

var reportPage = template.Must(template.New(ReportFile).Funcs(template.FuncMap{
	"percent": func(x float64) string { return fmt.Sprintf("%.2f", 100*x) },
	"gain":    func(after, before float64) string { return fmt.Sprintf("%+.2f", 100*(after-before)) },
	"base":    filepath.Base,
}).Parse(reportText))

// report is the data of the page.
type report struct {
	Style    template.CSS
	Title    string
	Tiles    []tile
	Before   *finetune.Validation
	Best     *finetune.Validation
	Queries  int
	Charts   []page.Chart
	Warnings []string
	Data     finetune.Statistics
	Lengths  string
	Config   []config.Setting
}

type tile struct{ Name, Value string }

// WriteReport renders a run's page from the files in its output folder.
func WriteReport(run *finetune.Run) error {
	dir := run.Config.OutputDir
	rows, err := jsonl.ReadLog[Row](filepath.Join(dir, MetricsFile))
	if err != nil {
		return err
	}
	validations, err := jsonl.ReadLog[finetune.Validation](filepath.Join(dir, finetune.ValidationFile))
	if err != nil {
		return err
	}
	p := report{
		Style: page.Style, Title: fmt.Sprintf("%s fine-tuning of %s", run.Config.Kind, filepath.Base(run.Config.Model)), Tiles: tiles(rows),
	}
	if p.Data, err = run.Statistics(); err != nil {
		return err
	}
	p.Queries = p.Data.Queries
	for _, r := range rows {
		if r.Warning != "" {
			p.Warnings = append(p.Warnings, r.Warning)
		}
	}
	for i := range validations {
		v := &validations[i]
		if v.Warning != "" {
			p.Warnings = append(p.Warnings, v.Warning)
		}
		if v.Step == 0 {
			p.Before = v
		} else if v.Best {
			p.Best = v
		}
	}
	if p.Charts, err = charts(rows, validations, p.Data.Lengths); err != nil {
		return err
	}
	p.Lengths, p.Config = lengthsText(p.Data.Lengths), run.Config.Settings()
	p.Config = append(p.Config, config.Setting{Key: "matrix products", Value: run.Precision()})
	if n := run.Ranks(); n > 1 {
		p.Config = append(p.Config, config.Setting{Key: "ranks, each with batch_size", Value: fmt.Sprint(n)})
	}
	var b bytes.Buffer
	if err := reportPage.Execute(&b, p); err != nil {
		return err
	}
	return atomicdir.WriteFile(filepath.Join(dir, ReportFile), b.Bytes())
}

// tiles summarizes a run in a few numbers. The rows' seconds start at 0 again after a resume.
func tiles(rows []Row) []tile {
	if len(rows) == 0 {
		return nil
	}
	var examples, tokens int
	var seconds, peakMB float64
	for i, r := range rows {
		examples, tokens, peakMB = examples+r.Rows, tokens+r.Tokens, max(peakMB, r.MemoryMB)
		seconds += stepSeconds(rows, i)
	}
	tail := rows[max(0, len(rows)-max(1, len(rows)/20)):]
	loss := 0.0
	for _, r := range tail {
		loss += r.Loss / float64(len(tail))
	}
	return []tile{
		{"steps", fmt.Sprint(rows[len(rows)-1].Step)}, {"examples", fmt.Sprint(examples)},
		{"time", time.Duration(seconds * float64(time.Second)).Round(time.Second).String()},
		{"tokens/s", fmt.Sprintf("%.0f", float64(tokens)/seconds)},
		{"loss at the end", fmt.Sprintf("%.4f", loss)}, {"memory", fmt.Sprintf("%.2f GB", peakMB/1e3)},
	}
}

// stepSeconds returns how long step i took.
func stepSeconds(rows []Row, i int) float64 {
	if i == 0 || rows[i].Seconds < rows[i-1].Seconds {
		return rows[i].Seconds
	}
	return rows[i].Seconds - rows[i-1].Seconds
}

// lengthsText summarizes text lengths in one line.
func lengthsText(lengths []int) string {
	if len(lengths) == 0 {
		return ""
	}
	sorted := append([]int{}, lengths...)
	sort.Ints(sorted)
	sum := 0
	for _, n := range sorted {
		sum += n
	}
	at := func(share float64) int { return sorted[int(share*float64(len(sorted)-1))] }
	return fmt.Sprintf("of the first %d texts: mean %.0f tokens, half at most %d, 90 %% at most %d, longest %d",
		len(sorted), float64(sum)/float64(len(sorted)), at(0.5), at(0.9), sorted[len(sorted)-1])
}
