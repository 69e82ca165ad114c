// Fuzz tests of package orbit. Each checks, for any input at all, that nothing
// panics, that the answer is the one a reference in orbit_test.go gives, and
// that what was read can be written and read again.

package orbit_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"orbit"
)

func FuzzParseNetID64(f *testing.F) {
	for _, tt := range netIDTexts {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := orbit.ParseNetID64(text)
		want, ok := refParseNetID64(text)
		if got.Raw() != want || (err == nil) != ok {
			t.Fatalf("ParseNetID64(%q) = %#v, %v; reference %#x, %v", text, got, err, want, ok)
		}
		before := orbit.NetID64(^want)
		n := before
		textErr := n.UnmarshalText([]byte(text))
		if err != nil {
			checkNetIDError(t, err)
			if textErr == nil || textErr.Error() != err.Error() || n != before {
				t.Errorf("UnmarshalText(%q) left %v, %v; ParseNetID64 failed with %v", text, n, textErr, err)
			}
			return
		}
		if textErr != nil || n != got {
			t.Errorf("UnmarshalText(%q) gave %v, %v; ParseNetID64 gave %v", text, n, textErr, got)
		}
		checkNetIDTextRoundTrip(t, got)
	})
}

func FuzzNetID64Bytes(f *testing.F) {
	f.Add([]byte(nil), []byte("\x00"))
	f.Add([]byte("\x0c\x00\x03\x00\x00\x00\x01\xc8"), []byte("\x0c\x00\x03\x00\x00\x00\x01\xc9"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00"), []byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add([]byte("\x7f\xff\xff\xff\xff\xff\xff\xff"), []byte("\x80\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("1234567"), []byte("123456789"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, okX := checkNetIDWire(t, a)
		y, okY := checkNetIDWire(t, b)
		if !okX || !okY {
			return
		}
		want := bytes.Compare(a, b)
		if got := x.Compare(y); got != want {
			t.Errorf("%#v.Compare(%#v) = %d, wire order says %d", x, y, got, want)
		}
		if got := y.Compare(x); got != -want {
			t.Errorf("%#v.Compare(%#v) = %d, wire order says %d", y, x, got, -want)
		}
	})
}

// checkNetIDWire reads wire as an id, checks the outcome, and reports whether
// there was an id in it.
func checkNetIDWire(t *testing.T, wire []byte) (orbit.NetID64, bool) {
	t.Helper()
	n, err := orbit.NetID64FromBytes(wire)
	if len(wire) != 8 {
		if err == nil || n != 0 {
			t.Fatalf("NetID64FromBytes(%x) = %#v, %v; want the zero id and an error", wire, n, err)
		}
		checkNetIDError(t, err)
		return 0, false
	}
	if err != nil || n.Raw() != binary.BigEndian.Uint64(wire) {
		t.Fatalf("NetID64FromBytes(%x) = %#v, %v", wire, n, err)
	}
	if back := n.Bytes(); !bytes.Equal(back[:], wire) {
		t.Errorf("Bytes() = %x, want %x", back, wire)
	}
	if back := n.AppendBytes(wire[:0:0]); !bytes.Equal(back, wire) {
		t.Errorf("AppendBytes(empty) = %x, want %x", back, wire)
	}
	if back := orbit.MakeNetID64(n.Kind(), n.Node(), n.Counter()); back != n {
		t.Errorf("the parts of %#v make %#v", n, back)
	}
	checkNetIDTextRoundTrip(t, n)
	return n, true
}

func checkNetIDTextRoundTrip(t *testing.T, n orbit.NetID64) {
	t.Helper()
	text := n.String()
	if want := refNetID64Text(n.Raw()); text != want {
		t.Errorf("String() = %q, want %q", text, want)
	}
	for _, text := range []string{text, fmt.Sprintf("%#x", n.Raw()), fmt.Sprintf("%#016X", n.Raw())} {
		if back, err := orbit.ParseNetID64(text); err != nil || back != n {
			t.Errorf("ParseNetID64(%q) = %#v, %v; want %#v", text, back, err, n)
		}
	}
}

func checkNetIDError(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, orbit.ErrID) {
		t.Errorf("error %v does not match ErrID", err)
	}
	if n := len(err.Error()); n > longestNetIDError {
		t.Errorf("error of %d bytes: %.80s...", n, err)
	}
}

// FuzzCacheRecord puts any bytes at all into a frame of the cache's ring. A
// handle must find in it what the slow decoder finds, and otherwise pass it
// over.
func FuzzCacheRecord(f *testing.F) {
	for _, rec := range []cacheFrame{
		{op: opPut, prefix: "p", key: "key", value: "value"},
		{op: opPut, prefix: "p", key: "longer than a word", value: "", expiry: 5},
		{op: opPut, prefix: "q", key: "key", value: "value"},
		{op: opAdd, prefix: "p", key: "key", value: "value", settled: 1},
		{op: opAdd, prefix: "p", key: "key", value: "value", settled: 1 << 31},
		{op: opDelete, prefix: "p", key: "key"},
		{op: opReset, prefix: "p"},
	} {
		b := rec.payload()
		f.Add(rec.op, uint64(rec.expiry), b, uint32(len(b)))
		f.Add(rec.op, uint64(rec.expiry), b, uint32(len(b)-1))
		f.Add(rec.op, uint64(rec.expiry), b, ^uint32(0))
	}
	f.Add(uint8(0), uint64(0), []byte(nil), uint32(0))
	f.Add(uint8(opPut), uint64(0), bytes.Repeat([]byte{0xff}, 96), uint32(96))
	f.Fuzz(func(t *testing.T, kind uint8, version uint64, payload []byte, length uint32) {
		rig := newSiblingRig(t, 4)
		cachePut(t, rig.cache, "key", "before", 0)
		wantCached(t, rig.cache, "key", "before")
		n, _ := rig.claim(rig.owner)
		rig.fillRaw(n, kind, version, payload, int(length))
		rig.finish(n)

		late := openCache(t, rig.fleet, "p")
		ring := rig.cache.Ring()
		keys := []string{"key", "longer than a word"}
		if frame, err := ring.ReadAt(n, nil); err == nil {
			if rec, ok := refCacheFrame(frame.Kind, frame.Version, frame.Payload); ok {
				keys = append(keys, rec.key)
			}
		}
		for _, c := range []*orbit.Cache{rig.cache, late} {
			var clock cacheClock
			clock.wind(c)
			for _, key := range keys {
				want := refCache(ring, 0, "p", key)
				got, m, err := c.GetMeta(nil, key)
				if err != nil || (refAnswer{m.Hit, m.Epoch, string(got)}) != want {
					t.Errorf("key %q: got %q, %+v, error %v, want %+v", key, got, m, err, want)
				}
			}
			for key, value := range c.All() {
				if want := refCache(ring, 0, "p", key); !want.hit || want.value != string(value) {
					t.Errorf("key %q of all: got %q, want %+v", key, value, want)
				}
			}
			cacheStats(t, c)
		}
		cachePut(t, rig.cache, "key", "after", 0)
		wantCached(t, late, "key", "after")
	})
}

// FuzzCacheHistory plays histories and holds them to the walk. See
// [TestCacheIsTheWalk].
func FuzzCacheHistory(f *testing.F) {
	f.Add(uint64(1), uint8(1), uint64(0))
	f.Add(uint64(2), uint8(3), uint64(1<<40-20))
	f.Add(uint64(3), uint8(6), ^uint64(20))
	f.Fuzz(func(t *testing.T, seed uint64, logCapacity uint8, next uint64) {
		h := newCacheHistory(t, rand.New(rand.NewPCG(seed, 0)), 2<<(logCapacity%8), next)
		for range 100 {
			h.step()
			h.check(false)
		}
		h.check(true)
	})
}

// FuzzCacheScribble scribbles over the segment of a cache in use. Whatever
// comes of it is an answer or an error, and comes at once.
func FuzzCacheScribble(f *testing.F) {
	f.Add(uint16(256), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(uint16(192), []byte{0, 0, 0, 0, 0, 0, 0, 0x80})
	f.Add(uint16(4096), bytes.Repeat([]byte{0x55}, 64))
	f.Add(uint16(4096), bytes.Repeat([]byte{1}, 512))
	f.Fuzz(func(t *testing.T, at uint16, junk []byte) {
		rig := newSiblingRig(t, 4)
		for _, key := range []string{"a", "b", "a"} {
			cachePut(t, rig.cache, key, "value", 0)
		}
		wantCached(t, rig.cache, "a", "value")
		size := segSlots + rig.capacity*rig.stride
		off := uint64(at) % size
		rig.write(off, junk[:min(uint64(len(junk)), size-off)])
		for _, c := range []*orbit.Cache{rig.cache, openCache(t, rig.fleet, "p")} {
			for _, key := range []string{"a", "b", "c"} {
				c.Get(key)
				c.Put(key, []byte("new"), 0)
				c.Add(key, []byte("added"), 0)
			}
			c.Stats()
			cacheKeys(c)
			c.Reset()
		}
	})
}

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

	name := fleetName(f)
	a, b := contestJoin(f, name, contestSmall), contestJoin(f, name, contestSmall)
	words := firstRecord + 64*24
	f.Fuzz(func(t *testing.T, script []byte) {
		contestPoke(t, name, func(table []byte) { clear(table) })
		held, _ := orbit.Claim[contestJob](a, "held", "alpha", time.Hour)
		brief, _ := orbit.Claim[contestJob](b, "brief", "beta", time.Millisecond)
		contestPoke(t, name, func(table []byte) {
			for ; len(script) >= 12; script = script[12:] {
				word := int(binary.NativeEndian.Uint32(script) % uint32(words))
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

// A contestModel is what a contest must be like: who holds what, by label.
type contestModel struct {
	t       *testing.T
	members [2]*orbit.Contest
	claims  map[string]*modelClaim
	guards  []*modelClaim // all that were ever handed out
	token   uint64        // the largest so far
}

// modelClaim is a guard beside what the model knows about it.
type modelClaim struct {
	guard  *orbit.Guard
	member int
	label  string
	owner  string
	holds  bool
}

// FuzzContestModel does what a script says to a contest of two members and to
// a model of it, and compares all results.
func FuzzContestModel(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 1, 1, 0, 4, 0, 3, 0, 0, 16})
	f.Add([]byte{0, 4, 0, 4, 1, 4, 2, 0, 1, 0, 4, 4, 5, 0, 6, 0, 0, 4})
	full := []byte(nil)
	for i := range byte(70) {
		full = append(full, i%2*8, i*2)
	}
	f.Add(append(full, 5, 0, 1, 3, 0, 200, 0, 201))
	name := fleetName(f)
	members := [2]*orbit.Contest{contestJoin(f, name, contestSmall), contestJoin(f, name, contestSmall)}
	var token uint64
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1000 {
			script = script[:1000]
		}
		m := &contestModel{t: t, members: members, claims: map[string]*modelClaim{}, token: token}
		for ; len(script) >= 2 && !t.Failed(); script = script[2:] {
			m.do(script[0], script[1])
		}
		for _, c := range m.guards {
			m.release(c)
		}
		if list, err := members[0].Holders(); len(list) > 0 || err != nil {
			t.Errorf("after all were released, %+v hold, %v", list, err)
		}
		token = m.token
	})
}

// do does one thing, as member op/8%2, with an argument.
func (m *contestModel) do(op, arg byte) {
	who := int(op / 8 % 2)
	label, owner := fmt.Sprintf("label %d", arg/2), ""
	if arg%2 == 0 {
		owner = fmt.Sprintf("owner %d", op/16%2)
	}
	switch op % 8 {
	case 0, 1:
		m.claim(who, label, owner, time.Hour)
	case 2:
		m.claim(who, label, owner, 1) // which is over before it is handed out
	case 3:
		if len(m.guards) > 0 {
			m.release(m.guards[int(arg)%len(m.guards)])
		}
	case 4:
		if len(m.guards) > 0 {
			m.renew(m.guards[int(arg)%len(m.guards)])
		}
	case 5:
		m.holders(who)
	case 6:
		h, held, err := orbit.HolderOf[contestJob](m.members[who], label)
		want, wantHeld := m.claims[label]
		if err != nil || held != wantHeld || held && !m.same(h, want) {
			m.t.Fatalf("HolderOf(%q) = %+v, %v, %v; want %+v", label, h, held, err, want)
		}
	}
	for _, c := range m.guards {
		if c.guard.Valid() != c.holds || (c.guard.Context().Err() == nil) != c.holds {
			m.t.Fatalf("guard of %q with token %d: valid is %v, context %v; want %v", c.label, c.guard.Token(), c.guard.Valid(), c.guard.Context().Err(), c.holds)
		}
	}
}

func (m *contestModel) claim(who int, label, owner string, ttl time.Duration) {
	g, err := orbit.Claim[contestJob](m.members[who], label, owner, ttl)
	holder := m.claims[label]
	again := holder != nil && holder.member == who && owner != "" && holder.owner == owner
	var held *orbit.HeldError
	switch {
	case holder != nil && !again:
		if !errors.As(err, &held) || !m.same(held.Holder, holder) {
			m.t.Fatalf("Claim(%q) for %q = %v, want held by %+v", label, owner, err, holder)
		}
		return
	case holder == nil && len(m.claims) == 64:
		if !errors.Is(err, orbit.ErrTableFull) {
			m.t.Fatalf("Claim(%q) with 64 claims = %v, want ErrTableFull", label, err)
		}
		return
	case ttl == 1:
		// A claim that takes up another one takes its time away as well.
		if !errors.Is(err, orbit.ErrLapsed) {
			m.t.Fatalf("Claim(%q) for a nanosecond = %v, want ErrLapsed", label, err)
		}
		if again {
			m.drop(holder)
		}
		return
	}
	if err != nil {
		m.t.Fatalf("Claim(%q) for %q = %v, held by %+v", label, owner, err, holder)
	}
	if g.Token() <= m.token {
		m.t.Fatalf("Claim(%q): token %d after %d", label, g.Token(), m.token)
	}
	m.token = g.Token()
	if again {
		m.drop(holder)
	}
	c := &modelClaim{guard: g, member: who, label: label, owner: owner, holds: true}
	m.claims[label], m.guards = c, append(m.guards, c)
}

func (m *contestModel) drop(c *modelClaim) {
	c.holds = false
	delete(m.claims, c.label)
}

func (m *contestModel) release(c *modelClaim) {
	released := c.holds
	if released {
		m.drop(c)
	}
	first := c.guard.Release()
	if released && first != nil {
		m.t.Fatalf("Release of %q = %v", c.label, first)
	}
	if again := c.guard.Release(); fmt.Sprint(again) != fmt.Sprint(first) {
		m.t.Fatalf("Release of %q again = %v, want %v", c.label, again, first)
	}
}

func (m *contestModel) renew(c *modelClaim) {
	err := c.guard.Renew(2 * time.Hour)
	if c.holds && (err != nil || c.guard.Left() < 110*time.Minute) || !c.holds && !errors.Is(err, orbit.ErrLapsed) {
		m.t.Fatalf("Renew of %q = %v, %v left; holds: %v", c.label, err, c.guard.Left(), c.holds)
	}
}

func (m *contestModel) holders(who int) {
	list, err := m.members[who].Holders()
	if err != nil || len(list) != len(m.claims) {
		m.t.Fatalf("Holders = %+v, %v; want %d", list, err, len(m.claims))
	}
	for _, h := range list {
		if c := m.claims[h.Label]; c == nil || !m.same(h, c) {
			m.t.Fatalf("Holders has %+v, want %+v", h, c)
		}
	}
}

func (m *contestModel) same(h orbit.Holder, c *modelClaim) bool {
	return h.Label == c.label && h.Owner == c.owner && h.Token == c.guard.Token() && h.Kind == contestJob{}.OrbitKind() && h.PID == os.Getpid()
}

// ---------------------------------------------------------------------------
// Events

// An eventModel is all that was ever published, and where subscribers are.
type eventModel struct {
	t           *testing.T
	bus         *orbit.EventBus
	first       uint64       // the oldest that counts since the last reset
	events      []modelEvent // by counter
	subscribers []*modelSubscriber
}

type modelEvent struct {
	topic, payload string
	hole           bool
}

type modelSubscriber struct {
	*orbit.Subscriber
	selects func(topic string) bool
	next    uint64
	tally   orbit.EventTally
	passed  orbit.Gap // what the next event will report
	skipped uint64
}

var modelFilters = []struct {
	filters []orbit.Filter
	selects func(topic string) bool
}{
	{nil, func(string) bool { return true }},
	{[]orbit.Filter{orbit.Topic("a")}, func(s string) bool { return s == "a" }},
	{[]orbit.Filter{orbit.TopicPrefix("a")}, func(s string) bool { return strings.HasPrefix(s, "a") }},
	{[]orbit.Filter{orbit.Topic("b"), orbit.TopicPrefix("ab")}, func(s string) bool { return s == "b" || strings.HasPrefix(s, "ab") }},
}

// FuzzEventRecord puts any frame into the events ring. A subscriber reads it as
// an event if its kind is the length of a topic that is there, and otherwise says
// that it is none and counts it as lost; it goes on behind it either way.
func FuzzEventRecord(f *testing.F) {
	f.Add(uint8(5), uint64(1), []byte("topicpayload"))
	f.Add(uint8(1), uint64(1<<63), []byte("t"))
	f.Add(uint8(0), uint64(0), []byte("no topic"))
	f.Add(uint8(255), uint64(0), []byte("too short"))
	f.Add(uint8(3), uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, kind uint8, version uint64, record []byte) {
		record = record[:min(len(record), 64)]
		bus := events(t, local(t, tinyBus))
		s := bus.SubscribeOldest()
		id, err := bus.Ring().Publish(kind, version, record)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bus.Publish("behind", nil); err != nil {
			t.Fatal(err)
		}
		var ev orbit.Event
		var lag orbit.Gap
		if n := int(kind); n >= 1 && n <= len(record) {
			if err := s.Poll(&ev); err != nil || ev.ID != id || uint64(ev.Stamp) != version ||
				string(ev.Topic) != string(record[:n]) || string(ev.Payload) != string(record[n:]) {
				t.Fatalf("frame of kind %d with %q: got event %+v, error %v", kind, record, ev, err)
			}
		} else {
			if err := s.Poll(&ev); !errors.Is(err, orbit.ErrDamaged) {
				t.Fatalf("frame of kind %d with %q: got event %+v, error %v, want ErrDamaged", kind, record, ev, err)
			}
			lag.Lost = 1
		}
		if err := s.Poll(&ev); err != nil || string(ev.Topic) != "behind" || ev.Lag != lag {
			t.Fatalf("behind a frame of kind %d with %q: got event %+v, error %v", kind, record, ev, err)
		}
	})
}

// FuzzEventsModel does what a script says to a bus of eight slots and to a
// model of it, with subscribers of every kind, and compares all results.
func FuzzEventsModel(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 4, 0, 4, 1, 4, 2, 4, 3})
	lapped := []byte{3, 0}
	for i := range byte(20) {
		lapped = append(lapped, 0, i*5, 5, i)
	}
	f.Add(append(lapped, 4, 0, 4, 1, 4, 2, 2, 0, 4, 0, 1, 0, 4, 0, 6, 0, 4, 4))
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1000 {
			script = script[:1000]
		}
		m := &eventModel{t: t, bus: events(t, local(t, tinyBus))}
		for i := range modelFilters {
			m.subscribe(i, m.bus.SubscribeOldest(modelFilters[i].filters...), 0)
		}
		for ; len(script) >= 2 && !t.Failed(); script = script[2:] {
			m.do(script[0], script[1])
		}
	})
}

func (m *eventModel) subscribe(filter int, s *orbit.Subscriber, next uint64) {
	m.subscribers = append(m.subscribers, &modelSubscriber{Subscriber: s, selects: modelFilters[filter].selects, next: next})
}

func (m *eventModel) oldest() uint64 {
	if head := uint64(len(m.events)); head-m.first > 8 {
		return head - 8
	}
	return m.first
}

func (m *eventModel) do(op, arg byte) {
	head := uint64(len(m.events))
	switch op % 8 {
	case 0, 1:
		ev := modelEvent{topic: []string{"a", "ab", "abc", "b", "c"}[arg%5], payload: strings.Repeat(string('A'+rune(arg%26)), int(arg/5))}
		id, err := m.bus.Publish(ev.topic, []byte(ev.payload))
		if err != nil || id.Counter() != head {
			m.t.Fatalf("Publish at %d = %v, %v", head, id, err)
		}
		m.events = append(m.events, ev)
	case 2:
		if _, err := m.bus.Ring().Mint(); err != nil {
			m.t.Fatal(err)
		}
		m.events = append(m.events, modelEvent{hole: true})
	case 3:
		if arg%4 == 0 {
			if err := m.bus.Ring().Reset(); err != nil {
				m.t.Fatal(err)
			}
			m.first = head
		}
	case 4, 5:
		m.poll(m.subscribers[int(arg)%len(m.subscribers)])
	case 6:
		i := int(arg) % len(modelFilters)
		m.subscribe(i, m.bus.SubscribeNow(modelFilters[i].filters...), head)
	case 7:
		old := m.subscribers[int(arg/4)%len(m.subscribers)]
		i := int(arg) % len(modelFilters)
		s, err := m.bus.SubscribeAt(old.Position(), modelFilters[i].filters...)
		if err != nil {
			m.t.Fatal(err)
		}
		m.subscribe(i, s, old.next)
	}
}

// poll reads one event, in the model and from the bus.
func (m *eventModel) poll(s *modelSubscriber) {
	want, wantErr := modelEvent{}, error(orbit.ErrNoFrame)
	for s.next < uint64(len(m.events)) && wantErr != nil {
		switch e := m.events[s.next]; {
		case s.next < m.oldest():
			s.passed.Overwritten++
			s.tally.Overwritten++
		case e.hole:
			s.passed.Holes++
			s.tally.Holes++
		case !s.selects(e.topic):
			s.skipped++
			s.tally.Filtered++
		default:
			want, wantErr = e, nil
			s.tally.Delivered++
		}
		s.next++
	}
	var got orbit.Event
	err := s.Poll(&got)
	if err != wantErr || string(got.Topic) != want.topic || string(got.Payload) != want.payload {
		m.t.Fatalf("Poll = %q %q, %v; want %+v, %v", got.Topic, got.Payload, err, want, wantErr)
	}
	if err == nil {
		if got.ID.Counter() != s.next-1 || got.Lag != s.passed || got.Filtered != s.skipped {
			m.t.Fatalf("Poll = event %d after %+v and %d filtered; want %d after %+v and %d", got.ID.Counter(), got.Lag, got.Filtered, s.next-1, s.passed, s.skipped)
		}
		s.passed, s.skipped = orbit.Gap{}, 0
	}
	if tally := s.Tally(); tally != s.tally || s.Position().Counter != s.next {
		m.t.Fatalf("at %d the tally is %+v; want %d and %+v", s.Position().Counter, tally, s.next, s.tally)
	}
}

// ---------------------------------------------------------------------------
// The byte form of a frame

func FuzzDecodeFrame(f *testing.F) {
	for _, n := range []int{0, 1, 7, 8, 255, 256} {
		b, _ := orbit.Frame{ID: orbit.MakeNetID64(1, 2, 3), Kind: 4, Version: 5, Payload: make([]byte, n)}.AppendBinary(nil)
		f.Add(b)
		f.Add(append(b, "what follows"...))
		f.Add(b[:len(b)-1])
	}
	f.Add([]byte(nil))
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		frame, rest, err := orbit.DecodeFrame(b)
		if !bytes.Equal(b, before) {
			t.Fatalf("DecodeFrame changed its input from %x to %x", before, b)
		}
		if err != nil {
			if !errors.Is(err, orbit.ErrFrame) || frame.ID != 0 || frame.Payload != nil || !bytes.Equal(rest, b) {
				t.Fatalf("DecodeFrame(%x) = %+v, rest %x, %v; want an ErrFrame, no frame, all of the input", b, frame, rest, err)
			}
			return
		}
		if len(frame.Payload) != cap(frame.Payload) {
			t.Errorf("a payload of %d bytes with room for %d: an append would write over what follows", len(frame.Payload), cap(frame.Payload))
		}
		again, err := frame.AppendBinary([]byte("before"))
		if err != nil || string(again) != "before"+string(b[:len(b)-len(rest)]) {
			t.Errorf("decoded from %x, rest %x, encoded to %x, %v", b, rest, again, err)
		}
		if !bytes.HasSuffix(b, rest) {
			t.Errorf("the rest %x does not end the input %x", rest, b)
		}
	})
}

// ---------------------------------------------------------------------------
// Segments of any bytes

const (
	kernelFuzzKind  = 60
	kernelFuzzLimit = 16
)

// kernelFuzzSegment makes a sound segment of the documented format.
func kernelFuzzSegment(kind, capacity, tableLen int, head uint64) []byte {
	o := binary.NativeEndian
	stride, limit := 64, kernelFuzzLimit
	if capacity == 0 {
		limit = 0
	}
	table := 4096 + capacity*stride
	b := make([]byte, (table+tableLen+4095)&^4095)
	copy(b, "ORBITSHM")
	o.PutUint32(b[8:], 0x01020304)
	o.PutUint32(b[12:], orbit.FormatVersion)
	for i, v := range []int{len(b), capacity, limit, stride, 4096, table, tableLen, kind, 77} {
		o.PutUint64(b[16+8*i:], uint64(v))
	}
	kernelFuzzPreset(b, capacity, head)
	kernelFuzzSeal(b)
	return b
}

// kernelFuzzPreset makes a ring empty, with head as its next counter.
func kernelFuzzPreset(b []byte, capacity int, head uint64) {
	o := binary.NativeEndian
	o.PutUint64(b[192:], head)
	o.PutUint64(b[256:], head)
	for i := range uint64(capacity) {
		c := head - 1 - i
		o.PutUint64(b[4096+64*(c%uint64(capacity)):], c<<24)
	}
}

// kernelFuzzSeal makes the checksum of a header right.
func kernelFuzzSeal(b []byte) {
	sum := uint64(14695981039346656037)
	for _, c := range b[:96] {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	binary.NativeEndian.PutUint64(b[96:], sum)
}

func kernelFuzzNeedsLinux(f *testing.F) {
	if runtime.GOOS != "linux" {
		f.Skip("segments are files on Linux only")
	}
}

// kernelFuzzWatch ends a process that hangs, with a picture of where.
func kernelFuzzWatch() (done func()) {
	t := time.AfterFunc(20*time.Second, func() {
		buf := make([]byte, 1<<16)
		panic("hangs:\n" + string(buf[:runtime.Stack(buf, true)]))
	})
	return func() { t.Stop() }
}

// FuzzAttachSegment puts bytes in the place of a fleet's roster or ring, and
// uses the fleet. The bytes are raw if there are any, and otherwise those of a
// sound segment with changes: an offset of two bytes and a word, again and
// again. Whatever they are, everything ends, in a named error or well.
func FuzzAttachSegment(f *testing.F) {
	kernelFuzzNeedsLinux(f)
	edit := func(off uint16, v uint64) []byte {
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint16(nil, off), v)
	}
	f.Add(false, true, []byte(nil), []byte(nil))
	f.Add(true, true, []byte(nil), []byte(nil))
	for off := uint16(0); off <= 96; off += 8 {
		for _, v := range []uint64{0, 1, 1 << 40, ^uint64(0)} {
			f.Add(false, off != 96, edit(off, v), []byte(nil))
			f.Add(true, off != 96, edit(off, v), []byte(nil))
		}
	}
	for _, off := range []uint16{128, 192, 256, 320, 4096, 4104, 4112, 4160, 4224} {
		for _, v := range []uint64{0, 1 << 62, 77<<2 | 1, 77<<2 | 2, ^uint64(0)} {
			f.Add(false, true, edit(off, v), []byte(nil))
			f.Add(true, true, edit(off, v), []byte(nil))
		}
	}
	f.Add(false, true, edit(4096, 4<<24|1<<2|2), []byte(nil)) // held by the joiner, which knows nothing of it
	f.Add(false, false, []byte(nil), []byte("somebody's own"))
	f.Add(true, true, []byte(nil), bytes.Repeat([]byte{0}, 8192))
	sound := map[bool][]byte{false: kernelFuzzSegment(kernelFuzzKind, 4, 0, 5), true: kernelFuzzSegment(0, 0, 1024*64+256*8, 0)}
	name := fmt.Sprintf("fuzz.attach.%d", os.Getpid())
	f.Fuzz(func(t *testing.T, inRoster, seal bool, edits, raw []byte) {
		defer kernelFuzzWatch()()
		b := bytes.Clone(sound[inRoster])
		for ; len(edits) >= 10; edits = edits[10:] {
			off := int(binary.LittleEndian.Uint16(edits)) % (len(b) - 7)
			binary.NativeEndian.PutUint64(b[off:], binary.LittleEndian.Uint64(edits[2:]))
		}
		if len(raw) > 0 {
			b = raw
		}
		if seal && len(b) >= 104 {
			kernelFuzzSeal(b)
		}
		roster, ring := sound[true], b
		if inRoster {
			roster, ring = b, sound[false]
		}
		for kind, content := range map[int][]byte{0: roster, kernelFuzzKind: ring} {
			path := segmentPath(name, kind)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(path)
		}
		kernelFuzzObserve(t, name)
		fleetErr, ringErr := kernelFuzzJoin(t, name)
		kind, err := kernelFuzzKind, ringErr
		if inRoster {
			kind, err = 0, fleetErr
		}
		if err == nil || errors.Is(err, orbit.ErrGeometry) {
			return
		}
		if after, e := os.ReadFile(segmentPath(name, kind)); e != nil || !bytes.Equal(after, b) {
			t.Errorf("refused with %v, and changed all the same: %v", err, e)
		}
	})
}

// kernelFuzzErrors are the errors that an operation on shared memory of any
// bytes may end with.
var kernelFuzzErrors = []error{
	orbit.ErrForeign, orbit.ErrVersion, orbit.ErrGeometry, orbit.ErrDamaged, orbit.ErrBusy, orbit.ErrNoFrame,
	orbit.ErrKind, orbit.ErrReadOnly, orbit.ErrFull, orbit.ErrNode,
}

func kernelFuzzNamed(t *testing.T, what string, err error) error {
	t.Helper()
	if err != nil && !slices.ContainsFunc(kernelFuzzErrors, func(e error) bool { return errors.Is(err, e) }) {
		t.Errorf("%s: an error without a name: %v", what, err)
	}
	return err
}

func kernelFuzzObserve(t *testing.T, name string) {
	o, err := orbit.Observe(name)
	if kernelFuzzNamed(t, "Observe", err) != nil {
		return
	}
	defer o.Close()
	_, err = o.Members()
	kernelFuzzNamed(t, "Members", err)
	r, err := o.Ring(kernelFuzzKind)
	if kernelFuzzNamed(t, "Ring, observing", err) == nil {
		kernelFuzzRead(t, r)
	}
}

// kernelFuzzJoin does all that a member can do. It returns why there is no
// fleet, or no ring, if there is none.
func kernelFuzzJoin(t *testing.T, name string) (fleetErr, ringErr error) {
	g := orbit.Geometry{Capacity: 4, PayloadLimit: kernelFuzzLimit}
	f, err := orbit.Join(name, orbit.Options{Size: 2, Rings: map[uint8]orbit.Geometry{kernelFuzzKind: g}})
	if kernelFuzzNamed(t, "Join", err) != nil {
		return err, nil
	}
	defer f.Close()
	_, err = f.Members()
	kernelFuzzNamed(t, "Members", err)
	r, err := f.Ring(kernelFuzzKind)
	if kernelFuzzNamed(t, "Ring", err) != nil {
		return nil, err
	}
	kernelFuzzRead(t, r)
	for range 3 {
		_, err = r.Publish(1, 2, []byte("three"))
		kernelFuzzNamed(t, "Publish", err)
		kernelFuzzRead(t, r)
	}
	_, err = r.PublishBatch(make([]orbit.Frame, 3))
	kernelFuzzNamed(t, "PublishBatch", err)
	_, err = r.Mint()
	kernelFuzzNamed(t, "Mint", err)
	kernelFuzzNamed(t, "Reset", r.Reset())
	kernelFuzzRead(t, r)
	return nil, nil
}

// kernelFuzzRead reads in every way.
func kernelFuzzRead(t *testing.T, r *orbit.Ring) {
	g := r.Geometry()
	check := func(what string, f orbit.Frame, err error) {
		if kernelFuzzNamed(t, what, err) == nil && len(f.Payload) > g.PayloadLimit {
			t.Errorf("%s gave %d bytes, limit %d", what, len(f.Payload), g.PayloadLimit)
		}
	}
	f, err := r.Newest(nil)
	check("Newest", f, err)
	head := r.Head()
	for i := range uint64(6) {
		f, err = r.ReadAt(head-i, nil)
		check("ReadAt", f, err)
		f, err = r.Read(orbit.MakeNetID64(r.Kind(), 1, head-i), nil)
		check("Read", f, err)
	}
	if s, err := r.Stats(); kernelFuzzNamed(t, "Stats", err) == nil && s.Frames+s.Pending+s.Holes+s.Lost > g.Capacity {
		t.Errorf("Stats counts more than the %d slots: %+v", g.Capacity, s)
	}
	for _, c := range []*orbit.Cursor{r.Oldest(), r.Tail(), r.At(0), r.At(head - 1)} {
		start := c.Position()
		for range 12 {
			f, _, err = c.Next(nil)
			check("Next", f, err)
		}
		frames := make([]orbit.Frame, 3)
		n, _, err := c.Poll(frames)
		kernelFuzzNamed(t, "Poll", err)
		for _, f := range frames[:n] {
			check("Poll", f, nil)
		}
		if tally := c.Tally(); tally.Delivered+tally.Total() != c.Position()-start {
			t.Errorf("accounts: %+v, %d passed", tally, c.Position()-start)
		}
	}
}

// ---------------------------------------------------------------------------
// A ring against a plain model of it

// kernelModel is what a ring must be like, without memory of a fixed size: all
// that was ever published, and the counters that bound what is still held.
type kernelModel struct {
	capacity    uint64
	head, first uint64
	frames      map[uint64]orbit.Frame // by counter; one that is not here is a hole ...
	open        map[uint64]bool        // ... or will be, once a member looks at it
}

func (m *kernelModel) oldest() uint64 {
	if m.head-m.first < m.capacity {
		return m.first
	}
	return m.head - m.capacity
}

func (m *kernelModel) publish(node uint16, f orbit.Frame) orbit.NetID64 {
	f.ID = orbit.MakeNetID64(kernelFuzzKind, node, m.head)
	f.Payload = bytes.Clone(f.Payload)
	m.frames[m.head] = f
	m.head++
	return f.ID
}

func (m *kernelModel) mint(node uint16) orbit.NetID64 {
	m.head++
	return orbit.MakeNetID64(kernelFuzzKind, node, m.head-1)
}

// abandon takes counters whose slots nobody marks.
func (m *kernelModel) abandon(n uint64) {
	for ; n > 0; n-- {
		m.open[m.head] = true
		m.head++
	}
}

// at says what there is to read at a counter, which settles it.
func (m *kernelModel) at(c uint64) (orbit.Frame, error) {
	f, err := m.look(c)
	if err == orbit.ErrPending {
		delete(m.open, c)
		err = orbit.ErrHole
	}
	return f, err
}

// look says what there is at a counter, and leaves it at that.
func (m *kernelModel) look(c uint64) (orbit.Frame, error) {
	if int64(c-m.head) >= 0 {
		return orbit.Frame{}, orbit.ErrUnpublished
	}
	if int64(c-m.oldest()) < 0 {
		return orbit.Frame{}, orbit.ErrOverwritten
	}
	if m.open[c] {
		return orbit.Frame{}, orbit.ErrPending
	}
	f, ok := m.frames[c]
	if !ok {
		return f, orbit.ErrHole
	}
	return f, nil
}

// held tells whether the slot of a counter still has its frame: also one lap
// later, as long as nobody marks it. A cursor looks at the slot first.
func (m *kernelModel) held(c uint64) bool {
	if _, ok := m.frames[c]; !ok || int64(c-m.first) < 0 {
		return false
	}
	for c += m.capacity; int64(m.head-c) > 0; c += m.capacity {
		if !m.open[c] {
			return false
		}
	}
	return true
}

func (m *kernelModel) read(id orbit.NetID64, c uint64) (orbit.Frame, error) {
	f, err := m.at(c)
	if err == nil && f.ID != id {
		return orbit.Frame{}, orbit.ErrHole
	}
	return f, err
}

func (m *kernelModel) newest() (orbit.Frame, error) {
	for c := m.head; c != m.oldest(); c-- {
		if f, ok := m.frames[c-1]; ok {
			return f, nil
		}
	}
	return orbit.Frame{}, orbit.ErrNoFrame
}

func (m *kernelModel) stats() orbit.RingStats {
	s := orbit.RingStats{Head: m.head, Oldest: m.oldest()}
	for c := m.oldest(); c != m.head; c++ {
		if _, err := m.look(c); err == nil {
			s.Frames++
		} else {
			s.Holes++
		}
	}
	return s
}

// kernelModelCursor is the plain model of a cursor.
type kernelModelCursor struct {
	next  uint64
	tally orbit.Tally
}

func (c *kernelModelCursor) step(m *kernelModel) (f orbit.Frame, gap orbit.Gap, err error) {
	for int64(m.head-c.next) > 0 {
		if m.held(c.next) {
			c.next++
			c.tally.Delivered++
			return m.frames[c.next-1], gap, nil
		}
		var g orbit.Gap
		if behind := m.oldest() - c.next; int64(behind) > 0 {
			g.Overwritten = behind // whatever slots still hold in between
		} else if _, err := m.at(c.next); err == orbit.ErrHole {
			g.Holes = 1
		}
		c.next += g.Total()
		gap.Overwritten += g.Overwritten
		gap.Holes += g.Holes
		c.tally.Overwritten += g.Overwritten
		c.tally.Holes += g.Holes
	}
	return f, gap, orbit.ErrNoFrame
}

func (c *kernelModelCursor) poll(m *kernelModel, n int) (frames []orbit.Frame, gap orbit.Gap, err error) {
	for len(frames) < n {
		if len(frames) > 0 {
			if !m.held(c.next) {
				return frames, gap, nil
			}
		}
		f, g, err := c.step(m)
		if len(frames) == 0 {
			gap = g
		}
		if err != nil {
			return frames, gap, err
		}
		frames = append(frames, f)
	}
	return frames, gap, nil
}

// kernelFuzzRings are two members' handles to one ring of each capacity, whose
// segments have lost their names already, so that nothing stays behind.
type kernelFuzzRings struct {
	handles [2]*orbit.Ring
	file    *os.File
}

var kernelFuzzCapacities = []int{1, 2, 4, 8}

func kernelFuzzOpen(f *testing.F) map[int]kernelFuzzRings {
	name := fmt.Sprintf("fuzz.model.%d", os.Getpid())
	geometries := map[uint8]orbit.Geometry{}
	for i, c := range kernelFuzzCapacities {
		geometries[kernelFuzzKind-uint8(i)] = orbit.Geometry{Capacity: c, PayloadLimit: kernelFuzzLimit}
	}
	rings := map[int]kernelFuzzRings{}
	for member := range 2 {
		fleet, err := orbit.Join(name, orbit.Options{Size: 2, Node: uint16(member + 1), Rings: geometries})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { fleet.Close() })
		for i, c := range kernelFuzzCapacities {
			r, err := fleet.Ring(kernelFuzzKind - uint8(i))
			if err != nil {
				f.Fatal(err)
			}
			h := rings[c]
			h.handles[member] = r
			rings[c] = h
		}
	}
	for i, c := range kernelFuzzCapacities {
		path := segmentPath(name, kernelFuzzKind-i)
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { file.Close() })
		h := rings[c]
		h.file = file
		rings[c] = h
		os.Remove(path)
	}
	os.Remove(segmentPath(name, 0))
	return rings
}

// preset empties a ring in use and lets it begin at head.
func (h kernelFuzzRings) preset(t *testing.T, capacity int, head uint64) {
	b := make([]byte, 4096+64*capacity)
	kernelFuzzPreset(b, capacity, head)
	if _, err := h.file.WriteAt(b[192:], 192); err != nil {
		t.Fatal(err)
	}
}

var kernelFuzzBoundaries = []uint64{0, 1 << 32, 1 << 39, 1 << 40, 1 << 63, 1 << 24, 3 << 40}

// FuzzRingModel does what a script says to a ring and to a model of it, over
// small capacities and from heads near the limits of every field that carries
// counters, and compares all results.
func FuzzRingModel(f *testing.F) {
	kernelFuzzNeedsLinux(f)
	all := make([]byte, 0, 128)
	for i := range byte(64) {
		all = append(all, i*7, i*29)
	}
	for i := range kernelFuzzCapacities {
		for j := range kernelFuzzBoundaries {
			f.Add(uint8(i), uint8(j), uint8(3*i+j), all)
		}
	}
	f.Add(uint8(0), uint8(0), uint8(1), []byte{0, 5, 7, 0, 8, 0, 2, 0, 8, 0, 3, 0, 8, 1, 9, 3})
	f.Add(uint8(3), uint8(3), uint8(9), []byte{1, 9, 1, 9, 1, 9, 7, 3, 9, 9, 9, 9, 10, 0, 3, 0, 4, 0, 10, 0})
	f.Add(uint8(3), uint8(0), uint8(9), []byte{0, 5, 11, 1, 10, 0, 4, 0, 0, 6, 9, 7, 9, 7, 10, 0, 11, 0, 5, 11, 10, 0, 1, 9, 10, 0, 8, 0})
	f.Add(uint8(1), uint8(3), uint8(1), []byte{11, 2, 11, 2, 10, 0, 4, 0, 8, 0, 0, 1, 4, 0, 11, 0, 6, 11, 10, 0, 2, 0, 1, 3, 24, 0})
	rings := kernelFuzzOpen(f)
	f.Fuzz(func(t *testing.T, size, boundary, before uint8, script []byte) {
		defer kernelFuzzWatch()()
		if len(script) > 2000 {
			script = script[:2000]
		}
		capacity := kernelFuzzCapacities[int(size)%len(kernelFuzzCapacities)]
		head := kernelFuzzBoundaries[int(boundary)%len(kernelFuzzBoundaries)] - uint64(before)%64
		h := rings[capacity]
		h.preset(t, capacity, head)
		run := kernelFuzzRun{
			t: t, rings: h.handles, file: h.file,
			m:       &kernelModel{capacity: uint64(capacity), head: head, first: head, frames: map[uint64]orbit.Frame{}, open: map[uint64]bool{}},
			cursors: [2]*orbit.Cursor{impatient(h.handles[0].At(head)), impatient(h.handles[1].At(head))},
			models:  [2]kernelModelCursor{{next: head}, {next: head}},
		}
		for ; len(script) >= 2 && !t.Failed(); script = script[2:] {
			run.do(script[0], script[1])
		}
	})
}

// kernelFuzzRun is one run of a script.
type kernelFuzzRun struct {
	t       *testing.T
	rings   [2]*orbit.Ring
	file    *os.File // the segment
	m       *kernelModel
	cursors [2]*orbit.Cursor
	models  [2]kernelModelCursor
	count   uint64
}

// impatient has a cursor pass counters that are taken at once: no model knows
// how long it waited.
func impatient(c *orbit.Cursor) *orbit.Cursor {
	c.Grace = -1
	return c
}

// do does one thing, as member op/16%2, with an argument.
func (run *kernelFuzzRun) do(op, arg byte) {
	who := int(op / 16 % 2)
	r, m, node := run.rings[who], run.m, uint16(who+1)
	switch op % 12 {
	case 0:
		f := run.frame(int(arg))
		id, err := r.Publish(f.Kind, f.Version, f.Payload)
		if len(f.Payload) > kernelFuzzLimit {
			run.same("Publish, too large", id, orbit.NetID64(0), err, orbit.ErrTooLarge)
			return
		}
		run.same("Publish", id.Raw(), run.kind(m.publish(node, f)).Raw(), err, nil)
	case 1:
		frames := make([]orbit.Frame, arg%12)
		var want []orbit.NetID64
		for i := range frames {
			frames[i] = run.frame(i % (kernelFuzzLimit + 1))
			want = append(want, run.kind(m.publish(node, frames[i])))
		}
		n, err := r.PublishBatch(frames)
		run.same("PublishBatch", n, len(frames), err, nil)
		for i := range frames {
			run.same("PublishBatch", frames[i].ID, want[i], nil, nil)
		}
	case 2:
		id, err := r.Mint()
		run.same("Mint", id, run.kind(m.mint(node)), err, nil)
	case 3:
		if arg%4 == 0 {
			m.first = m.head
			run.same("Reset", 0, 0, r.Reset(), nil)
		}
	case 4:
		got, err := r.Newest([]byte("kept"))
		want, wantErr := m.newest()
		run.sameFrame("Newest", got, want, err, wantErr)
	case 5:
		c := m.head - 12 + uint64(arg%16)
		got, err := r.ReadAt(c, []byte("kept"))
		want, wantErr := m.at(c)
		run.sameFrame("ReadAt", got, want, err, wantErr)
	case 6:
		c := m.head - 12 + uint64(arg%16)
		id := orbit.MakeNetID64(r.Kind(), uint16(arg/16%4), c)
		got, err := r.Read(id, []byte("kept"))
		want, wantErr := m.read(orbit.MakeNetID64(kernelFuzzKind, id.Node(), c), c)
		run.sameFrame("Read", got, want, err, wantErr)
	case 7:
		switch arg % 3 {
		case 0:
			run.cursors[who], run.models[who] = impatient(r.Oldest()), kernelModelCursor{next: m.oldest()}
		case 1:
			run.cursors[who], run.models[who] = impatient(r.Tail()), kernelModelCursor{next: m.head}
		default:
			c := m.head - 20 + uint64(arg/3%24)
			run.cursors[who], run.models[who] = impatient(r.At(c)), kernelModelCursor{next: c}
		}
	case 8:
		got, gap, err := run.cursors[who].Next([]byte("kept"))
		want, wantGap, wantErr := run.models[who].step(m)
		run.same("the gap of Next", gap, wantGap, nil, nil)
		run.sameFrame("Next", got, want, err, wantErr)
	case 9:
		frames := make([]orbit.Frame, arg%8)
		n, gap, err := run.cursors[who].Poll(frames)
		want, wantGap, wantErr := run.models[who].poll(m, len(frames))
		if len(frames) == 0 {
			wantErr = nil
		}
		run.same("Poll", n, len(want), err, wantErr)
		run.same("the gap of Poll", gap, wantGap, nil, nil)
		for i := range min(n, len(want)) {
			run.sameFrame("Poll", frames[i], want[i], nil, nil)
		}
	case 10:
		got, err := r.Stats()
		want := m.stats()
		want.Waiting = got.Waiting
		run.same("Stats", got, want, err, nil)
	case 11: // siblings take counters and never mark the slots
		m.abandon(uint64(arg%3) + 1)
		if _, err := run.file.WriteAt(binary.NativeEndian.AppendUint64(nil, m.head), 256); err != nil {
			run.t.Fatal(err)
		}
	}
	run.same("Head", r.Head(), m.head, nil, nil)
	run.same("Position", run.cursors[who].Position(), run.models[who].next, nil, nil)
	run.same("Tally", run.cursors[who].Tally(), run.models[who].tally, nil, nil)
}

// frame makes a frame unlike those before it.
func (run *kernelFuzzRun) frame(n int) orbit.Frame {
	run.count++
	p := binary.LittleEndian.AppendUint64(nil, run.count*0x9e3779b97f4a7c15)
	p = append(append(p, p...), p...)
	return orbit.Frame{Kind: byte(run.count), Version: ^run.count, Payload: p[:n%(kernelFuzzLimit+2)]}
}

// kind gives an id of the model, which knows one kind, that of the ring.
func (run *kernelFuzzRun) kind(id orbit.NetID64) orbit.NetID64 {
	return orbit.MakeNetID64(run.rings[0].Kind(), id.Node(), id.Counter())
}

func (run *kernelFuzzRun) same(what string, got, want any, err, wantErr error) {
	run.t.Helper()
	if got != want || !errors.Is(err, wantErr) || wantErr == nil && err != nil {
		run.t.Fatalf("%s at head %d of %d slots: got %+v, %v; want %+v, %v", what, run.m.head, run.m.capacity, got, err, want, wantErr)
	}
}

func (run *kernelFuzzRun) sameFrame(what string, got, want orbit.Frame, err, wantErr error) {
	run.t.Helper()
	if err != wantErr {
		run.t.Fatalf("%s at head %d of %d slots: error %v, want %v", what, run.m.head, run.m.capacity, err, wantErr)
	}
	if err != nil {
		return
	}
	if got.ID != run.kind(want.ID) || got.Kind != want.Kind || got.Version != want.Version || !bytes.Equal(got.Payload, want.Payload) {
		run.t.Fatalf("%s at head %d of %d slots: got %+v, want %+v", what, run.m.head, run.m.capacity, got, want)
	}
}
