package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"go.opentelemetry.io/otel/trace"

	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/models/serve"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "answer the requests of applications with models: embeddings, rerank",
		Description: `Routes, as the clients of each API call them:
  OpenAI, vLLM       POST /v1/embeddings, /pooling (a ColBERT model's vectors); GET /v1/models, /v1/models/NAME
  Cohere, Jina       POST /v2/rerank, /v1/rerank, /rerank
  TEI                POST /embed, /rerank with "texts", /similarity, /tokenize, /; GET /info, /health, /ready

A request without a model's name gets the first model of the kind. /rerank with an embedding or ColBERT model ranks by its own score; a
reranker's relevance_score is the sigmoid unless raw_scores is true. Texts that are too long are cut. Requests share batches.

The page at / ranks passages with a model, or with two side by side (before and after fine-tuning), shows which tokens a ColBERT model
matches, and the server's load.

API keys: with --api-key-file or ` + keysVariable + `, requests must have the header "Authorization: Bearer KEY". /health, /ready,
/metrics and the page at / need none. Requests that a browser sends from a page of another web site get 403.

Signals: on SIGTERM or Ctrl-C the server finishes what it has begun, refuses the rest with 503, and exits with 0; a second one ends it at
once. On SIGHUP it reads the API keys, the certificate, and every model whose files have changed again, and no request fails: the old
and the new model are in memory until the new one answers. What cannot be read stays as it was, and the log says why.

The log is on stderr: a line for each request with its id (X-Request-Id), model, texts, tokens and times, and never its texts or key.
/metrics is for Prometheus. Traces go to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names, such as
http://127.0.0.1:4318; without it, lines of the log still have the trace_id of the client's header traceparent.

Examples:
  rag-retrieval serve --model embed=out/model
  rag-retrieval serve --model before=MODEL --model after=out/model   # and open http://127.0.0.1:8080 in a browser
  rag-retrieval serve --model embed=out/model --model rerank=out-reranker/model --listen 127.0.0.1:8080
  rag-retrieval serve --model embed=out/model --listen 0.0.0.0:8443 --api-key-file keys.txt --tls-cert cert.pem --tls-key key.pem
  curl http://127.0.0.1:8080/v1/embeddings -d '{"model": "embed", "input": "reverse a slice"}'
  curl http://127.0.0.1:8080/v1/models -H "Authorization: Bearer $KEY"
  kill -HUP PID`,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "model", Usage: "NAME=MODEL: a folder, a hub id or an .onnx file; may be given several times", Required: true},
			&cli.StringFlag{Name: "listen", Usage: "address and port; 0.0.0.0:8080 for all addresses of the machine", Value: "127.0.0.1:8080"},
			&cli.IntFlag{Name: "max-batch-tokens", Usage: "tokens of a batch that requests share, without padding", Value: scoring.DefaultBatchTokens},
			&cli.IntFlag{Name: "max-concurrent-requests", Usage: "requests in work or waiting; further ones get 429", Value: 512},
			&cli.IntFlag{Name: "max-texts", Usage: "texts or documents of a request", Value: 10_000},
			&cli.Int64Flag{Name: "max-body-bytes", Usage: "of a request", Value: 2_000_000},
			&cli.DurationFlag{Name: "request-timeout", Usage: "how long a request may wait and be computed; then it gets 504", Value: 2 * time.Minute},
			&cli.StringFlag{Name: "api-key-file", Usage: "requests must have one of this file's keys, one a line; also from " + keysVariable + ", with commas"},
			&cli.StringFlag{Name: "tls-cert", Usage: "PEM file of the certificate with its chain: serve HTTPS"},
			&cli.StringFlag{Name: "tls-key", Usage: "PEM file of the certificate's private key", DefaultText: "in the file of --tls-cert"},
			&cli.DurationFlag{Name: "shutdown-delay", Usage: "after SIGTERM, how long requests are still taken while /ready says 503, so that load balancers learn of it"},
			&cli.DurationFlag{Name: "drain-timeout", Usage: "after that, how long the requests in work may take to finish", Value: 30 * time.Second},
			&cli.StringFlag{Name: "log-format", Usage: "of the lines on stderr: json or text", Value: "json"},
			&cli.StringFlag{Name: "log-level", Usage: "the least level that is written: debug (probes too), info, warn or error", Value: "info"},
		}, engineFlags()...),
		OnUsageError: onUsageError,
		Action:       serveModels,
	}
}

func serveModels(c *cli.Context) error {
	d, o, err := serveFlags(c)
	if err != nil {
		return err
	}
	defer d.lines.flush()
	defer d.stopTraces()
	var models []*serve.Model
	for _, f := range d.models {
		m, err := f.open(c.Context, c, d.log)
		if err != nil {
			return errors.Join(err, closeModels(models))
		}
		models = append(models, m)
	}
	if d.server, err = serve.New(models, o); err != nil {
		return errors.Join(usagef("--model: %v", err), closeModels(models))
	}
	l, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return errors.Join(err, d.server.Close())
	}
	switch err := d.run(c.Context, l); {
	case errors.Is(err, errReloading):
		return nil
	case err != nil:
		return err // requests may still be in work: their models end with the process
	}
	return d.server.Close()
}

func closeModels(models []*serve.Model) error {
	var errs []error
	for _, m := range models {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// serveFlags reads and checks the flags.
func serveFlags(c *cli.Context) (d *served, o serve.Options, err error) {
	if err := noArguments(c); err != nil {
		return nil, o, err
	}
	if err := checkServeRanges(c); err != nil {
		return nil, o, err
	}
	d = &served{c: c, lines: newLogLines(os.Stderr)}
	var write func()
	if d.log, write, err = serverLog(c, d.lines); err != nil {
		return nil, o, err
	}
	if d.models, err = modelFlags(c.StringSlice("model")); err != nil {
		return nil, o, err
	}
	if d.keys, err = apiKeys(c); err != nil {
		return nil, o, err
	}
	if d.cert, err = tlsCertificate(c); err != nil {
		return nil, o, err
	}
	var tracer trace.Tracer
	if tracer, d.stopTraces, err = traces(d.log); err != nil {
		return nil, o, err
	}
	write() // last: who gets an error has no lines to flush
	return d, serve.Options{
		MaxBodyBytes: c.Int64("max-body-bytes"), MaxTexts: c.Int("max-texts"), MaxConcurrent: c.Int("max-concurrent-requests"), Version: version,
		RequestTimeout: c.Duration("request-timeout"), Keys: d.keys, Log: d.log, Tracer: tracer,
	}, nil
}

// checkServeRanges checks the flags that are numbers and times.
func checkServeRanges(c *cli.Context) error {
	for _, x := range []struct {
		flag  string
		value any
		ok    bool
		want  string
	}{
		{"max-batch-tokens", c.Int("max-batch-tokens"), c.Int("max-batch-tokens") > 0, "at least 1"},
		{"max-concurrent-requests", c.Int("max-concurrent-requests"), c.Int("max-concurrent-requests") > 0, "at least 1"},
		{"max-texts", c.Int("max-texts"), c.Int("max-texts") > 0, "at least 1"},
		{"max-body-bytes", c.Int64("max-body-bytes"), c.Int64("max-body-bytes") > 0, "at least 1"},
		{"request-timeout", c.Duration("request-timeout"), c.Duration("request-timeout") > 0, "more than 0s"},
		{"drain-timeout", c.Duration("drain-timeout"), c.Duration("drain-timeout") >= 0, "at least 0s"},
		{"shutdown-delay", c.Duration("shutdown-delay"), c.Duration("shutdown-delay") >= 0, "at least 0s"},
	} {
		if !x.ok {
			return usagef("--%s is %v, want %s", x.flag, x.value, x.want)
		}
	}
	return nil
}

// modelFlag is a --model: a name and what it stands for.
type modelFlag struct{ name, ref string }

func modelFlags(values []string) (flags []modelFlag, err error) {
	for _, v := range values {
		name, ref, ok := strings.Cut(v, "=")
		if !ok || name == "" || ref == "" {
			return nil, usagef("--model is %q, want NAME=MODEL", v)
		}
		flags = append(flags, modelFlag{name, ref})
	}
	return flags, nil
}

// open opens the model.
func (f modelFlag) open(ctx context.Context, c *cli.Context, log *slog.Logger) (*serve.Model, error) {
	o := engineOptions(c)
	o.BatchTokens, o.Note = c.Int("max-batch-tokens"), func(line string) { log.Info(line) }
	m, err := serve.OpenModel(ctx, f.name, f.ref, o)
	return m, asUsage(err)
}
