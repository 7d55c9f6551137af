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

// slowTask is a task with a slow Collate that changes a counter without a lock. The race detector and the test both notice if
// two calls run at the same time.
type slowTask struct {
	finetune.Task
	running, together int
}

func (s *slowTask) Collate(b data.Batch) ([]*ortrain.Batch, error) {
	s.running++
	time.Sleep(2 * time.Millisecond)
	if s.running > 1 {
		s.together++
	}
	s.running--
	return s.Task.Collate(b)
}

// Collate is never called for a validation and for the next training steps at the same time.
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
