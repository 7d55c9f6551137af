// Command rag-retrieval fine-tunes and evaluates retrieval models on ONNX Runtime. Each command is one short file
// here: flags to a configuration, then one call.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/dist"
)

// Exit codes, besides 0.
const (
	exitError       = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// errUsage marks mistakes in how the program was called.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C ends the program at once
	}()
	os.Exit(run(ctx, os.Args))
}

func run(ctx context.Context, args []string) int {
	a := app()
	err := a.RunContext(ctx, flagsFirst(a.Commands, args))
	if err != nil && strings.HasPrefix(err.Error(), "Required flag") { // the library has no hook for this mistake
		err = usagef("%s; see --help", lowerFirst(err.Error()))
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ortrain.ErrInterrupted), errors.Is(err, context.Canceled):
		printError(err, interruptText(err))
		return exitInterrupted
	case errors.Is(err, errUsage):
		printError(err, strings.Replace(err.Error(), "usage: ", "", 1))
		return exitUsage
	}
	printError(err, err.Error())
	return exitError
}

// printError prints the text of an error, unless another rank of the job prints it.
func printError(err error, text string) {
	if !dist.Quiet(err) {
		fmt.Fprintf(os.Stderr, "rag-retrieval: %s\n", oneLine(text))
	}
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// oneLine joins the lines of errors that were joined.
func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }

func usagef(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUsage, fmt.Sprintf(format, args...))
}

// oneProcess refuses a command that every rank of a job would do as a whole.
func oneProcess(c *cli.Context) error {
	if n, launcher := dist.Launched(); n > 1 {
		return usagef("%s does not divide its work: %s started %d processes that would each do all of it; call it once", c.Command.FullName(), launcher, n)
	}
	return nil
}

func app() *cli.App {
	a := newApp()
	for _, c := range a.Commands {
		if slices.Contains([]string{"gate", "compare", "artifacts", "search", "serve"}, c.Name) {
			c.Before = oneProcess
		}
	}
	return a
}

func newApp() *cli.App {
	return &cli.App{
		Name:  "rag-retrieval",
		Usage: "fine-tune and evaluate retrieval models on ONNX Runtime",
		Description: `Examples:
  rag-retrieval train embedding --model MODEL --train-dataset pairs.jsonl --output-dir out
  rag-retrieval eval --model out/model --data test.jsonl
  rag-retrieval COMMAND --help`,
		Commands: []*cli.Command{
			trainCommand(), evalCommand(), compareCommand(), gateCommand(), encodeCommand(), rerankCommand(), mineCommand(), indexCommand(), searchCommand(), serveCommand(), artifactsCommand(), mergeCommand(),
			doctorCommand(), versionCommand(),
		},
		HideVersion:               true,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true, // a comma in a file's name is a comma
		OnUsageError:              onUsageError,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("no command %q%s; see rag-retrieval --help", c.Args().First(), didYouMean("", c.Args().First(), commandNames(c.App.Commands)))
			}
			return cli.ShowAppHelp(c)
		},
		ExitErrHandler: func(*cli.Context, error) {}, // run prints errors and chooses the exit code
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	name := "rag-retrieval"
	if c.Command != nil && c.Command.Name != "" {
		name = c.Command.HelpName
	}
	text := err.Error()
	if flag, unknown := strings.CutPrefix(text, "flag provided but not defined: -"); unknown && c.Command != nil {
		flag = strings.TrimLeft(flag, "-")
		text = fmt.Sprintf("no flag --%s%s", flag, orText(ofOtherKinds(c.Command, flag), didYouMean("--", flag, flagNames(c.Command.Flags))))
	}
	return usagef("%s; see %s --help", text, name)
}

// noArguments refuses words that no flag takes.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("unexpected argument %q; see %s --help", c.Args().First(), c.Command.HelpName)
	}
	return nil
}
