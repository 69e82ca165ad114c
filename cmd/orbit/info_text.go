package main

import (
	"fmt"
	"strings"

	"orbit"
)

// What "orbit info" prints for people.

func showFleet(v *view, d *detail) error {
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
	if lines := s.substrates(v, d); len(lines) > 0 {
		s.gap()
		for _, line := range lines {
			s.line("%s", line)
		}
	}
	return s.close()
}

func (s *sheet) members(v *view, d *detail) {
	s.row("NODE", "PID", "JOINED", "HEARTBEAT")
	for _, m := range v.members {
		heartbeat := "-"
		for _, p := range d.pulses {
			if p.Node == m.Node {
				heartbeat = s.heartbeat(p)
			}
		}
		s.row(m.Node, m.PID, spanText(m.Since.Age())+" ago", heartbeat)
	}
}

func (s *sheet) heartbeat(p orbit.Pulse) string {
	if p.State == orbit.Stale {
		return s.style(red, pulseText(p))
	}
	return pulseText(p)
}

func (s *sheet) rings(v *view, d *detail) {
	s.row("KIND", "USE", "SLOTS", "PAYLOAD", "SIZE", "HEAD", "OLDEST", "FRAMES", "PENDING", "HOLES", "LOST", "ASLEEP")
	for _, r := range v.rings {
		if r.ring == nil {
			s.row(r.kind, useOf(r.kind), "-", "-", sizeText(r.size), "-", "-", "-", "-", "-", "-", s.style(red, plain(r.err)))
			continue
		}
		g, n := r.ring.Geometry(), d.stats[r]
		s.row(r.kind, useOf(r.kind), g.Capacity, bytesText(int64(g.PayloadLimit)), sizeText(r.size),
			n.Head, n.Oldest, n.Frames, n.Pending, n.Holes, n.Lost, maybe(n.Waiting))
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
	s.row("SUBJECT", "OWNER", "NODE", "PID", "TOKEN", "HELD FOR", "LEFT")
	for _, h := range list {
		s.row(subjectText(&h), ownerText(h.Owner), h.Node, h.PID, tokenText(h.Token), spanText(h.Since.Age()), leftText(h.Left))
	}
}

// substrates sums up what is on the rings that the library keeps.
func (s *sheet) substrates(v *view, d *detail) (lines []string) {
	for _, r := range v.rings {
		if r.ring == nil {
			continue
		}
		switch r.kind {
		case orbit.KindCache:
			lines = append(lines, "cache\t"+keysText(d.keys))
		case orbit.KindEvents:
			if ev := d.newest[r.kind]; ev != nil {
				lines = append(lines, fmt.Sprintf("events\tnewest: %s from node %d, %s ago", bytesAsText([]byte(ev.topic)), ev.id.Node(), spanText(ev.at.Age())))
			}
		case orbit.KindContest:
			lines = append(lines, fmt.Sprintf("contest\t%d of %s held", len(d.holders), counted(d.claims, "claim")))
		case orbit.KindHeartbeat:
			if gone := departed(v, d); len(gone) > 0 {
				lines = append(lines, "heartbeat\tno members any more: "+someOf(gone))
			}
		}
	}
	for _, err := range d.failed {
		lines = append(lines, s.style(red, plain(err)))
	}
	return lines
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

// departed names nodes that beat once and are no members now.
func departed(v *view, d *detail) (list []string) {
	for _, p := range d.pulses {
		if !isMember(v.members, p.Node) {
			list = append(list, fmt.Sprintf("node %d (%s ago)", p.Node, spanText(p.Age)))
		}
	}
	return list
}

func showRing(v *view, r *ringView, d *detail, newest orbit.Frame, found bool) error {
	s, g, stats := newSheet(), r.ring.Geometry(), d.stats[r]
	fmt.Printf("ring %d of fleet %q: %s\n\n", r.kind, v.name, useOf(r.kind))
	s.line("slots\t%d of at most %d bytes", g.Capacity, g.PayloadLimit)
	if r.size >= 0 {
		s.line("segment\t%s, %s", bytesText(r.size), segmentPath(v.name, r.kind))
	}
	s.row("members", len(v.members))
	s.row("head", stats.Head)
	s.row("oldest", stats.Oldest)
	s.row("frames", stats.Frames)
	s.row("pending", stats.Pending)
	s.row("holes", stats.Holes)
	s.row("lost", stats.Lost)
	s.row("asleep", maybe(stats.Waiting))
	s.newest(r, d, newest, found)
	for _, err := range d.failed {
		s.line("%s", s.style(red, plain(err)))
	}
	s.substrate(v, r, d)
	return s.close()
}

// newest shows the newest frame, and what it says to a substrate.
func (s *sheet) newest(r *ringView, d *detail, f orbit.Frame, found bool) {
	if !found {
		s.row("newest", "no frame")
		return
	}
	s.line("newest\t%s, kind %d, version %d, %s", f.ID, f.Kind, f.Version, counted(len(f.Payload), "byte"))
	if item := d.newest[r.kind]; item != nil {
		s.row("", strings.TrimSpace(item.text(r.kind, false)))
	} else if len(f.Payload) > 0 {
		s.row("payload", payloadText(f.Payload))
	}
}

// shownBytes is how much of a payload is shown to people.
const shownBytes = 256

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
func (s *sheet) substrate(v *view, r *ringView, d *detail) {
	switch {
	case len(d.keys) > 0:
		s.gap()
		s.row("PREFIX", "KEYS")
		for _, p := range d.keys {
			s.row(nameText(p.prefix), p.keys)
		}
	case len(d.pulses) > 0:
		s.gap()
		s.row("NODE", "MEMBER", "HEARTBEAT")
		for _, p := range d.pulses {
			s.row(p.Node, map[bool]string{true: "yes", false: "no"}[isMember(v.members, p.Node)], s.heartbeat(p))
		}
	case r.kind == orbit.KindContest:
		s.line("claims\t%d of %d held", len(d.holders), d.claims)
		if len(d.holders) > 0 {
			s.gap()
			s.holders(d.holders)
		}
	}
}
