package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Rows with pos_scores and neg_scores teach what rows with all passages in "pos" teach, for every loss of a teacher's scores.
func TestTrainOnNegScores(t *testing.T) {
	var apart, together strings.Builder
	for i := range 24 {
		fmt.Fprintf(&apart, `{"query":"the %c","pos":["%[1]c er"],"neg":["%[1]c of","er %d"],"pos_scores":[0.9],"neg_scores":[0.%[2]d1,0.05]}`+"\n", 'a'+i, i%9)
		fmt.Fprintf(&together, `{"query":"the %c","pos":["%[1]c er","%[1]c of","er %d"],"scores":[0.9,0.%[2]d1,0.05]}`+"\n", 'a'+i, i%9)
	}
	files := []string{write(t, "apart.jsonl", apart.String()), write(t, "together.jsonl", together.String())}
	for name, args := range map[string][]string{
		"pair_kl":   {"embedding", "--model", tiny, "--loss-type", "pair_kl", "--query-max-len", "10", "--passage-max-len", "12"},
		"cosent":    {"embedding", "--model", tiny, "--loss-type", "cosent", "--query-max-len", "10", "--passage-max-len", "12"},
		"kl":        {"colbert", "--model", tiny, "--loss-type", "kl", "--train-group-size", "2", "--query-max-len", "10", "--passage-max-len", "12"},
		"ranknet":   {"reranker", "--model", tiny, "--loss-type", "pairwise_ranknet", "--train-group-size", "2", "--max-len", "16"},
		"pointwise": {"reranker", "--model", tiny, "--loss-type", "pointwise_bce", "--max-len", "16"},
	} {
		var weights [2]string
		for i, file := range files {
			out := filepath.Join(t.TempDir(), "out")
			call(t, "", append(append([]string{"train"}, args...), "--train-dataset", file, "--output-dir", out, "--batch-size", "4", "--lr", "1e-3",
				"--epochs", "1", "--threads", "1")...).ok(t)
			b, err := os.ReadFile(filepath.Join(out, "model", "model.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			weights[i] = string(b)
		}
		if weights[0] != weights[1] {
			t.Errorf("%s: the two forms of a row train different models", name)
		}
	}
	bad := write(t, "bad.jsonl", `{"query":"a","pos":["b"],"neg":["c"],"pos_scores":[0.5],"neg_scores":[0.1,0.2]}`)
	call(t, "", trainRun(bad, t.TempDir(), "--loss-type", "pair_kl")...).fails(t, exitError, `bad.jsonl:1: "neg_scores" has 2 numbers for 1 texts in "neg"`)
}
