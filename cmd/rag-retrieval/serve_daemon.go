package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"rag-retrieval-go/internal/memory"
	"rag-retrieval-go/models/serve"
)

// Limits of connections. What a request may wait for the model is --request-timeout, and how slowly a client may read is the server's.
const (
	readHeaderTimeout = 10 * time.Second // also of a TLS handshake
	readTimeout       = time.Minute      // of header and body: 2 MB at 35 kB/s
	idleTimeout       = 2 * time.Minute  // longer than the 60 s of most load balancers, so that it is they who end a connection
	maxHeaderBytes    = 64 << 10         // an API key, cookies of other programs on the same host, trace headers
)

// served is a server that runs, and what SIGHUP reads again.
type served struct {
	c      *cli.Context
	log    *slog.Logger
	lines  *logLines // of the log
	server *serve.Server
	models []modelFlag
	keys   *serve.Keys
	cert   *certificate // nil without TLS

	stopTraces func()
}

// run answers requests until the context ends.
func (d *served) run(ctx context.Context, l net.Listener) error {
	signal.Ignore(syscall.SIGPIPE)    // who reads the log may end: that ends no server
	ending := make(chan os.Signal, 1) // keeps a second signal from ending the process until end says so
	signal.Notify(ending, os.Interrupt, syscall.SIGTERM)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	h := &http.Server{
		Handler: d.server.Handler(), ErrorLog: log.New(libraryLog{d.log}, "", 0),
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}
	failed := make(chan error, 1)
	go func() { failed <- d.listen(h, l) }()
	d.tell(daemon.SdNotifyReady)
	onTerminal := term.IsTerminal(int(os.Stderr.Fd()))
	hangups, reloaded := hangup, make(chan struct{}, 1) // hangups is nil while models are read again: one more SIGHUP waits for its turn
	for {
		select {
		case err := <-failed:
			return err
		case <-hangups:
			if onTerminal && !term.IsTerminal(int(os.Stderr.Fd())) { // the terminal was closed
				return d.end(h, l)
			}
			hangups = nil
			go func() {
				d.reload(ctx)
				reloaded <- struct{}{}
			}()
		case <-reloaded:
			hangups = hangup
		case <-ctx.Done():
			err := d.end(h, l)
			if err == nil && hangups == nil {
				err = errReloading
			}
			return err
		}
	}
}

// errReloading is the end of a server that still opens a model, which nobody waits for.
var errReloading = errors.New("a model is being opened")

// listen answers the requests of a listener until it is closed.
func (d *served) listen(h *http.Server, l net.Listener) error {
	scheme := "http"
	if d.cert != nil {
		scheme, h.TLSConfig = "https", d.cert.config()
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && d.keys == nil && !a.IP.IsLoopback() {
		d.log.Warn(fmt.Sprintf("everyone who reaches %s can use the models: set --api-key-file or %s, or listen on 127.0.0.1", a, keysVariable))
	}
	d.log.Info(fmt.Sprintf("serving on %s://%s", scheme, l.Addr()))
	if d.cert != nil {
		return h.ServeTLS(l, "", "")
	}
	return h.Serve(l)
}

// end finishes the requests in work. A second signal that comes a second later ends the process at once: programs that start others often
// send the first one twice.
func (d *served) end(h *http.Server, l net.Listener) error {
	time.AfterFunc(time.Second, func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })
	d.tell(daemon.SdNotifyStopping)
	d.server.Leave()
	d.log.Info("ending", "shutdown_delay", d.c.Duration("shutdown-delay").String(), "drain_timeout", d.c.Duration("drain-timeout").String())
	time.Sleep(d.c.Duration("shutdown-delay")) // load balancers learn of it in this time
	_ = l.Close()
	drain, cancel := context.WithTimeout(context.Background(), d.c.Duration("drain-timeout"))
	defer cancel()
	// Drain comes before Shutdown, after which net/http closes connections instead of answering them with 503.
	if err := d.server.Drain(drain); err != nil {
		d.log.Error("ended before all requests were finished", "requests", d.server.InWork())
		_ = h.Close()
		return fmt.Errorf("requests were not finished within --drain-timeout %v", d.c.Duration("drain-timeout"))
	}
	last, cancelLast := context.WithTimeout(context.Background(), time.Second) // for the last bytes of responses
	defer cancelLast()
	if h.Shutdown(last) != nil {
		_ = h.Close() // connections on which nothing was asked
	}
	d.log.Info("ended")
	return nil
}

// tell tells systemd the state, if it started the process as a service of type notify.
func (d *served) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.log.Warn("systemd was not told the state", "error", err.Error())
	}
}

// libraryLog is where net/http writes what goes wrong with connections. Handshakes of clients that speak no TLS are everyday.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Write(b []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.Contains(b, []byte("TLS handshake error")) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, string(bytes.TrimSpace(b)))
	return len(b), nil
}

// reload reads keys, certificate and models again. What cannot be read stays as it was.
func (d *served) reload(ctx context.Context) {
	d.log.Info("reloading")
	d.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	defer d.tell(daemon.SdNotifyReady)
	if d.keys != nil {
		keys, err := readKeys(d.c)
		if err == nil {
			d.keys.Set(keys)
		}
		d.reloaded("keys", "the API keys", err)
	}
	if d.cert != nil {
		d.reloaded("certificate", "the certificate", d.cert.load())
	}
	for _, m := range d.models {
		d.reloaded(m.name, "the model "+m.name, d.reloadModel(ctx, m))
	}
}

// reloaded counts under a label how it ended that something was read again, and logs it.
func (d *served) reloaded(label, what string, err error) {
	switch {
	case errors.Is(err, errUnchanged):
		d.server.CountReload(label, "unchanged")
		d.log.Info("unchanged: " + what)
	case err != nil:
		d.server.CountReload(label, "failure")
		d.log.Error("not reloaded: "+what, "error", oneLine(err.Error()))
	default:
		d.server.CountReload(label, "success")
		d.log.Info("reloaded: " + what)
	}
}

var errUnchanged = errors.New("unchanged")

// reloadModel opens a model whose files have changed, and serves it in place of the old one. Both are in memory until the old one's
// last request has been answered.
func (d *served) reloadModel(ctx context.Context, f modelFlag) error {
	for _, m := range d.server.Models() {
		if m.Name == f.name && !m.Changed() {
			return errUnchanged
		}
	}
	defer memory.Release() // the old model's, which would stay with the C library's allocator
	m, err := f.open(ctx, d.c, d.log)
	if err != nil {
		return err
	}
	if err := d.server.Replace(m); err != nil { // m is not served
		return errors.Join(err, m.Close())
	}
	return nil
}
