package main

import (
	"context"
	"fmt"
	"os"
	goruntime "runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// version is the program's; scripts/setup.sh leaves it, releases set it with -ldflags.
var version = "0.1.0-dev"

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the versions of the program and its parts",
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			fmt.Printf("rag-retrieval %s %s %s/%s\n", version, goruntime.Version(), goruntime.GOOS, goruntime.GOARCH)
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, d := range info.Deps {
					if d.Path == "github.com/yalue/onnxruntime_go" || d.Path == "github.com/daulet/tokenizers" {
						fmt.Println(d.Path, d.Version)
					}
				}
			}
			return nil
		},
	}
}

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "check that everything the program needs is there, and say what it understands of a model",
		Description: "Examples:\n  rag-retrieval doctor\n  rag-retrieval doctor --model MODEL",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "folder or hub id (org/name) of a model: its architecture, and what of its config.json is understood and ignored"},
			&cli.StringFlag{Name: "kind", Usage: kindNames() + "; default: what the folder says of itself"},
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.IsSet("kind") && !c.IsSet("model") {
				return usagef("--kind is of --model, which is missing")
			}
			if err := doctor(); err != nil || !c.IsSet("model") {
				return err
			}
			return explain(c.Context, c.String("model"), c.String("kind"))
		},
	}
}

// explain says what the program understands of a model's folder, without reading its weights.
func explain(ctx context.Context, ref, kind string) (err error) {
	dir, err := resolver().Model(ctx, ref)
	if err != nil {
		return err
	}
	k, err := retriever.KindOf(dir, modelcard.Kind(kind))
	if err != nil {
		return asUsage(err)
	}
	var m interface {
		Describe() string
		Close() error
	}
	var enc encoder.Config
	switch k {
	case modelcard.Reranker:
		x, err := reranker.OpenBase(dir)
		if err != nil {
			return err
		}
		m, enc = x, x.Encoder
	case modelcard.ColBERT:
		x, err := colbert.OpenBase(dir, config.DefaultTrain(k).ColBERTDim, 0)
		if err != nil {
			return err
		}
		m, enc = x, x.Encoder
	default:
		x, err := embedding.OpenBase(dir)
		if err != nil {
			return err
		}
		m, enc = x, x.Encoder
	}
	fmt.Printf("%s%s: %s\n", enc.Explain(), k, m.Describe())
	return m.Close()
}

func doctor() error {
	var rows [][]string
	var failed error
	check := func(what string, found string, err error) {
		state := "ok"
		if err != nil {
			state, found = "MISSING", err.Error()
			failed = fmt.Errorf("%s does not work", what)
		}
		rows = append(rows, []string{what, state, found})
	}
	err := runtime.Load("")
	v, path := runtime.Version()
	check("ONNX Runtime", v+" "+path, err)
	if err == nil {
		check("a session", "computes on the CPU", tryRuntime(runtime.CPU))
		if _, _, err := runtime.Resolve(runtime.CUDA); err != nil {
			rows = append(rows, []string{"CUDA", "none", err.Error()}) // not needed
		} else {
			check("CUDA", "computes", tryRuntime(runtime.CUDA))
		}
	}
	if path, err := dist.FindLibrary(); err != nil {
		rows = append(rows, []string{"MPI", "none", err.Error()}) // only jobs of several ranks need it
	} else {
		check("MPI", path, dist.Check(path))
	}
	check("cores", fmt.Sprint(goruntime.NumCPU()), nil)
	home, err := runtime.Home()
	check("cache folder", home, err)
	header := []string{"part", "state", "found"}
	if err := eval.WriteTable(os.Stdout, "table", header, eval.FitToWidth(header, rows, eval.Width(os.Stdout, 100))); err != nil {
		return err
	}
	return failed
}

// tryRuntime runs a graph of one addition.
func tryRuntime(provider string) error {
	g := onnx.NewGraph("doctor")
	x := g.Input("x", onnx.Float32, onnx.FixedDim(2))
	g.Output("y", g.Add(x, x))
	model, err := g.Bytes()
	if err != nil {
		return err
	}
	s, err := runtime.NewSession(model, runtime.Options{Provider: provider})
	if err != nil {
		return err
	}
	defer s.Close()
	b, err := s.NewBinding()
	if err != nil {
		return err
	}
	defer b.Close()
	got := make([]float32, 2)
	out, err := runtime.NewTensor(got, 2)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := b.Floats("x", []float32{1, 2}, 2); err != nil {
		return err
	}
	if err := b.Output("y", out); err != nil {
		return err
	}
	if err := b.Run(); err != nil {
		return err
	}
	if got[0] != 2 || got[1] != 4 {
		return fmt.Errorf("1+1, 2+2 gave %v", got)
	}
	return nil
}
