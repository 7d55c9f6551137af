package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/config"
)

// trainFlags makes one flag per key of the training configuration.
func trainFlags() []cli.Flag {
	flags := []cli.Flag{&cli.StringFlag{Name: "config", Usage: "YAML file of these keys, with underscores; flags override it"}}
	v := reflect.ValueOf(config.DefaultTrain)
	for i := 0; i < v.NumField(); i++ {
		key, usage := v.Type().Field(i).Tag.Get("yaml"), v.Type().Field(i).Tag.Get("usage")
		name := strings.ReplaceAll(key, "_", "-")
		var aliases []string
		if key == "model_name_or_path" {
			aliases = []string{"model"}
		}
		switch x := v.Field(i).Interface().(type) {
		case string:
			flags = append(flags, &cli.StringFlag{Name: name, Aliases: aliases, Usage: usage, Value: x})
		case int:
			flags = append(flags, &cli.IntFlag{Name: name, Usage: usage, Value: x})
		case uint64:
			flags = append(flags, &cli.Uint64Flag{Name: name, Usage: usage, Value: x})
		case float64:
			flags = append(flags, &cli.Float64Flag{Name: name, Usage: usage, Value: x})
		case bool:
			flags = append(flags, &cli.BoolFlag{Name: name, Usage: usage, Value: x})
		}
	}
	return flags
}

// trainConfig reads defaults, then the file, then the flags that were given.
func trainConfig(c *cli.Context) (config.Train, error) {
	cfg := config.DefaultTrain
	if path := c.String("config"); path != "" {
		if err := cfg.Read(path); err != nil {
			return cfg, err
		}
	}
	v := reflect.ValueOf(&cfg).Elem()
	for i := 0; i < v.NumField(); i++ {
		name := strings.ReplaceAll(v.Type().Field(i).Tag.Get("yaml"), "_", "-")
		if !c.IsSet(name) {
			continue
		}
		value := reflect.ValueOf(c.Value(name))
		if !value.CanConvert(v.Field(i).Type()) {
			return cfg, fmt.Errorf("flag --%s: cannot use %v", name, c.Value(name))
		}
		v.Field(i).Set(value.Convert(v.Field(i).Type()))
	}
	return cfg, nil
}
