package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/modelcard"
)

// trainFlags returns a flag for each key of a kind's training configuration, or for the keys of all kinds if k is empty.
func trainFlags(k modelcard.Kind) []cli.Flag {
	flags := []cli.Flag{&cli.StringFlag{Name: "config", Usage: "YAML file of these keys, with underscores; flags override it"}}
	v := reflect.ValueOf(config.DefaultTrain(k))
	for i := 0; i < v.NumField(); i++ {
		usage := v.Type().Field(i).Tag.Get("usage")
		if usage == "-" || k != "" && !config.HasKind(v.Type().Field(i), k) {
			continue
		}
		name := flagName(v.Type().Field(i))
		var aliases []string
		if name == "model-name-or-path" {
			aliases = []string{"model"}
		}
		switch x := v.Field(i).Interface().(type) {
		case string:
			flags = append(flags, &cli.StringFlag{Name: name, Aliases: aliases, Usage: usage, Value: x})
		case config.List:
			flags = append(flags, &cli.StringSliceFlag{Name: name, Usage: usage})
		case config.Ints, config.Floats:
			flags = append(flags, &cli.StringFlag{Name: name, Usage: usage})
		case int:
			flags = append(flags, &cli.IntFlag{Name: name, Usage: usage, Value: x})
		case int64:
			flags = append(flags, &cli.Int64Flag{Name: name, Usage: usage, Value: x})
		case uint64:
			flags = append(flags, &cli.Uint64Flag{Name: name, Usage: usage, Value: x})
		case float64:
			flags = append(flags, &cli.Float64Flag{Name: name, Usage: usage, Value: x})
		case bool:
			flags = append(flags, &cli.BoolFlag{Name: name, Usage: usage, Value: x})
		}
	}
	return append(flags, foreignFlags()...)
}

// foreignFlags returns the flags of RAG-Retrieval's command lines that have another name or no meaning here.
func foreignFlags() []cli.Flag {
	var flags []cli.Flag
	for _, name := range config.OriginalKeys() {
		flags = append(flags, &cli.StringFlag{Name: strings.ReplaceAll(name, "_", "-"), Hidden: true})
	}
	return flags
}

// translateFlags sets the flags that the given flags of RAG-Retrieval stand for.
func translateFlags(c *cli.Context) error {
	for _, name := range config.OriginalKeys() {
		flag := strings.ReplaceAll(name, "_", "-")
		if !c.IsSet(flag) {
			continue
		}
		to, why, _, err := config.Translate(name, fmt.Sprint(c.Value(flag)))
		if err != nil {
			return usagef("%v", err)
		}
		if to.Key == "" {
			fmt.Fprintf(messages, "--%s is not used here: %s\n", flag, why)
			continue
		}
		if err := c.Set(strings.ReplaceAll(to.Key, "_", "-"), to.Value); err != nil {
			return usagef("--%s: %v", flag, err)
		}
	}
	return nil
}

// flagName returns the flag of a key: the key with dashes.
func flagName(f reflect.StructField) string { return strings.ReplaceAll(f.Tag.Get("yaml"), "_", "-") }

// trainConfig returns the defaults, changed by the file and then by the flags that were given. If k is empty, the file names the kind.
func trainConfig(c *cli.Context, k modelcard.Kind) (config.Train, error) {
	path := c.String("config")
	if k == "" {
		var err error
		if k, err = config.ReadKind(path); err != nil {
			return config.Train{}, err
		}
	}
	cfg := config.DefaultTrain(k)
	if path != "" {
		left, err := cfg.Read(path)
		if err != nil {
			return cfg, err
		}
		for _, key := range left {
			fmt.Fprintf(messages, "%s: not used here: %s\n", path, key)
		}
		if cfg.Kind != k {
			return cfg, fmt.Errorf("%s: kind is %q, the command says %q", path, cfg.Kind, k)
		}
	}
	if err := translateFlags(c); err != nil {
		return cfg, err
	}
	v := reflect.ValueOf(&cfg).Elem()
	for i := 0; i < v.NumField(); i++ {
		name := flagName(v.Type().Field(i))
		if !c.IsSet(name) {
			continue
		}
		if field := v.Type().Field(i); !config.HasKind(field, k) { // a command whose kind is in the file has the flags of all kinds
			fmt.Fprintf(messages, "--%s is not used here: it is for %s\n", name, config.KindsOf(field))
			continue
		}
		if err := setKey(v.Field(i), name, c); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// setKey sets a field to the value of a flag.
func setKey(to reflect.Value, name string, c *cli.Context) error {
	switch to.Interface().(type) {
	case config.List:
		to.Set(reflect.ValueOf(config.List(c.StringSlice(name))))
		return nil
	case config.Ints:
		v, err := config.ParseInts(c.String(name))
		if err != nil {
			return usagef("--%s: %v", name, err)
		}
		to.Set(reflect.ValueOf(v))
		return nil
	case config.Floats:
		v, err := config.ParseFloats(c.String(name))
		if err != nil {
			return usagef("--%s: %v", name, err)
		}
		to.Set(reflect.ValueOf(v))
		return nil
	}
	value := reflect.ValueOf(c.Value(name))
	if !value.CanConvert(to.Type()) {
		return fmt.Errorf("flag --%s: cannot use %v", name, c.Value(name))
	}
	to.Set(value.Convert(to.Type()))
	return nil
}
