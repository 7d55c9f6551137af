package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/merge"
)

func mergeCommand() *cli.Command {
	return &cli.Command{
		Name: "merge", Usage: "make a whole model of a LoRA adapter and its base model",
		Description: `Every command opens an adapter's folder as it is. merge is for programs that know no adapters: it writes a folder with all
weights, and model.onnx, as train --merge does.

Example:
  rag-retrieval merge --model out/model --output out/merged`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "folder or hub id of the adapter: with adapter_config.json, as train --lora-rank or PEFT writes it", Required: true},
			&cli.StringFlag{Name: "output", Usage: "folder for the whole model; must be new or empty", Required: true},
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if err := oneProcess(c); err != nil {
				return err
			}
			if err := merge.Folder(c.Context, resolver(), c.String("model"), c.String("output"), version); err != nil {
				return err
			}
			fmt.Println(c.String("output"))
			return nil
		},
	}
}
