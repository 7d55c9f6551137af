package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/serve"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "answer the requests of applications with models: embeddings, rerank",
		Description: `Examples:
  rag-retrieval serve --model embed=out/model
  rag-retrieval serve --model embed=out/model --model rerank=out-reranker/model --listen 127.0.0.1:8080
  curl http://127.0.0.1:8080/v1/embeddings -d '{"model": "embed", "input": "reverse a slice"}'`,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "model", Usage: "NAME=MODEL: a folder, a hub id or an .onnx file; may be given several times", Required: true},
			&cli.StringFlag{Name: "listen", Usage: "address and port", Value: "127.0.0.1:8080"},
		}, engineFlags()...),
		OnUsageError: onUsageError,
		Action:       serveModels,
	}
}

func serveModels(c *cli.Context) (err error) {
	if err := noArguments(c); err != nil {
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
		m, err := serve.OpenModel(c.Context, name, ref, engineOptions(c))
		if err != nil {
			return asUsage(err)
		}
		models = append(models, m)
	}
	s, err := serve.New(models, serve.Options{})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second}
	note(fmt.Sprintf("serving on http://%s", l.Addr()))
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-c.Context.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return server.Shutdown(drain)
}
