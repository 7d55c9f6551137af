package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/embedding"
)

func artifactsCommand() *cli.Command {
	return &cli.Command{
		Name: "artifacts", Usage: "write the training graphs of a run as ONNX files, without training",
		HideHelpCommand: true,
		Description: `Writes training_model.onnx, eval_model.onnx, optimizer_model.onnx, two small graphs over gradients and
checkpoint/ into the output folder. The keys are those of train.

Example:
  rag-retrieval artifacts embedding --model MODEL --output-dir artifacts`,
		Subcommands: []*cli.Command{{
			Name: "embedding", Usage: "graphs of a bi-encoder with in-batch negatives",
			Flags: trainFlags(), OnUsageError: onUsageError, Action: artifactsEmbedding,
		}},
		Action: noKind,
	}
}

func artifactsEmbedding(c *cli.Context) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	cfg, err := trainConfig(c)
	if err != nil {
		return err
	}
	run, err := embedding.PrepareGraphs(cfg, version)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	if err := run.WriteArtifacts(cfg.OutputDir); err != nil {
		return err
	}
	fmt.Println(cfg.OutputDir)
	return nil
}
