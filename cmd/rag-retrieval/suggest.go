package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/internal/nearest"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/modelcard"
)

// didYouMean asks for the name that a mistyped one may stand for, with a prefix such as "--". It is empty if none is like it. The library's
// own suggestions name something for any word.
func didYouMean(prefix, word string, names []string) string {
	name := nearest.Name(word, names)
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s%s?)", prefix, name)
}

func commandNames(commands []*cli.Command) (names []string) {
	for _, c := range commands {
		names = append(names, c.Name)
	}
	return names
}

// ofOtherKinds says which kinds of models have a flag that the command of one kind lacks, or is empty.
func ofOtherKinds(command *cli.Command, flag string) string {
	if !slices.Contains(modelcard.Kinds, modelcard.Kind(command.Name)) {
		return ""
	}
	for i := range reflect.TypeFor[config.Train]().NumField() {
		if f := reflect.TypeFor[config.Train]().Field(i); flagName(f) == strings.ReplaceAll(flag, "_", "-") && f.Tag.Get("kinds") != "" {
			return fmt.Sprintf(" for kind %s: it is for %s", command.Name, config.KindsOf(f))
		}
	}
	return ""
}

// flagNames are those of the flags that help shows.
func flagNames(flags []cli.Flag) (names []string) {
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); !ok || v.IsVisible() {
			names = append(names, f.Names()...)
		}
	}
	return names
}
