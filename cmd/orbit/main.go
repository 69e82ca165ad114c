// Command orbit shows what is in Orbit's shared memory, uses it from a shell,
// and shows it at work.
//
//	go run ./cmd/orbit demo
//	go run ./cmd/orbit -h
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"orbit"
)

// A command is one subcommand. Each has a file of its own.
type command struct {
	name     string
	operands string // as shown in its usage line, and as [command.check] wants them
	short    string // one line, for the list of commands
	long     string // what its -h says above its flags
	flags    func(*flag.FlagSet)
	run      func(operands []string) error
}

// groups are the commands, in the order in which people read of them.
var groups = []struct {
	title    string // "" for commands that others start, not people
	commands []*command
}{
	{"Looking, as observers that join nothing and change nothing:", []*command{
		lsCommand, infoCommand, topCommand, tailCommand, whoCommand, keysCommand, getCommand,
	}},
	{"Using, as members for as long as it takes:", []*command{
		putCommand, delCommand, pubCommand, runCommand,
	}},
	{"Keeping:", []*command{
		clearCommand, doctorCommand, benchCommand, demoCommand,
	}},
	{"", []*command{siblingCommand, benchMateCommand}},
}

const usageHead = `Orbit lets sibling processes on one host share recent facts through shared
memory, without a server. This command shows what is in it, uses it from a
shell, and shows it at work.

Usage: orbit <command> [flags] [arguments]
`

const usageTail = `
"orbit <command> -h" says what a command does and what flags it has. Flags may
stand before, between and after arguments; "--" ends them.

With -json every line is one object. Its "type" says what it describes, and has
the same keys each time; what is not known or does not apply is null. Payloads,
keys and other things that may be any bytes are under their name if they are
text, and in hex under the name with "_hex" otherwise.

Exit codes:
  0    done
  1    it failed; what failed is on standard error
  2    wrong usage
  3    this system has no shared memory that Orbit can use
  4    what was asked for is not there, or is somebody else's: a fleet, a ring,
       a key, a claim
  130  interrupted; everything it had started is stopped and cleared away
"orbit run" exits with its command's code, and has more of its own.
`

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnsupported = 3
	exitNo          = 4
	exitInterrupted = 130
)

var errInterrupted = errors.New("interrupted")

// A no is an error that only says no: nothing went wrong, but what was asked
// for is not there. Errors of the library that say so count as well.
type no string

func (n no) Error() string { return string(n) }

func nof(format string, args ...any) error { return no(fmt.Sprintf(format, args...)) }

// An exitError ends the command with an exit code of its own, in silence: it
// has been said already, or is not this command's to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a complaint about arguments.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 {
		usage(os.Stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) == 1 {
			usage(os.Stdout)
			return exitDone
		}
		args = []string{args[1], "-h"}
	}
	for _, g := range groups {
		for _, c := range g.commands {
			if c.name == args[0] {
				return c.start(args[1:])
			}
		}
	}
	fmt.Fprintf(os.Stderr, "orbit: unknown command %q; \"orbit -h\" lists them\n", args[0])
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, usageHead)
	for _, g := range groups {
		if g.title == "" {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", g.title)
		for _, c := range g.commands {
			fmt.Fprintf(w, "  %-8s %s\n", c.name, c.short)
		}
	}
	fmt.Fprint(w, usageTail)
}

// start parses the flags of a command, runs it, and turns its error into an
// exit code.
func (c *command) start(args []string) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	c.flags(flags)
	operands, err := parse(flags, args)
	switch {
	case err == flag.ErrHelp:
		c.help(flags, os.Stdout)
		return exitDone
	case err != nil:
		err = usagef("%v", err)
	default:
		if err = c.check(operands); err == nil {
			err = c.checkDashes(operands, args)
		}
		if err == nil {
			err = c.run(operands)
		}
	}
	code := exitCode(err)
	var silent exitError
	if err != nil && !errors.As(err, &silent) {
		fmt.Fprintf(os.Stderr, "orbit %s: %s\n", c.name, plain(err))
	}
	if code == exitUsage {
		fmt.Fprintf(os.Stderr, "\"orbit %s -h\" says how it is used\n", c.name)
	}
	return code
}

// parse reads flags wherever they stand, before "--", and returns the other
// arguments.
func parse(flags *flag.FlagSet, args []string) (operands []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		rest := flags.Args()
		if ended := len(rest) < len(args) && args[len(args)-len(rest)-1] == "--"; ended || len(rest) == 0 {
			return append(operands, rest...), nil
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
}

// check counts operands: as many as the command names, but for those in
// brackets, and any number where it names the last with an ellipsis.
func (c *command) check(operands []string) error {
	least, most := 0, 0
	for _, name := range strings.Fields(c.operands) {
		switch {
		case name == "--":
			continue
		case !strings.HasPrefix(name, "["):
			least++
		case strings.Contains(name, "..."):
			most = math.MaxInt - 1
		}
		most++
	}
	if n := len(operands); n < least || n > most {
		return usagef("want %s, found %q", cmp.Or(c.operands, "no arguments"), operands)
	}
	return nil
}

// checkDashes wants "--" where the command has it among its operands: what stands
// behind is another program's, flags and "--" and all.
func (c *command) checkDashes(operands, args []string) error {
	before, _, dashed := strings.Cut(c.operands, " -- ")
	if !dashed {
		return nil
	}
	rest := len(operands) - len(strings.Fields(before))
	if at := len(args) - rest - 1; args[at] != "--" {
		return usagef("want %s, found no \"--\" in front of %q", c.operands, operands[len(operands)-rest])
	}
	return nil
}

func (c *command) help(flags *flag.FlagSet, w io.Writer) {
	fmt.Fprintf(w, "Usage: orbit %s\n\n%s\nFlags:\n", strings.TrimSpace(c.name+" [flags] "+c.operands), c.long)
	flags.SetOutput(w)
	flags.PrintDefaults()
}

func exitCode(err error) int {
	var wrong *usageError
	var silent exitError
	var not no
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &silent):
		return int(silent)
	case errors.As(err, &wrong), errors.Is(err, orbit.ErrName):
		return exitUsage
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, errors.ErrUnsupported):
		return exitUnsupported
	case errors.As(err, &not), errors.Is(err, orbit.ErrNotExist), errors.Is(err, orbit.ErrHeld):
		return exitNo
	}
	return exitFailed
}
