package mteb

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

// KnownRetrievalTask is one of MTEB's retrieval tasks: its data set on the hub, in MTEB 2.x's format, and its statistics.
type KnownRetrievalTask struct {
	Name      string   `json:"name"`
	Source    Source   `json:"source"`
	Split     string   `json:"split"`
	Languages []string `json:"languages"`
	Licence   string   `json:"licence"`
	Prompt    string   `json:"prompt"` // MTEB's instruction for models that use instructions
	// IgnoreIdenticalIDs is RetrievalTask's.
	IgnoreIdenticalIDs bool `json:"ignore_identical_ids"`
	// The counts that MTEB publishes. Relevant counts the pairs of a query and a document that is relevant to it.
	Queries   int `json:"queries"`
	Documents int `json:"documents"`
	Relevant  int `json:"relevant"`
}

// retrievalTasksFile holds the task definitions and descriptive statistics of mteb 2.20.0.
//
//go:embed retrieval_tasks.json
var retrievalTasksFile []byte

// RetrievalTasks lists the known retrieval tasks: the eight of C-MTEB.
var RetrievalTasks = func() (out []KnownRetrievalTask) {
	if err := json.Unmarshal(retrievalTasksFile, &out); err != nil {
		panic(err) // the file is part of the program
	}
	return out
}()

// FindRetrievalTask finds a retrieval task by its name. Upper and lower case are equal.
func FindRetrievalTask(name string) (KnownRetrievalTask, error) {
	var names []string
	for _, t := range RetrievalTasks {
		if strings.EqualFold(t.Name, name) {
			return t, nil
		}
		names = append(names, t.Name)
	}
	return KnownRetrievalTask{}, fmt.Errorf("no retrieval task %q, want one of %s", name, strings.Join(names, ", "))
}
