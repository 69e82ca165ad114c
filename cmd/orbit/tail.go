package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"orbit"
)

var tailFlags struct {
	filters []orbit.Filter
	kind    string
	count   int
	follow  bool
	json    bool
	hex     bool
}

var tailCommand = &command{
	name:  "tail",
	args:  "[-topic t]... [-prefix p]... [-kind k] [-n number] [-f] [-json] [-hex] fleet",
	short: "print the newest events of a fleet, or frames of any ring, and follow",
	long: `Prints the newest events that a fleet holds, one a line, the oldest first: when
each was published, by which node, its topic and its payload. With -kind it
prints the frames of another ring:

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

It ends there, or with -f goes on with what is published from then on: it looks
some hundred times a second. -f waits for a fleet or a ring that does not exist
yet, and when the fleet is removed, for the next one of that name; of a ring
that begins later it prints all. It ends, with exit code 0, on Ctrl-C, SIGTERM
or when nobody reads its output any more.

Payloads are printed as text if that is what they are, quoted if something in
it cannot be printed, and otherwise in hex. With -json each line is an object
with the fields of the frame, its payload in "payload" if it is text, else in
"payload_hex"; what was passed is an object with the one field "passed", and a
fleet that begins or ends while it is followed one with the field "fleet".
`,
	flags: func(f *flag.FlagSet) {
		t := &tailFlags
		f.Func("topic", "only events of this `topic`; may be repeated", func(s string) error {
			t.filters = append(t.filters, orbit.Topic(s))
			return nil
		})
		f.Func("prefix", "only events of topics with this `prefix`; may be repeated", func(s string) error {
			t.filters = append(t.filters, orbit.TopicPrefix(s))
			return nil
		})
		f.StringVar(&t.kind, "kind", "events", "`kind` of the ring: 1 to 255, cache, events, heartbeat or contest")
		t.count = 10
		f.Func("n", "how many of the newest to print: a `number`, or all (default 10)", func(s string) (err error) {
			t.count, err = parseCount(s)
			return err
		})
		f.BoolVar(&t.follow, "f", false, "follow: go on with what comes, until Ctrl-C")
		f.BoolVar(&t.json, "json", false, "print objects, one a line")
		f.BoolVar(&t.hex, "hex", false, "print payloads in hex, whatever is in them")
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
	if len(args) != 1 {
		return usagef("it takes one argument, the fleet, found %q", args)
	}
	kind, err := parseKind(tailFlags.kind)
	if err != nil {
		return err
	}
	if kind != orbit.KindEvents && len(tailFlags.filters) > 0 {
		return usagef("-topic and -prefix select events; the ring of kind %d has none", kind)
	}
	// A closed pipe shall be an error of the write, to end in peace.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	t := &tail{
		kind:    kind,
		place:   attachment{name: args[0]},
		printer: feedPrinter{out: bufio.NewWriter(os.Stdout), kind: kind, json: tailFlags.json, hex: tailFlags.hex},
	}
	defer t.place.close()
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

// newest reads what is published by now and returns the newest n frames of it,
// with what lies between. It passes all to print instead if it is to keep
// everything.
func (f *feed) newest(ctx context.Context, n int, print func(*feedItem)) (kept []feedItem, err error) {
	head, frames := f.ring.Head(), 0
	for int64(head-f.at()) > 0 && ctx.Err() == nil {
		var item feedItem
		more, err := f.next(&item)
		switch {
		case err != nil:
			return kept, err
		case !more && int64(head-f.at()) > 0:
			if err := f.wait(ctx, time.Second); err != nil { // for an unfinished frame
				return kept, err
			}
			continue
		case !more:
			continue
		case n == math.MaxInt:
			print(&item)
			continue
		}
		kept = append(kept, item)
		if item.isFrame() {
			frames++
		}
		if frames > n {
			kept, frames = afterFirst(kept), frames-1
		}
	}
	if n == 0 {
		kept = nil
	}
	return kept, nil
}

// afterFirst leaves out the first frame, what lies around it up to the next,
// and what that one says was passed.
func afterFirst(items []feedItem) []feedItem {
	items = items[slices.IndexFunc(items, isFrame)+1:]
	if next := slices.IndexFunc(items, isFrame); next >= 0 {
		items = items[next:]
		items[0].passed = orbit.Gap{}
		return items
	}
	return nil
}

func isFrame(i feedItem) bool { return i.isFrame() }

// wait returns when there may be something to read, or the time is over. Its
// error says that nothing will come any more.
func (f *feed) wait(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := f.ring.At(f.at()).Wait(ctx); ctx.Err() == nil {
		return err
	}
	return nil
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
		fmt.Fprintf(os.Stderr, "orbit tail: waiting for the ring of %s of fleet %q, which does not exist yet\n", what(t.kind), t.place.name)
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

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// A feedPrinter writes what comes through a ring as lines.
type feedPrinter struct {
	out  *bufio.Writer
	kind uint8 // of the ring
	json bool
	hex  bool
}

func (p *feedPrinter) flush() error { return p.out.Flush() }

func (p *feedPrinter) print(item *feedItem) {
	if p.json {
		p.objects(item)
		return
	}
	for _, line := range item.lines(p.kind, p.hex) {
		p.out.WriteString(line + "\n")
	}
}

// lines writes an item for people: what was passed, and then what is there.
func (i *feedItem) lines(ring uint8, asHex bool) (lines []string) {
	if i.passed.Total() > 0 {
		lines = append(lines, gapText(i.passed))
	}
	switch {
	case i.trouble != nil:
		lines = append(lines, "-- "+strings.TrimPrefix(i.trouble.Error(), "orbit: ")+" --")
	case i.isFrame():
		lines = append(lines, strings.TrimRight(i.text(ring, asHex), " "))
	}
	return lines
}

// objects writes an item for tools, likewise.
func (p *feedPrinter) objects(i *feedItem) {
	if i.passed.Total() > 0 {
		p.object(map[string]passedObject{"passed": passedObject(i.passed)})
	}
	switch {
	case i.trouble != nil:
		p.object(map[string]string{"trouble": i.trouble.Error()})
	case i.isFrame():
		p.object(i.object(p.kind, p.hex))
	}
}

// object writes as printJSON does, into the buffer.
func (p *feedPrinter) object(v any) {
	e := json.NewEncoder(p.out)
	e.SetEscapeHTML(false)
	e.Encode(v) // if it cannot be written, flush tells
}

type passedObject struct {
	Overwritten uint64 `json:"overwritten"`
	Holes       uint64 `json:"holes"`
	Lost        uint64 `json:"lost"`
}

func (p *feedPrinter) tell(t turn) {
	word := map[turn]string{begins: "begins", ends: "ends"}[t]
	if p.json {
		p.object(map[string]string{"fleet": word})
		return
	}
	p.out.WriteString("-- the fleet " + word + " --\n")
}

// gapText writes a line about counters that were passed.
func gapText(g orbit.Gap) string {
	var parts []string
	if g.Overwritten > 0 {
		parts = append(parts, fmt.Sprintf("%d overwritten", g.Overwritten))
	}
	if g.Holes > 0 {
		parts = append(parts, plural(int(g.Holes), "hole"))
	}
	if g.Lost > 0 {
		parts = append(parts, fmt.Sprintf("%d lost", g.Lost))
	}
	return "-- " + strings.Join(parts, ", ") + " --"
}

const clockLayout = "15:04:05.000000"

// text writes a frame for people.
func (i *feedItem) text(ring uint8, asHex bool) string {
	clock := strings.Repeat(" ", len(clockLayout))
	if at := i.time(); !at.IsZero() {
		clock = at.Format(clockLayout)
	}
	payload := bytesAsText(i.payload)
	if asHex {
		payload = hex.EncodeToString(i.payload)
	}
	by := fmt.Sprintf("%s  node %-3d", clock, i.id.Node())
	switch {
	case ring == orbit.KindEvents:
		return fmt.Sprintf("%s  %-20s %s", by, bytesAsText([]byte(i.topic)), payload)
	case ring == orbit.KindHeartbeat:
		return by + "  beat"
	case i.claim != nil:
		return fmt.Sprintf("%s  %-8v %s", by, i.claim.Change, claimText(&i.claim.Holder))
	case i.write != nil:
		value := bytesAsText(i.write.Value)
		if asHex {
			value = hex.EncodeToString(i.write.Value)
		}
		return fmt.Sprintf("%-14v %s", i.id, writeText(i.write, value))
	}
	return fmt.Sprintf("%-14v kind %d, version %d  %s", i.id, i.kind, i.version, payload)
}

// time returns when it was published, as far as the frame says.
func (i *feedItem) time() time.Time {
	switch {
	case i.claim != nil && i.claim.Change == orbit.Claimed:
		return i.claim.Holder.Since.Time()
	case i.at != 0:
		return i.at.Time()
	}
	return time.Time{}
}

func claimText(h *orbit.Holder) string {
	return fmt.Sprintf("%d %s  token %d  owner %s  pid %d  until %s",
		h.Kind, strconv.Quote(h.Label), h.Token, strconv.Quote(h.Owner), h.PID, endText(h.Left))
}

// endText writes when a claim ends that has that much time left. Whoever claims
// for the longest time there is does so for as long as the process lives.
func endText(left time.Duration) string {
	if left > forever {
		return "released"
	}
	return time.Now().Add(left).Format("15:04:05.000")
}

// forever is a time left that no boot outlasts.
const forever = 100 * 365 * 24 * time.Hour

// A feedObject is a frame as tools want it.
type feedObject struct {
	ID         orbit.NetID64 `json:"id"`
	Node       uint16        `json:"node"`
	Counter    uint64        `json:"counter"`
	Time       *time.Time    `json:"time,omitempty"`
	Topic      *string       `json:"topic,omitempty"`
	Kind       *uint8        `json:"kind,omitempty"`
	Version    *uint64       `json:"version,omitempty"`
	Payload    *string       `json:"payload,omitempty"`
	PayloadHex *string       `json:"payload_hex,omitempty"`
	Change     string        `json:"change,omitempty"`
	Claim      *claimObject  `json:"claim,omitempty"`
}

type claimObject struct {
	Kind  uint8      `json:"kind"`
	Label string     `json:"label"`
	Owner string     `json:"owner"`
	PID   int        `json:"pid"`
	Token uint64     `json:"token"`
	Since time.Time  `json:"since"`
	Until *time.Time `json:"until,omitempty"` // not if only release or death ends it
}

func (i *feedItem) object(ring uint8, asHex bool) feedObject {
	o := feedObject{ID: i.id, Node: i.id.Node(), Counter: i.id.Counter()}
	if at := i.time(); !at.IsZero() {
		o.Time = &at
	}
	switch {
	case ring == orbit.KindEvents:
		o.Topic = &i.topic
	case ring == orbit.KindHeartbeat:
		return o
	case i.claim != nil:
		o.Change, o.Claim = i.claim.Change.String(), newClaimObject(&i.claim.Holder)
		return o
	default:
		o.Kind, o.Version = &i.kind, &i.version
	}
	if payload := string(i.payload); utf8.ValidString(payload) && !asHex {
		o.Payload = &payload
	} else {
		payload = hex.EncodeToString(i.payload)
		o.PayloadHex = &payload
	}
	return o
}

func newClaimObject(h *orbit.Holder) *claimObject {
	o := &claimObject{Kind: h.Kind, Label: h.Label, Owner: h.Owner, PID: h.PID, Token: h.Token, Since: h.Since.Time()}
	if h.Left <= forever {
		until := time.Now().Add(h.Left)
		o.Until = &until
	}
	return o
}
