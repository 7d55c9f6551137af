package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
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

const embedBody = `{"model": "embed", "input": "the a"}`

// embed asks for a vector with a key.
func (s *serving) embed(client *http.Client, key string) (status int, body string, err error) {
	r, err := http.NewRequest("POST", s.url+"/v1/embeddings", strings.NewReader(embedBody))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	return w.StatusCode, string(b), err
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// SIGHUP reads keys and changed models again while a client asks on, none of whose requests fails.
func TestServeReload(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model")
	copyFolder(t, tiny, model)
	keys := write(t, "keys", "one\n\n two \r\n")
	s := startServing(t, []string{keysVariable + "=three, four"}, "--model", "embed="+model, "--model", "rerank="+oneOf["reranker"], "--api-key-file", keys)
	for key, want := range map[string]int{"one": 200, "two": 200, "three": 200, "four": 200, "": 401, "five": 401} {
		if status, body, err := s.embed(http.DefaultClient, key); status != want || err != nil {
			t.Errorf("%q: %d %s %v, want %d", key, status, body, err, want)
		}
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 3 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, body, err := s.embed(http.DefaultClient, "four"); status != 200 || err != nil {
					t.Errorf("%d %s %v", status, body, err)
					return
				}
			}
		})
	}
	reload := func(want string) {
		t.Helper()
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.line(t, "reloading")
		s.line(t, "keys")
		if line := s.line(t, "embed"); line["msg"] != want {
			t.Errorf("%v, want %q", line, want)
		}
		s.line(t, "unchanged: the model rerank")
	}
	reload("unchanged: the model embed")
	if err := os.WriteFile(keys, []byte("six\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(model, model+".old"); err != nil {
		t.Fatal(err)
	}
	reload("not reloaded: the model embed")
	if one, _, _ := s.embed(http.DefaultClient, "one"); one != 401 {
		t.Errorf("a key that was taken out of the file: %d", one)
	}
	if six, _, _ := s.embed(http.DefaultClient, "six"); six != 200 {
		t.Errorf("a new key: %d", six)
	}
	copyFolder(t, tiny, model)
	reload("reloaded: the model embed")
	if err := os.WriteFile(filepath.Join(model, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload("not reloaded: the model embed")
	close(stop)
	clients.Wait()
	if rest, err := s.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("%v: %s", err, rest)
	}
}

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// HTTPS speaks TLS 1.2 and newer, with the certificate that was there at the last SIGHUP.
func TestServeTLS(t *testing.T) {
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	selfSigned(t, cert, key, 1)
	s := startServing(t, nil, "--model", "embed="+tiny, "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatal(s.url)
	}
	serial := func(most uint16) (int64, error) {
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{InsecureSkipVerify: true, MaxVersion: most})
		if err != nil {
			return 0, err
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
	}
	if n, err := serial(tls.VersionTLS13); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if n, err := serial(tls.VersionTLS12); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if _, err := serial(tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	if status, body, err := s.embed(client, ""); status != 200 || err != nil {
		t.Errorf("%d %s %v", status, body, err)
	}
	selfSigned(t, cert, key, 2)
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.line(t, "reloaded: the certificate")
	if n, err := serial(tls.VersionTLS13); n != 2 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if err := os.WriteFile(cert, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.line(t, "not reloaded: the certificate")
	if n, err := serial(tls.VersionTLS13); n != 2 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if rest, err := s.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("%v: %s", err, rest)
	}
}

// slowRequest sends a request whose last byte comes with finish.
func slowRequest(t *testing.T, url string) (c net.Conn, finish func() *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(embedBody), embedBody[:len(embedBody)-1])
	return c, func() *http.Response {
		t.Helper()
		fmt.Fprint(c, embedBody[len(embedBody)-1:])
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// unreadRequest asks for a response of about 40 MB, more than a connection's buffers hold, and reads its header: until read is called, the
// request is in work.
func unreadRequest(t *testing.T, url string) (read func() (*http.Response, int64, error)) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	body := `{"inputs": "` + strings.Repeat("a ", 600_000) + `"}`
	fmt.Fprintf(c, "POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() (*http.Response, int64, error) {
		n, err := io.Copy(io.Discard, r.Body)
		return r, n, err
	}
}

// After SIGTERM what was begun is finished, /ready says 503, requests are still taken for --shutdown-delay, and then refused.
func TestServeDrain(t *testing.T) {
	s := startServing(t, nil, "--model", "embed="+tiny, "--shutdown-delay", "700ms")
	finish := unreadRequest(t, s.url)
	_, late := slowRequest(t, s.url)                                    // its body is not there when the server drains
	early, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://")) // a connection that has not asked for anything yet
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.line(t, "ending")
	r, err := http.Get(s.url + "/ready")
	if err != nil || r.StatusCode != http.StatusServiceUnavailable || !r.Close {
		t.Errorf("%+v %v", r, err)
	}
	if status, body, err := s.embed(http.DefaultClient, ""); status != 200 || err != nil {
		t.Errorf("within the delay: %d %s %v", status, body, err)
	}
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // until the server listens no more
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			break
		}
		if c.Close(); time.Now().After(until) {
			t.Fatal("the server listens after the delay")
		}
	}
	refused := func(r *http.Response) bool {
		return r.StatusCode == http.StatusServiceUnavailable && r.Header.Get("Retry-After") != "" && r.Close
	}
	fmt.Fprintf(early, "POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(embedBody), embedBody)
	if r, err := http.ReadResponse(bufio.NewReader(early), nil); err != nil || !refused(r) {
		t.Errorf("a new request: %+v %v", r, err)
	}
	if r := late(); !refused(r) {
		t.Errorf("a body that comes late: %+v", r)
	}
	if r, n, err := finish(); r.StatusCode != http.StatusOK || n != r.ContentLength || err != nil {
		t.Errorf("the request that was begun: %+v, %d bytes, %v", r, n, err)
	}
	rest, _ := io.ReadAll(s.stderr)
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, rest)
	}
}

// A request that does not end is given up after --drain-timeout; a second signal, a second later, ends the server at once. A client that has sent only a
// part of its body holds nothing up.
func TestServeEndsInTime(t *testing.T) {
	s := startServing(t, nil, "--model", "embed="+tiny, "--drain-timeout", "300ms")
	unreadRequest(t, s.url)
	rest, err := s.end(t, syscall.SIGTERM)
	if s.cmd.ProcessState.ExitCode() != exitError || !strings.Contains(rest, "not finished within --drain-timeout 300ms") {
		t.Errorf("%v: %s", err, rest)
	}
	s = startServing(t, nil, "--model", "embed="+tiny, "--drain-timeout", "1h")
	unreadRequest(t, s.url)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.line(t, "ending")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil { // at once: it does not count
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	if rest, err := s.end(t, os.Interrupt); err == nil || s.cmd.ProcessState.ExitCode() != -1 {
		t.Errorf("the second signal: %v %s", err, rest)
	}
	s = startServing(t, nil, "--model", "embed="+tiny, "--drain-timeout", "1h")
	slowRequest(t, s.url)
	if rest, err := s.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("a part of a body: %v: %s", err, rest)
	}
}

// systemd hears when the server is ready, reloads and ends.
func TestServeNotifies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	_ = l.SetReadDeadline(time.Now().Add(30 * time.Second))
	state := func(want string) {
		t.Helper()
		b := make([]byte, 1000)
		n, err := l.Read(b)
		if err != nil || !strings.HasPrefix(string(b[:n]), want) {
			t.Errorf("%q %v, want %s", b[:n], err, want)
		}
	}
	s := startServing(t, []string{"NOTIFY_SOCKET=" + path}, "--model", "embed="+tiny)
	state("READY=1")
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	state("RELOADING=1\nMONOTONIC_USEC=")
	state("READY=1")
	if rest, err := s.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("%v: %s", err, rest)
	}
	state("STOPPING=1")
}
