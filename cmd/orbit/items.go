package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"orbit"
)

// A feedItem is one thing that came through a ring: a frame, or what was passed
// in place of frames, or the trouble with a frame.
type feedItem struct {
	id      orbit.NetID64
	decoded bool        // whether it reads as the use of its ring wants it
	at      orbit.Stamp // when it was published, 0 if its frame does not say
	kind    uint8       // of the frame
	version uint64      // of the frame
	topic   string      // of an event
	payload []byte
	claim   *orbit.ClaimEvent // in the ring of claims
	write   *orbit.CacheWrite // in the ring of the cache; its bytes are the payload's

	passed  orbit.Gap
	trouble error
}

// isFrame tells an item with a frame from one without.
func (i *feedItem) isFrame() bool { return !i.id.IsZero() }

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

// ---- For people ----

// lines writes what was passed, and then what is there.
func (i *feedItem) lines(ring uint8, asHex bool) (lines []string) {
	if i.passed.Total() > 0 {
		lines = append(lines, gapText(i.passed))
	}
	switch {
	case i.trouble != nil:
		lines = append(lines, "-- "+plain(i.trouble)+" --")
	case i.isFrame():
		lines = append(lines, strings.TrimRight(i.text(ring, asHex), " "))
	}
	return lines
}

// gapText writes a line about counters that were passed.
func gapText(g orbit.Gap) string {
	var parts []string
	if g.Overwritten > 0 {
		parts = append(parts, fmt.Sprintf("%d overwritten", g.Overwritten))
	}
	if g.Holes > 0 {
		parts = append(parts, counted(g.Holes, "hole"))
	}
	if g.Lost > 0 {
		parts = append(parts, fmt.Sprintf("%d lost", g.Lost))
	}
	return "-- " + strings.Join(parts, ", ") + " --"
}

const clockLayout = "15:04:05.000000"

// text writes a frame.
func (i *feedItem) text(ring uint8, asHex bool) string {
	show := bytesAsText
	if asHex {
		show = hex.EncodeToString
	}
	clock := strings.Repeat(" ", len(clockLayout))
	if at := i.time(); !at.IsZero() {
		clock = at.Format(clockLayout)
	}
	by := fmt.Sprintf("%s  node %-3d", clock, i.id.Node())
	switch {
	case ring == orbit.KindEvents:
		return fmt.Sprintf("%s  %-20s %s", by, bytesAsText([]byte(i.topic)), show(i.payload))
	case ring == orbit.KindHeartbeat:
		return by + "  beat"
	case i.claim != nil:
		return fmt.Sprintf("%s  %-8v %s", by, i.claim.Change, claimText(&i.claim.Holder))
	case i.write != nil:
		return fmt.Sprintf("%-14v %-6v %s", i.id, i.write.Op, writeText(i.write, show))
	}
	return fmt.Sprintf("%-14v kind %d, version %d  %s", i.id, i.kind, i.version, show(i.payload))
}

// claimText shows a claim, with the time of day at which it ends.
func claimText(h *orbit.Holder) string {
	until := leftText(h.Left)
	if !endless(h.Left) {
		until = "until " + time.Now().Add(h.Left).Format("15:04:05.000")
	}
	return fmt.Sprintf("%s  token %d  owner %s  pid %d  %s", subjectText(h), h.Token, strconv.Quote(h.Owner), h.PID, until)
}

// writeText shows what a write to the cache is about.
func writeText(w *orbit.CacheWrite, show func([]byte) string) string {
	text := " prefix " + strconv.Quote(string(w.Prefix))
	if w.Op != orbit.CacheReset {
		text += "  key " + strconv.Quote(string(w.Key))
	}
	if w.Op == orbit.CachePut || w.Op == orbit.CacheAdd {
		verb := "expires"
		if w.Expiry != 0 && w.Expiry.Age() >= 0 {
			verb = "expired"
		}
		text += "  " + verb + " " + expiryText(w.Expiry) + "  " + show(w.Value)
	}
	return text
}

// ---- For tools ----

// objects are what was passed, and then what is there.
func (i *feedItem) objects(fleet string, ring uint8) (list []any) {
	if p := i.passed; p.Total() > 0 {
		list = append(list, passedJSON{objectJSON{"passed", fleet}, p.Overwritten, p.Holes, p.Lost})
	}
	switch {
	case i.trouble != nil:
		list = append(list, troubleJSON{objectJSON{"trouble", fleet}, plain(i.trouble)})
	case i.isFrame():
		list = append(list, i.object(fleet, ring))
	}
	return list
}

// object is a frame.
func (i *feedItem) object(fleet string, ring uint8) any {
	switch {
	case ring == orbit.KindEvents:
		j := eventJSON{objectJSON: objectJSON{"event", fleet}, idJSON: idOf(i.id), Time: i.time().Round(0), payloadJSON: payloadOf(i.payload)}
		j.Topic, j.TopicHex = textOrHex(i.topic)
		return j
	case ring == orbit.KindHeartbeat:
		return beatJSON{objectJSON{"beat", fleet}, idOf(i.id), i.time().Round(0)}
	case i.claim != nil:
		return changeJSON{objectJSON{"claim", fleet}, i.id, i.id.Counter(), i.claim.Change.String(), claimOf(&i.claim.Holder)}
	case i.write != nil:
		return writeOf(fleet, i.id, i.write)
	}
	return frameOf(fleet, i.id, i.kind, i.version, i.payload)
}

func writeOf(fleet string, id orbit.NetID64, w *orbit.CacheWrite) writeJSON {
	j := writeJSON{objectJSON: objectJSON{"write", fleet}, idJSON: idOf(id), Op: w.Op.String(), prefixJSON: prefixOf(w.Prefix)}
	if w.Op != orbit.CacheReset {
		j.keyJSON = keyOf(w.Key)
	}
	if w.Op == orbit.CachePut || w.Op == orbit.CacheAdd {
		j.valueJSON = valueOf(w.Value, w.Expiry, true)
	}
	return j
}
