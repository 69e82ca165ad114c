// Command orbit shows what is in Orbit's shared memory, uses it from a shell,
// and shows it at work.
//
//	go run ./cmd/orbit demo
//	go run ./cmd/orbit -h
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"orbit"
)

// A command is one subcommand. Each has a file of its own.
type command struct {
	name   string
	args   string // as shown in its usage line
	short  string // one line, for the list of commands
	long   string // what its -h says above its flags
	flags  func(*flag.FlagSet)
	run    func(args []string) error
	hidden bool // started by other commands, not by people
}

var commands = []*command{
	// Looking.
	lsCommand,
	infoCommand,
	topCommand,
	tailCommand,
	whoCommand,
	keysCommand,
	getCommand,
	// Using.
	putCommand,
	delCommand,
	pubCommand,
	runCommand,
	// Keeping.
	clearCommand,
	doctorCommand,
	benchCommand,
	demoCommand,
	// Started by these.
	siblingCommand,
	benchMateCommand,
}

const usageHead = `Orbit lets sibling processes on one host share recent facts through shared
memory, without a server. This command shows what is in it, uses it from a
shell, and shows it at work.

Usage: orbit <command> [flags] [arguments]

`

const usageTail = `
"orbit <command> -h" says what a command does and what flags it has. Flags may
stand before, between and after arguments; "--" ends them.

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

// errNo is matched by errors that say no: nothing went wrong, but what was
// asked for is not there. Those of the library that say so count as well.
var errNo = errors.New("not there")

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
	for _, c := range commands {
		if c.name == args[0] {
			return c.start(args[1:])
		}
	}
	fmt.Fprintf(os.Stderr, "orbit: unknown command %q; \"orbit -h\" lists them\n", args[0])
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, usageHead, "Commands:\n")
	for _, c := range commands {
		if !c.hidden {
			fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
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
		err = c.run(operands)
	}
	code := exitCode(err)
	var silent exitError
	if err != nil && !errors.As(err, &silent) {
		fmt.Fprintf(os.Stderr, "orbit %s: %s\n", c.name, strings.TrimPrefix(err.Error(), "orbit: "))
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

func (c *command) help(flags *flag.FlagSet, w io.Writer) {
	fmt.Fprintf(w, "Usage: orbit %s %s\n\n%s\nFlags:\n", c.name, c.args, c.long)
	flags.SetOutput(w)
	flags.PrintDefaults()
}

func exitCode(err error) int {
	var wrong *usageError
	var silent exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &silent):
		return int(silent)
	case errors.As(err, &wrong):
		return exitUsage
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, errors.ErrUnsupported):
		return exitUnsupported
	case errors.Is(err, errNo), errors.Is(err, orbit.ErrNotExist), errors.Is(err, orbit.ErrHeld):
		return exitNo
	}
	return exitFailed
}
