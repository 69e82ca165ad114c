package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"time"
	"unicode/utf8"

	"orbit"
)

// What -json prints: one object a line. Its type says what it describes, and
// all keys of a type are always there, but for those with _hex: what may be any
// bytes is under its name if it is text, and in hex under name_hex otherwise.
// What is not known, or does not apply, is null.

// printJSON writes one value as one line, as tools that read streams want it.
func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func printLines(lines []any) error {
	for _, line := range lines {
		if err := printJSON(line); err != nil {
			return err
		}
	}
	return nil
}

// known is nil for what is not known, which is null in JSON.
func known[T any](v T, ok bool) *T {
	if !ok {
		return nil
	}
	return &v
}

// seconds is a duration as a number that is not longer than it is exact.
func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }

// textOrHex returns bytes in the one of two forms that loses nothing.
func textOrHex[B string | []byte](b B) (text, inHex *string) {
	ok := utf8.ValidString(string(b))
	return known(string(b), ok), known(hex.EncodeToString([]byte(b)), !ok)
}

// objectJSON is what all objects begin with.
type objectJSON struct {
	Type  string `json:"type"`
	Fleet string `json:"fleet"`
}

type fleetJSON struct {
	objectJSON            // "fleet"
	Members       *int    `json:"members"`
	Rings         int     `json:"rings"`
	RosterBytes   *int64  `json:"roster_bytes"`
	SegmentBytes  *int64  `json:"segment_bytes"` // of the roster and all rings
	FormatVersion *int    `json:"format_version"`
	Error         *string `json:"error"`
}

func fleetOf(v *view) fleetJSON {
	sound := v.fleet != nil
	return fleetJSON{
		objectJSON:    objectJSON{"fleet", v.name},
		Members:       known(len(v.members), sound),
		Rings:         len(v.rings),
		RosterBytes:   known(v.roster, v.roster >= 0),
		SegmentBytes:  known(v.size(), v.size() > 0),
		FormatVersion: known(orbit.FormatVersion, sound),
		Error:         errorText(v.err),
	}
}

// A ringJSON is a ring. How fast it moves is for ls to say, and what is in its
// slots for info.
type ringJSON struct {
	objectJSON             // "ring"
	Kind          uint8    `json:"kind"`
	Use           string   `json:"use"`
	Capacity      *int     `json:"capacity"`
	PayloadLimit  *int     `json:"payload_limit"`
	SegmentBytes  *int64   `json:"segment_bytes"`
	FormatVersion *int     `json:"format_version"`
	Head          *uint64  `json:"head"`
	Rate          *float64 `json:"frames_per_second"`
	Oldest        *uint64  `json:"oldest"`
	Frames        *int     `json:"frames"`
	Pending       *int     `json:"pending"`
	Holes         *int     `json:"holes"`
	Lost          *int     `json:"lost"`
	Asleep        *bool    `json:"asleep"`
	Error         *string  `json:"error"`
}

func ringOf(v *view, r *ringView) ringJSON {
	var g orbit.Geometry
	sound := r.ring != nil
	if sound {
		g = r.ring.Geometry()
	}
	return ringJSON{
		objectJSON:    objectJSON{"ring", v.name},
		Kind:          r.kind,
		Use:           useOf(r.kind),
		Capacity:      known(g.Capacity, sound),
		PayloadLimit:  known(g.PayloadLimit, sound),
		SegmentBytes:  known(r.size, r.size >= 0),
		FormatVersion: known(orbit.FormatVersion, sound),
		Error:         errorText(r.err),
	}
}

// errorText is what JSON says of an error.
func errorText(err error) *string {
	if err == nil {
		return nil
	}
	text := plain(err)
	return &text
}

type memberJSON struct {
	objectJSON           // "member"
	Node       uint16    `json:"node"`
	PID        int       `json:"pid"`
	Since      time.Time `json:"since"`
	heartJSON
}

// A pulseJSON is a node by its heartbeat, member or not.
type pulseJSON struct {
	objectJSON        // "pulse"
	Node       uint16 `json:"node"`
	Member     bool   `json:"member"`
	heartJSON
}

type heartJSON struct {
	Heartbeat *string  `json:"heartbeat"` // fresh, stale or missing; null if the fleet has none
	BeatAge   *float64 `json:"beat_age_seconds"`
}

func memberOf(v *view, m orbit.Member, pulses []orbit.Pulse) memberJSON {
	j := memberJSON{objectJSON: objectJSON{"member", v.name}, Node: m.Node, PID: m.PID, Since: m.Since.Time().Round(0)}
	for _, p := range pulses {
		if p.Node == m.Node {
			j.heartJSON = heartOf(p)
		}
	}
	return j
}

func pulseOf(v *view, p orbit.Pulse) pulseJSON {
	return pulseJSON{objectJSON{"pulse", v.name}, p.Node, isMember(v.members, p.Node), heartOf(p)}
}

func heartOf(p orbit.Pulse) heartJSON {
	return heartJSON{known(p.State.String(), true), known(seconds(p.Age), p.State != orbit.Missing)}
}

// A claimJSON is a claim: of who holds a subject, or as its ring announces it.
type claimJSON struct {
	Kind     uint8     `json:"kind"`
	Label    *string   `json:"label"`
	LabelHex *string   `json:"label_hex,omitempty"`
	Owner    *string   `json:"owner"`
	OwnerHex *string   `json:"owner_hex,omitempty"`
	Node     uint16    `json:"node"`
	PID      int       `json:"pid"`
	Token    uint64    `json:"token"`
	Since    time.Time `json:"since"`
	Left     *float64  `json:"left_seconds"` // null: until it is released
}

func claimOf(h *orbit.Holder) claimJSON {
	j := claimJSON{
		Kind: h.Kind, Node: h.Node, PID: h.PID, Token: h.Token,
		Since: h.Since.Time().Round(0), Left: known(seconds(h.Left), !endless(h.Left)),
	}
	j.Label, j.LabelHex = textOrHex(h.Label)
	j.Owner, j.OwnerHex = textOrHex(h.Owner)
	return j
}

type holderJSON struct {
	objectJSON // "holder"
	claimJSON
}

func holderOf(fleet string, h *orbit.Holder) holderJSON {
	return holderJSON{objectJSON{"holder", fleet}, claimOf(h)}
}

// A changeJSON is a claim event. Its node is the holder's: who announced the
// change is in the id.
type changeJSON struct {
	objectJSON               // "claim"
	ID         orbit.NetID64 `json:"id"`
	Counter    uint64        `json:"counter"`
	Change     string        `json:"change"`
	claimJSON
}

type idJSON struct {
	ID      orbit.NetID64 `json:"id"`
	Node    uint16        `json:"node"`
	Counter uint64        `json:"counter"`
}

func idOf(id orbit.NetID64) idJSON { return idJSON{id, id.Node(), id.Counter()} }

type payloadJSON struct {
	Size int     `json:"payload_bytes"`
	Text *string `json:"payload"`
	Hex  *string `json:"payload_hex,omitempty"`
}

func payloadOf(p []byte) payloadJSON {
	text, inHex := textOrHex(p)
	return payloadJSON{len(p), text, inHex}
}

type frameJSON struct {
	objectJSON // "frame"
	idJSON
	Kind    uint8  `json:"kind"`
	Version uint64 `json:"version"`
	payloadJSON
}

func frameOf(fleet string, id orbit.NetID64, kind uint8, version uint64, payload []byte) frameJSON {
	return frameJSON{objectJSON{"frame", fleet}, idOf(id), kind, version, payloadOf(payload)}
}

type eventJSON struct {
	objectJSON // "event"
	idJSON
	Time     time.Time `json:"time"`
	Topic    *string   `json:"topic"`
	TopicHex *string   `json:"topic_hex,omitempty"`
	payloadJSON
}

type beatJSON struct {
	objectJSON // "beat"
	idJSON
	Time time.Time `json:"time"`
}

// A writeJSON is a write to the cache. A delete has no value, and a reset no
// key.
type writeJSON struct {
	objectJSON // "write"
	idJSON
	Op string `json:"op"`
	prefixJSON
	keyJSON
	valueJSON
}

// An entryJSON is a key that has a value.
type entryJSON struct {
	objectJSON // "entry"
	prefixJSON
	keyJSON
	valueJSON
	Node    *uint16 `json:"node"` // that wrote it; null if it was overwritten meanwhile
	Counter uint64  `json:"counter"`
}

// A cacheJSON tells how many keys of a prefix have a value.
type cacheJSON struct {
	objectJSON // "cache"
	prefixJSON
	Keys int `json:"keys"`
}

func cacheOf(v *view, p prefixCount) cacheJSON {
	return cacheJSON{objectJSON{"cache", v.name}, prefixOf(p.prefix), p.keys}
}

type prefixJSON struct {
	Prefix    *string `json:"prefix"`
	PrefixHex *string `json:"prefix_hex,omitempty"`
}

func prefixOf[B string | []byte](prefix B) (j prefixJSON) {
	j.Prefix, j.PrefixHex = textOrHex(prefix)
	return j
}

type keyJSON struct {
	Key    *string `json:"key"`
	KeyHex *string `json:"key_hex,omitempty"`
}

func keyOf[B string | []byte](key B) (j keyJSON) {
	j.Key, j.KeyHex = textOrHex(key)
	return j
}

type valueJSON struct {
	Size     *int     `json:"value_bytes"`
	Value    *string  `json:"value"` // null also if it was not asked for
	ValueHex *string  `json:"value_hex,omitempty"`
	Expires  *float64 `json:"expires_in_seconds"` // null: never
}

func valueOf(value []byte, expiry orbit.Stamp, shown bool) (j valueJSON) {
	j.Size = known(len(value), true)
	if shown {
		j.Value, j.ValueHex = textOrHex(value)
	}
	j.Expires = known(seconds(-expiry.Age()), expiry != 0)
	return j
}

// A passedJSON counts what came through a ring without a frame to show.
type passedJSON struct {
	objectJSON         // "passed"
	Overwritten uint64 `json:"overwritten"`
	Holes       uint64 `json:"holes"`
	Lost        uint64 `json:"lost"`
}

// A troubleJSON is a frame that cannot be read.
type troubleJSON struct {
	objectJSON        // "trouble"
	Error      string `json:"error"`
}
