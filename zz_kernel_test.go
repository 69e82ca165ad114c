package orbit_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"orbit"
)

// ---------------------------------------------------------------------------
// Fleets, rings, cursors and typed values

var fleetSerial atomic.Int64

// fleetName returns a name that no other test uses, and removes what the fleet
// leaves in shared memory when the test ends, however it ends.
func fleetName(t testing.TB) string {
	name := fmt.Sprintf("t%d.%d", os.Getpid(), fleetSerial.Add(1))
	t.Cleanup(func() {
		left, _ := filepath.Glob("/dev/shm/orbit-" + name + "-*")
		for _, path := range left {
			os.Remove(path)
		}
	})
	return name
}

// join joins a shared fleet, and leaves it when the test ends.
func join(t testing.TB, name string, opts orbit.Options) *orbit.Fleet {
	t.Helper()
	opts.Size = max(opts.Size, 1)
	f, err := orbit.Join(name, opts)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func local(t testing.TB, opts orbit.Options) *orbit.Fleet {
	t.Helper()
	opts.Size = max(opts.Size, 1)
	f, err := orbit.Local("local", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// eachFleet runs a test over a process-local fleet and a shared one: the code
// is the same, and so must be what it does.
func eachFleet(t *testing.T, opts orbit.Options, run func(t *testing.T, f *orbit.Fleet)) {
	t.Run("local", func(t *testing.T) { run(t, local(t, opts)) })
	t.Run("shared", func(t *testing.T) { run(t, join(t, fleetName(t), opts)) })
}

const testKind = 9

// ringOf returns the ring of testKind.
func ringOf(t testing.TB, f *orbit.Fleet) *orbit.Ring {
	t.Helper()
	r, err := f.Ring(testKind)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func shape(capacity, limit int) orbit.Options {
	return orbit.Options{Rings: map[uint8]orbit.Geometry{testKind: {Capacity: capacity, PayloadLimit: limit}}}
}

func publish(t testing.TB, r *orbit.Ring, payload string) orbit.NetID64 {
	t.Helper()
	id, err := r.Publish(1, 2, []byte(payload))
	if err != nil {
		t.Fatalf("publish %q: %v", payload, err)
	}
	return id
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

func TestFleetNameMustBeHarmless(t *testing.T) {
	for _, name := range []string{"", "-a", ".a", "_a", "a/b", "../a", "a b", "a\x00", "ä", strings.Repeat("a", 65), "a\n"} {
		_, err := orbit.Join(name, orbit.Options{Size: 1})
		wantErr(t, fmt.Sprintf("join %q", name), err, orbit.ErrName)
		wantErr(t, fmt.Sprintf("remove %q", name), orbit.Remove(name), orbit.ErrName)
		_, err = orbit.Observe(name)
		wantErr(t, fmt.Sprintf("observe %q", name), err, orbit.ErrName)
	}
	for _, name := range []string{"a", "0", "web-1.x_Y", strings.Repeat("a", 64)} {
		f, err := orbit.Local(name, orbit.Options{Size: 1})
		if err != nil || f.Name() != name {
			t.Errorf("local %q: got name %q, error %v", name, f.Name(), err)
		}
	}
}

func TestFleetNeedsAnExpectedSize(t *testing.T) {
	for _, size := range []int{0, -1, orbit.MaxMembers + 1} {
		_, err := orbit.Local("x", orbit.Options{Size: size})
		wantErr(t, fmt.Sprint("size ", size), err, orbit.ErrSize)
	}
}

func TestFleetRefusesImpossibleGeometry(t *testing.T) {
	for _, g := range []orbit.Geometry{{Capacity: 3}, {Capacity: -4}, {Capacity: -1 << 31}, {Capacity: 8, PayloadLimit: -1}, {Capacity: 8, PayloadLimit: orbit.MaxPayload + 1}, {Capacity: 1 << 30, PayloadLimit: orbit.MaxPayload}} {
		_, err := orbit.Local("x", orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{5: g}})
		wantErr(t, fmt.Sprint("geometry ", g), err, orbit.ErrGeometry)
	}
}

func TestReservedKindsAreRefused(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		for _, kind := range []uint8{0, 200, 220, 221, 222, 255} {
			_, err := f.Ring(kind)
			wantErr(t, fmt.Sprint("ring ", kind), err, orbit.ErrKind)
		}
		_, err := orbit.Bind[reservedType](f)
		wantErr(t, "bind", err, orbit.ErrKind)
	})
}

type reservedType struct{ N uint64 }

func (reservedType) OrbitKind() uint8 { return 220 }

func TestMembersGetDistinctNodes(t *testing.T) {
	name := fleetName(t)
	a := join(t, name, orbit.Options{Node: 2})
	seen := map[uint16]bool{a.Node(): true}
	for range 5 {
		f := join(t, name, orbit.Options{})
		if f.Node() == 0 || seen[f.Node()] {
			t.Fatalf("got node %d, want one not in %v", f.Node(), seen)
		}
		seen[f.Node()] = true
	}
	_, err := orbit.Join(name, orbit.Options{Size: 1, Node: 2})
	wantErr(t, "join as node 2", err, orbit.ErrNode)
	members, err := a.Members()
	if err != nil || len(members) != len(seen) {
		t.Fatalf("got members %v, error %v, want %d of them", members, err, len(seen))
	}
	for _, m := range members {
		if !seen[m.Node] || m.PID != os.Getpid() || time.Since(m.Since) > time.Minute || time.Since(m.Since) < 0 {
			t.Errorf("got member %+v, want a node of %v in process %d, joined just now", m, seen, os.Getpid())
		}
	}
	a.Close()
	if b := join(t, name, orbit.Options{Node: 2}); b.Node() != 2 {
		t.Errorf("after node 2 left: got node %d, want 2", b.Node())
	}
}

func TestSiblingsMustAgreeOnGeometry(t *testing.T) {
	name := fleetName(t)
	ringOf(t, join(t, name, shape(8, 64)))
	_, err := join(t, name, shape(16, 64)).Ring(testKind)
	wantErr(t, "other capacity", err, orbit.ErrGeometry)
	for _, side := range []string{"8 slots", "16 slots", name, "ring 9"} {
		if !strings.Contains(err.Error(), side) {
			t.Errorf("got %q, want it to name %q", err, side)
		}
	}
	_, err = join(t, name, shape(8, 65)).Ring(testKind)
	wantErr(t, "other payload limit", err, orbit.ErrGeometry)
}

func TestEmptyRingHasNoFrame(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		_, err := r.Newest(nil)
		wantErr(t, "newest", err, orbit.ErrNoFrame)
		_, err = r.ReadAt(0, nil)
		wantErr(t, "read at 0", err, orbit.ErrUnpublished)
		_, _, err = r.Oldest().Next(nil)
		wantErr(t, "next", err, orbit.ErrNoFrame)
		if s, err := r.Stats(); err != nil || s != (orbit.RingStats{}) {
			t.Errorf("got stats %+v, error %v, want none", s, err)
		}
	})
}

func TestPublishedFrameIsReadBackWhole(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 9, 63, 64, 65, 255, 256, 4096, 1 << 20} {
		eachFleet(t, shape(4, size), func(t *testing.T, f *orbit.Fleet) {
			r := ringOf(t, f)
			payload := make([]byte, size)
			for i := range payload {
				payload[i] = byte(i*7 + size)
			}
			for lap := range 9 {
				id, err := r.Publish(byte(lap), uint64(lap)<<40, payload)
				if err != nil {
					t.Fatal(err)
				}
				want := orbit.Frame{ID: orbit.MakeNetID64(testKind, f.Node(), uint64(lap)), Kind: byte(lap), Version: uint64(lap) << 40, Payload: payload}
				byID, err1 := r.Read(id, nil)
				newest, err2 := r.Newest([]byte("before"))
				at, err3 := r.ReadAt(uint64(lap), nil)
				for i, got := range []orbit.Frame{byID, newest, at} {
					if got.ID != want.ID || got.Kind != want.Kind || got.Version != want.Version || !bytes.Equal(got.Payload, payload) {
						t.Fatalf("%d bytes, lap %d, way %d: got %v kind %d version %d and %d bytes, errors %v %v %v", size, lap, i, got.ID, got.Kind, got.Version, len(got.Payload), err1, err2, err3)
					}
				}
			}
		})
	}
}

func TestReadAppendsToTheCallersBuffer(t *testing.T) {
	r := ringOf(t, local(t, orbit.Options{}))
	publish(t, r, "hello")
	buf := append(make([]byte, 0, 64), "xy"...)
	f, err := r.Newest(buf)
	if err != nil || string(f.Payload) != "hello" || &f.Payload[0] != &buf[:3][2] {
		t.Fatalf("got %q, error %v, want hello appended in place", f.Payload, err)
	}
	if string(buf[:7]) != "xyhello" {
		t.Errorf("got buffer %q, want xyhello", buf[:7])
	}
}

func TestPayloadAboveTheLimitIsRefused(t *testing.T) {
	eachFleet(t, shape(2, 10), func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		_, err := r.Publish(0, 0, make([]byte, 11))
		wantErr(t, "11 bytes", err, orbit.ErrTooLarge)
		if !strings.Contains(err.Error(), "11 bytes, limit 10") {
			t.Errorf("got %q, want found and wanted size", err)
		}
		n, err := r.PublishBatch([]orbit.Frame{{Payload: make([]byte, 3)}, {Payload: make([]byte, 11)}})
		wantErr(t, "batch", err, orbit.ErrTooLarge)
		if n != 0 || r.Head() != 0 {
			t.Errorf("got %d published, head %d, want none", n, r.Head())
		}
	})
}

func TestWhatBecameOfACounterIsToldApart(t *testing.T) {
	eachFleet(t, shape(4, 8), func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		first := publish(t, r, "0")
		hole, err := r.Mint()
		if err != nil {
			t.Fatal(err)
		}
		last := publish(t, r, "2")
		_, err = r.Read(hole, nil)
		wantErr(t, "minted id", err, orbit.ErrHole)
		_, err = r.Read(orbit.MakeNetID64(testKind, f.Node()+1, 2), nil)
		wantErr(t, "another node's id", err, orbit.ErrHole)
		_, err = r.Read(orbit.MakeNetID64(testKind+1, f.Node(), 2), nil)
		wantErr(t, "another ring's id", err, orbit.ErrKind)
		_, err = r.ReadAt(3, nil)
		wantErr(t, "next counter", err, orbit.ErrUnpublished)
		if f, err := r.Read(last, nil); err != nil || string(f.Payload) != "2" {
			t.Errorf("got %q, %v", f.Payload, err)
		}
		for range 2 {
			publish(t, r, "x")
		}
		_, err = r.Read(first, nil)
		wantErr(t, "lapped id", err, orbit.ErrOverwritten)
		wantErr(t, "lapped id", err, orbit.ErrNoFrame)
		if s, err := r.Stats(); err != nil || s.Head != 5 || s.Oldest != 1 || s.Frames != 3 || s.Holes != 1 {
			t.Errorf("got stats %+v, error %v, want head 5, oldest 1, 3 frames, 1 hole", s, err)
		}
	})
}

func TestBatchIsPublishedInOrderWithConsecutiveIDs(t *testing.T) {
	for _, capacity := range []int{1, 2, 8, 512} {
		eachFleet(t, shape(capacity, 8), func(t *testing.T, f *orbit.Fleet) {
			r := ringOf(t, f)
			frames := make([]orbit.Frame, 100)
			for i := range frames {
				frames[i] = orbit.Frame{Kind: 3, Version: uint64(i), Payload: []byte{byte(i)}}
			}
			if n, err := r.PublishBatch(frames); n != len(frames) || err != nil {
				t.Fatalf("got %d published, error %v", n, err)
			}
			for i, b := range frames {
				if b.ID.Counter() != uint64(i) {
					t.Fatalf("frame %d got id %v", i, b.ID)
				}
				got, err := r.Read(b.ID, nil)
				if i < len(frames)-capacity {
					wantErr(t, "lapped", err, orbit.ErrOverwritten)
				} else if err != nil || got.Version != uint64(i) || got.Kind != 3 || got.Payload[0] != byte(i) {
					t.Fatalf("frame %d: got %+v, error %v", i, got, err)
				}
			}
		})
	}
}

func TestResetHidesWhatWasPublishedBefore(t *testing.T) {
	eachFleet(t, shape(8, 8), func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		c := r.Oldest()
		old := publish(t, r, "a")
		publish(t, r, "b")
		if err := r.Reset(); err != nil {
			t.Fatal(err)
		}
		_, err := r.Newest(nil)
		wantErr(t, "newest", err, orbit.ErrNoFrame)
		_, err = r.Read(old, nil)
		wantErr(t, "read", err, orbit.ErrOverwritten)
		publish(t, r, "c")
		got, gap, err := c.Next(nil)
		if err != nil || string(got.Payload) != "c" || gap != (orbit.Gap{Overwritten: 2}) {
			t.Errorf("got %q, gap %+v, error %v, want c after 2 overwritten", got.Payload, gap, err)
		}
	})
}

func TestCursorReportsOverwrittenWindow(t *testing.T) {
	// Capacity 4, ten frames:   0 1 2 3 4 5 [6 7 8 9]
	// the cursor stands at 0    ^ overwritten  ^ held
	eachFleet(t, shape(4, 8), func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		c := r.Oldest()
		for i := range 10 {
			publish(t, r, fmt.Sprint(i))
		}
		for i := 6; i < 10; i++ {
			got, gap, err := c.Next(nil)
			want := orbit.Gap{}
			if i == 6 {
				want.Overwritten = 6
			}
			if err != nil || string(got.Payload) != fmt.Sprint(i) || gap != want {
				t.Fatalf("got %q, gap %+v, error %v, want %d after %+v", got.Payload, gap, err, i, want)
			}
		}
		_, gap, err := c.Next(nil)
		wantErr(t, "at the head", err, orbit.ErrNoFrame)
		if tally := c.Tally(); gap.Total() != 0 || tally.Delivered != 4 || tally.Overwritten != 6 || c.Position() != 10 {
			t.Errorf("got tally %+v at %d, want 4 delivered and 6 overwritten at 10", tally, c.Position())
		}
	})
}

func TestCursorPassesHolesAndSaysSo(t *testing.T) {
	eachFleet(t, shape(8, 8), func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		c := r.Oldest()
		publish(t, r, "0")
		r.Mint()
		r.Mint()
		publish(t, r, "3")
		frames := make([]orbit.Frame, 8)
		n, gap, err := c.Poll(frames)
		if n != 1 || gap.Total() != 0 || err != nil || string(frames[0].Payload) != "0" {
			t.Fatalf("got %d frames, gap %+v, error %v, want the batch to end before the gap", n, gap, err)
		}
		n, gap, err = c.Poll(frames)
		if n != 1 || gap != (orbit.Gap{Holes: 2}) || err != nil || string(frames[0].Payload) != "3" {
			t.Fatalf("got %d frames, gap %+v, error %v, want frame 3 after 2 holes", n, gap, err)
		}
		r.Mint()
		n, gap, err = c.Poll(frames)
		if n != 0 || gap != (orbit.Gap{Holes: 1}) || !errors.Is(err, orbit.ErrNoFrame) {
			t.Fatalf("got %d frames, gap %+v, error %v, want a hole and no frame", n, gap, err)
		}
	})
}

func TestPollFillsNoMoreThanItIsGiven(t *testing.T) {
	r := ringOf(t, local(t, shape(64, 8)))
	for i := range 50 {
		publish(t, r, fmt.Sprint(i))
	}
	c, next := r.Oldest(), 0
	frames := make([]orbit.Frame, 7)
	for {
		n, _, err := c.Poll(frames)
		if err != nil {
			break
		}
		for _, f := range frames[:n] {
			if string(f.Payload) != fmt.Sprint(next) {
				t.Fatalf("got %q, want %d", f.Payload, next)
			}
			next++
		}
	}
	if next != 50 {
		t.Errorf("got %d frames, want 50", next)
	}
}

func TestCursorResumesFromASavedPosition(t *testing.T) {
	r := ringOf(t, local(t, shape(8, 8)))
	publish(t, r, "a")
	c := r.Oldest()
	c.Next(nil)
	saved := c.Position()
	publish(t, r, "b")
	if got, gap, err := r.At(saved).Next(nil); err != nil || string(got.Payload) != "b" || gap.Total() != 0 {
		t.Errorf("got %q, gap %+v, error %v, want b", got.Payload, gap, err)
	}
	if _, _, err := r.Tail().Next(nil); !errors.Is(err, orbit.ErrNoFrame) {
		t.Errorf("tail: got error %v, want none to read", err)
	}
}

// TestConcurrentCursorsAccountForEveryCounter has writers lap readers as fast
// as they can, over rings down to one slot.
func TestConcurrentCursorsAccountForEveryCounter(t *testing.T) {
	for _, capacity := range []int{1, 2, 4, 64} {
		eachFleet(t, shape(capacity, 64), func(t *testing.T, f *orbit.Fleet) {
			r := ringOf(t, f)
			const writers, readers, each = 4, 3, 3000
			var writing, reading sync.WaitGroup
			done := make(chan struct{})
			for w := range writers {
				spawn(&writing, func() {
					for i := range each {
						p := selfVerifying(uint64(w)<<32|uint64(i), 8+(i%8)*7)
						if _, err := r.Publish(0, 0, p); err != nil {
							t.Errorf("publish: %v", err)
						}
					}
				})
			}
			for range readers {
				c := r.Oldest()
				start := c.Position()
				spawn(&reading, func() {
					var buf []byte
					last := map[uint64]uint64{}
					for end := false; ; {
						got, _, err := c.Next(buf)
						if err != nil {
							if !errors.Is(err, orbit.ErrNoFrame) {
								t.Errorf("next: %v", err)
								return
							}
							if end {
								break
							}
							select {
							case <-done:
								end = true // and once more, for the last frames
							default:
								runtime.Gosched()
							}
							continue
						}
						buf = got.Payload[:0]
						tag, ok := verify(got.Payload)
						if !ok {
							t.Errorf("torn frame %v: %x", got.ID, got.Payload)
							return
						}
						if w, i := tag>>32, tag&0xffffffff+1; last[w] >= i {
							t.Errorf("writer %d: frame %d after %d", w, i, last[w])
							return
						} else {
							last[w] = i
						}
					}
					if tally := c.Tally(); tally.Delivered+tally.Total() != c.Position()-start || c.Position() != r.Head() {
						t.Errorf("got tally %+v at %d, head %d: does not add up from %d", tally, c.Position(), r.Head(), start)
					}
				})
			}
			writing.Wait()
			close(done)
			reading.Wait()
			if r.Head() < writers*each {
				t.Errorf("got head %d, want at least %d", r.Head(), writers*each)
			}
		})
	}
}

// selfVerifying returns a payload of n bytes, at least 8, whose every byte
// follows from the tag in front.
func selfVerifying(tag uint64, n int) []byte {
	p := binary.LittleEndian.AppendUint64(nil, tag)
	for x := tag; len(p) < n; {
		x = x*6364136223846793005 + 1442695040888963407
		p = append(p, byte(x>>56))
	}
	return p
}

func verify(p []byte) (tag uint64, ok bool) {
	if len(p) < 8 {
		return 0, false
	}
	tag = binary.LittleEndian.Uint64(p)
	return tag, bytes.Equal(p, selfVerifying(tag, len(p)))
}

func TestWaitReturnsWhenAFrameArrives(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		c := r.Tail()
		got := make(chan string)
		go func() {
			if err := c.Wait(t.Context()); err != nil {
				got <- err.Error()
			}
			f, _, err := c.Next(nil)
			got <- fmt.Sprint(string(f.Payload), err)
		}()
		time.Sleep(20 * time.Millisecond)
		publish(t, r, "news")
		if s := <-got; s != "news<nil>" {
			t.Errorf("got %s", s)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		wantErr(t, "wait", ringOf(t, f).Tail().Wait(ctx), context.Canceled)
	})
}

func TestWaitEndsWhenTheFleetCloses(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		time.AfterFunc(10*time.Millisecond, func() { f.Close() })
		wantErr(t, "wait", ringOf(t, f).Tail().Wait(t.Context()), orbit.ErrClosed)
	})
}

func TestWaitReportsHoles(t *testing.T) {
	r := ringOf(t, local(t, orbit.Options{}))
	c := r.Tail()
	time.AfterFunc(10*time.Millisecond, func() { r.Mint(); publish(t, r, "x") })
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestThousandWaitersCostOneThread(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		before := threads(t)
		var woken, started sync.WaitGroup
		for range 1000 {
			started.Add(1)
			spawn(&woken, func() {
				c := r.Tail()
				started.Done()
				if err := c.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		started.Wait()
		time.Sleep(50 * time.Millisecond)
		if now := threads(t); now > before+8 {
			t.Errorf("got %d threads for 1000 waiters, %d before", now, before)
		}
		publish(t, r, "x")
		woken.Wait()
	})
}

func threads(t testing.TB) int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip(err)
	}
	return len(tasks)
}

func TestFramesStreamsUntilTheContextEnds(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for i := range 100 {
				publish(t, r, fmt.Sprint(i))
			}
		}()
		next := 0
		var last error
		for f, err := range r.At(0).Frames(ctx) {
			if last = err; err != nil {
				continue
			}
			if string(f.Payload) != fmt.Sprint(next) {
				t.Fatalf("got %q, want %d", f.Payload, next)
			}
			if next++; next == 100 {
				cancel()
			}
		}
		if next != 100 || !errors.Is(last, context.Canceled) {
			t.Errorf("got %d frames and error %v, want 100 and the context's", next, last)
		}
	})
}

func TestClosedFleetSaysSo(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		o, err := orbit.Bind[point](f)
		if err != nil {
			t.Fatal(err)
		}
		id := publish(t, r, "x")
		c := r.Oldest()
		for range 2 {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		_, errs := 0, map[string]error{}
		_, errs["publish"] = r.Publish(0, 0, nil)
		_, errs["batch"] = r.PublishBatch(make([]orbit.Frame, 2))
		_, errs["mint"] = r.Mint()
		errs["reset"] = r.Reset()
		_, errs["newest"] = r.Newest(nil)
		_, errs["read"] = r.Read(id, nil)
		_, errs["stats"] = r.Stats()
		_, _, errs["next"] = c.Next(nil)
		_, _, errs["poll"] = c.Poll(make([]orbit.Frame, 1))
		errs["wait"] = c.Wait(t.Context())
		_, errs["store"] = o.Store(point{})
		_, _, errs["load"] = o.Load()
		_, errs["load id"] = o.LoadID(orbit.MakeNetID64(point{}.OrbitKind(), 1, 0))
		_, errs["ring"] = f.Ring(testKind)
		_, errs["bind"] = orbit.Bind[point](f)
		_, errs["members"] = f.Members()
		for what, err := range errs {
			if !errors.Is(err, orbit.ErrClosed) {
				t.Errorf("%s: got %v, want %v", what, err, orbit.ErrClosed)
			}
		}
	})
}

func TestCloseIsSafeWhileOthersUseTheFleet(t *testing.T) {
	for range 20 {
		eachFleet(t, shape(4, 4096), func(t *testing.T, f *orbit.Fleet) {
			r := ringOf(t, f)
			o, err := orbit.Bind[point](f)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			until := func(op func() error) {
				spawn(&wg, func() {
					for {
						if err := op(); errors.Is(err, orbit.ErrClosed) {
							return
						} else if err != nil && !errors.Is(err, orbit.ErrNoFrame) && !errors.Is(err, orbit.ErrBusy) {
							t.Errorf("got %v", err)
							return
						}
					}
				})
			}
			tag := uint64(0)
			until(func() error { tag++; _, err := r.Publish(0, 0, selfVerifying(tag, 3000)); return err })
			until(func() error { _, err := o.Store(point{1, 1}); return err })
			until(func() error {
				f, err := r.Newest(nil)
				if _, ok := verify(f.Payload); err == nil && !ok {
					t.Errorf("torn frame of %d bytes while closing", len(f.Payload))
				}
				return err
			})
			until(func() error {
				p, _, err := o.Load()
				if err == nil && p != (point{1, 1}) {
					t.Errorf("torn value %v while closing", p)
				}
				return err
			})
			c := r.Oldest()
			until(func() error { return c.Wait(t.Context()) })
			time.Sleep(time.Millisecond)
			f.Close()
			wg.Wait()
		})
	}
}

func TestObserverReadsAndCannotWrite(t *testing.T) {
	name := fleetName(t)
	_, err := orbit.Observe(name)
	if !errors.Is(err, errors.ErrUnsupported) {
		wantErr(t, "observe nothing", err, orbit.ErrNotExist)
	}
	f := join(t, name, shape(8, 32))
	r := ringOf(t, f)
	id := publish(t, r, "seen")
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	seen := ringOf(t, o)
	if got, err := seen.Read(id, nil); err != nil || string(got.Payload) != "seen" {
		t.Errorf("got %q, error %v", got.Payload, err)
	}
	if g := seen.Geometry(); g != (orbit.Geometry{Capacity: 8, PayloadLimit: 32}) {
		t.Errorf("got geometry %v", g)
	}
	_, err = seen.Publish(0, 0, nil)
	wantErr(t, "publish", err, orbit.ErrReadOnly)
	_, err = seen.Mint()
	wantErr(t, "mint", err, orbit.ErrReadOnly)
	wantErr(t, "reset", seen.Reset(), orbit.ErrReadOnly)
	_, err = seen.PublishBatch(make([]orbit.Frame, 1))
	wantErr(t, "batch", err, orbit.ErrReadOnly)
	_, err = o.Ring(testKind + 1)
	wantErr(t, "ring nobody made", err, orbit.ErrNotExist)
	if m, err := o.Members(); err != nil || len(m) != 1 || m[0].Node != f.Node() {
		t.Errorf("got members %v, error %v, want node %d alone", m, err, f.Node())
	}
	if k, err := o.Kinds(); err != nil || !slices.Equal(k, []uint8{testKind}) {
		t.Errorf("got kinds %v, error %v", k, err)
	}
	c := seen.Tail()
	time.AfterFunc(10*time.Millisecond, func() { publish(t, r, "later") })
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _, err := c.Next(nil); err != nil || string(got.Payload) != "later" {
		t.Errorf("got %q, error %v", got.Payload, err)
	}
}

func TestRemoveIsRefusedWhileAMemberLives(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	r := ringOf(t, f)
	err := orbit.Remove(name)
	wantErr(t, "remove", err, orbit.ErrInUse)
	if want := fmt.Sprintf("process %d", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want it to name %q", err, want)
	}
	publish(t, r, "still here")
	f.Close()
	if err := orbit.Remove(name); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "remove again", orbit.Remove(name), orbit.ErrNotExist)
	left, _ := filepath.Glob("/dev/shm/orbit-" + name + "-*")
	if len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestFleetsAreListed(t *testing.T) {
	a, b := fleetName(t), fleetName(t)+"-7"
	join(t, a, orbit.Options{})
	join(t, b, orbit.Options{})
	t.Cleanup(func() { orbit.Remove(b) })
	fleets, err := orbit.Fleets()
	if err != nil || !slices.Contains(fleets, a) || !slices.Contains(fleets, b) {
		t.Errorf("got %v, error %v, want %q and %q among them", fleets, err, a, b)
	}
}

// ---- Typed values ----

type point struct{ X, Y uint64 }

func (point) OrbitKind() uint8 { return 30 }

type padded struct {
	A uint8
	B uint64
	C uint16
	D [3]struct {
		E uint32
		F uint8
	}
}

func (padded) OrbitKind() uint8 { return 31 }

type rival struct{ X, Y uint64 }

func (rival) OrbitKind() uint8 { return point{}.OrbitKind() }

type shaped struct{ N uint32 }

func (shaped) OrbitKind() uint8 { return 32 }
func (shaped) OrbitGeometry() orbit.Geometry {
	return orbit.Geometry{Capacity: 4}
}

func TestOrbitalStoresAndLoads(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		o, err := orbit.Bind[point](f)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = o.Load()
		wantErr(t, "load before a store", err, orbit.ErrNoFrame)
		first, err := o.Store(point{1, 2})
		if err != nil {
			t.Fatal(err)
		}
		second, _ := o.Store(point{3, 4})
		if v, id, err := o.Load(); err != nil || v != (point{3, 4}) || id != second {
			t.Errorf("got %v %v, error %v, want {3 4} %v", v, id, err, second)
		}
		if v, err := o.LoadID(first); err != nil || v != (point{1, 2}) {
			t.Errorf("got %v, error %v, want {1 2}", v, err)
		}
		recent := maps.Collect(o.Recent())
		if len(recent) != 2 || recent[first] != (point{1, 2}) || recent[second] != (point{3, 4}) {
			t.Errorf("got recent %v", recent)
		}
		if v, id, err := o.LoadNode(f.Node()); err != nil || id != second || v.X != 3 {
			t.Errorf("got %v %v, error %v", v, id, err)
		}
		_, _, err = o.LoadNode(f.Node() + 1)
		wantErr(t, "load of a silent node", err, orbit.ErrNoFrame)
		if g := o.Ring().Geometry(); g != (orbit.Geometry{Capacity: 1024, PayloadLimit: 16}) {
			t.Errorf("got geometry %v", g)
		}
	})
}

func TestTypeDeclaresItsGeometry(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		o, err := orbit.Bind[shaped](f)
		if err != nil || o.Ring().Geometry() != (orbit.Geometry{Capacity: 4, PayloadLimit: 4}) {
			t.Fatalf("got %v, error %v, want 4 slots of 4 bytes", o.Ring().Geometry(), err)
		}
	})
	f := local(t, orbit.Options{Rings: map[uint8]orbit.Geometry{32: {Capacity: 16}}})
	if o, err := orbit.Bind[shaped](f); err != nil || o.Ring().Geometry().Capacity != 16 {
		t.Errorf("error %v, want the options to go before the type", err)
	}
}

func TestTwoTypesOnOneKindCollide(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	if _, err := orbit.Bind[point](f); err != nil {
		t.Fatal(err)
	}
	_, err := orbit.Bind[rival](f)
	wantErr(t, "same process", err, orbit.ErrType)
	if !strings.Contains(err.Error(), "point") || !strings.Contains(err.Error(), "rival") {
		t.Errorf("got %q, want both types named", err)
	}
	_, err = orbit.RingOf[rival](f)
	wantErr(t, "ring of the other", err, orbit.ErrType)
	_, err = orbit.Bind[rival](join(t, name, orbit.Options{}))
	wantErr(t, "sibling", err, orbit.ErrType)
	if _, err := orbit.Bind[point](join(t, name, orbit.Options{})); err != nil {
		t.Errorf("sibling with the same type: %v", err)
	}
}

func TestPointersCannotBeShared(t *testing.T) {
	f := local(t, orbit.Options{})
	check := func(err error, field string) {
		t.Helper()
		wantErr(t, field, err, orbit.ErrType)
		if !strings.Contains(err.Error(), field) {
			t.Errorf("got %q, want it to name %q", err, field)
		}
	}
	_, err := orbit.Bind[withString](f)
	check(err, "field Inner.Name is a string")
	_, err = orbit.Bind[withSlice](f)
	check(err, "field Items[0].P is a ptr")
	_, err = orbit.Bind[pointerType](f)
	check(err, "is a map")
	_, err = orbit.Bind[*point](f)
	check(err, "is a ptr")
	_, err = orbit.Bind[orbit.Typed](f)
	check(err, "is a interface")
}

type withString struct {
	N     int32
	Inner struct{ Name string }
}

func (withString) OrbitKind() uint8 { return 40 }

type withSlice struct{ Items [2]struct{ P *int } }

func (withSlice) OrbitKind() uint8 { return 41 }

type pointerType map[int]int

func (pointerType) OrbitKind() uint8 { return 42 }

func TestPaddingDoesNotLeakMemory(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		o, err := orbit.Bind[padded](f)
		if err != nil {
			t.Fatal(err)
		}
		var want padded
		want.A, want.B, want.C = 0xaa, 0xbbbbbbbbbbbbbbbb, 0xcccc
		for i := range want.D {
			want.D[i].E, want.D[i].F = 0xeeeeeeee, 0xff
		}
		for range 10 {
			if _, err := o.Store(dirty(want)); err != nil {
				t.Fatal(err)
			}
			got, _, err := o.Load()
			if err != nil || got != want {
				t.Fatalf("got %+v, error %v, want %+v", got, err, want)
			}
			raw, err := o.Ring().Newest(nil)
			if err != nil || bytes.IndexByte(raw.Payload, 0x55) >= 0 {
				t.Fatalf("error %v: padding leaked into %x", err, raw.Payload)
			}
		}
	})
}

// dirty returns v with every byte of its padding set to 0x55.
func dirty(v padded) padded {
	var d padded
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&d)), unsafe.Sizeof(d))
	for i := range raw {
		raw[i] = 0x55
	}
	d.A, d.B, d.C = v.A, v.B, v.C
	for i := range d.D {
		d.D[i].E, d.D[i].F = v.D[i].E, v.D[i].F
	}
	return d
}

// ---- Allocations ----

func TestHotPathsDoNotAllocate(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		o, err := orbit.Bind[point](f)
		if err != nil {
			t.Fatal(err)
		}
		payload, buf := make([]byte, 64), make([]byte, 0, 256)
		batch := make([]orbit.Frame, 16)
		for i := range batch {
			batch[i].Payload = make([]byte, 64)
		}
		id := publish(t, r, "x")
		c := r.Oldest()
		for what, op := range map[string]func(){
			"publish": func() { id, _ = r.Publish(1, 2, payload) },
			"batch":   func() { r.PublishBatch(batch) },
			"newest":  func() { r.Newest(buf) },
			"read":    func() { r.Read(id, buf) },
			"read at": func() { r.ReadAt(id.Counter(), buf) },
			"mint":    func() { r.Mint() },
			"next":    func() { c.Next(buf) },
			"poll":    func() { c.Poll(batch) },
			"stats":   func() { r.Stats() },
			"store":   func() { o.Store(point{1, 2}) },
			"load":    func() { o.Load() },
			"load id": func() { o.LoadID(orbit.MakeNetID64(30, f.Node(), 0)) },
		} {
			if n := testing.AllocsPerRun(200, op); n != 0 {
				t.Errorf("%s: got %v allocations, want none", what, n)
			}
		}
	})
}

// ---- Frames ----

func TestFrameRoundTrip(t *testing.T) {
	in := orbit.Frame{ID: orbit.MakeNetID64(1, 2, 3), Kind: 4, Version: 5, Payload: []byte("six")}
	b, err := in.AppendBinary([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, "rest"...)
	out, rest, err := orbit.DecodeFrame(b[1:])
	if err != nil || out.ID != in.ID || out.Kind != 4 || out.Version != 5 || string(out.Payload) != "six" || string(rest) != "rest" {
		t.Errorf("got %+v, rest %q, error %v", out, rest, err)
	}
	for n := range len(b) - 1 - len("rest") {
		_, rest, err := orbit.DecodeFrame(b[1 : 1+n])
		if !errors.Is(err, orbit.ErrFrame) || len(rest) != n {
			t.Errorf("first %d bytes: got error %v", n, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { orbit.DecodeFrame(b[1:]) }); n != 0 {
		t.Errorf("decode: got %v allocations", n)
	}
	_, err = orbit.Frame{Payload: make([]byte, orbit.MaxPayload+1)}.AppendBinary(nil)
	wantErr(t, "long payload", err, orbit.ErrTooLarge)
}

// ---- Examples ----

// Load is what each worker says of itself.
type Load struct {
	CPU      float64
	Requests uint64
}

// OrbitKind names the ring of loads.
func (Load) OrbitKind() uint8 { return 12 }

// A process joins a fleet and shares a small value. Local stands in for Join
// here; the code is the same.
func Example() {
	fleet, err := orbit.Local("web", orbit.Options{Size: 4})
	if err != nil {
		panic(err)
	}
	defer fleet.Close()
	load, err := orbit.Bind[Load](fleet)
	if err != nil {
		panic(err)
	}
	load.Store(Load{CPU: 0.25, Requests: 100})
	load.Store(Load{CPU: 0.75, Requests: 180})
	newest, id, err := load.Load()
	fmt.Println(newest, id, err)
	// Output: {0.75 180} 12:1:1 <nil>
}

// A cursor reads every frame once and says what it could not see.
func ExampleCursor() {
	fleet, _ := orbit.Local("web", orbit.Options{
		Size:  1,
		Rings: map[uint8]orbit.Geometry{7: {Capacity: 4, PayloadLimit: 16}},
	})
	defer fleet.Close()
	ring, _ := fleet.Ring(7)
	cursor := ring.Oldest()
	for i := range 6 {
		ring.Publish(0, 0, fmt.Appendf(nil, "frame %d", i))
	}
	for {
		f, gap, err := cursor.Next(nil)
		if errors.Is(err, orbit.ErrNoFrame) {
			break
		}
		fmt.Printf("%s (missed %d)\n", f.Payload, gap.Total())
	}
	// Output:
	// frame 2 (missed 2)
	// frame 3 (missed 0)
	// frame 4 (missed 0)
	// frame 5 (missed 0)
}

func ExampleRing_Newest() {
	fleet, _ := orbit.Local("web", orbit.Options{Size: 1})
	defer fleet.Close()
	ring, _ := fleet.Ring(7)
	ring.Publish(1, 0, []byte("hello"))
	buf := make([]byte, 0, 256) // reads append to it and do not allocate
	f, err := ring.Newest(buf)
	fmt.Println(f.ID, string(f.Payload), err)
	// Output: 7:1:0 hello <nil>
}

func ExampleObserve() {
	_, err := orbit.Observe("nobody-here")
	fmt.Println(errors.Is(err, orbit.ErrNotExist) || errors.Is(err, errors.ErrUnsupported))
	// Output: true
}

// ---- Benchmarks ----

// BenchmarkAdd is the yardstick: one uncontended atomic add.
func BenchmarkAdd(b *testing.B) {
	var n atomic.Uint64
	for b.Loop() {
		n.Add(1)
	}
}

// benchFleets runs a benchmark over process-local memory, shared memory, and
// shared memory without the fault guard.
func benchFleets(b *testing.B, run func(b *testing.B, f *orbit.Fleet)) {
	b.Run("local", func(b *testing.B) { run(b, local(b, orbit.Options{})) })
	b.Run("shared", func(b *testing.B) { run(b, join(b, fleetName(b), orbit.Options{})) })
	b.Run("unguarded", func(b *testing.B) { run(b, join(b, fleetName(b), orbit.Options{NoFaultGuard: true})) })
}

func BenchmarkPublish64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		r, p := ringOf(b, f), make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			r.Publish(1, 2, p)
		}
	})
}

func BenchmarkPublishBatch64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		r, batch := ringOf(b, f), make([]orbit.Frame, 64)
		for i := range batch {
			batch[i].Payload = make([]byte, 64)
		}
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			if n%64 == 0 {
				r.PublishBatch(batch)
			}
		}
	})
}

func BenchmarkNewest64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		r, buf := ringOf(b, f), make([]byte, 0, 64)
		r.Publish(1, 2, make([]byte, 64))
		b.ReportAllocs()
		for b.Loop() {
			r.Newest(buf)
		}
	})
}

func BenchmarkPoll64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		r, p := ringOf(b, f), make([]byte, 64)
		for range r.Geometry().Capacity {
			r.Publish(1, 2, p)
		}
		c, frames, left := r.Oldest(), make([]orbit.Frame, 64), 0
		b.ReportAllocs()
		for b.Loop() {
			if left == 0 {
				if left, _, _ = c.Poll(frames); left == 0 {
					c = r.Oldest()
				}
			} else {
				left--
			}
		}
	})
}

func BenchmarkStore16(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		o, _ := orbit.Bind[point](f)
		b.ReportAllocs()
		for b.Loop() {
			o.Store(point{1, 2})
		}
	})
}

func BenchmarkLoad16(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		o, _ := orbit.Bind[point](f)
		o.Store(point{1, 2})
		b.ReportAllocs()
		for b.Loop() {
			o.Load()
		}
	})
}

func BenchmarkJoinClose(b *testing.B) {
	name := fleetName(b)
	join(b, name, orbit.Options{})
	for b.Loop() {
		f, err := orbit.Join(name, orbit.Options{Size: 1})
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

// spawn runs f in a goroutine of the group.
func spawn(wg *sync.WaitGroup, f func()) {
	wg.Add(1)
	go func() {
		defer wg.Done()
		f()
	}()
}

// segmentPath returns the path of a fleet's segment of a kind.
func segmentPath(fleet string, kind int) string {
	return fmt.Sprintf("/dev/shm/orbit-%s-%d-%d", fleet, kind, os.Geteuid())
}
