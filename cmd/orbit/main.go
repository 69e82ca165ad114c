// Command orbit shows and works with fleets of sibling processes on this host.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnsupported = 3
	exitInterrupted = 130
)

// A command is one word after orbit.
type command struct {
	name, args, about string
	run               func(ctx context.Context, args []string, out io.Writer) error
	hidden            bool
}

func commands() []command {
	return []command{
		{name: "demo", args: "[-n N] [-for TIME] [-fleet NAME]", about: "start real siblings, kill one, and watch the others go on", run: demo},
		{name: siblingCommand, run: sibling, hidden: true},
	}
}

// errUsage is for mistakes on the command line, already explained.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		usage(out)
		if len(args) == 0 {
			return exitUsage
		}
		return exitOK
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return explain(ctx, c.run(ctx, args[1:], out), errs)
		}
	}
	fmt.Fprintf(errs, "orbit: no command %q; orbit -h lists them\n", args[0])
	return exitUsage
}

// explain prints an error and returns the exit code for it.
func explain(ctx context.Context, err error, errs io.Writer) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(errs, "orbit: interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(errs, err)
	if errors.Is(err, errors.ErrUnsupported) {
		return exitUnsupported
	}
	return exitFailed
}

func usage(out io.Writer) {
	fmt.Fprint(out, `orbit: sibling processes on one host, sharing recent facts

  orbit COMMAND [FLAGS]

`)
	for _, c := range commands() {
		if !c.hidden {
			fmt.Fprintf(out, "  %-4s %-34s %s\n", c.name, c.args, c.about)
		}
	}
	fmt.Fprint(out, `
Every command explains its flags with -h. Exit codes: 0 done, 1 failed, 2 wrong
use, 3 no shared memory on this system, 130 interrupted.
`)
}
