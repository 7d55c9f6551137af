package mteb

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

// KnownTask is one of MTEB's reranking tasks: its data sets on the hub and their statistics.
type KnownTask struct {
	Name      string   `json:"name"`
	Aliases   []string `json:"aliases"`
	V1        Source   `json:"v1"` // data in the 1.x format
	V2        Source   `json:"v2"` // data in the 2.x format
	Split     string   `json:"split"`
	Languages []string `json:"languages"`
	Licence   string   `json:"licence"`
	Prompt    string   `json:"prompt"` // MTEB's instruction for models that use instructions
	// Queries, Candidates and Positives are the counts that MTEB publishes. 0 means not known.
	Queries    int `json:"queries"`
	Candidates int `json:"candidates"`
	Positives  int `json:"positives"`
}

// Source is a data set on the hub.
type Source struct {
	ID       string `json:"id"`
	Revision string `json:"revision"`
}

// tasksFile holds the task definitions and descriptive statistics of mteb 1.39.7 and 2.26.24.
//
//go:embed tasks.json
var tasksFile []byte

// Tasks lists the known reranking tasks: the four of C-MTEB, and English ones in the same format.
var Tasks = func() (out []KnownTask) {
	if err := json.Unmarshal(tasksFile, &out); err != nil {
		panic(err) // the file is part of the program
	}
	return out
}()

// FindTask finds a task by its name or an alias. Upper and lower case are equal.
func FindTask(name string) (KnownTask, error) {
	var names []string
	for _, t := range Tasks {
		for _, n := range append([]string{t.Name}, t.Aliases...) {
			if strings.EqualFold(n, name) {
				return t, nil
			}
		}
		names = append(names, t.Name)
	}
	return KnownTask{}, fmt.Errorf("no task %q, want one of %s", name, strings.Join(names, ", "))
}

// Source returns the task's data set for a rule.
func (k KnownTask) Source(r Rule) Source {
	if r == Rule2 {
		return k.V2
	}
	return k.V1
}
