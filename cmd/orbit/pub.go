package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"

	"orbit"
)

var pubFlags struct{ lines, create bool }

var pubCommand = &command{
	name:     "pub",
	operands: "FLEET TOPIC [PAYLOAD|-]",
	short:    "publish an event",
	long: `Publishes one event under TOPIC on the event bus of FLEET. Its payload is
PAYLOAD, or nothing, or all of standard input if that is "-".

With -lines every line of standard input is an event of its own, without its
line end, published as soon as it is read.

A fleet without an event bus gets one of 4096 slots of 512 bytes, and siblings
that want another shape will be refused. An event that a slot has no room for is
not published, with exit code 1; lines before it stay published.

  orbit pub web deploy.done "$version"
  tail -F app.log | orbit pub -lines web app.log
`,
	flags: func(f *flag.FlagSet) {
		f.BoolVar(&pubFlags.lines, "lines", false, "publish each line of standard input")
		createFlag(f, &pubFlags.create)
	},
	run: runPub,
}

func runPub(args []string) error {
	if pubFlags.lines && len(args) == 3 && args[2] != "-" {
		return usagef("-lines reads standard input, found payload %q", args[2])
	}
	topic := args[1]
	var event []byte
	if len(args) == 3 && !pubFlags.lines {
		var err error
		if event, err = payload(args[2]); err != nil {
			return err
		}
	}
	one := func(f *orbit.Fleet) error { return publishOne(f, topic, event) }
	v := visit{args[0], orbit.KindEvents, pubFlags.create, one}
	if pubFlags.lines {
		return v.do(func(f *orbit.Fleet) error { return publishLines(f, topic, os.Stdin) })
	}
	return v.do(one)
}

func publishOne(f *orbit.Fleet, topic string, event []byte) error {
	bus, err := orbit.Events(f)
	if err != nil {
		return err
	}
	_, err = bus.Publish(topic, event)
	return err
}

func publishLines(f *orbit.Fleet, topic string, from io.Reader) error {
	bus, err := orbit.Events(f)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, orbit.MaxPayload)
	n := 0
	for lines.Scan() {
		n++
		if _, err := bus.Publish(topic, lines.Bytes()); err != nil {
			return within(fmt.Sprintf("line %d", n), err)
		}
	}
	if err := lines.Err(); err != nil {
		return within(fmt.Sprintf("line %d", n+1), err)
	}
	return nil
}
