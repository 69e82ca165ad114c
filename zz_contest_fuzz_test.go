package orbit_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func FuzzDecodeClaim(f *testing.F) {
	c := contestLocal(f, orbit.Options{})
	contestClaim[contestJob](f, c, "nightly", "alpha", time.Minute).Release()
	contestClaim[contestShard](f, c, "", "", time.Millisecond).Release()
	news := c.Ring().Oldest()
	for {
		frame, _, err := news.Next(nil)
		if err != nil {
			break
		}
		f.Add(frame.Kind, frame.Version, frame.Payload)
	}
	f.Add(uint8(1), uint64(0), make([]byte, 24))
	f.Add(uint8(1), uint64(0), append(make([]byte, 25), "x"...))
	f.Fuzz(func(t *testing.T, kind uint8, version uint64, payload []byte) {
		e, err := orbit.DecodeClaim(orbit.Frame{Kind: kind, Version: version, Payload: payload})
		// The second reading: three lengths that must add up, and a known change.
		ok := kind >= 1 && kind <= 4 && len(payload) >= 25 &&
			payload[1] <= orbit.MaxLabel && payload[2] <= orbit.MaxOwner &&
			len(payload) == 25+int(payload[1])+int(payload[2])
		if (err == nil) != ok {
			t.Fatalf("DecodeClaim(%d, %x) = %v; acceptable: %v", kind, payload, err, ok)
		}
		if err != nil {
			if !errors.Is(err, orbit.ErrClaimEvent) {
				t.Errorf("error %v does not match ErrClaimEvent", err)
			}
			return
		}
		h := e.Holder
		if uint8(e.Change) != kind || h.Token != version || h.Kind != payload[0] ||
			h.Node != binary.BigEndian.Uint16(payload[3:]) || h.PID != int(binary.BigEndian.Uint32(payload[5:])) ||
			h.Label+h.Owner != string(payload[25:]) || len(h.Label) != int(payload[1]) {
			t.Errorf("DecodeClaim(%d, %d, %x) = %+v", kind, version, payload, e)
		}
	})
}

// FuzzContestTable scribbles over the table and then uses it. Nothing may
// crash or hang; what a guard or an error says may be wrong, for the table is.
func FuzzContestTable(f *testing.F) {
	// Each twelve bytes are a place in the table and a word to write there.
	poke := func(word uint32, value uint64) []byte {
		return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint32(nil, word), value)
	}
	const firstDeed, firstRecord = 16 + 128, 16 + 128 + 64
	f.Add([]byte(nil))
	f.Add(poke(0, ^uint64(0)))
	f.Add(append(poke(16, 1<<16|2), poke(firstDeed, 1)...))
	f.Add(append(poke(16, 1<<16|3), poke(17, ^uint64(0))...))
	f.Add(append(poke(firstRecord+4, ^uint64(0)), poke(firstRecord+1, 0)...))
	every := []byte(nil)
	for i := range uint32(128) {
		every = append(every, poke(16+i, uint64(i)<<16|uint64(i/2)<<2|2)...)
	}
	for i := range uint32(64) {
		every = append(every, poke(firstDeed+i, uint64(i*4096)<<1|1)...)
	}
	f.Add(every)

	name := proc.Fleet(f)
	a, b := contestJoin(f, name, contestSmall), contestJoin(f, name, contestSmall)
	words := firstRecord + 64*24
	f.Fuzz(func(t *testing.T, script []byte) {
		contestPoke(t, name, func(table []byte) { clear(table) })
		held, _ := orbit.Claim[contestJob](a, "held", "alpha", time.Hour)
		brief, _ := orbit.Claim[contestJob](b, "brief", "beta", time.Millisecond)
		contestPoke(t, name, func(table []byte) {
			for ; len(script) >= 12; script = script[12:] {
				word := int(binary.NativeEndian.Uint32(script)) % words
				copy(table[8*word:], script[4:12])
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		for _, c := range []*orbit.Contest{a, b} {
			for _, label := range []string{"held", "brief", "x", "y"} {
				g, err := orbit.Claim[contestJob](c, label, "alpha", time.Hour)
				if (g == nil) == (err == nil) {
					t.Fatalf("Claim = %v, %v", g, err)
				}
				orbit.HolderOf[contestJob](c, label)
				if g != nil {
					g.Valid()
					g.Renew(time.Minute)
					g.Release()
				}
			}
			if _, err := c.Holders(); err != nil {
				t.Fatalf("Holders: %v", err)
			}
			if err := orbit.WaitFree[contestJob](ctx, c, "held"); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("WaitFree: %v", err)
			}
		}
		for _, g := range []*orbit.Guard{held, brief} {
			if g != nil {
				g.Valid()
				g.Renew(time.Minute)
				g.Release()
				g.Context()
			}
		}
	})
}
