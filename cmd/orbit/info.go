package main

import (
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"orbit"
)

var infoFlags struct {
	json   bool
	fresh  time.Duration
	prefix string
	recent int
}

var infoCommand = &command{
	name:  "info",
	args:  "[-json] [-fresh duration] [-prefix prefix] [-n number] FLEET [KIND]",
	short: "show what is in a fleet, or in one ring of it",
	long: `Shows the members of FLEET with their heartbeats, what is in the slots of its
rings, who holds which subject of the contest, the newest event, and how much is
in the cache. With KIND, which is 1 to 255, cache, events, heartbeat or contest,
it shows more of that ring: the newest frame, or the newest events, claims or
beats.

Looking joins no fleet, maps everything read-only and changes nothing. What is
shown was read one after the other, while members went on.

  pending  frames that live members are writing
  holes    counters that carry no frame, such as ids minted alone
  lost     frames whose writers died before they were done
  asleep   whether some process may be asleep until the next frame

With -json each line is one object, whose type says what it describes: fleet,
member, ring, frame, cache, event, holder, claim or beat. All keys of a type are
always there; what is not known is null. A payload is in payload if it is text,
and in payload_hex otherwise.
`,
	flags: func(f *flag.FlagSet) {
		f.BoolVar(&infoFlags.json, "json", false, "print JSON, one object a line")
		f.DurationVar(&infoFlags.fresh, "fresh", 3*orbit.DefaultBeat, "how old the newest beat of a fresh node may be")
		f.StringVar(&infoFlags.prefix, "prefix", "", "the `prefix` of the cache's key space whose entries are counted")
		f.IntVar(&infoFlags.recent, "n", 10, "`number` of newest events or claims shown of their rings")
	},
	run: runInfo,
}

func runInfo(args []string) error {
	switch {
	case len(args) == 0:
		return usagef("which fleet? \"orbit ls\" lists them")
	case len(args) > 2:
		return usagef("it takes a fleet and a kind, found also %q", args[2])
	case infoFlags.fresh < 0:
		return usagef("-fresh %v: want no negative time", infoFlags.fresh)
	case infoFlags.recent < 0:
		return usagef("-n %d: want no negative number", infoFlags.recent)
	}
	var kind uint8
	if len(args) == 2 {
		var err error
		if kind, err = parseKind(args[1]); err != nil {
			return err
		}
	}
	v, err := lookAt(args[0])
	if err != nil {
		return err
	}
	defer v.close()
	if v.fleet == nil {
		return v.err
	}
	if kind != 0 {
		r, err := v.ring(kind)
		if err != nil {
			return err
		}
		return infoRing(v, r)
	}
	return infoFleet(v)
}

// A detail is what both forms of output show of a fleet beside its rings'
// geometry. What could not be read is in failed.
type detail struct {
	stats   map[*ringView]orbit.RingStats
	pulses  []orbit.Pulse
	holders []orbit.Holder
	claims  int // the contest has room for
	entries int // in the cache under the prefix
	event   *orbit.Event
	failed  []error
}

// read looks into the rings and the substrates on them.
func (v *view) read() *detail {
	d := &detail{stats: map[*ringView]orbit.RingStats{}}
	for _, r := range v.rings {
		if r.ring == nil {
			continue
		}
		stats, err := r.ring.Stats()
		if err != nil {
			r.ring, r.err = nil, err
			continue
		}
		d.stats[r] = stats
		if err := d.readSubstrate(v, r); err != nil {
			d.failed = append(d.failed, err)
		}
	}
	return d
}

func (d *detail) readSubstrate(v *view, r *ringView) (err error) {
	switch r.kind {
	case orbit.KindHeartbeat:
		d.pulses, err = pulses(v)
	case orbit.KindContest:
		d.holders, d.claims, err = holders(v)
	case orbit.KindCache:
		d.entries, err = entries(v)
	case orbit.KindEvents:
		var list []*orbit.Event
		if list, err = recentEvents(v, r, 1); len(list) > 0 {
			d.event = list[0]
		}
	}
	return err
}

// pulses returns the newest beat of every node that beat or is a member.
func pulses(v *view) ([]orbit.Pulse, error) {
	h, err := orbit.Heartbeats(v.fleet)
	if err != nil {
		return nil, err
	}
	// Without any expected node, some are expected by default: 0 is none.
	nodes := []uint16{0}
	for _, m := range v.members {
		nodes = append(nodes, m.Node)
	}
	all, err := h.Snapshot(infoFlags.fresh, nodes...)
	return slices.DeleteFunc(all, func(p orbit.Pulse) bool { return p.Node == 0 }), err
}

func holders(v *view) (list []orbit.Holder, room int, err error) {
	c, err := orbit.OpenContest(v.fleet)
	if err != nil {
		return nil, 0, err
	}
	list, err = c.Holders()
	slices.SortFunc(list, func(a, b orbit.Holder) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(a.Label, b.Label)
	})
	return list, c.Capacity(), err
}

func entries(v *view) (int, error) {
	c, err := orbit.OpenCache(v.fleet, infoFlags.prefix)
	if err != nil {
		return 0, err
	}
	stats, err := c.Stats()
	return stats.Entries, err
}

// recentEvents returns the newest n events, the newest first. It goes back
// from the head, where a subscriber would stay at an unfinished event.
func recentEvents(v *view, r *ringView, n int) (list []*orbit.Event, err error) {
	bus, err := orbit.Events(v.fleet)
	if err != nil {
		return nil, err
	}
	place := bus.SubscribeNow().Position()
	for c := range back(r.ring) {
		if len(list) == n {
			break
		}
		place.Counter = c
		s, err := bus.SubscribeAt(place)
		if err != nil {
			return list, err
		}
		ev := new(orbit.Event)
		if s.Poll(ev) == nil && s.Position().Counter == c+1 {
			list = append(list, ev)
		}
	}
	return list, nil
}

// A claimed is a claim event with the id of its frame.
type claimed struct {
	id orbit.NetID64
	orbit.ClaimEvent
}

// recentClaims returns the newest n claim events, the newest first.
func recentClaims(r *ringView, n int) (list []claimed, err error) {
	for c := range back(r.ring) {
		if len(list) == n {
			break
		}
		f, err := r.ring.ReadAt(c, nil)
		if errors.Is(err, orbit.ErrNoFrame) {
			continue
		}
		if err != nil {
			return list, err
		}
		if ev, err := orbit.DecodeClaim(f); err == nil {
			list = append(list, claimed{f.ID, ev})
		}
	}
	return list, nil
}

// back iterates over the counters a ring can still hold, from the newest on.
func back(r *orbit.Ring) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		oldest, c := r.Oldest().Position(), r.Head()
		for range r.Geometry().Capacity {
			if c == oldest || !yield(c-1) {
				return
			}
			c--
		}
	}
}

// A sheet prints tables one below the other, each aligned by itself.
type sheet struct {
	table *tabwriter.Writer
	*screen
}

func newSheet() *sheet { return &sheet{newTable(), newScreen(os.Stdout)} }

func (s *sheet) line(format string, args ...any) { fmt.Fprintf(s.table, format+"\n", args...) }
func (s *sheet) gap()                            { s.table.Flush(); fmt.Println() }

func infoFleet(v *view) error {
	d := v.read()
	if infoFlags.json {
		return fleetJSONLines(v, d)
	}
	s := newSheet()
	size := ""
	if n := v.size(); n > 0 {
		size = ", " + bytesText(n) + " of shared memory"
	}
	fmt.Printf("fleet %q: %s, %s%s, format version %d\n", v.name, counted(len(v.members), "member"), counted(len(v.rings), "ring"), size, orbit.FormatVersion)
	if len(v.members) > 0 {
		s.gap()
		s.members(v, d)
	}
	if len(v.rings) > 0 {
		s.gap()
		s.rings(v, d)
	}
	if len(d.holders) > 0 {
		s.gap()
		s.holders(d.holders)
	}
	s.substrates(v, d)
	return s.table.Flush()
}

func (s *sheet) members(v *view, d *detail) {
	s.line("NODE\tPID\tALIVE FOR\tSINCE\tHEARTBEAT")
	for _, m := range v.members {
		beat := "-"
		for _, p := range d.pulses {
			if p.Node == m.Node {
				beat = s.pulse(p)
			}
		}
		s.line("%d\t%d\t%s\t%s\t%s", m.Node, m.PID, spanText(m.Since.Age()), clockText(m.Since.Time()), beat)
	}
}

func clockText(t time.Time) string { return t.Format("2006-01-02 15:04:05") }

func (s *sheet) pulse(p orbit.Pulse) string {
	switch p.State {
	case orbit.Missing:
		return "never"
	case orbit.Stale:
		return s.style(red, "stale, "+spanText(p.Age)+" old")
	}
	return p.State.String() + ", " + spanText(p.Age) + " old"
}

func (s *sheet) rings(v *view, d *detail) {
	s.line("KIND\tWHAT\tSLOTS\tPAYLOAD\tSIZE\tHEAD\tOLDEST\tFRAMES\tPENDING\tHOLES\tLOST\tASLEEP")
	for _, r := range v.rings {
		if r.ring == nil {
			s.line("%d\t%s\t-\t-\t%s\t-\t-\t-\t-\t-\t-\t%s", r.kind, what(r.kind), sizeText(r.size), s.style(red, plain(r.err)))
			continue
		}
		g, n := r.ring.Geometry(), d.stats[r]
		s.line("%d\t%s\t%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s", r.kind, what(r.kind), g.Capacity, bytesText(int64(g.PayloadLimit)),
			sizeText(r.size), n.Head, n.Oldest, n.Frames, n.Pending, n.Holes, n.Lost, maybe(n.Waiting))
	}
}

// maybe says whether a reader sleeps, as far as a ring knows.
func maybe(waiting bool) string {
	if waiting {
		return "maybe"
	}
	return "no"
}

func (s *sheet) holders(list []orbit.Holder) {
	s.line("SUBJECT\tOWNER\tNODE\tPID\tTOKEN\tHELD FOR\tLEFT")
	for _, h := range list {
		s.line("%d %q\t%s\t%d\t%d\t%d\t%s\t%s", h.Kind, h.Label, ownerText(h.Owner), h.Node, h.PID, h.Token, spanText(h.Since.Age()), leftText(h.Left))
	}
}

func ownerText(owner string) string {
	if owner == "" {
		return "-"
	}
	return bytesAsText([]byte(owner))
}

// lasting is how much time a claim has left at least if none was set.
const lasting = time.Duration(1) << 62

func leftText(left time.Duration) string {
	if left >= lasting {
		return "until released"
	}
	return spanText(max(left, 0))
}

// substrates sums up what is on the rings that the library keeps.
func (s *sheet) substrates(v *view, d *detail) {
	var lines []string
	for _, r := range v.rings {
		if r.ring == nil {
			continue
		}
		switch r.kind {
		case orbit.KindCache:
			lines = append(lines, fmt.Sprintf("cache\t%s", entryText(d.entries)))
		case orbit.KindEvents:
			if d.event != nil {
				lines = append(lines, fmt.Sprintf("events\tnewest: %s from node %d, %s old", bytesAsText(d.event.Topic), d.event.ID.Node(), spanText(d.event.Age())))
			}
		case orbit.KindContest:
			lines = append(lines, fmt.Sprintf("contest\t%d of %s held", len(d.holders), counted(d.claims, "claim")))
		case orbit.KindHeartbeat:
			if text := departed(v, d); text != "" {
				lines = append(lines, "heartbeat\tno members any more: "+text)
			}
		}
	}
	for _, err := range d.failed {
		lines = append(lines, s.style(red, plain(err)))
	}
	if len(lines) > 0 {
		s.gap()
	}
	for _, line := range lines {
		s.line("%s", line)
	}
}

func entryText(n int) string {
	text := fmt.Sprintf("%d entries", n)
	if n == 1 {
		text = "1 entry"
	}
	if infoFlags.prefix == "" {
		return text + " without a prefix (-prefix counts those of another)"
	}
	return fmt.Sprintf("%s of prefix %q", text, infoFlags.prefix)
}

// departed names nodes that beat once and are no members now.
func departed(v *view, d *detail) string {
	var list []string
	for _, p := range d.pulses {
		if !isMember(v, p.Node) {
			list = append(list, fmt.Sprintf("node %d (%s ago)", p.Node, spanText(p.Age)))
		}
	}
	if n := len(list) - 8; n > 0 {
		list = append(list[:8], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(list, ", ")
}

func isMember(v *view, node uint16) bool {
	return slices.ContainsFunc(v.members, func(m orbit.Member) bool { return m.Node == node })
}

func infoRing(v *view, r *ringView) error {
	if r.ring == nil {
		return r.err
	}
	stats, err := r.ring.Stats()
	if err != nil {
		return err
	}
	newest, err := r.ring.Newest(nil)
	if err != nil && !errors.Is(err, orbit.ErrNoFrame) {
		return err
	}
	if infoFlags.json {
		return ringJSONLines(v, r, stats, newest, err == nil)
	}
	s, g := newSheet(), r.ring.Geometry()
	fmt.Printf("ring %d of fleet %q: %s\n\n", r.kind, v.name, what(r.kind))
	s.line("slots\t%d of at most %d bytes", g.Capacity, g.PayloadLimit)
	if r.size >= 0 {
		s.line("segment\t%s, %s", bytesText(r.size), segmentPath(v.name, r.kind))
	}
	s.line("members\t%d", len(v.members))
	s.line("head\t%d", stats.Head)
	s.line("oldest\t%d", stats.Oldest)
	s.line("frames\t%d", stats.Frames)
	s.line("pending\t%d", stats.Pending)
	s.line("holes\t%d", stats.Holes)
	s.line("lost\t%d", stats.Lost)
	s.line("asleep\t%s", maybe(stats.Waiting))
	if err == nil {
		s.frame(r, newest)
	} else {
		s.line("newest\tno frame")
	}
	if err := s.substrate(v, r); err != nil {
		return err
	}
	return s.table.Flush()
}

// shownBytes is how much of a payload is shown to people.
const shownBytes = 256

// frame shows a frame, with its payload if that is not a substrate's.
func (s *sheet) frame(r *ringView, f orbit.Frame) {
	s.line("newest\t%s, kind %d, version %d, %s", f.ID, f.Kind, f.Version, counted(len(f.Payload), "byte"))
	if use := what(r.kind); len(f.Payload) > 0 && (use == "user" || use == "reserved") {
		s.line("payload\t%s", payloadText(f.Payload))
	}
}

// payloadText shows the beginning of a payload.
func payloadText(p []byte) string {
	if len(p) <= shownBytes {
		return bytesAsText(p)
	}
	// A text cut within a letter would not pass for text.
	head := p[:shownBytes]
	for i := range 4 {
		if cut := bytesAsText(p[:shownBytes-i]); !strings.HasPrefix(cut, "0x") {
			head = p[:shownBytes-i]
			break
		}
	}
	return bytesAsText(head) + "..."
}

// substrate shows more of a ring that the library keeps.
func (s *sheet) substrate(v *view, r *ringView) error {
	switch r.kind {
	case orbit.KindCache:
		n, err := entries(v)
		if err != nil {
			return err
		}
		s.line("cache\t%s", entryText(n))
	case orbit.KindEvents:
		return s.recentEvents(v, r)
	case orbit.KindHeartbeat:
		return s.beats(v)
	case orbit.KindContest:
		return s.contest(v, r)
	}
	return nil
}

func (s *sheet) recentEvents(v *view, r *ringView) error {
	list, err := recentEvents(v, r, infoFlags.recent)
	if err != nil || len(list) == 0 {
		return err
	}
	s.gap()
	s.line("AGE\tID\tTOPIC\tPAYLOAD")
	for _, ev := range list {
		s.line("%s\t%s\t%s\t%s", spanText(ev.Age()), ev.ID, bytesAsText(ev.Topic), payloadText(ev.Payload))
	}
	return nil
}

func (s *sheet) beats(v *view) error {
	list, err := pulses(v)
	if err != nil || len(list) == 0 {
		return err
	}
	s.gap()
	s.line("NODE\tMEMBER\tHEARTBEAT")
	for _, p := range list {
		member := "no"
		if isMember(v, p.Node) {
			member = "yes"
		}
		s.line("%d\t%s\t%s", p.Node, member, s.pulse(p))
	}
	return nil
}

func (s *sheet) contest(v *view, r *ringView) error {
	list, room, err := holders(v)
	if err != nil {
		return err
	}
	s.line("claims\t%d of %d held", len(list), room)
	if len(list) > 0 {
		s.gap()
		s.holders(list)
	}
	events, err := recentClaims(r, infoFlags.recent)
	if err != nil || len(events) == 0 {
		return err
	}
	s.gap()
	s.line("CHANGE\tSUBJECT\tOWNER\tNODE\tPID\tTOKEN\tCLAIMED\tID")
	for _, ev := range events {
		h := ev.Holder
		s.line("%s\t%d %q\t%s\t%d\t%d\t%d\t%s ago\t%s", ev.Change, h.Kind, h.Label, ownerText(h.Owner), h.Node, h.PID, h.Token, spanText(h.Since.Age()), ev.id)
	}
	return nil
}
