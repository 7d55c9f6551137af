package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"rag-retrieval-go/ortrain/dist/disttest"
)

// asRank is the environment variable that makes this test program a rank that measures into the file it names.
const asRank = "RAG_RETRIEVAL_TEST_MEASURE"

func TestMain(m *testing.M) {
	if path := os.Getenv(asRank); path != "" {
		if err := measure(path, 16*fewestValues); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// What two ranks measure can be fitted.
func TestMeasure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "collectives.json")
	c := disttest.Command(t, 2, os.Args[0])
	c.Env = append(c.Env, asRank+"="+path)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var times collectiveTimes
	if err := readJSON(path, &times); err != nil {
		t.Fatal(err)
	}
	if l, _, err := times.fit(); err != nil || times.Ranks != 2 || len(times.AllReduce) != 3 || l.Bandwidth == 0 {
		t.Errorf("%+v: %+v, %v", times, l, err)
	}
}

// The terms of a run that follows the model are found again.
func TestChecks(t *testing.T) {
	memory := Link{Latency: 1e-5, Bandwidth: 1e9}
	var r runs
	text := `{"batch": 8, "gradient_bytes": 1e8, "runs": {"reranker": [{"1x1": {"step_seconds": 2.1, "tokens_of_steps": [900, 1100]},
		"2x1": {"step_seconds": 1.3, "transfer": 0.1, "waiting": 0.05}}]}}`
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	spread, err := printChecks(r, memory, 0.1)
	if want := math.Sqrt2 * math.Sqrt2 * 0.1 * 2; err != nil || math.Abs(spread-want) > 1e-9 { // of two values, times the halves', times the root of 4 rows
		t.Errorf("%g, %v, want %g", spread, err, want)
	}
	if _, err := printChecks(runs{}, memory, 0.1); err == nil {
		t.Error("no runs are checked")
	}
	if _, _, err := (collectiveTimes{Ranks: 2, AllReduce: []transfer{{4096, 0}, {8192, 1}}}).fit(); err == nil {
		t.Error("a transfer without time is fitted")
	}
}
