//go:build linux

package fleettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// One process writes, another reads, both ways.

func init() {
	proc.Helper("echo", echo)
	proc.Helper("echoValues", echoValues)
}

const (
	kindThere = 21
	kindBack  = 22
)

func bothWays(g orbit.Geometry) orbit.Options {
	return orbit.Options{Size: 2, Rings: map[uint8]orbit.Geometry{kindThere: g, kindBack: g}}
}

// echo sends every frame of one ring back on another, its bytes in reverse
// order, its id as the version, after it has read the frame in every way there
// is.
func echo(args []string) error {
	proc.WatchParent()
	capacity, _ := strconv.Atoi(args[1])
	limit, _ := strconv.Atoi(args[2])
	f, err := orbit.Join(args[0], bothWays(orbit.Geometry{Capacity: capacity, PayloadLimit: limit}))
	if err != nil {
		return err
	}
	there, err := f.Ring(kindThere)
	if err != nil {
		return err
	}
	back, err := f.Ring(kindBack)
	if err != nil {
		return err
	}
	c := there.Tail()
	fmt.Println("ready")
	for frame, err := range c.Frames(context.Background()) {
		if err != nil {
			return err
		}
		if err := verify(frame); err != nil {
			return err
		}
		if err := readEveryWay(there, frame); err != nil {
			return err
		}
		slices.Reverse(frame.Payload)
		if _, err := back.Publish(frame.Kind+1, uint64(frame.ID), frame.Payload); err != nil {
			return err
		}
	}
	return nil
}

// readEveryWay reads a frame that is the newest of its ring in every other
// way.
func readEveryWay(r *orbit.Ring, want orbit.Frame) error {
	read := map[string]func() (orbit.Frame, error){
		"Newest": func() (orbit.Frame, error) { return r.Newest(nil) },
		"Read":   func() (orbit.Frame, error) { return r.Read(want.ID, nil) },
		"ReadAt": func() (orbit.Frame, error) { return r.ReadAt(r.Head()-1, nil) },
		"At":     func() (orbit.Frame, error) { f, _, err := r.At(r.Head() - 1).Next(nil); return f, err },
		"Poll": func() (orbit.Frame, error) {
			frames := make([]orbit.Frame, 3)
			n, _, err := r.At(r.Head() - 1).Poll(frames)
			if n != 1 {
				return orbit.Frame{}, fmt.Errorf("%d frames, %v; want 1", n, err)
			}
			return frames[0], err
		},
	}
	for how, f := range read {
		got, err := f()
		if err != nil || got.ID != want.ID || got.Kind != want.Kind || got.Version != want.Version || !bytes.Equal(got.Payload, want.Payload) {
			return fmt.Errorf("%s: got frame %v of %d bytes, %v; want %v of %d bytes", how, got.ID, len(got.Payload), err, want.ID, len(want.Payload))
		}
	}
	return nil
}

func TestProcessesReadWhatOthersWrite(t *testing.T) {
	sizes := []int{0, 1, 7, 8, 255, 256, 4096, 1 << 20}
	for _, g := range []orbit.Geometry{
		{Capacity: 1, PayloadLimit: 1 << 20}, {Capacity: 2, PayloadLimit: 1 << 20},
		{Capacity: 16, PayloadLimit: 1 << 20}, {Capacity: 1024, PayloadLimit: 4096},
		{Capacity: 1024, PayloadLimit: 0}, {Capacity: 4, PayloadLimit: 7},
	} {
		t.Run(g.String(), func(t *testing.T) {
			name := proc.Fleet(t)
			f := join(t, name, bothWays(g))
			there, back := ring(t, f, kindThere), ring(t, f, kindBack)
			p := proc.Start(t, "echo", name, strconv.Itoa(g.Capacity), strconv.Itoa(g.PayloadLimit))
			if got := p.Line(); got != "ready" {
				t.Fatalf("got %q from the helper, want ready", got)
			}
			c := back.Tail()
			c.Grace = time.Hour
			for round := range 3 {
				for _, n := range sizes {
					if n <= g.PayloadLimit {
						roundTrip(t, there, c, uint64(round*1000+n), n)
					}
				}
			}
			// A publisher that loses the processor before it marks its slot takes
			// another counter, and leaves a hole.
			if got := c.Tally(); got.Overwritten+got.Lost != 0 {
				t.Errorf("one frame at a time, and yet a gap: %+v", got)
			}
			p.Kill()
			p.Died(9)
			proc.Eventually(t, "the killed member is gone", func() bool { m, _ := f.Members(); return len(m) == 1 })
			f.Close()
			proc.RemoveFleet(t, name)
		})
	}
}

// roundTrip publishes a frame and waits for what comes back.
func roundTrip(t *testing.T, there *orbit.Ring, back *orbit.Cursor, seed uint64, n int) {
	t.Helper()
	p, version := payload(nil, seed, n)
	id, err := there.Publish(3, version, p)
	if err != nil {
		t.Fatalf("Publish of %d bytes: %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	frame, err := await(ctx, back)
	if ctx.Err() != nil {
		t.Fatalf("nothing came back for %d bytes: %v", n, err)
	}
	slices.Reverse(frame.Payload)
	if err != nil || frame.Kind != 4 || frame.Version != uint64(id) || !bytes.Equal(frame.Payload, p) {
		t.Fatalf("got frame of kind %d, version %#x, %d bytes, %v back; want kind 4, version %#x, the %d bytes sent, reversed", frame.Kind, frame.Version, len(frame.Payload), err, uint64(id), n)
	}
}

// await waits for the next frame of a cursor. A wait can end at a hole, too.
func await(ctx context.Context, c *orbit.Cursor) (orbit.Frame, error) {
	for {
		f, _, err := c.Next(nil)
		if !errors.Is(err, orbit.ErrNoFrame) {
			return f, err
		}
		if err := c.Wait(ctx); err != nil {
			return f, err
		}
	}
}

// reading and answer are the values that travel there and back.
type reading struct {
	N    uint64
	Load float32
	Low  [3]int8
}

func (reading) OrbitKind() uint8 { return 31 }

type answer struct {
	N    uint64
	From uint16
	Load float32
}

func (answer) OrbitKind() uint8 { return 32 }

func echoValues(args []string) error {
	proc.WatchParent()
	f, err := orbit.Join(args[0], orbit.Options{Size: 2})
	if err != nil {
		return err
	}
	in, err := orbit.Bind[reading](f)
	if err != nil {
		return err
	}
	out, err := orbit.Bind[answer](f)
	if err != nil {
		return err
	}
	c := in.Ring().Tail()
	fmt.Println("ready")
	for {
		frame, err := await(context.Background(), c)
		if err != nil {
			return err
		}
		v, id, err := in.Load()
		if err != nil {
			return err
		}
		if byID, err := in.LoadID(frame.ID); err != nil || byID != v || id != frame.ID {
			return fmt.Errorf("LoadID(%v) = %v, %v; Load gave %v of %v", frame.ID, byID, err, v, id)
		}
		if _, err := out.Store(answer{v.N + 1, id.Node(), v.Load}); err != nil {
			return err
		}
	}
}

func TestProcessesLoadWhatOthersStore(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, orbit.Options{Size: 2})
	out, err := orbit.Bind[reading](f)
	if err != nil {
		t.Fatal(err)
	}
	in, err := orbit.Bind[answer](f)
	if err != nil {
		t.Fatal(err)
	}
	p := proc.Start(t, "echoValues", name)
	if got := p.Line(); got != "ready" {
		t.Fatalf("got %q from the helper, want ready", got)
	}
	c := in.Ring().Tail()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := range uint64(200) {
		if _, err := out.Store(reading{N: i, Load: float32(i) / 3, Low: [3]int8{-1, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		if _, err := await(ctx, c); err != nil {
			t.Fatalf("no answer to %d: %v", i, err)
		}
		want := answer{i + 1, f.Node(), float32(i) / 3}
		if got, id, err := in.Load(); err != nil || got != want || id.Node() == f.Node() {
			t.Fatalf("Load = %+v from %v, %v; want %+v from the other node", got, id, err, want)
		}
	}
}
