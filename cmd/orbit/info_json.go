package main

import (
	"encoding/hex"
	"errors"
	"time"
	"unicode/utf8"

	"orbit"
)

// What "orbit info -json" prints: one object a line, of these types.

type memberJSON struct {
	Type      string    `json:"type"` // "member"
	Fleet     string    `json:"fleet"`
	Node      uint16    `json:"node"`
	PID       int       `json:"pid"`
	Since     time.Time `json:"since"`
	Heartbeat *string   `json:"heartbeat"` // fresh, stale or missing; null if the fleet has none
	BeatAge   *float64  `json:"beat_age_seconds"`
}

type statsJSON struct {
	ringJSON
	Head    *uint64 `json:"head"`
	Oldest  *uint64 `json:"oldest"`
	Frames  *int    `json:"frames"`
	Pending *int    `json:"pending"`
	Holes   *int    `json:"holes"`
	Lost    *int    `json:"lost"`
	Asleep  *bool   `json:"asleep"`
}

type cacheJSON struct {
	Type      string  `json:"type"` // "cache"
	Fleet     string  `json:"fleet"`
	Prefix    *string `json:"prefix"`
	PrefixHex *string `json:"prefix_hex,omitempty"`
	Keys      int     `json:"keys"`
}

type beatJSON struct {
	Type    string   `json:"type"` // "beat"
	Fleet   string   `json:"fleet"`
	Node    uint16   `json:"node"`
	Member  bool     `json:"member"`
	State   string   `json:"state"`
	BeatAge *float64 `json:"beat_age_seconds"`
}

// A payloadJSON is a payload in the one of two forms that loses nothing.
type payloadJSON struct {
	Size int     `json:"payload_bytes"`
	Text *string `json:"payload"`
	Hex  *string `json:"payload_hex"`
}

type frameJSON struct {
	Type    string        `json:"type"` // "frame"
	Fleet   string        `json:"fleet"`
	ID      orbit.NetID64 `json:"id"`
	Node    uint16        `json:"node"`
	Kind    uint8         `json:"kind"`
	Version uint64        `json:"version"`
	payloadJSON
}

type eventJSON struct {
	Type  string        `json:"type"` // "event"
	Fleet string        `json:"fleet"`
	ID    orbit.NetID64 `json:"id"`
	Node  uint16        `json:"node"`
	Time  time.Time     `json:"time"`
	Age   float64       `json:"age_seconds"`
	Topic string        `json:"topic"`
	payloadJSON
}

type holderJSON struct {
	Type  string    `json:"type"` // "holder"
	Fleet string    `json:"fleet"`
	Kind  uint8     `json:"kind"`
	Label string    `json:"label"`
	Owner string    `json:"owner"`
	Node  uint16    `json:"node"`
	PID   int       `json:"pid"`
	Token uint64    `json:"token"`
	Since time.Time `json:"since"`
	Left  *float64  `json:"left_seconds"` // null: until it is released
}

type claimJSON struct {
	holderJSON               // of type "claim"
	ID         orbit.NetID64 `json:"id"`
	Change     string        `json:"change"`
}

func payloadOf(p []byte) payloadJSON {
	text := utf8.Valid(p)
	return payloadJSON{len(p), known(string(p), text), known(hex.EncodeToString(p), !text)}
}

// textOf is the text of a label or topic, and its hex form if it is none.
func textOf(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return bytesAsText([]byte(s))
}

func memberOf(v *view, m orbit.Member, pulses []orbit.Pulse) memberJSON {
	j := memberJSON{Type: "member", Fleet: v.name, Node: m.Node, PID: m.PID, Since: m.Since.Time().Round(0)}
	for _, p := range pulses {
		if p.Node == m.Node {
			j.Heartbeat, j.BeatAge = known(p.State.String(), true), beatAge(p)
		}
	}
	return j
}

func beatOf(v *view, p orbit.Pulse) beatJSON {
	return beatJSON{"beat", v.name, p.Node, isMember(v, p.Node), p.State.String(), beatAge(p)}
}

func cacheOf(v *view, p prefixCount) cacheJSON {
	text, inHex := textOrHex([]byte(p.prefix))
	return cacheJSON{"cache", v.name, text, inHex, p.keys}
}

func beatAge(p orbit.Pulse) *float64 { return known(p.Age.Seconds(), p.State != orbit.Missing) }

func statsOf(v *view, r *ringView, n orbit.RingStats) statsJSON {
	sound := r.ring != nil
	return statsJSON{
		ringJSON: r.toJSON(v.name),
		Head:     known(n.Head, sound),
		Oldest:   known(n.Oldest, sound),
		Frames:   known(n.Frames, sound),
		Pending:  known(n.Pending, sound),
		Holes:    known(n.Holes, sound),
		Lost:     known(n.Lost, sound),
		Asleep:   known(n.Waiting, sound),
	}
}

func eventOf(v *view, ev *orbit.Event) eventJSON {
	return eventJSON{"event", v.name, ev.ID, ev.ID.Node(), ev.Time().Round(0), ev.Age().Seconds(), textOf(string(ev.Topic)), payloadOf(ev.Payload)}
}

func holderOf(v *view, h orbit.Holder) holderJSON {
	return holderJSON{"holder", v.name, h.Kind, textOf(h.Label), textOf(h.Owner), h.Node, h.PID, h.Token, h.Since.Time().Round(0), known(h.Left.Seconds(), h.Left < lasting)}
}

func claimOf(v *view, c claimed) claimJSON {
	j := claimJSON{holderOf(v, c.Holder), c.id, c.Change.String()}
	j.Type = "claim"
	return j
}

func fleetJSONLines(v *view, d *detail) error {
	lines := []any{v.toJSON()}
	for _, m := range v.members {
		lines = append(lines, memberOf(v, m, d.pulses))
	}
	for _, r := range v.rings {
		lines = append(lines, statsOf(v, r, d.stats[r]))
		if r.kind == orbit.KindCache && r.ring != nil {
			lines = append(lines, each(v, d.keys, cacheOf)...)
		}
	}
	for _, h := range d.holders {
		lines = append(lines, holderOf(v, h))
	}
	if d.event != nil {
		lines = append(lines, eventOf(v, d.event))
	}
	for _, p := range d.pulses {
		lines = append(lines, beatOf(v, p))
	}
	return errors.Join(append(d.failed, printLines(lines))...)
}

func ringJSONLines(v *view, r *ringView, stats orbit.RingStats, newest orbit.Frame, found bool) error {
	lines := []any{statsOf(v, r, stats)}
	if found {
		lines = append(lines, frameJSON{"frame", v.name, newest.ID, newest.ID.Node(), newest.Kind, newest.Version, payloadOf(newest.Payload)})
	}
	more, err := substrateJSON(v, r)
	return errors.Join(printLines(append(lines, more...)), err)
}

func substrateJSON(v *view, r *ringView) (lines []any, err error) {
	switch r.kind {
	case orbit.KindCache:
		list, err := countKeys(v.fleet, r.ring)
		return each(v, list, cacheOf), err
	case orbit.KindEvents:
		list, err := recentEvents(v, r, infoFlags.recent)
		return each(v, list, eventOf), err
	case orbit.KindHeartbeat:
		list, err := pulses(v)
		return each(v, list, beatOf), err
	case orbit.KindContest:
		list, _, err := holders(v)
		events, eventsErr := recentClaims(r, infoFlags.recent)
		return append(each(v, list, holderOf), each(v, events, claimOf)...), errors.Join(err, eventsErr)
	}
	return nil, nil
}

// each turns a list into lines.
func each[T, J any](v *view, list []T, line func(*view, T) J) (lines []any) {
	for _, x := range list {
		lines = append(lines, line(v, x))
	}
	return lines
}

func printLines(lines []any) error {
	for _, line := range lines {
		if err := printJSON(line); err != nil {
			return err
		}
	}
	return nil
}
