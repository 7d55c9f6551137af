package finetune_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/ortrain"
)

// slowTask is a task whose Collate takes its time and keeps a count that nothing guards: the race detector sees two at
// once, and so does the test.
type slowTask struct {
	finetune.Task
	running, together int
}

func (s *slowTask) Collate(epoch int, examples []data.Example) ([]*ortrain.Batch, error) {
	s.running++
	time.Sleep(2 * time.Millisecond)
	if s.running > 1 {
		s.together++
	}
	s.running--
	return s.Task.Collate(epoch, examples)
}

// While a validation makes its batches, the run prepares those of the next steps: never at the same time.
func TestCollateRunsAlone(t *testing.T) {
	var rows strings.Builder
	for i := range 24 {
		fmt.Fprintf(&rows, `{"query":"the %c","pos":"%c er"}`+"\n", 'a'+i, 'a'+i)
	}
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	check(t, os.WriteFile(path, []byte(rows.String()), 0o600))
	cfg := config.DefaultTrain(modelcard.Embedding)
	cfg.Model, cfg.TrainDataset, cfg.ValDataset = "../embedding/testdata/tiny", config.List{path}, config.List{path}
	cfg.OutputDir, cfg.QueryMaxLen, cfg.PassageMaxLen = filepath.Join(t.TempDir(), "out"), 10, 10
	cfg.BatchSize, cfg.EvalSteps, cfg.MaxSteps, cfg.Threads = 4, 1, 6, 1
	slow := &slowTask{}
	run, err := finetune.Prepare(t.Context(), cfg, func(c config.Train) (finetune.Task, error) {
		var err error
		slow.Task, err = embedding.NewTask(c)
		return slow, err
	}, resolve.Resolver{}, "test")
	check(t, err)
	defer func() { check(t, run.Close()) }()
	check(t, run.Start(func(err error) { t.Error(err) }))
	check(t, run.Train(t.Context(), nil))
	if slow.together > 0 || slow.running != 0 {
		t.Errorf("%d batches were made while another one was", slow.together)
	}
}
