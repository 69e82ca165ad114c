package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"orbit"
)

// What "orbit info" prints for people.

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
			lines = append(lines, "cache\t"+keysText(d.keys))
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

// keysText sums up the keys of all prefixes, and names those that have some.
func keysText(list []prefixCount) string {
	sum, prefixes := 0, []string{}
	for _, p := range list {
		sum += p.keys
		prefixes = append(prefixes, fmt.Sprintf("%d of prefix %q", p.keys, p.prefix))
	}
	text := counted(sum, "key")
	if len(list) == 0 || len(list) == 1 && list[0].prefix == "" {
		return text
	}
	return text + ": " + someOf(prefixes)
}

// someOf joins what there is of something, as far as people want to read it.
func someOf(list []string) string {
	if n := len(list) - 8; n > 0 {
		list = append(list[:8:8], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(list, ", ")
}

// departed names nodes that beat once and are no members now.
func departed(v *view, d *detail) string {
	var list []string
	for _, p := range d.pulses {
		if !isMember(v, p.Node) {
			list = append(list, fmt.Sprintf("node %d (%s ago)", p.Node, spanText(p.Age)))
		}
	}
	return someOf(list)
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
		return s.prefixes(v, r)
	case orbit.KindEvents:
		return s.recentEvents(v, r)
	case orbit.KindHeartbeat:
		return s.beats(v)
	case orbit.KindContest:
		return s.contest(v, r)
	}
	return nil
}

func (s *sheet) prefixes(v *view, r *ringView) error {
	list, err := countKeys(v.fleet, r.ring)
	if err != nil || len(list) == 0 {
		return err
	}
	s.gap()
	s.line("PREFIX\tKEYS")
	for _, p := range list {
		s.line("%s\t%d", nameText(p.prefix), p.keys)
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
