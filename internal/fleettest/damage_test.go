//go:build linux

package fleettest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// Segments that are truncated, overwritten or replaced while they are in use.

func init() {
	proc.Helper("victim", victim)
	proc.Helper("mangled", mangled)
	proc.Helper("probe", probe)
	proc.Helper("alone", alone)
}

const kindDamaged = 80

// victim works in one fleet after the other. Each has a ring or its roster
// truncated under it; the test says so. It prints how its crew ended.
func victim(args []string) error {
	read := proc.WatchParent()
	capacity, _ := strconv.Atoi(args[0])
	limit, _ := strconv.Atoi(args[1])
	base := runtime.NumGoroutine()
	for name := read(); name != ""; name = read() {
		f, err := orbit.Join(name, one(kindDamaged, capacity, limit))
		if err != nil {
			return err
		}
		r, err := f.Ring(kindDamaged)
		if err != nil {
			return err
		}
		var w crew
		w.start(f, r)
		fmt.Println("at work")
		truncated := read()
		if truncated == "roster" {
			time.Sleep(20 * time.Millisecond)
			_, err := f.Members()
			fmt.Println("members:", classify(err), err)
			if err := f.Close(); err != nil {
				return err
			}
		}
		ends, err := w.join(20 * time.Second)
		if err != nil {
			return err
		}
		for name, err := range ends {
			if !final(err) || errors.Is(err, errUnsound) {
				return fmt.Errorf("%s ended with %w", name, err)
			}
			if truncated == "ring" && !strings.Contains(err.Error(), "truncated") {
				return fmt.Errorf("%s ended with %q, want it to say what happened", name, err)
			}
		}
		if _, err := r.Newest(nil); !final(err) {
			return fmt.Errorf("the ring is of use again: %v", err)
		}
		closed := f.Close()
		removed := orbit.Remove(name)
		for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > base+1; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("%d goroutines, %d at the start\n%s", runtime.NumGoroutine(), base, stacks())
			}
		}
		fmt.Printf("%s; Close: %v; Remove: %v\n", summary(ends), closed, removed)
	}
	return nil
}

func TestRingTruncatedWhileInUse(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, g := range []orbit.Geometry{{Capacity: 64, PayloadLimit: 4000}, {Capacity: 1, PayloadLimit: 1 << 20}} {
		p := proc.Start(t, "victim", strconv.Itoa(g.Capacity), strconv.Itoa(g.PayloadLimit))
		for round := range 12 {
			name := proc.Fleet(t)
			p.Say(name)
			if got := line(t, p, 20*time.Second); got != "at work" {
				t.Fatalf("round %d: got %q, want at work", round, got)
			}
			time.Sleep(time.Duration(rng.IntN(20_000)) * time.Microsecond)
			// Within a slot to whole pages: the rest of a page would become zeros,
			// which is to overwrite a frame.
			size := []int64{0, 1, 100, 4095, 4096, 8192, 12288}[rng.IntN(7)]
			if err := os.Truncate(proc.Segment(name, kindDamaged), size); err != nil {
				t.Fatal(err)
			}
			p.Say("ring")
			got := line(t, p, 60*time.Second)
			if want := "ErrDamaged 10; Close: <nil>; Remove: <nil>"; got != want {
				t.Errorf("ring of %v truncated to %d bytes: got %q, want %q", g, size, got, want)
			}
			if left := proc.Segments(name); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		}
		p.Stdin.Close()
	}
}

func TestRosterTruncatedWhileInUse(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	p := proc.Start(t, "victim", "64", "400")
	for range 8 {
		name := proc.Fleet(t)
		p.Say(name)
		if got := line(t, p, 20*time.Second); got != "at work" {
			t.Fatalf("got %q, want at work", got)
		}
		time.Sleep(time.Duration(rng.IntN(5_000)) * time.Microsecond)
		size := []int64{0, 1, 4096}[rng.IntN(3)]
		if err := os.Truncate(proc.Segment(name, 0), size); err != nil {
			t.Fatal(err)
		}
		// Newcomers find out at once.
		_, err := orbit.Join(name, orbit.Options{Size: 1})
		proc.MustBe(t, "Join with a truncated roster", err, orbit.ErrForeign, name, strconv.Itoa(int(size))+" bytes")
		proc.MustBe(t, "Remove with a truncated roster and a live member", orbit.Remove(name), orbit.ErrInUse)
		p.Say("roster")
		if got := line(t, p, 20*time.Second); !strings.HasPrefix(got, "members: ErrDamaged") || !strings.Contains(got, name) {
			t.Errorf("roster truncated to %d bytes: got %q, want ErrDamaged and the fleet's name", size, got)
		}
		got := line(t, p, 60*time.Second)
		if want := "; Close: <nil>; Remove: <nil>"; !strings.HasSuffix(got, want) {
			t.Errorf("roster truncated to %d bytes: got %q, want it to end with %q", size, got, want)
		}
		if left := proc.Segments(name); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	p.Stdin.Close()
}

// probe joins a fleet whose other writer is stopped in mid-frame, and uses its
// ring when it is told to, which makes it ask the roster who lives.
func probe(args []string) error {
	read := proc.WatchParent()
	capacity, _ := strconv.Atoi(args[1])
	counter, _ := strconv.ParseUint(args[2], 10, 64)
	f, err := orbit.Join(args[0], one(kindBig, capacity, bigSize))
	if err != nil {
		return err
	}
	r, err := f.Ring(kindBig)
	if err != nil {
		return err
	}
	fmt.Println("joined")
	read()
	_, err = r.ReadAt(counter, nil)
	fmt.Println(classify(err), err)
	for range 2 * capacity {
		if _, err = r.Publish(1, 1, nil); err != nil {
			break
		}
	}
	fmt.Println(classify(err), err)
	fmt.Println("closed", f.Close())
	return nil
}

// TestRosterTruncatedUnderAStoppedWriter: what asks whether a writer lives
// finds the damage, and says that it is the roster's.
func TestRosterTruncatedUnderAStoppedWriter(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(kindBig, 4, bigSize))
	w := proc.Start(t, "bigWriter", name, "4")
	w.Line()
	c := catch(t, w, ring(t, f, kindBig))
	p := proc.Start(t, "probe", name, "4", strconv.FormatUint(c, 10))
	p.Line()
	if err := os.Truncate(proc.Segment(name, 0), 0); err != nil {
		t.Fatal(err)
	}
	p.Say("go")
	for _, how := range []string{"ReadAt", "Publish"} {
		got := line(t, p, 20*time.Second)
		if !strings.HasPrefix(got, "ErrDamaged") || !strings.Contains(got, name) || !strings.Contains(got, "roster") {
			t.Errorf("%s: got %q, want ErrDamaged and that it is the roster", how, got)
		}
	}
	if got := line(t, p, 20*time.Second); got != "closed <nil>" {
		t.Errorf("got %q, want closed", got)
	}
	p.Finish()
}

// mangled works in a fleet whose bytes are overwritten at random. Anything may
// fail; nothing may crash, hang or run for ever.
func mangled(args []string) error {
	read := proc.WatchParent()
	capacity, _ := strconv.Atoi(args[1])
	limit, _ := strconv.Atoi(args[2])
	f, err := orbit.Join(args[0], one(kindDamaged, capacity, limit))
	if err != nil {
		return err
	}
	r, err := f.Ring(kindDamaged)
	if err != nil {
		return err
	}
	w := crew{damaged: true}
	w.start(f, r)
	fmt.Println("at work")
	stop := make(chan bool)
	go func() { read(); close(stop) }()
	for working := true; working; {
		if err := w.moves(20 * time.Second); err != nil {
			return err
		}
		f.Members()
		select {
		case <-stop:
			working = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	ends, err := w.join(20 * time.Second)
	if err != nil {
		return err
	}
	for name, err := range ends {
		if errors.Is(err, errUnsound) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	fmt.Println("alive")
	return nil
}

func TestRandomBytesOverwrittenWhileInUse(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 8))
	for _, g := range []orbit.Geometry{{Capacity: 1, PayloadLimit: 40}, {Capacity: 4, PayloadLimit: 8}, {Capacity: 64, PayloadLimit: 300}} {
		t.Run(g.String(), func(t *testing.T) {
			name := proc.Fleet(t)
			var crews [2]*proc.Process
			for i := range crews {
				crews[i] = proc.Start(t, "mangled", name, strconv.Itoa(g.Capacity), strconv.Itoa(g.PayloadLimit))
				crews[i].Line()
			}
			path := proc.Segment(name, kindDamaged)
			seg := load(t, path)
			roster := proc.Segment(name, 0)
			for end := time.Now().Add(long(1500 * time.Millisecond)); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
				mangle(t, rng, path, roster, seg)
			}
			for _, p := range crews {
				p.Say("stop")
			}
			for _, p := range crews {
				if got := line(t, p, 60*time.Second); got != "alive" {
					t.Errorf("got %q, want alive", got)
				}
				p.Finish()
			}
			// A newcomer survives it, too.
			newcomer(t, name, g)
		})
	}
}

// mangle damages one thing. Random bytes rarely hit what matters, so most
// damage is done to words that steer.
func mangle(t *testing.T, rng *rand.Rand, path, roster string, seg image) {
	head := load(t, path).word(offHead)
	slot := seg.slot(uint64(rng.IntN(seg.capacity())))
	any := []uint64{0, 1, rng.Uint64(), head - 1, head, head + 1, head + rng.Uint64N(100), head + 1<<39, head - 1<<39, head + rng.Uint64N(1<<40), ^uint64(0)}
	v := any[rng.IntN(len(any))]
	owner := []uint64{0, 1, 1<<12 | 1, rng.Uint64N(1 << 22), 1<<22 - 1}[rng.IntN(5)]
	switch rng.IntN(9) {
	case 0:
		overwrite(t, path, rng.IntN(len(seg)), []byte{byte(rng.Uint32())})
	case 1, 2, 3:
		overwriteWord(t, path, slot, state(v, owner, rng.Uint64N(4)))
	case 4:
		overwriteWord(t, path, slot+8, []uint64{rng.Uint64(), 1<<32 - 1, uint64(seg.word(offLimit)) + 1}[rng.IntN(3)])
	case 5:
		overwriteWord(t, path, offFirst, v)
	case 6:
		overwriteWord(t, path, offHead, v)
	case 7:
		overwrite(t, path, offWake, binary.NativeEndian.AppendUint32(nil, rng.Uint32()))
	case 8:
		seat := pageSize + 64*rng.IntN(3)
		overwriteWord(t, roster, seat+8*rng.IntN(5), []uint64{0, rng.Uint64(), 3}[rng.IntN(3)])
	}
}

// newcomer joins a damaged fleet, if it can, and uses it.
func newcomer(t *testing.T, name string, g orbit.Geometry) {
	t.Helper()
	within(t, 60*time.Second, "a newcomer", func() {
		f, err := orbit.Join(name, one(kindDamaged, g.Capacity, g.PayloadLimit))
		if err != nil {
			return
		}
		defer f.Close()
		r, err := f.Ring(kindDamaged)
		if err != nil {
			return
		}
		for range 3 * g.Capacity {
			r.Publish(1, 1, nil)
		}
		r.Newest(nil)
		r.Stats()
		f.Members()
		for c, i := r.Oldest(), 0; i < 3*g.Capacity; i++ {
			c.Next(nil)
		}
	})
}

// alone does one thing at a time to a ring that nobody else repairs by using
// it.
func alone(args []string) error {
	read := proc.WatchParent()
	f, err := orbit.Join(args[0], one(kindDamaged, plantedIn.Capacity, plantedIn.PayloadLimit))
	if err != nil {
		return err
	}
	r, err := f.Ring(kindDamaged)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for how := read(); how != ""; how = read() {
		err := lonely[how](f, r)
		if errors.Is(err, errUnsound) {
			return fmt.Errorf("%s: %w", how, err)
		}
		fmt.Println("done")
	}
	return nil
}

var plantedIn = orbit.Geometry{Capacity: 4, PayloadLimit: 8}

// lonely is all there is to do with a ring.
var lonely = map[string]func(f *orbit.Fleet, r *orbit.Ring) error{
	"Newest": func(f *orbit.Fleet, r *orbit.Ring) error { _, err := r.Newest(nil); return err },
	"ReadAt": func(f *orbit.Fleet, r *orbit.Ring) error { _, err := r.ReadAt(r.Head()-1, nil); return err },
	"Read": func(f *orbit.Fleet, r *orbit.Ring) error {
		_, err := r.Read(orbit.MakeNetID64(kindDamaged, 1, r.Head()-1), nil)
		return err
	},
	"Stats":        func(f *orbit.Fleet, r *orbit.Ring) error { _, err := r.Stats(); return err },
	"Next, oldest": func(f *orbit.Fleet, r *orbit.Ring) error { return turns(r, r.Oldest()) },
	"Next, last":   func(f *orbit.Fleet, r *orbit.Ring) error { return turns(r, r.At(r.Head()-1)) },
	"Next, tail":   func(f *orbit.Fleet, r *orbit.Ring) error { return turns(r, r.Tail()) },
	"Next, 0":      func(f *orbit.Fleet, r *orbit.Ring) error { return turns(r, r.At(0)) },
	"Poll": func(f *orbit.Fleet, r *orbit.Ring) error {
		_, _, err := r.Oldest().Poll(make([]orbit.Frame, 9))
		return err
	},
	"Wait, last":   func(f *orbit.Fleet, r *orbit.Ring) error { return waitShort(r.At(r.Head() - 1)) },
	"Wait, oldest": func(f *orbit.Fleet, r *orbit.Ring) error { return waitShort(r.Oldest()) },
	"Wait, tail":   func(f *orbit.Fleet, r *orbit.Ring) error { return waitShort(r.Tail()) },
	"Publish":      func(f *orbit.Fleet, r *orbit.Ring) error { _, err := r.Publish(1, 1, nil); return err },
	"PublishBatch": func(f *orbit.Fleet, r *orbit.Ring) error {
		_, err := r.PublishBatch(make([]orbit.Frame, 9))
		return err
	},
	"Mint":            func(f *orbit.Fleet, r *orbit.Ring) error { _, err := r.Mint(); return err },
	"Reset":           func(f *orbit.Fleet, r *orbit.Ring) error { return r.Reset() },
	"Publish, Newest": func(f *orbit.Fleet, r *orbit.Ring) error { r.Publish(1, 1, nil); _, err := r.Newest(nil); return err },
	"Close":           func(f *orbit.Fleet, r *orbit.Ring) error { return f.Close() },
}

// turns takes more turns with a cursor than there can be frames.
func turns(r *orbit.Ring, c *orbit.Cursor) error {
	a := audit(r, c)
	for range 4 * r.Geometry().Capacity {
		if _, err := a.next(nil); errors.Is(err, errUnsound) && a.balance() != nil {
			return err
		}
	}
	return nil
}

func waitShort(c *orbit.Cursor) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	return c.Wait(ctx)
}

// damages are words that no sound ring holds.
var damages = map[string]func(m image){
	"a committed state with an owner":        eachState(func(c uint64) uint64 { return state(c, 77, phaseDone) }),
	"a skipped state with an owner":          eachState(func(c uint64) uint64 { return state(c, 77, phaseSkipped) }),
	"the first counter beyond the head":      func(m image) { m.put(offFirst, m.word(offHead)+10) },
	"the first counter far beyond the head":  func(m image) { m.put(offFirst, m.word(offHead)+1<<62) },
	"the first counter half way round":       func(m image) { m.put(offFirst, m.word(offHead)+1<<63) },
	"the head far ahead of the states":       func(m image) { m.put(offHead, m.word(offHead)+1<<35) },
	"the head behind the states":             func(m image) { m.put(offHead, m.word(offHead)-1<<35) },
	"the head half way round":                func(m image) { m.put(offHead, m.word(offHead)+1<<63) },
	"states ahead of each other in a circle": stateCircle,
	"every slot held by nobody known":        eachState(func(c uint64) uint64 { return state(c, 1<<22-1, phaseWriting) }),
	"every slot held by the first member":    eachState(func(c uint64) uint64 { return state(c, 1, phaseWriting) }),
	"every slot held by the one who asks":    eachState(func(c uint64) uint64 { return state(c, 1<<12|1, phaseWriting) }),
	"every slot busy":                        eachState(func(c uint64) uint64 { return state(c, 1, phaseBusy) }),
	"every slot ahead of the head":           eachState(func(c uint64) uint64 { return state(c+1<<20, 0, phaseDone) }),
	"every slot another's counter":           eachState(func(c uint64) uint64 { return state(c+1, 0, phaseDone) }),
	"every length too large":                 eachMeta(1<<32 - 1),
	"every length above the limit by one":    eachMeta(9),
	"zeroed":                                 func(m image) { clear(m[offFirst:]) },
	"ones": func(m image) {
		for i := range m[offFirst:] {
			m[offFirst+i] = 0xff
		}
	},
}

func eachState(f func(c uint64) uint64) func(m image) {
	return func(m image) {
		for i := range uint64(m.capacity()) {
			c := m.word(offHead) - 1 - i
			m.putState(c, f(c))
		}
	}
}

func eachMeta(v uint64) func(m image) {
	return func(m image) {
		for i := range uint64(m.capacity()) {
			m.put(m.slot(i)+8, v)
		}
	}
}

// stateCircle has each slot name a counter that is ahead of the one before it,
// all the way round the 40 bits.
func stateCircle(m image) {
	h := m.word(offHead)
	for i := range uint64(4) {
		// From h+i<<38 + 1 on it is the next slot's turn.
		c := h + i<<38
		m.putState(h+i, state(c&^3|(h+i)&3, 0, phaseDone))
	}
}

// TestDamagedWordsEndNoOperation plants damage and has a process do one thing
// to the ring, for every damage and every thing: it may fail, but it ends.
func TestDamagedWordsEndNoOperation(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(kindDamaged, plantedIn.Capacity, plantedIn.PayloadLimit))
	r := ring(t, f, kindDamaged)
	for i := range uint64(2*plantedIn.Capacity + 1) {
		publish(t, r, i, plantedIn.PayloadLimit)
	}
	path := proc.Segment(name, kindDamaged)
	sound := load(t, path)
	for what, damage := range damages {
		m := append(image(nil), sound...)
		damage(m)
		p := proc.Start(t, "alone", name)
		p.Line()
		for _, how := range append(slices.DeleteFunc(slices.Sorted(maps.Keys(lonely)), func(s string) bool { return s == "Close" }), "Close") {
			overwrite(t, path, offFirst, m[offFirst:])
			p.Say(how)
			if got := line(t, p, 20*time.Second); got != "done" {
				t.Errorf("%s, with %s: got %q, want done", how, what, got)
			}
		}
		p.Stdin.Close()
		p.Finish()
	}
}

// TestSlotNamesACounterThatNobodyTook: a slot can name the head itself only if
// it is damaged, or if a claimant was stopped for 2^40 counters. Readers must not
// take it for a ring that is too busy, and who takes the counter takes another.
func TestSlotNamesACounterThatNobodyTook(t *testing.T) {
	for _, capacity := range []int{1, 2, 8} {
		name := proc.Fleet(t)
		f, other := join(t, name, one(kindDamaged, capacity, 8)), join(t, name, one(kindDamaged, capacity, 8))
		r := ring(t, f, kindDamaged)
		ring(t, other, kindDamaged)
		var ids []orbit.NetID64
		for i := range uint64(3 * capacity) {
			ids = append(ids, publish(t, r, i, 8))
		}
		path := proc.Segment(name, kindDamaged)
		h := r.Head()
		overwriteWord(t, path, load(t, path).slot(h), state(h, 1<<12|1, phaseWriting))
		if got, err := r.Newest(nil); capacity == 1 {
			proc.MustBe(t, "Newest", err, orbit.ErrNoFrame)
		} else if err != nil || got.ID != ids[len(ids)-1] {
			t.Errorf("capacity %d: Newest = %v, %v; want %v", capacity, got.ID, err, ids[len(ids)-1])
		}
		if err := r.Reset(); err != nil {
			t.Error(err)
		}
		_, err := r.Newest(nil)
		proc.MustBe(t, "Newest after a reset", err, orbit.ErrNoFrame)
		if capacity > 1 {
			id := publish(t, r, 99, 8) // past the counter that is named already
			if id.Counter() != h+1 {
				t.Errorf("capacity %d: the next frame is %d, want %d", capacity, id.Counter(), h+1)
			}
			if got, err := r.Newest(nil); err != nil || got.ID != id {
				t.Errorf("capacity %d: Newest = %v, %v; want %v", capacity, got.ID, err, id)
			}
			if _, err := r.ReadAt(h, nil); err != orbit.ErrPending {
				t.Errorf("capacity %d: ReadAt of the claimed counter: %v, want %v", capacity, err, orbit.ErrPending)
			}
		}
		// Let the slot go, as its owner would.
		overwriteWord(t, path, load(t, path).slot(h), state(h, 0, phaseSkipped))
	}
}

// TestFramesEndWithTheirContextWhateverTheHeadSays, also where it is as far
// behind the cursor as it is ahead of it.
func TestFramesEndWithTheirContextWhateverTheHeadSays(t *testing.T) {
	for _, head := range []uint64{1 << 63, 1<<63 - 1, 1<<63 + 1} {
		name := proc.Fleet(t)
		r := ring(t, join(t, name, one(kindDamaged, 8, 16)), kindDamaged)
		c := r.Oldest()
		overwriteWord(t, proc.Segment(name, kindDamaged), offHead, head)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		within(t, 20*time.Second, fmt.Sprintf("an iterator over frames with a head of %#x", head), func() {
			for _, err := range c.Frames(ctx) {
				if err != nil && ctx.Err() == nil {
					t.Errorf("head %#x: %v", head, err)
				}
			}
		})
		cancel()
	}
}
