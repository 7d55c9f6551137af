// Command large tries the program on models of real size with random weights: it trains two steps with validation, then
// evaluates, reranks and encodes, in fp32 and with --int8, and prints the time and the peak memory of each command.
//
//	go run ./scripts/large                                        # all sizes and kinds, a quarter of an hour, 15 GB of disk
//	go run ./scripts/large --size xlmr-large --kind embedding
//	go run ./scripts/large --size qwen3-0.6b --kind embedding     # a decoder that trains in 16 GB
//
// A model of XLM-RoBERTa-large's size has 2.2 GB of weights: more than a protobuf holds.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"
)

// options holds the command-line flags.
type options struct {
	program, dir string
	sizes, kinds []string
	keep         bool
	make         string
}

func main() {
	o := options{}
	var sizeList, kindList string
	flag.StringVar(&o.program, "program", "bin/rag-retrieval", "the program to try")
	flag.StringVar(&o.dir, "dir", "", "folder to work in; default: a temporary one")
	flag.StringVar(&sizeList, "size", "minilm,bert-base,xlmr-large", "sizes of models; qwen3-0.6b too")
	flag.StringVar(&kindList, "kind", "embedding,colbert,reranker", "kinds of models")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder")
	flag.StringVar(&o.make, "make", "", "only make the model folder DIR/SIZE of this size")
	flag.Parse()
	o.sizes, o.kinds = strings.Split(sizeList, ","), strings.Split(kindList, ",")
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "large:", err)
		os.Exit(1)
	}
}

func run(o options) (err error) {
	if o.make != "" {
		return makeModel(filepath.Join(o.dir, o.make), o.make)
	}
	for _, s := range o.sizes {
		if _, ok := sizes[s]; !ok {
			return unknownSize(s)
		}
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "large"); err != nil {
			return err
		}
	}
	if !o.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	}
	var lines []line
	for _, s := range o.sizes {
		l, err := trySize(o, s)
		lines = append(lines, l...)
		if err != nil {
			printTable(lines)
			return err
		}
	}
	return printTable(lines)
}

// line is a row of the table: one command on one model.
type line struct {
	size, kind, command string
	weights             int64 // bytes
	seconds             float64
	peak                int64 // bytes
}

// trySize makes a model of a size and measures all commands for each kind.
func trySize(o options, name string) (lines []line, err error) {
	base, size := filepath.Join(o.dir, name), sizes[name]
	// The model is made in another process: peak memory is inherited by processes that this one starts.
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command(self, "--make", name, "--dir", o.dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("making the model: %w: %s", err, out)
	}
	parameters, err := countParameters(base)
	if err != nil {
		return nil, err
	}
	train, test := filepath.Join(o.dir, "train.jsonl"), filepath.Join(o.dir, "test.jsonl")
	if err := makeRows(train, test, 2*size.batch, max(100, size.length), size.config["vocab_size"].(int)); err != nil {
		return nil, err
	}
	for _, kind := range o.kinds {
		out := filepath.Join(o.dir, name+"-"+kind)
		for _, c := range commands(kind, size, base, out, train, test) {
			l := line{size: name, kind: kind, command: c.name, weights: 4 * parameters}
			if l.seconds, l.peak, err = measure(o.program, c); err != nil {
				return lines, fmt.Errorf("%s %s %s: %w", name, kind, c.name, err)
			}
			fmt.Fprintf(os.Stderr, "%s %s %s: %.1f s, %d MiB\n", name, kind, c.name, l.seconds, l.peak>>20)
			lines = append(lines, l)
		}
		if !o.keep {
			if err := errors.Join(os.RemoveAll(out), os.RemoveAll(out+"-checkpointing")); err != nil {
				return lines, err
			}
		}
	}
	return lines, nil
}

// command is one call of the program.
type command struct {
	name, input string
	args        []string
}

// commands lists the commands to measure for a kind of model. The first one trains it from base into out.
func commands(kind string, size size, base, out, train, test string) []command {
	length := strconv.Itoa(size.length)
	flags := []string{"train", kind, "--model", base, "--train-dataset", train, "--val-dataset", train, "--output-dir", out,
		"--batch-size", strconv.Itoa(size.batch), "--max-steps", "2", "--lr", "1e-5", "--log-interval", "1"}
	switch kind {
	case "embedding":
		flags = append(flags, "--query-max-len", length, "--passage-max-len", length)
	case "colbert":
		flags = append(flags, "--query-max-len", length, "--passage-max-len", length, "--colbert-dim", "128")
	case "reranker":
		flags = append(flags, "--max-len", length)
	}
	const checkpointing = "--gradient-checkpointing"
	name := "train"
	if size.checkpointed {
		flags, name = append(flags, checkpointing), name+" "+checkpointing
	}
	model := filepath.Join(out, "model")
	pair, _ := json.Marshal(map[string]any{"query": word(10), "documents": []string{word(11), word(12) + " " + word(13)}})
	list := []command{{name: name, args: flags}}
	if kind == "embedding" && !size.checkpointed {
		list = append(list, command{name: name + " " + checkpointing, args: append(slices.Clone(flags), checkpointing,
			"--output-dir", out+"-checkpointing")})
	}
	for _, int8 := range [][]string{nil, {"--int8"}} {
		suffix := strings.Join(append([]string{""}, int8...), " ")
		list = append(list,
			command{name: "eval" + suffix, args: append([]string{"eval", "--model", model, "--data", test}, int8...)},
			command{name: "rerank" + suffix, input: string(pair), args: append([]string{"rerank", "--model", model}, int8...)})
		if kind == "embedding" {
			list = append(list, command{name: "encode" + suffix, input: `{"text": "` + word(10) + `"}`, args: append([]string{"encode", "--model", model}, int8...)})
		}
	}
	return list
}

// measure runs a command and returns its time and its peak resident memory in bytes.
func measure(program string, c command) (seconds float64, peak int64, err error) {
	cmd := exec.Command(program, c.args...)
	cmd.Stdin = strings.NewReader(c.input)
	start := time.Now()
	output, err := cmd.CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, output)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, 0, errors.New("the system does not tell a process's memory")
	}
	peak = usage.Maxrss
	if runtime.GOOS == "linux" {
		peak *= 1024 // macOS counts bytes
	}
	return time.Since(start).Seconds(), peak, nil
}

func printTable(lines []line) error {
	t := tablewriter.NewTable(os.Stdout, tablewriter.WithConfig(tablewriter.Config{
		Header: tw.CellConfig{Formatting: tw.CellFormatting{AutoFormat: tw.Off}},
	}))
	t.Header("size", "kind", "command", "weights, MiB", "seconds", "peak, MiB", "peak / weights")
	for _, l := range lines {
		if err := t.Append(l.size, l.kind, l.command, strconv.FormatInt(l.weights>>20, 10), fmt.Sprintf("%.1f", l.seconds),
			strconv.FormatInt(l.peak>>20, 10), fmt.Sprintf("%.2f", float64(l.peak)/float64(l.weights))); err != nil {
			return err
		}
	}
	return t.Render()
}
