package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"orbit"
)

var tailFlags struct {
	filters []orbit.Filter
	kind    uint8
	count   int
	follow  bool
	json    bool
	hex     bool
}

var tailCommand = &command{
	name:     "tail",
	operands: "FLEET",
	short:    "print the newest events, or frames of any ring, and follow",
	long: `Prints the newest events of FLEET, one a line, the oldest first: when each was
published, by which node, its topic and its payload. With -kind it prints the
frames of another ring:

  heartbeat  when which node beat
  contest    claims: what became of each, its subject, token, owner and end;
             the time is that of the claim, for a claim that is new
  cache      what each write does to which key of which prefix, when the value
             expires, and the value
  1 to 199   frames as they are: id, kind, version and payload

Frames of the last two do not say when they were published.

Where counters were passed without a frame, a line says so in that place:

  -- 12 overwritten, 1 lost --

"overwritten" were pushed out before they could be read, "holes" never carried
a frame, "lost" are frames whose writer died before it finished or that are
damaged. What lies before the newest -n frames is not told.

It ends there, or with -f goes on with what is published from then on. -f waits
for a fleet or a ring that does not exist yet, and after a fleet has ended for
the next one of that name; of a ring that begins later it prints all. It ends,
with exit code 0, on Ctrl-C, SIGTERM or when nobody reads its output any more.

Payloads are printed as text if that is what they are, quoted if something in
it cannot be printed, and otherwise in hex.

  orbit tail -f web
  orbit tail -json -n all -topic-prefix job. web | jq .payload
  orbit tail -f -kind cache web
`,
	flags: func(f *flag.FlagSet) {
		t := &tailFlags
		f.Func("topic", "only events of this `topic`; may be repeated", func(s string) error {
			t.filters = append(t.filters, orbit.Topic(s))
			return nil
		})
		f.Func("topic-prefix", "only events of topics with this `prefix`; may be repeated", func(s string) error {
			t.filters = append(t.filters, orbit.TopicPrefix(s))
			return nil
		})
		t.kind = orbit.KindEvents
		kindFlag(f, &t.kind, "the `kind` of the ring, events unless given")
		t.count = 10
		f.Func("n", "how many of the newest to print: a `number`, or all (default 10)", func(s string) (err error) {
			t.count, err = parseCount(s)
			return err
		})
		f.BoolVar(&t.follow, "f", false, "follow: go on with what comes, until Ctrl-C")
		jsonFlag(f, &t.json)
		f.BoolVar(&t.hex, "hex", false, "print payloads and values in hex, whatever is in them, but not in JSON")
	},
	run: runTail,
}

func parseCount(s string) (int, error) {
	if s == "all" {
		return math.MaxInt, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, errors.New("want a number from 0 on, or all")
	}
	return n, nil
}

func runTail(args []string) error {
	kind := tailFlags.kind
	if kind != orbit.KindEvents && len(tailFlags.filters) > 0 {
		return usagef("-topic and -topic-prefix select events; the ring of kind %d has none", kind)
	}
	// A closed pipe shall be an error of the write, to end in peace.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := untilSignal()
	defer stop()
	t := &tail{
		kind:    kind,
		place:   attachment{name: args[0]},
		printer: feedPrinter{out: bufio.NewWriter(os.Stdout), fleet: args[0], kind: kind, json: tailFlags.json, hex: tailFlags.hex},
	}
	defer t.place.close()
	var err error
	if tailFlags.follow {
		err = t.follow(ctx)
	} else {
		err = t.newest(ctx)
	}
	if err = errors.Join(err, t.printer.flush()); errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// A tail prints what comes through one ring of a fleet.
type tail struct {
	kind    uint8
	place   attachment
	feed    *feed // nil until the ring exists
	printer feedPrinter
	looked  time.Time // at what has the name
}

// newest prints what is held now.
func (t *tail) newest(ctx context.Context) (err error) {
	if t.place.fleet, err = observe(t.place.name); err != nil {
		return err
	}
	if err := t.open(); err != nil {
		return err
	}
	if err := t.catchUp(ctx, tailFlags.count); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	return nil
}

func (t *tail) open() (err error) {
	t.feed, err = openFeed(t.place.fleet, t.kind, tailFlags.filters...)
	return err
}

// catchUp prints the newest n of what is published by now, which is then
// behind the feed.
func (t *tail) catchUp(ctx context.Context, n int) error {
	kept, err := t.feed.newest(ctx, n, t.printer.print)
	for i := range kept {
		t.printer.print(&kept[i])
	}
	return errors.Join(err, t.printer.flush())
}

const (
	lookEvery  = 500 * time.Millisecond // for another fleet of the name
	existEvery = 50 * time.Millisecond  // for one at all
	flushAfter = 1000                   // items in a row
)

// follow prints what comes until the context ends, which is as it should be.
func (t *tail) follow(ctx context.Context) (err error) {
	wanted := tailFlags.count
	t.place.leave = func() {
		if t.feed != nil {
			t.feed.newest(ctx, math.MaxInt, t.printer.print)
		}
	}
	if err = t.attach(true); err != nil {
		return err
	}
	if t.feed == nil {
		fmt.Fprintf(os.Stderr, "orbit tail: waiting for the ring of %s of fleet %q, which does not exist yet\n", useOf(t.kind), t.place.name)
		wanted = math.MaxInt
	}
	for ; ctx.Err() == nil && !readerGone(os.Stdout); wanted = math.MaxInt {
		if before := t.feed; before == nil || err != nil || time.Since(t.looked) > lookEvery {
			if attachErr := t.attach(false); attachErr != nil {
				return attachErr
			}
			if err != nil && t.feed == before {
				return err // and not because the fleet has ended
			}
		}
		if t.feed != nil {
			err = t.goOn(ctx, wanted)
		} else if err = t.printer.flush(); err == nil {
			sleep(ctx, existEvery)
		}
	}
	return err
}

func (t *tail) goOn(ctx context.Context, wanted int) error {
	if wanted != math.MaxInt {
		return t.catchUp(ctx, wanted)
	}
	var item feedItem
	for range flushAfter {
		more, err := t.feed.next(&item)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		t.printer.print(&item)
	}
	if err := t.printer.flush(); err != nil {
		return err
	}
	return t.feed.wait(ctx, lookEvery)
}

// attach finds the fleet and its ring, if they exist by now. What begins or
// ends while it is followed is told.
func (t *tail) attach(first bool) error {
	t.looked = time.Now()
	turn, err := t.place.look()
	if err != nil {
		return err
	}
	if turn != stays {
		t.feed = nil
		if !first {
			t.printer.tell(turn)
		}
	}
	if t.place.fleet == nil || t.feed != nil {
		return nil
	}
	switch err := t.open(); {
	case errors.Is(err, orbit.ErrNotExist):
		return nil
	case err != nil:
		// Perhaps only because another fleet has just begun.
		if turn, _ := t.place.look(); turn == stays {
			return err
		}
		t.printer.tell(begins)
	}
	return nil
}

// A feedPrinter writes what comes through a ring as lines.
type feedPrinter struct {
	out   *bufio.Writer
	fleet string
	kind  uint8 // of the ring
	json  bool
	hex   bool
}

func (p *feedPrinter) flush() error { return p.out.Flush() }

func (p *feedPrinter) print(item *feedItem) {
	if p.json {
		for _, o := range item.objects(p.fleet, p.kind) {
			p.object(o)
		}
		return
	}
	for _, line := range item.lines(p.kind, p.hex) {
		p.out.WriteString(line + "\n")
	}
}

// object writes as printJSON does, into the buffer.
func (p *feedPrinter) object(v any) {
	e := json.NewEncoder(p.out)
	e.SetEscapeHTML(false)
	e.Encode(v) // if it cannot be written, flush tells
}

// tell says that a fleet begins or ends.
func (p *feedPrinter) tell(t turn) {
	word := map[turn]string{begins: "begins", ends: "ends"}[t]
	if p.json {
		p.object(objectJSON{word, p.fleet})
		return
	}
	p.out.WriteString("-- the fleet " + word + " --\n")
}
