package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// workflow is what the test reads of a GitHub Actions file.
type workflow struct {
	Env  map[string]string
	Jobs map[string]struct {
		Steps []struct{ Name, Uses, Run string }
	}
}

// commands are the run steps of a workflow's jobs.
func (w workflow) commands() (out []string) {
	for _, job := range w.Jobs {
		for _, s := range job.Steps {
			if s.Run != "" {
				out = append(out, s.Run)
			}
		}
	}
	return out
}

func readWorkflow(t *testing.T, path string) (w workflow) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	check(t, err)
	check(t, yaml.Unmarshal(b, &w))
	if len(w.commands()) == 0 {
		t.Fatalf("%s has no run steps", path)
	}
	return w
}

// The steps of the workflow for users run, in a repository with test data and a baseline, and fail where the baseline is
// better than the model.
func TestUsersWorkflow(t *testing.T) {
	w := needWorkshop(t)
	repository := t.TempDir()
	check(t, os.Symlink(w.folder(t), filepath.Join(repository, "rag-retrieval")))
	check(t, os.Mkdir(filepath.Join(repository, "retrieval"), 0o755))
	check(t, os.WriteFile(filepath.Join(repository, "retrieval", "test.jsonl"), []byte(
		`{"query": "reverses the order of the elements", "positive": ["func Reverse(s []int)"], "negative": ["func Max(s []int) int"]}`+"\n"), 0o644))
	file := readWorkflow(t, "scripts/recipes/github-actions.yml")
	summary := filepath.Join(repository, "summary.md")
	env := []string{"GITHUB_STEP_SUMMARY=" + summary, "MODEL=" + file.Env["MODEL"]}
	baseline := `rag-retrieval/bin/rag-retrieval eval --model "$MODEL" --data retrieval/test.jsonl --json result.json
		rag-retrieval/bin/rag-retrieval gate --baseline retrieval/baseline.json --update result.json`
	if out, err := w.run(repository, baseline, env...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, commands := range file.commands() {
		if out, err := w.run(repository, commands, env...); err != nil {
			t.Errorf("%s\n%v\n%s", commands, err, out)
		}
	}
	b, err := os.ReadFile(summary)
	check(t, err)
	if strings.Count(string(b), "mteb-1") != 3 { // one row of eval's table, two of gate's
		t.Errorf("the summary has not both tables: %s", b)
	}
	commands := file.commands()
	worse := `sed -i.bak 's/"positive": \(.*\), "negative": \(.*\)}/"positive": \2, "negative": \1}/' retrieval/test.jsonl`
	if out, err := w.run(repository, worse+"\n"+commands[len(commands)-2]+"\n"+commands[len(commands)-1], env...); err == nil {
		t.Errorf("the gate did not fail on other data: %s", out)
	}
}

// The project's own workflow runs test.sh.
func TestOwnWorkflow(t *testing.T) {
	commands := readWorkflow(t, ".github/workflows/ci.yml").commands()
	if len(commands) != 1 || commands[0] != "./scripts/test.sh" {
		t.Errorf("%q, want ./scripts/test.sh", commands)
	}
}
