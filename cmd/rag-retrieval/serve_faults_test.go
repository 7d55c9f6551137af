package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// goodClient asks on and on, and every answer is right.
type goodClient struct {
	url  string
	want []float64
	stop chan struct{}
	done sync.WaitGroup
	n    int
}

func startGoodClient(t *testing.T, url string) *goodClient {
	t.Helper()
	g := &goodClient{url: url, stop: make(chan struct{})}
	var err error
	if g.want, err = g.ask(); err != nil {
		t.Fatal(err)
	}
	g.done.Go(func() {
		for {
			select {
			case <-g.stop:
				return
			default:
			}
			got, err := g.ask()
			if err != nil {
				t.Error(err)
				return
			}
			for i := range got {
				if len(got) != len(g.want) || math.Abs(got[i]-g.want[i]) > 1e-6 {
					t.Errorf("%v, want %v", got, g.want)
					return
				}
			}
			g.n++
		}
	})
	return g
}

func (g *goodClient) ask() ([]float64, error) {
	r, err := http.Post(g.url+"/v2/rerank", "application/json", strings.NewReader(`{"query": "the a", "documents": ["er", "the er b", "a"]}`))
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%d %s %w", r.StatusCode, b, err)
	}
	var out struct {
		Results []struct {
			Score float64 `json:"relevance_score"`
		}
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, err
	}
	var scores []float64
	for _, x := range out.Results {
		scores = append(scores, x.Score)
	}
	return scores, nil
}

// end stops the client, which must have asked something.
func (g *goodClient) end(t *testing.T) {
	t.Helper()
	close(g.stop)
	if g.done.Wait(); g.n == 0 {
		t.Error("the client had no answer")
	}
}

// badClients have what goes wrong with connections and bodies.
var badClients = map[string]func(t *testing.T, url string){
	"bodies that do not come, more than there are slots": func(t *testing.T, url string) {
		for range 30 {
			slowRequest(t, url) // until the test ends
		}
		time.Sleep(100 * time.Millisecond)
	},
	"cut within the header": func(t *testing.T, url string) {
		for range 20 {
			cut(t, url, "POST /v1/embeddings HTTP/1.1\r\nHost", 0)
		}
	},
	"cut within the body": func(t *testing.T, url string) {
		for range 20 {
			cut(t, url, "POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{\"input\"", 0)
		}
	},
	"gone before the response": func(t *testing.T, url string) {
		for range 20 {
			cut(t, url, whole(embedBody), 0)
		}
	},
	"gone within the response": func(t *testing.T, url string) {
		for range 20 {
			cut(t, url, whole(`{"model": "embed", "input": [`+strings.Repeat(`"the a", `, 500)+`"b"]}`), 100)
		}
	},
	"malformed": func(t *testing.T, url string) {
		for _, path := range []string{"/v1/embeddings", "/v1/rerank", "/v2/rerank", "/rerank", "/embed", "/similarity", "/pooling", "/nothing", "/health"} {
			for _, body := range []string{
				``, `{`, `[]`, `null`, `1`, `"a"`, `{"input": ` + strings.Repeat("[", 20_000), `{"input": {"a": [null]}}`, `{"input": [1, "a", null]}`, "\x00\xff", `{"input": "\ud800"}`,
				`{"input": "a", "dimensions": 1e400}`, `{"query": {}, "documents": 5, "texts": "a"}`, `{"inputs": [[[]]], "truncate": "maybe"}`, `{"documents": [{}], "query": "a", "top_n": -1}`,
			} {
				r, err := http.Post(url+path, "application/json", strings.NewReader(body))
				if err != nil {
					t.Errorf("%s %.40s: %v", path, body, err)
					continue
				}
				b, _ := io.ReadAll(r.Body)
				if r.Body.Close(); r.StatusCode >= 500 {
					t.Errorf("%s %.40s: %d %s", path, body, r.StatusCode, b)
				}
			}
		}
	},
	"no HTTP": func(t *testing.T, url string) {
		for _, x := range []string{"\x16\x03\x01\x02\x00\x01", "GET / HTTP/9.9\r\n\r\n", "POST /embed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "\r\n\r\n\r\n", "GET /" + strings.Repeat("a", 200_000)} {
			cut(t, url, x, 50)
		}
	},
}

func whole(body string) string {
	return fmt.Sprintf("POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// cut sends something, reads some bytes, and cuts the connection by a reset.
func cut(t *testing.T, url, send string, read int) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0)
	_, _ = io.WriteString(c, send)
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.ReadFull(c, make([]byte, read))
}

// readLog reads the log to its end, tells its messages, and finds lines that should not be there.
func (s *serving) readLog(t *testing.T, message func(string)) (done *sync.WaitGroup) {
	done = &sync.WaitGroup{}
	done.Go(func() {
		for lines := bufio.NewScanner(s.stderr); lines.Scan(); {
			var x map[string]any
			if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
				t.Errorf("%s: %v", lines.Text(), err)
				continue
			}
			msg, _ := x["msg"].(string)
			message(msg)
			status, _ := x["status"].(float64)
			if x["msg"] == "panic" || x["level"] == "ERROR" && x["error"] == nil || status == 500 && !strings.Contains(fmt.Sprint(x["error"]), "was changed while") {
				t.Errorf("%s", lines.Text())
			}
		}
	})
	return done
}

// Whatever some clients do, the others' requests are answered, and rightly.
func TestServeFaults(t *testing.T) {
	s := startServing(t, nil, "--model", "embed="+tiny, "--model", "rerank="+oneOf["reranker"], "--max-concurrent-requests", "25")
	logged := s.readLog(t, func(string) {})
	g := startGoodClient(t, s.url)
	for name, act := range badClients {
		t.Run(name, func(t *testing.T) { act(t, s.url) })
	}
	g.end(t)
	if status, body, err := s.embed(http.DefaultClient, ""); status != 200 || err != nil {
		t.Errorf("%d %s %v", status, body, err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	logged.Wait()
	if err := s.cmd.Wait(); err != nil { // the slow bodies hold nothing up
		t.Error(err)
	}
}

// A model whose files another program cuts, changes or takes away fails with a reason or goes on, and others are not disturbed. SIGHUP
// mends it when the files are whole again.
func TestServeModelFaults(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model")
	copyFolder(t, tiny, model)
	weights := filepath.Join(model, "model.safetensors")
	whole, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}
	s := startServing(t, nil, "--model", "embed="+model, "--model", "rerank="+oneOf["reranker"])
	const kept = "not reloaded: the model embed"
	reloads := make(chan string, 100)
	logged := s.readLog(t, func(message string) {
		if strings.HasSuffix(message, ": the model embed") {
			reloads <- message
		}
	})
	g := startGoodClient(t, s.url)
	expect := func(want int, what string) {
		t.Helper()
		if status, body, err := s.embed(http.DefaultClient, ""); status != want || err != nil || strings.Contains(body, model) {
			t.Errorf("%s: %d %s %v, want %d", what, status, body, err, want)
		}
	}
	hangup := func(done, what string) { // until the reload is done, of which the log has a line
		t.Helper()
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for {
			select {
			case line := <-reloads:
				if line != done {
					t.Errorf("%s: %q, want %q", what, line, done)
				}
				return
			case <-time.After(time.Minute):
				t.Fatalf("%s: no line %q", what, done)
			}
		}
	}
	expect(200, "at first")
	if err := os.Truncate(weights, 0); err != nil {
		t.Fatal(err)
	}
	expect(500, "the weights were cut")
	hangup(kept, "the weights are still cut")
	expect(500, "the weights are still cut")
	if err := os.WriteFile(weights, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(500, "the weights were written anew, and the server does not know")
	hangup("reloaded: the model embed", "the weights are whole again")
	expect(200, "the weights are whole again")
	if err := os.RemoveAll(model); err != nil {
		t.Fatal(err)
	}
	expect(200, "the folder is gone")
	hangup(kept, "the folder is gone")
	expect(200, "the folder is gone, and SIGHUP found that")
	g.end(t)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	logged.Wait()
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A log that cannot be written fails no request: a full disk, a pipe that nobody reads, and one whose reader has ended.
func TestServeLogFaults(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	unread, held, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	defer held.Close()
	closed, broken, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	defer broken.Close()
	for name, stderr := range map[string]*os.File{"full disk": full, "nobody reads": held, "the reader ended": broken} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := l.Addr().String()
			l.Close() // the log cannot tell the port
			p := program(nil, "serve", "--model", "embed="+tiny, "--listen", address, "--threads", "1")
			p.Stderr = stderr
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			defer p.Process.Kill()
			s := &serving{url: "http://" + address, cmd: p}
			for range 200 {
				if r, err := http.Get(s.url + "/ready"); err == nil {
					r.Body.Close()
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			client := &http.Client{Timeout: 10 * time.Second}
			for range 300 { // a pipe holds 64 KiB
				if status, body, err := s.embed(client, ""); status != 200 || err != nil {
					t.Fatalf("%d %s %v", status, body, err)
				}
			}
			if err := p.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
