package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serving is the program as a server.
type serving struct {
	url    string
	cmd    *exec.Cmd
	stderr *bufio.Reader
}

// startServing starts a server with a free port, and waits until it serves.
func startServing(t *testing.T, env []string, args ...string) *serving {
	t.Helper()
	s := launchServing(t, env, args...)
	s.url, _ = strings.CutPrefix(s.line(t, "serving on ")["msg"].(string), "serving on ")
	return s
}

// launchServing starts a server with a free port.
func launchServing(t *testing.T, env []string, args ...string) *serving {
	t.Helper()
	p := program(env, append([]string{"serve", "--listen", "127.0.0.1:0", "--threads", "1"}, args...)...)
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
	return &serving{cmd: p, stderr: bufio.NewReader(stderr)}
}

// line reads the log up to a line whose message has some words.
func (s *serving) line(t *testing.T, words string) map[string]any {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; {
		line, err := s.stderr.ReadString('\n')
		if err != nil || time.Now().After(until) {
			t.Fatalf("no line %q, but %q, %v", words, line, err)
		}
		var x map[string]any
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if msg, _ := x["msg"].(string); strings.Contains(msg, words) {
			return x
		}
	}
}

// end sends a signal, and returns what the server still wrote and how it ended.
func (s *serving) end(t *testing.T, signal os.Signal) (string, error) {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(s.stderr)
	return string(rest), s.cmd.Wait()
}

// A server answers while it runs, and SIGTERM ends it with success.
func TestServe(t *testing.T) {
	s := startServing(t, nil, "--model", "embed="+tiny, "--model", "rerank="+oneOf["reranker"])
	r, err := http.Post(s.url+"/v1/embeddings", "application/json", strings.NewReader(`{"input": "the a"}`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(b), `"embedding":[`) {
		t.Errorf("%d %s %v", r.StatusCode, b, err)
	}
	if line := s.line(t, "request"); line["id"] != r.Header.Get("X-Request-Id") || line["status"] != 200.0 {
		t.Errorf("%v", line)
	}
	if rest, err := s.end(t, syscall.SIGTERM); err != nil || strings.Contains(rest, "rag-retrieval:") {
		t.Errorf("%v: %s", err, rest)
	}
}

func TestBadServeCalls(t *testing.T) {
	for words, args := range map[string][]string{
		`--model is "out/model", want NAME=MODEL`: {"--model", "out/model"},
		"two models have the name":                {"--model", "a=" + tiny, "--model", "a=" + tiny},
		"--max-texts is 0":                        {"--model", "a=" + tiny, "--max-texts", "0"},
		`--log-format is "xml"`:                   {"--model", "a=" + tiny, "--log-format", "xml"},
		`--log-level is "loud"`:                   {"--model", "a=" + tiny, "--log-level", "loud"},
		"--request-timeout is 0s":                 {"--model", "a=" + tiny, "--request-timeout", "0s"},
		"--drain-timeout is -1s":                  {"--model", "a=" + tiny, "--drain-timeout", "-1s"},
		"--shutdown-delay is -1s":                 {"--model", "a=" + tiny, "--shutdown-delay", "-1s"},
		"--tls-key is set, and --tls-cert is not": {"--model", "a=" + tiny, "--tls-key", "x"},
		"--tls-cert: open nowhere":                {"--model", "a=" + tiny, "--tls-cert", "nowhere"},
		"--api-key-file: open nowhere":            {"--model", "a=" + tiny, "--api-key-file", "nowhere"},
		"empty has no key":                        {"--model", "a=" + tiny, "--api-key-file", write(t, "empty", "\n\n")},
		"keys:2: the API key has a character":     {"--model", "a=" + tiny, "--api-key-file", write(t, "keys", "good\nnot good\n")},
		"--max-body-bytes is -1":                  {"--model", "a=" + tiny, "--max-body-bytes", "-1"},
	} {
		call(t, "", append([]string{"serve"}, args...)...).fails(t, exitUsage, words)
	}
	call(t, "", "serve", "--model", "a=nowhere/model/at").fails(t, exitError, "nowhere")
	call(t, "", "serve", "--model", "a="+tiny, "--listen", "127.0.0.1:99999").fails(t, exitError, "99999")
	for _, keys := range []string{"", " ", ","} {
		p := program([]string{keysVariable + "=" + keys}, "serve", "--model", "a="+tiny)
		out, err := p.CombinedOutput()
		if p.ProcessState.ExitCode() != exitUsage || !strings.Contains(string(out), keysVariable+" is set and has no key") {
			t.Errorf("%q: %v %s", keys, err, out)
		}
	}
}
