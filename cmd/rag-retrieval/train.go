package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/finetune/record"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/kernels"
)

func trainCommand() *cli.Command {
	return &cli.Command{
		Name: "train", Usage: "fine-tune a model",
		HideHelpCommand: true,
		Description: `Examples:
  rag-retrieval train embedding --model MODEL --train-dataset pairs.jsonl --output-dir out
  rag-retrieval train --config run.yaml      # the file's key "kind" says which
  rag-retrieval train reranker --help        # rows, losses and keys of a kind`,
		Flags: runFlags(""),
		Subcommands: kindCommands(func(k modelcard.Kind, x kind) *cli.Command {
			return &cli.Command{
				Name: string(k), Usage: x.usage,
				Description: x.describe() + fmt.Sprintf(`

The output folder gets model/ (loads in sentence-transformers and transformers; with model.onnx), artifacts/ (the
training graphs and the checkpoints), config.yaml, report.html (curves, data, settings), metrics.jsonl, tensorboard/,
train.json, and with --val-dataset validation.jsonl. With --lora-rank, model/ is a PEFT folder: the adapters, and the
name of the base model that they need, without model.onnx. Adding --merge saves the whole model.

By default a CPU with AMX, or with AVX512-BF16 by AMD, computes matrix products in bf16, which is faster there.
train.json says how a run did; --resume goes on in the same way only. The variable RAG_RETRIEVAL_BF16=amx, avx512 or portable forces a unit, which auto takes too;
portable runs on any CPU, slowly.

Examples:
  rag-retrieval train %[1]s --model MODEL %[2]s --output-dir out
  rag-retrieval train %[1]s --config run.yaml --lr 5e-5 --epochs 1
  rag-retrieval train %[1]s --config run.yaml --mixed-precision no     # fp32 also where the CPU has a unit for bf16
  rag-retrieval train %[1]s --config run.yaml --resume
  rag-retrieval train %[1]s --config run.yaml --resume --dry-run       # from which step it would go on`, k, x.example),
				Flags: runFlags(k), OnUsageError: onUsageError, Action: func(c *cli.Context) error { return train(c, k) },
			}
		}),
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			switch {
			case c.Args().Present():
				return noKind(c)
			case c.IsSet("config"):
				return train(c, "")
			case c.NumFlags() > 0:
				return usagef("name the kind of model, as in %s embedding: one of %s", c.Command.HelpName, kindNames())
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

// runFlags are the configuration's keys of a kind, all of them for none, and how to run.
func runFlags(k modelcard.Kind) []cli.Flag {
	return append(trainFlags(k),
		&cli.BoolFlag{Name: "resume", Usage: "go on from the checkpoint in the output folder"},
		&cli.BoolFlag{Name: "dry-run", Usage: "check everything, with --resume the checkpoint too, and say what would run; write nothing"})
}

// train trains a model of kind k, or of the kind that the configuration file names.
func train(c *cli.Context, k modelcard.Kind) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	// First of all: the other ranks of a job wait here for this one.
	comm, err := dist.Connect()
	if err != nil {
		return err
	}
	defer func() {
		messages.end(comm, err)
		err = dist.Leave(comm, err)
	}()
	messages.prepare(comm)
	cfg, err := trainConfig(c, k)
	if err := dist.Agree(comm, err); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return dryRun(c.Context, cfg, comm, c.Bool("resume"))
	}
	run, err := finetune.PrepareRank(c.Context, cfg, kinds[cfg.Kind].newTask, resolver(), version, comm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	moments, err := run.MomentMemory()
	if err != nil {
		return err
	}
	if comm.Rank() == 0 {
		if n := comm.Size(); n > 1 {
			fmt.Fprintf(os.Stderr, "%d ranks, each with a batch of %d\n", n, cfg.BatchSize)
		}
		for _, line := range moments {
			fmt.Fprintln(os.Stderr, line)
		}
	}
	printNotes(run)
	if c.Bool("resume") {
		err = run.Resume(warn)
	} else {
		err = run.Start(warn)
	}
	if err != nil {
		return err
	}
	if err := messages.shareLines(comm); err != nil {
		return err
	}
	if comm.Rank() == 0 && run.Precision() != kernels.None.Precision() {
		fmt.Fprintln(os.Stderr, run.DescribePrecision())
	}
	log := record.NewLog(cfg.OutputDir, cfg.LogInterval, os.Stderr)
	err = run.Train(c.Context, log.Validated, log)
	if comm.Rank() > 0 {
		return err
	}
	if errors.Is(err, ortrain.ErrInterrupted) || errors.Is(err, ortrain.ErrUnchanged) {
		again := ""
		if comm.Size() > 1 {
			again = fmt.Sprintf(", on %d ranks", comm.Size())
		}
		fmt.Fprintf(os.Stderr, "stopped after step %d; go on with%s: %s --resume\n", run.Trainer.StepsDone(), again, commandLine())
	}
	if err != nil {
		return err
	}
	if err := log.Finish(run); err != nil {
		return err
	}
	fmt.Println(run.ModelPath())
	return nil
}

// warn prints a problem that does not stop a run.
func warn(err error) { fmt.Fprintln(messages, oneLine(err.Error())) }

// printNotes prints which settings and rows have no effect, and why.
func printNotes(run *finetune.Run) {
	for _, s := range run.Notes {
		fmt.Fprintln(messages, s)
	}
	if run.Data == nil {
		return
	}
	if run.Data.Skipped > 0 {
		fmt.Fprintf(messages, "%d bad rows were left out; the first: %s\n", run.Data.Skipped, run.Data.FirstBad)
	}
	if run.Data.Uninformative > 0 {
		fmt.Fprintf(messages, "%d rows that teach nothing were left out; the first: %s\n", run.Data.Uninformative, run.Data.FirstUninformative)
	}
}

// dryRun checks model, data and settings, and says what would run, or what would have to be fetched first. All ranks check; rank 0
// prints.
func dryRun(ctx context.Context, cfg config.Train, comm dist.Comm, resume bool) (err error) {
	var out io.Writer = os.Stdout
	if comm.Rank() > 0 {
		out = io.Discard
	}
	remote, err := checkFiles(cfg, out)
	if err := dist.Agree(comm, err); err != nil {
		return err
	}
	if remote {
		if resume {
			fmt.Fprintln(out, "the checkpoint was not looked at: that takes the model and the data")
		}
		fmt.Fprintln(out, "the settings are valid; nothing was written")
		return nil
	}
	run, err := finetune.PrepareRank(ctx, cfg, kinds[cfg.Kind].newTask, resolver(), version, comm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	printNotes(run)
	begin, err := checkOutput(run, resume)
	if err != nil {
		return err
	}
	plan, err := run.Plan()
	if err := dist.Agree(comm, err); err != nil {
		return err
	}
	if err := messages.shareLines(comm); err != nil {
		return err
	}
	fmt.Fprint(out, plan)
	fmt.Fprint(out, begin)
	fmt.Fprintln(out, "nothing was written")
	return nil
}

// checkOutput does the checks of a run's output folder and writes nothing. It says where a resumed run would go on.
func checkOutput(run *finetune.Run, resume bool) (string, error) {
	if !resume {
		return "", run.CheckStart()
	}
	checkpoint, err := run.CheckResume(warn)
	if err != nil {
		return "", err
	}
	done, total := run.Trainer.StepsDone(), run.Trainer.TotalSteps()
	if done == total {
		return fmt.Sprintf("all %d steps are done: nothing is left to train\n", total), nil
	}
	return fmt.Sprintf("would go on after step %d of %d, from %s\n", done, total, checkpoint), nil
}

// checkFiles checks the settings, and that the files and folders they name are there. remote says that some are on the hub.
func checkFiles(cfg config.Train, out io.Writer) (remote bool, err error) {
	if err := cfg.Validate(); err != nil {
		return false, err
	}
	missing := 0
	for _, ref := range append(append([]string{cfg.Model}, cfg.TrainDataset...), cfg.ValDataset...) {
		if resolve.Remote(ref) {
			fmt.Fprintf(out, "would be fetched from the hub: %s\n", ref)
			remote = true
		} else if _, err := os.Stat(ref); errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(out, "not there: %s\n", ref)
			missing++
		} else if err != nil {
			return remote, err
		}
	}
	if base, err := remoteBase(cfg.Model); err != nil {
		return remote, err
	} else if base != "" {
		fmt.Fprintf(out, "would be fetched from the hub: %s, the base model of %s\n", base, cfg.Model)
		remote = true
	}
	if missing > 0 {
		return remote, fmt.Errorf("%d files or folders are not there; the settings are valid", missing)
	}
	return remote, nil
}

// remoteBase is the hub id of the base model that would be fetched for the adapter in a folder, or empty.
func remoteBase(model string) (string, error) {
	if st, err := os.Stat(model); err != nil || !st.IsDir() {
		return "", nil // said already, or by the run
	}
	return resolve.RemoteBase(model)
}

// commandLine is how this run was started, without --resume.
func commandLine() string {
	var words []string
	if unit := os.Getenv(kernels.Variable); unit != "" {
		words = append(words, kernels.Variable+"="+unit)
	}
	for _, w := range os.Args {
		if w == "--resume" || w == "-resume" {
			continue
		}
		if strings.ContainsAny(w, " \t\"'$&|;<>()*?\\") || w == "" {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}
