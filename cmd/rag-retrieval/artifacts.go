package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/modelcard"
)

func artifactsCommand() *cli.Command {
	return &cli.Command{
		Name: "artifacts", Usage: "write the training graphs of a run as ONNX files, without training",
		HideHelpCommand: true,
		Description: `Writes training_model.onnx, eval_model.onnx, optimizer_model.onnx, two small graphs over gradients and
checkpoint/ into the output folder. The keys are those of train.

Example:
  rag-retrieval artifacts embedding --model MODEL --output-dir artifacts`,
		Subcommands: kindCommands(func(k modelcard.Kind, x kind) *cli.Command {
			return &cli.Command{
				Name: string(k), Usage: fmt.Sprintf("training graphs of kind %s", k),
				Description: fmt.Sprintf("%s\n\nExample:\n  rag-retrieval artifacts %s --model MODEL --output-dir artifacts", x.describeLosses(), k),
				Flags:       trainFlags(k), OnUsageError: onUsageError, Action: func(c *cli.Context) error { return artifacts(c, k) },
			}
		}),
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return noKind(c)
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

func artifacts(c *cli.Context, k modelcard.Kind) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	cfg, err := trainConfig(c, k)
	if err != nil {
		return err
	}
	run, err := finetune.PrepareGraphs(c.Context, cfg, kinds[cfg.Kind].newTask, resolver(), version)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	printNotes(run)
	if err := run.WriteArtifacts(cfg.OutputDir, warn); err != nil {
		return err
	}
	fmt.Println(cfg.OutputDir)
	return nil
}
