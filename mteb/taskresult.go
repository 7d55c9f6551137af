package mteb

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rag-retrieval-go/internal/atomicdir"
)

// ruleVersions are the versions of mteb whose numbers the rules reproduce. Result files name them.
var ruleVersions = map[Rule]string{Rule1: "1.39.7", Rule2: "2.26.24"}

// retrievalVersion is the version of mteb whose numbers retrieval tasks reproduce.
const retrievalVersion = "2.20.0"

// noRevision is mteb's name for a model without a revision.
const noRevision = "no_revision_available"

// ResultFolder is a folder of results in mteb's layout, DIR/org__model/revision/task.json and model_meta.json. The Python
// package mteb can load it.
type ResultFolder struct {
	Dir   string
	Model string // a hub id or a folder
	// Source tells apart models whose results would lie in one folder, such as out-1/model and out-2/model. "" means Model.
	Source string
	Rule   Rule
	// Retrieval says that the results are those of retrieval tasks.
	Retrieval bool
}

// DataSource describes the data of a task for result files.
type DataSource struct {
	Revision  string
	Split     string
	Languages []string
}

// taskResult is mteb's TaskResult.
type taskResult struct {
	Revision string             `json:"dataset_revision"`
	Task     string             `json:"task_name"`
	Version  string             `json:"mteb_version"`
	Scores   map[string][]score `json:"scores"`
	Seconds  float64            `json:"evaluation_time"`
	CO2      *float64           `json:"kg_co2_emissions"`
	Date     *float64           `json:"date,omitempty"` // 2.x: seconds since 1970
}

// score holds the metrics of a split by mteb's names, and its subset and languages.
type score map[string]any

func (f ResultFolder) dir() string {
	name := strings.TrimRight(f.Model, "/")
	if strings.Count(name, "/") != 1 || strings.HasPrefix(name, ".") {
		name = filepath.Base(name) // a path, not a hub id
	}
	return filepath.Join(f.Dir, strings.ReplaceAll(name, "/", "__"), noRevision)
}

func (f ResultFolder) path(task string) string { return filepath.Join(f.dir(), task+".json") }

func (f ResultFolder) metaPath() string { return filepath.Join(f.dir(), "model_meta.json") }

// sourceKey is a key of model_meta.json that mteb does not have.
const sourceKey = "source"

func (f ResultFolder) source() string { return cmp.Or(f.Source, filepath.Clean(f.Model)) }

// CheckSource returns an error if the results in the folder are those of another model of the same name. Results without a source,
// such as mteb's own, are the model's.
func (f ResultFolder) CheckSource() error {
	var meta map[string]any
	if b, err := os.ReadFile(f.metaPath()); err != nil || json.Unmarshal(b, &meta) != nil {
		return nil // no results yet
	}
	if source, known := meta[sourceKey].(string); known && source != f.source() {
		return fmt.Errorf("%s has the results of %s, not of %s: name another folder for them", f.dir(), source, f.source())
	}
	return nil
}

// Write adds a result to the folder, or replaces it.
func (f ResultFolder) Write(r Result, p DataSource) error {
	if err := os.MkdirAll(f.dir(), 0o755); err != nil {
		return err
	}
	meta := map[string]any{"name": f.Model, "revision": noRevision, "release_date": nil, "languages": nil, sourceKey: f.source()}
	if err := atomicdir.WriteJSON(f.metaPath(), meta); err != nil {
		return err
	}
	languages := p.Languages
	if languages == nil {
		languages = []string{}
	}
	s := score{"hf_subset": "default", "languages": languages}
	for name, x := range f.metrics(r) {
		s[name] = roundDecimal(x, 6)
	}
	version := ruleVersions[f.Rule]
	if f.Retrieval {
		version = retrievalVersion
	}
	out := taskResult{
		Revision: p.Revision, Task: r.Task, Version: version, Scores: map[string][]score{p.Split: {s}}, Seconds: r.Seconds,
	}
	if f.Rule == Rule2 {
		now := float64(time.Now().Unix())
		out.Date = &now
	}
	return atomicdir.WriteJSON(f.path(r.Task), out)
}

// metrics returns a result's metrics by the names that the rule's MTEB generation uses.
func (f ResultFolder) metrics(r Result) map[string]float64 {
	if f.Retrieval {
		out := maps.Clone(r.Scores)
		out["main_score"], out["accuracy"] = r.NDCG, r.at("recall", 1) // mteb calls recall@1 accuracy too
		return out
	}
	if f.Rule == Rule2 {
		return map[string]float64{
			"map_at_1000": r.MAP, "mrr_at_10": r.MRR, "ndcg_at_10": r.NDCG, "recall_at_10": r.Recall, "main_score": r.MAP,
		}
	}
	return map[string]float64{"map": r.MAP, "mrr": r.MRR, "recall_at_10": r.Recall, "main_score": r.MAP}
}

// Finished returns a task's result if the folder has one on the same revision and split. It is an error if the folder has the
// results of another model.
func (f ResultFolder) Finished(task string, p DataSource) (r Result, ok bool, err error) {
	if err := f.CheckSource(); err != nil {
		return r, false, err
	}
	b, err := os.ReadFile(f.path(task))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	} else if err != nil {
		return r, false, err
	}
	var saved taskResult
	if err := json.Unmarshal(b, &saved); err != nil {
		return r, false, fmt.Errorf("%s: %w", f.path(task), err)
	}
	scores := saved.Scores[p.Split]
	if saved.Revision != p.Revision || len(scores) == 0 {
		return r, false, nil
	}
	number := func(name string) float64 { x, _ := scores[0][name].(float64); return x }
	if f.Retrieval {
		r = Result{Task: task, Rule: f.Rule, Seconds: saved.Seconds}
		all := RetrievalMeasures{}.ByName()
		for name := range all {
			if _, has := scores[0][name]; !has {
				return r, false, nil // a result of another kind of task
			}
			all[name] = number(name)
		}
		r.setScores(all)
		return r, true, nil
	}
	mapName, mrrName := "map", "mrr"
	if f.Rule == Rule2 {
		mapName, mrrName = "map_at_1000", "mrr_at_10"
	}
	if _, has := scores[0][mapName]; !has {
		return r, false, nil // a result by the other rule
	}
	return Result{
		Task: task, Rule: f.Rule, MAP: number(mapName), MRR: number(mrrName), NDCG: number("ndcg_at_10"),
		Recall: number("recall_at_10"), Seconds: saved.Seconds,
	}, true, nil
}
