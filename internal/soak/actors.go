package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"orbit"
)

// What a process of the storm learns from its environment.
const (
	roleEnv  = "ORBIT_SOAK_ROLE"
	fleetEnv = "ORBIT_SOAK_FLEET"
	boardEnv = "ORBIT_SOAK_BOARD"
)

// scenarios are what the processes of the storm do.
var scenarios = [...]struct {
	name string
	act  func(*actorState) error
}{
	{"write", (*actorState).write},
	{"read", (*actorState).read},
	{"events", (*actorState).tellAndHear},
	{"cache", (*actorState).cache},
	{"contest", (*actorState).contend},
	{"heartbeat", (*actorState).beat},
	{"join and leave", (*actorState).comeAndGo},
}

// What an actor says at its end, and how it begins to tell what must not be.
const (
	wellDone    = "end"
	torn        = "torn"
	unaccounted = "unaccounted"
)

// actorState is an actor as it sees itself.
type actorState struct {
	fleet    *orbit.Fleet
	scenario int
	board    board
	done     atomic.Bool
	buf      []byte
}

// did counts operations where they are seen though this process be killed.
func (a *actorState) did(n int) { atomic.AddUint64(a.board.done(a.scenario), uint64(n)) }

// play is the life of an actor: it acts until its standard input ends.
func play() (code int) {
	a := &actorState{}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		a.done.Store(true)
	}()
	role := os.Getenv(roleEnv)
	if err := a.act(role); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	fmt.Println(wellDone)
	return 0
}

func (a *actorState) act(role string) (err error) {
	if a.board, err = mapBoard(os.Getenv(boardEnv)); err != nil {
		return err
	}
	if a.fleet, err = orbit.Join(os.Getenv(fleetEnv), options()); err != nil {
		return err
	}
	defer a.fleet.Close()
	for i, s := range scenarios {
		if s.name == role {
			a.scenario = i
			return s.act(a)
		}
	}
	return fmt.Errorf("no scenario %q", role)
}

// violation tells of what must not be, at once: the actor may be killed next.
func violation(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// unlessBusy lets pass that others hold all slots, as two stopped writers do in
// a ring of two.
func unlessBusy(err error) error {
	if errors.Is(err, orbit.ErrBusy) {
		return nil
	}
	return err
}

func (a *actorState) open() (all []*orbit.Ring, err error) {
	for kind := range rings {
		r, err := a.fleet.Ring(kind)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// write publishes payloads of all sizes, one by one, in batches, and mints.
func (a *actorState) write() error {
	all, err := a.open()
	if err != nil {
		return err
	}
	batch := make([]orbit.Frame, 8)
	for !a.done.Load() {
		r := all[rand.IntN(len(all))]
		n := rand.IntN(r.Geometry().PayloadLimit + 1)
		done := 1
		switch rand.IntN(64) {
		case 0:
			_, err = r.Mint()
		case 1:
			for i := range batch {
				p := selfVerifying(batch[i].Payload[:0], rand.Uint64(), n)
				batch[i].Payload, batch[i].Version = p, sum(p)
			}
			done, err = r.PublishBatch(batch)
		default:
			a.buf = selfVerifying(a.buf[:0], rand.Uint64(), n)
			_, err = r.Publish(byte(n), sum(a.buf), a.buf)
		}
		if unlessBusy(err) != nil {
			return err
		}
		a.did(done)
	}
	return nil
}

// read follows every ring from its oldest frame to the end, looks at newest
// frames on the way, and holds the cursors to account.
func (a *actorState) read() error {
	all, err := a.open()
	if err != nil {
		return err
	}
	cursors := make([]*orbit.Cursor, len(all))
	starts := make([]uint64, len(all))
	told := make([]orbit.Tally, len(all)) // by the results, one by one
	for i, r := range all {
		cursors[i] = r.Oldest()
		cursors[i].Grace = 200 * time.Millisecond
		starts[i] = cursors[i].Position()
	}
	for end := false; !end; {
		end = a.done.Load()
		for i, c := range cursors {
			for range 256 {
				frame, gap, err := c.Next(a.buf[:0])
				told[i].Overwritten += gap.Overwritten
				told[i].Holes += gap.Holes
				told[i].Lost += gap.Lost
				if errors.Is(err, orbit.ErrNoFrame) {
					break
				}
				if err != nil {
					return err
				}
				told[i].Delivered++
				a.checkFrame(frame)
				if at := orbit.MakeNetID64(0, 0, c.Position()-1); frame.ID.Counter() != at.Counter() {
					violation(unaccounted+": the frame of counter %d at %d", frame.ID.Counter(), at.Counter())
				}
			}
			t := c.Tally()
			a.account(t.Delivered+t.Total(), c.Position()-starts[i], t.Delivered, told[i].Delivered)
			if t.Gap != told[i].Gap {
				violation(unaccounted+": a reader's tally is %+v, by its results %+v", t, told[i])
			}
			if frame, err := all[i].Newest(a.buf[:0]); err == nil {
				a.checkFrame(frame)
			} else if !errors.Is(err, orbit.ErrNoFrame) && unlessBusy(err) != nil {
				return err
			}
		}
	}
	return nil
}

// checkFrame checks a frame of a writer, whose version vouches for every byte.
func (a *actorState) checkFrame(f orbit.Frame) {
	a.check(f.ID, f.Payload)
	if len(f.Payload) > 0 && f.Version != sum(f.Payload) {
		violation(torn+": frame %v of %d bytes has the version of another", f.ID, len(f.Payload))
	}
}

func (a *actorState) check(id orbit.NetID64, payload []byte) {
	a.did(1)
	a.buf = payload
	if !verify(payload) {
		violation(torn+": frame %v of %d bytes", id, len(payload))
	}
}

// account checks that a reader explains every counter it passed, and delivered
// as much as it says.
func (a *actorState) account(explained, passed, delivered, got uint64) {
	if explained != passed || delivered != got {
		violation(unaccounted+": a reader passed %d counters and explains %d; it delivered %d frames and says %d", passed, explained, got, delivered)
	}
}

// tellAndHear publishes events and follows all of them, and some.
func (a *actorState) tellAndHear() error {
	bus, err := orbit.Events(a.fleet)
	if err != nil {
		return err
	}
	topics := []string{"a", "ab", "b"}
	subs := []*orbit.Subscriber{bus.SubscribeOldest(), bus.SubscribeNow(orbit.TopicPrefix("a")), bus.SubscribeNow(orbit.Topic("b"))}
	starts, got := make([]uint64, len(subs)), make([]uint64, len(subs))
	for i, s := range subs {
		s.Grace = 200 * time.Millisecond
		starts[i] = s.Position().Counter
	}
	var ev orbit.Event
	for end := false; !end; {
		end = a.done.Load()
		a.buf = selfVerifying(a.buf[:0], rand.Uint64(), rand.IntN(400))
		if _, err := bus.Publish(topics[rand.IntN(len(topics))], a.buf); unlessBusy(err) != nil {
			return err
		}
		for i, s := range subs {
			for range 64 {
				err := s.Poll(&ev)
				if errors.Is(err, orbit.ErrNoFrame) {
					break
				}
				if err != nil {
					return err
				}
				got[i]++
				a.check(ev.ID, ev.Payload)
				if i == 1 && ev.Topic[0] != 'a' || i == 2 && string(ev.Topic) != "b" {
					violation("subscriber %d got topic %q", i, ev.Topic)
				}
			}
			t := s.Tally()
			a.account(t.Delivered+t.Filtered+t.Total(), s.Position().Counter-starts[i], t.Delivered, got[i])
		}
	}
	return nil
}

// cache writes keys that all write, whose values say what key they are of, and
// one that nobody else writes, which must not show an older value again.
func (a *actorState) cache() error {
	c, err := orbit.OpenCache(a.fleet, "soak")
	if err != nil {
		return err
	}
	own := fmt.Sprintf("own %d %d", os.Getpid(), rand.Uint64())
	latest, fresh := uint64(0), false
	for !a.done.Load() {
		n := rand.IntN(16)
		key := fmt.Sprintf("key %d", n)
		a.buf = selfVerifying(a.buf[:0], uint64(n)<<32|uint64(rand.Uint32()), 8+rand.IntN(900))
		switch rand.IntN(16) {
		case 0:
			err = c.Delete(key)
		case 1:
			_, err = c.Add(key, a.buf, time.Second)
		case 2:
			err = c.Put(key, a.buf, time.Millisecond)
		case 3, 4, 5:
			latest++
			err = c.Put(own, binary.LittleEndian.AppendUint64(nil, latest), 0)
			fresh = err == nil
		case 6, 7, 8, 9:
			err = c.Put(key, a.buf, 0)
		default:
			err = a.lookUp(c, key, n)
		}
		if unlessBusy(err) != nil {
			return err
		}
		a.did(1)
		value, ok, err := c.Get(own)
		if unlessBusy(err) != nil {
			return err
		}
		if ok && fresh && binary.LittleEndian.Uint64(value) != latest {
			violation("cache: put %d last, got %d", latest, binary.LittleEndian.Uint64(value))
		}
	}
	return nil
}

func (a *actorState) lookUp(c *orbit.Cache, key string, n int) error {
	value, ok, err := c.AppendGet(a.buf[:0], key)
	if ok && (!verify(value) || binary.LittleEndian.Uint64(value)>>32 != uint64(n)) {
		violation(torn+": value of %q", key)
	}
	return err
}

// beat beats, and sees its own newest beat whatever others do.
func (a *actorState) beat() error {
	h, err := orbit.Heartbeats(a.fleet)
	if err != nil {
		return err
	}
	for !a.done.Load() {
		before := orbit.Now()
		if err := h.Beat(); unlessBusy(err) != nil {
			return err
		}
		if last, err := h.Last(a.fleet.Node()); err != nil || last < before {
			violation("heartbeat: beat at %d or later, found %d, %v", before, last, err)
		}
		if rand.IntN(256) == 0 {
			if _, err := h.Snapshot(time.Second); err != nil {
				return err
			}
		}
		a.did(1)
	}
	return nil
}

// comeAndGo joins and leaves, and is a member in between and only then.
func (a *actorState) comeAndGo() error {
	for !a.done.Load() {
		f, err := orbit.Join(a.fleet.Name(), options())
		if err != nil {
			return err
		}
		kind := uint8(1 + rand.IntN(len(rings)))
		r, err := f.Ring(kind)
		if err != nil {
			return err
		}
		if _, err := r.Publish(0, 0, nil); unlessBusy(err) != nil {
			return err
		}
		if in, err := a.isMember(f.Node()); err != nil || !in {
			violation("members: node %d joined and is no member, %v", f.Node(), err)
		}
		f.Close()
		a.did(1)
	}
	return nil
}

func (a *actorState) isMember(node uint16) (bool, error) {
	members, err := a.fleet.Members()
	for _, m := range members {
		if m.Node == node && m.PID == os.Getpid() {
			return true, nil
		}
	}
	return false, err
}

// sum is what a frame has for its version: it vouches for every byte, and for
// how many there are.
func sum(p []byte) uint64 { return uint64(crc32.ChecksumIEEE(p))<<32 | uint64(len(p)) }

// selfVerifying appends n bytes of which each follows from the first eight, and
// from how many they are.
func selfVerifying(b []byte, tag uint64, n int) []byte {
	start := len(b)
	for x := tag; len(b) < start+n; x = x*6364136223846793005 + 1442695040888963407 + uint64(n) {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b[:start+n]
}

func verify(p []byte) bool {
	if len(p) < 8 {
		return true // too short to say anything
	}
	return bytes.Equal(p, selfVerifying(nil, binary.LittleEndian.Uint64(p), len(p)))
}
