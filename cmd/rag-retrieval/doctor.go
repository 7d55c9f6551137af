package main

import (
	"context"
	"errors"
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
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/kernels"
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
		Description: "Under mpirun it shows the hosts of the job, and fails if they differ in a way that train refuses.\n" +
			"The row bf16 says with which of the CPU's units train and scoring compute matrix products. " + kernels.Variable + "=amx, avx512\n" +
			"or portable chooses one wherever products are in bf16, and makes auto bf16.\n\n" +
			"Examples:\n  rag-retrieval doctor\n  rag-retrieval doctor --model MODEL\n  mpirun -n 4 rag-retrieval doctor",
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
			if n, _ := dist.Launched(); n > 1 {
				if c.IsSet("model") {
					return usagef("--model is for one process: leave mpirun out")
				}
				return doctorOfRanks()
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
	if err := explainAdapter(dir); err != nil {
		return errors.Join(err, m.Close())
	}
	return m.Close()
}

// explainAdapter says what the adapter of a model's folder is, if it has one.
func explainAdapter(dir string) error {
	if is, err := hf.IsAdapter(dir); err != nil || !is {
		return err
	}
	c, err := hf.ReadAdapterConfig(dir)
	if err == nil {
		fmt.Printf("adapter: %s\n", c.Describe())
	}
	return err
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
		check("a session", "computes on the CPU", tryRuntime(runtime.Options{}))
		if _, _, err := runtime.Resolve(runtime.CUDA, 0); err != nil {
			rows = append(rows, []string{"CUDA", "none", err.Error()}) // not needed
		} else {
			check("CUDA", "computes on GPU 0"+ofGPUs(), tryRuntime(runtime.Options{Provider: runtime.CUDA}))
		}
		if v, err := runtime.FindOpenVINO(); err != nil {
			rows = append(rows, []string{"OpenVINO", "none", err.Error()}) // not needed
		} else {
			check("OpenVINO", openVINOPrecisions(v)+" "+v.Path, tryRuntime(runtime.Options{Provider: runtime.OpenVINO}))
		}
	}
	if path, err := dist.FindLibrary(); err != nil {
		rows = append(rows, []string{"MPI", "none", err.Error()}) // only jobs of several ranks need it
	} else {
		version, err := dist.Check(path)
		check("MPI", version+" "+path, err)
		rows = append(rows, mpirunRow())
	}
	check("cores", fmt.Sprint(goruntime.NumCPU()), nil)
	check("vectors", kernels.Vectors()+", for fp32", nil)
	if state, found, err := bf16Path(); err != nil {
		check("bf16", "", err)
	} else {
		rows = append(rows, []string{"bf16", state, found})
	}
	home, err := runtime.Home()
	check("cache folder", home, err)
	header := []string{"part", "state", "found"}
	if err := eval.WriteTable(os.Stdout, "table", header, eval.FitToWidth(header, rows, eval.Width(os.Stdout, 100))); err != nil {
		return err
	}
	return failed
}

// openVINOPrecisions says what OpenVINO computes in on this CPU.
func openVINOPrecisions(v runtime.OpenVINODevice) string {
	if v.BF16 {
		return "computes in fp32 and bf16"
	}
	return "computes in fp32"
}

// mpirunRow is the row of the program that starts ranks. A cluster may have its own, such as srun.
func mpirunRow() []string {
	path, err := dist.FindLauncher()
	if err != nil {
		return []string{"mpirun", "none", err.Error()}
	}
	return []string{"mpirun", "ok", path}
}

// ofGPUs says how many GPUs there are, if CUDA's library tells.
func ofGPUs() string {
	n, err := runtime.GPUs()
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" of %d", n)
}

// tryRuntime runs a graph of one addition.
func tryRuntime(o runtime.Options) error {
	g := onnx.NewGraph("doctor")
	x := g.Input("x", onnx.Float32, onnx.FixedDim(2))
	g.Output("y", g.Add(x, x))
	model, err := g.Bytes()
	if err != nil {
		return err
	}
	s, err := runtime.NewSession(model, o)
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
