package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// helpFlag asks for the help of the command before it.
const helpFlag = "--help"

func isHelpFlag(word string) bool {
	return slices.Contains([]string{helpFlag, "-help", "--h", "-h"}, word)
}

// flagsFirst moves a command's flags before its arguments. People write them in any order, but the library stops reading flags at the
// first argument. A call for help becomes "COMMAND --help" without the rest: the library would take an argument behind --help for the
// name of a command, and has no "help COMMAND" that knows the kinds of models.
func flagsFirst(commands []*cli.Command, args []string) []string {
	if len(args) < 2 {
		return args
	}
	if args[1] == "--version" || args[1] == "-version" {
		return []string{args[0], "version"}
	}
	at, command, help := 1, (*cli.Command)(nil), false
	for at < len(args) {
		if isHelpFlag(args[at]) || args[at] == "help" && len(commands) > 0 { // a command's name may be behind it
			help, args = true, slices.Concat(args[:at], args[at+1:])
			continue
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[at]) })
		if i < 0 {
			break
		}
		command, commands, at = commands[i], commands[i].Subcommands, at+1
	}
	switch {
	case help && (command != nil || at == len(args)):
		return append(slices.Clone(args[:at]), helpFlag)
	case command == nil:
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
		case isHelpFlag(word):
			return append(slices.Clone(args[:at]), helpFlag)
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
