// Command faults is a crowd of clients for scripts/serve/faults.sh: some behave, and the others send slowly, read slowly, cut
// connections, and send bodies that are no JSON or not what the routes want. It ends with an error if a client that behaves got a
// wrong answer or none, or if a bad body got a 500.
//
//	go run ./scripts/serve/faults --url http://127.0.0.1:8080 --model embed --seconds 60
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// crowd is all clients.
type crowd struct {
	url, model string
	end        time.Time
	clients    sync.WaitGroup
	mu         sync.Mutex
	counts     map[string]int
	failed     atomic.Bool
	slowest    atomic.Int64 // nanoseconds of the slowest good answer
}

func main() {
	c := &crowd{counts: map[string]int{}}
	flag.StringVar(&c.url, "url", "http://127.0.0.1:8080", "of the server")
	flag.StringVar(&c.model, "model", "embed", "an embedding model that stays whole")
	seconds := flag.Int("seconds", 60, "how long")
	flag.Parse()
	c.end = time.Now().Add(time.Duration(*seconds) * time.Second)
	want, _, err := c.embed()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
	for range 2 {
		c.until(func(*rand.Rand) { c.good(want) })
	}
	for range 100 {
		c.until(func(*rand.Rand) {
			c.drip("POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 10_000))
		})
		c.until(func(*rand.Rand) {
			c.drip("POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{\"input\": \"" + strings.Repeat("a", 10_000))
		})
	}
	for range 4 {
		c.until(c.cut)
		c.until(c.malformed)
	}
	for range 10 {
		c.until(c.deaf)
	}
	c.clients.Wait()
	c.counts["slowest good answer in ms"] = int(c.slowest.Load() / 1e6)
	out, _ := json.MarshalIndent(c.counts, "", "  ")
	fmt.Println(string(out))
	if c.failed.Load() {
		os.Exit(1)
	}
}

// until repeats something until the end.
func (c *crowd) until(f func(*rand.Rand)) {
	seed := uint64(len(c.counts))
	c.clients.Go(func() {
		for r := rand.New(rand.NewPCG(seed, uint64(time.Now().UnixNano()))); time.Now().Before(c.end); {
			f(r)
		}
	})
}

func (c *crowd) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

// fail tells a client's failure, of which the first are printed.
func (c *crowd) fail(format string, args ...any) {
	c.failed.Store(true)
	c.count("failures")
	if c.mu.Lock(); c.counts["failures"] <= 20 {
		fmt.Fprintf(os.Stderr, "faults: "+format+"\n", args...)
	}
	c.mu.Unlock()
}

const text = "how does a goroutine wait for another one"

func (c *crowd) embed() (vector []float64, status int, err error) {
	body, _ := json.Marshal(map[string]any{"model": c.model, "input": text})
	r, err := http.Post(c.url+"/v1/embeddings", "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return nil, r.StatusCode, fmt.Errorf("%d %s %w", r.StatusCode, b, err)
	}
	var out struct {
		Data []struct{ Embedding []float64 }
	}
	if err := json.Unmarshal(b, &out); err != nil || len(out.Data) != 1 {
		return nil, r.StatusCode, fmt.Errorf("%s: %w", b, err)
	}
	return out.Data[0].Embedding, r.StatusCode, nil
}

// good asks, and checks the answer. A 429 is a right answer too.
func (c *crowd) good(want []float64) {
	start := time.Now()
	got, status, err := c.embed()
	if status == http.StatusTooManyRequests {
		c.count("good: 429")
		time.Sleep(time.Second)
		return
	}
	if err != nil {
		c.fail("a client that behaves: %v", err)
		return
	}
	for i := range want {
		if len(got) != len(want) || math.Abs(got[i]-want[i]) > 1e-6 {
			c.fail("number %d of the vector is %v, want %v", i, got[i], want[i])
			return
		}
	}
	c.count("good: right answers")
	if took := int64(time.Since(start)); took > c.slowest.Load() {
		c.slowest.Store(took)
	}
}

func (c *crowd) dial() net.Conn {
	n, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		c.fail("connecting: %v", err)
		time.Sleep(100 * time.Millisecond)
		return nil
	}
	return n
}

// drip sends a request byte by byte until the server has enough of it.
func (c *crowd) drip(send string) {
	n := c.dial()
	if n == nil {
		return
	}
	defer n.Close()
	for i := range send {
		if _, err := io.WriteString(n, send[i:i+1]); err != nil {
			c.count("slow senders that the server ended")
			return
		}
		if time.Sleep(100 * time.Millisecond); time.Now().After(c.end) {
			return
		}
	}
}

// cut ends a connection by a reset somewhere in the request or the response.
func (c *crowd) cut(r *rand.Rand) {
	n := c.dial()
	if n == nil {
		return
	}
	defer n.Close()
	_ = n.(*net.TCPConn).SetLinger(0)
	body := fmt.Sprintf(`{"model": %q, "input": [%s"end"]}`, c.model, strings.Repeat(`"a text of some words", `, 20))
	send := fmt.Sprintf("POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	switch r.IntN(3) {
	case 0:
		send = send[:r.IntN(len(send))]
	case 1:
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
	}
	_, _ = io.WriteString(n, send)
	if len(send) > len(body) && r.IntN(2) == 0 {
		_ = n.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.ReadFull(n, make([]byte, 1+r.IntN(3000)))
	}
	c.count("cut connections")
}

// deaf asks for a large response and does not read it.
func (c *crowd) deaf(*rand.Rand) {
	n := c.dial()
	if n == nil {
		return
	}
	defer n.Close()
	_ = n.(*net.TCPConn).SetReadBuffer(4096)
	body := fmt.Sprintf(`{"model": %q, "input": [%s"end"]}`, c.model, strings.Repeat(`"a", `, 900))
	fmt.Fprintf(n, "POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	time.Sleep(min(time.Minute, time.Until(c.end)))
	c.count("clients that did not read")
}

var bodies = map[string]string{
	"/v1/embeddings": `{"model": "embed", "input": ["one", "two"], "encoding_format": "base64", "dimensions": 64}`,
	"/v1/rerank":     `{"query": "one", "documents": ["two", {"text": "three"}], "top_n": 1, "return_documents": true}`,
	"/v2/rerank":     `{"query": "one", "documents": ["two", "three"], "top_n": 2, "max_tokens_per_doc": 7}`,
	"/rerank":        `{"query": "one", "texts": ["two", "three"], "raw_scores": true, "truncate": true}`,
	"/embed":         `{"inputs": ["one", "two"], "truncate": true, "normalize": true, "prompt_name": "query"}`,
	"/similarity":    `{"inputs": {"source_sentence": "one", "sentences": ["two", "three"]}}`,
	"/tokenize":      `{"inputs": ["one", "two"], "add_special_tokens": true}`,
	"/pooling":       `{"input": ["one"]}`,
}

// malformed sends a body in which some bytes are others, are missing, or are there twice.
func (c *crowd) malformed(r *rand.Rand) {
	for path, body := range bodies {
		b := []byte(body)
		for range 1 + r.IntN(4) {
			switch i := r.IntN(len(b)); r.IntN(4) {
			case 0:
				b[i] = byte(r.IntN(256))
			case 1:
				b = append(b[:i], b[min(len(b)-1, i+1+r.IntN(10)):]...)
			case 2:
				b = append(b[:i:i], append([]byte([]string{"null", "[", "{", "-1", "1e999", `"\ud800"`, "99999999999999999999"}[r.IntN(7)]), b[i:]...)...)
			case 3:
				b = append(b[:i:i], append(bytes.Repeat(b[i:min(len(b), i+5)], 1+r.IntN(200)), b[i:]...)...)
			}
		}
		w, err := http.Post(c.url+path, "application/json", bytes.NewReader(b))
		if err != nil {
			c.fail("%s %.80q: %v", path, b, err)
			continue
		}
		answer, _ := io.ReadAll(w.Body)
		if w.Body.Close(); w.StatusCode >= 500 {
			c.fail("%s %.200q: %d %s", path, b, w.StatusCode, answer)
		}
		c.count(fmt.Sprintf("malformed: %d", w.StatusCode))
		time.Sleep(5 * time.Millisecond)
	}
}
