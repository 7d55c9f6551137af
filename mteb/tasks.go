package mteb

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

// Known is one of MTEB's reranking tasks: where its data lie and what they hold.
type Known struct {
	Name      string   `json:"name"`
	Aliases   []string `json:"aliases"`
	V1        Source   `json:"v1"` // of MTEB 1.x: rows of a query with its documents
	V2        Source   `json:"v2"` // of MTEB 2.x: corpus, queries, qrels and top_ranked
	Split     string   `json:"split"`
	Languages []string `json:"languages"`
	Licence   string   `json:"licence"`
	Prompt    string   `json:"prompt"` // MTEB's, for models that take instructions
	// Queries, Candidates and Positives are MTEB's own counts; 0: not known.
	Queries    int `json:"queries"`
	Candidates int `json:"candidates"`
	Positives  int `json:"positives"`
}

// Source is a data set on the hub.
type Source struct {
	ID       string `json:"id"`
	Revision string `json:"revision"`
}

// tasksFile is taken from the task definitions and descriptive statistics of mteb 1.39.7 and 2.26.24.
//
//go:embed tasks.json
var tasksFile []byte

// Tasks are the reranking tasks by name: C-MTEB's four, and English ones of the same shape.
var Tasks = func() (out []Known) {
	if err := json.Unmarshal(tasksFile, &out); err != nil {
		panic(err) // the file is part of the program
	}
	return out
}()

// FindTask finds a task by its name or an alias of it, in any case.
func FindTask(name string) (Known, error) {
	var names []string
	for _, t := range Tasks {
		for _, n := range append([]string{t.Name}, t.Aliases...) {
			if strings.EqualFold(n, name) {
				return t, nil
			}
		}
		names = append(names, t.Name)
	}
	return Known{}, fmt.Errorf("no task %q, want one of %s", name, strings.Join(names, ", "))
}

// Source is where the data of a rule's generation lie.
func (k Known) Source(r Rule) Source {
	if r == Rule2 {
		return k.V2
	}
	return k.V1
}
