package main

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// A server answers while it runs, and SIGTERM ends it with success.
func TestServe(t *testing.T) {
	p := program(nil, "serve", "--model", "embed="+tiny, "--model", "rerank="+oneOf["reranker"], "--listen", "127.0.0.1:0", "--threads", "1")
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Process.Kill()
	lines := bufio.NewReader(stderr)
	line, err := lines.ReadString('\n')
	url, found := strings.CutPrefix(strings.TrimSpace(line), "serving on ")
	if err != nil || !found {
		t.Fatalf("%q, %v", line, err)
	}
	r, err := http.Post(url+"/v1/embeddings", "application/json", strings.NewReader(`{"input": "the a"}`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(b), `"embedding":[`) {
		t.Errorf("%d %s %v", r.StatusCode, b, err)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(lines)
	if err := p.Wait(); err != nil || len(rest) > 0 {
		t.Errorf("%v: %s", err, rest)
	}
}

func TestBadServeCalls(t *testing.T) {
	for words, args := range map[string][]string{
		`--model is "out/model", want NAME=MODEL`: {"--model", "out/model"},
		"two models have the name":                {"--model", "a=" + tiny, "--model", "a=" + tiny},
		"--max-texts is 0":                        {"--model", "a=" + tiny, "--max-texts", "0"},
		"--max-body-bytes is -1":                  {"--model", "a=" + tiny, "--max-body-bytes", "-1"},
	} {
		call(t, "", append([]string{"serve"}, args...)...).fails(t, exitUsage, words)
	}
	call(t, "", "serve", "--model", "a=nowhere/model/at").fails(t, exitError, "nowhere")
	call(t, "", "serve", "--model", "a="+tiny, "--listen", "127.0.0.1:99999").fails(t, exitError, "99999")
}
