package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves a command's flags before its arguments. People write them in any order, but the library stops reading flags at the
// first argument.
func flagsFirst(commands []*cli.Command, args []string) []string {
	if len(args) < 2 {
		return args
	}
	at, command := 1, (*cli.Command)(nil)
	for at < len(args) {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[at]) })
		if i < 0 {
			break
		}
		command, commands, at = commands[i], commands[i].Subcommands, at+1
	}
	if command == nil {
		return args
	}
	var flags, rest []string
	for i := at; i < len(args); i++ {
		word := args[i]
		switch {
		case word == "--":
			rest = append(rest, args[i:]...)
			i = len(args)
		case !strings.HasPrefix(word, "-") || word == "-":
			rest = append(rest, word)
		default:
			word = dashed(command, word)
			flags = append(flags, word)
			if takesValue(command, word) && i+1 < len(args) {
				i++
				flags = append(flags, args[i])
			}
		}
	}
	return slices.Concat(args[:at], flags, rest)
}

// dashed returns a flag with dashes for underscores if the command has such a flag. RAG-Retrieval's flags have underscores.
func dashed(command *cli.Command, word string) string {
	name, value, given := strings.Cut(word, "=")
	with := strings.ReplaceAll(name, "_", "-")
	if !slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), strings.TrimLeft(with, "-")) }) {
		return word
	}
	if given {
		with += "=" + value
	}
	return with
}

// takesValue reports whether the word after a flag is its value.
func takesValue(command *cli.Command, word string) bool {
	name := strings.TrimLeft(word, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range command.Flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}
