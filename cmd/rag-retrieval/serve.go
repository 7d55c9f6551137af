package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/models/serve"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "answer the requests of applications with models: embeddings, rerank",
		Description: `Routes, as the clients of each API call them:
  OpenAI             POST /v1/embeddings, GET /v1/models
  Cohere, Jina       POST /v2/rerank, /v1/rerank, /rerank
  TEI                POST /embed, /rerank with "texts", /similarity; GET /health
  vLLM               POST /pooling: a ColBERT model's vectors

A request without a model's name gets the first model of the kind. /rerank with an embedding or ColBERT model ranks by its own score; a
reranker's relevance_score is the sigmoid unless raw_scores is true. Texts that are too long are cut. Requests share batches. On
SIGTERM the server finishes what it has begun.

Examples:
  rag-retrieval serve --model embed=out/model
  rag-retrieval serve --model embed=out/model --model rerank=out-reranker/model --listen 127.0.0.1:8080
  curl http://127.0.0.1:8080/v1/embeddings -d '{"model": "embed", "input": "reverse a slice"}'`,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "model", Usage: "NAME=MODEL: a folder, a hub id or an .onnx file; may be given several times", Required: true},
			&cli.StringFlag{Name: "listen", Usage: "address and port; 0.0.0.0:8080 for all addresses of the machine", Value: "127.0.0.1:8080"},
			&cli.IntFlag{Name: "max-batch-tokens", Usage: "padded tokens of a batch that requests share", Value: scoring.DefaultBatchTokens},
			&cli.IntFlag{Name: "max-concurrent-requests", Usage: "requests in work or waiting; further ones get 429", Value: 512},
			&cli.IntFlag{Name: "max-texts", Usage: "texts or documents of a request", Value: 1000},
			&cli.Int64Flag{Name: "max-body-bytes", Usage: "of a request", Value: 2_000_000},
			&cli.DurationFlag{Name: "drain-timeout", Usage: "after SIGTERM, how long requests may take to finish", Value: 30 * time.Second},
			&cli.StringFlag{Name: "log-format", Usage: "of the lines on stderr: json or text", Value: "json"},
			&cli.StringFlag{Name: "log-level", Usage: "the least level that is written: debug (probes too), info, warn or error", Value: "info"},
		}, engineFlags()...),
		OnUsageError: onUsageError,
		Action:       serveModels,
	}
}

func serveModels(c *cli.Context) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	for _, flag := range []string{"max-batch-tokens", "max-concurrent-requests", "max-texts"} {
		if n := c.Int(flag); n < 1 {
			return usagef("--%s is %d, want at least 1", flag, n)
		}
	}
	if n := c.Int64("max-body-bytes"); n < 1 {
		return usagef("--max-body-bytes is %d, want at least 1", n)
	}
	log, err := serverLog(c)
	if err != nil {
		return err
	}
	var models []*serve.Model
	defer func() {
		for _, m := range models {
			err = errors.Join(err, m.Close())
		}
	}()
	for _, flag := range c.StringSlice("model") {
		name, ref, ok := strings.Cut(flag, "=")
		if !ok || name == "" || ref == "" {
			return usagef("--model is %q, want NAME=MODEL", flag)
		}
		o := engineOptions(c)
		o.BatchTokens, o.Note = c.Int("max-batch-tokens"), func(line string) { log.Info(line) }
		m, err := serve.OpenModel(c.Context, name, ref, o)
		if err != nil {
			return asUsage(err)
		}
		models = append(models, m)
	}
	s, err := serve.New(models, serve.Options{
		MaxBodyBytes: c.Int64("max-body-bytes"), MaxTexts: c.Int("max-texts"), MaxConcurrent: c.Int("max-concurrent-requests"), Log: log,
	})
	if err != nil {
		return usagef("--model: %v", err)
	}
	models = nil
	defer func() { err = errors.Join(err, s.Close()) }()
	l, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	log.Info(fmt.Sprintf("serving on http://%s", l.Addr()))
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-c.Context.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), c.Duration("drain-timeout"))
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return fmt.Errorf("requests were not finished within --drain-timeout: %w", errors.Join(err, server.Close()))
	}
	return nil
}

// serverLog is the log that the flags ask for.
func serverLog(c *cli.Context) (*slog.Logger, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[c.String("log-level")]
	if !ok {
		return nil, usagef("--log-level is %q, want debug, info, warn or error", c.String("log-level"))
	}
	o := &slog.HandlerOptions{Level: level}
	switch f := c.String("log-format"); f {
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
	default:
		return nil, usagef("--log-format is %q, want json or text", f)
	}
}
