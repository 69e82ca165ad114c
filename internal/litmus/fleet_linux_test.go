package litmus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// What the shapes show of copies, the tests below show of package orbit itself,
// with nothing but its public face: writers in other processes, which write
// what verifies itself, and a reader here.

func init() {
	proc.Helper("writer", writer)
	proc.Helper("echo", echo)
}

const (
	kindFrames = 40
	kindValues = 41
	kindCalls  = 42
	kindEchoes = 43
)

// A fact is a value of which every word follows from the first.
type fact [64]uint64

func (fact) OrbitKind() uint8 { return kindValues }

func factOf(seed uint64) (f fact) {
	for i := range f {
		f[i] = seed * uint64(2*i+1)
	}
	return f
}

func (f fact) bytes() (b []byte) {
	for _, w := range f {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// verify returns an error if bytes are not those of a fact, or of its first words,
// at least two.
func verify(b []byte) error {
	if len(b) < 16 || len(b)%8 != 0 {
		return fmt.Errorf("%d bytes", len(b))
	}
	want := factOf(binary.LittleEndian.Uint64(b)).bytes()[:len(b)]
	if string(b) != string(want) {
		return fmt.Errorf("torn:\ngot  %x,\nwant %x", b, want)
	}
	return nil
}

func join(fleet string, capacity int) (*orbit.Fleet, error) {
	shape := orbit.Geometry{Capacity: capacity, PayloadLimit: len(fact{}) * 8}
	return orbit.Join(fleet, orbit.Options{Size: 4, Rings: map[uint8]orbit.Geometry{
		kindFrames: shape, kindValues: shape, kindCalls: shape, kindEchoes: shape,
		orbit.KindCache: {Capacity: max(capacity, 4), PayloadLimit: 1024},
	}})
}

// writer writes facts in every way until its parent says otherwise:
// writer fleet capacity number.
func writer(args []string) error {
	read := proc.WatchParent()
	capacity, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	f, err := join(args[0], capacity)
	if err != nil {
		return err
	}
	defer f.Close()
	frames, err := f.Ring(kindFrames)
	if err != nil {
		return err
	}
	values, err := orbit.Bind[fact](f)
	if err != nil {
		return err
	}
	cache, err := orbit.OpenCache(f, "facts")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	over := make(chan string, 1)
	go func() { over <- read() }()
	for seed := number; ; seed += 2 {
		select {
		case <-over:
			return nil
		default:
		}
		v := factOf(seed)
		b := v.bytes()
		if _, err := frames.Publish(1, seed, b[:16+seed%63*8]); err != nil && !errors.Is(err, orbit.ErrBusy) {
			return err
		}
		if _, err := values.Store(v); err != nil && !errors.Is(err, orbit.ErrBusy) {
			return err
		}
		if err := cache.Put("key", b, 0); err != nil && !errors.Is(err, orbit.ErrBusy) {
			return err
		}
	}
}

func TestWhatOtherProcessesWriteIsWholeAndNeverGoesBack(t *testing.T) {
	for _, capacity := range []int{1, 2, 8} {
		t.Run(fmt.Sprintf("%d slots", capacity), func(t *testing.T) {
			name := proc.Fleet(t)
			f, err := join(name, capacity)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var writers []*proc.Process
			for n := range 2 {
				w := proc.Start(t, "writer", name, strconv.Itoa(capacity), strconv.Itoa(n))
				w.Line()
				writers = append(writers, w)
			}
			for what, reads := range readers(t, f) {
				if n := readFor(t, what, timeOf(150*time.Millisecond), reads); n == 0 {
					t.Errorf("%s: got none read, want some", what)
				} else {
					t.Logf("%s: %d read", what, n)
				}
			}
			for _, w := range writers {
				w.Say("enough")
				w.Finish()
			}
		})
	}
}

// readFor reads until the time is over, and goes on until something was read.
// It returns how often that was so.
func readFor(t *testing.T, what string, limit time.Duration, read func() (bool, error)) (n int) {
	for start := time.Now(); ; {
		ok, err := read()
		if err != nil {
			t.Fatalf("%s: after %d reads: %v", what, n, err)
		}
		if ok {
			n++
		}
		if spent := time.Since(start); spent > limit && (n > 0 || spent > 20*time.Second) {
			return n
		}
	}
}

// readers returns every way to read, each of which tells whether it found
// anything, and returns an error if that cannot be.
func readers(t *testing.T, f *orbit.Fleet) map[string]func() (bool, error) {
	frames, err := f.Ring(kindFrames)
	if err != nil {
		t.Fatal(err)
	}
	values, err := orbit.Bind[fact](f)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := orbit.OpenCache(f, "facts")
	if err != nil {
		t.Fatal(err)
	}
	cursor := frames.Oldest()
	var buf []byte
	var frame, value forward
	found := func(err error) (bool, error) {
		if errors.Is(err, orbit.ErrNoFrame) || errors.Is(err, orbit.ErrBusy) {
			return false, nil
		}
		return err == nil, err
	}
	return map[string]func() (bool, error){
		"newest frame": func() (bool, error) {
			got, err := frames.Newest(buf[:0])
			if ok, err := found(err); !ok {
				return ok, err
			}
			buf = got.Payload
			return true, errors.Join(verify(got.Payload), frame.to(got.ID, frames))
		},
		"cursor": func() (bool, error) {
			got, _, err := cursor.Next(buf[:0])
			if ok, err := found(err); !ok {
				return ok, err
			}
			buf = got.Payload
			return true, verify(got.Payload)
		},
		"value": func() (bool, error) {
			got, id, err := values.Load()
			if ok, err := found(err); !ok {
				return ok, err
			}
			return true, errors.Join(verify(got.bytes()), value.to(id, values.Ring()))
		},
		"cache": func() (bool, error) {
			got, ok, err := cache.AppendGet(buf[:0], "key")
			if ok, err := found(err); !ok {
				return ok, err
			}
			if !ok {
				return false, nil
			}
			return true, verify(got)
		},
	}
}

// A forward is where a reader of the newest has come to.
type forward struct{ counter uint64 }

// to goes on to a frame. It returns an error if that is older than one that
// was read before, or not below the head.
func (w *forward) to(id orbit.NetID64, r *orbit.Ring) error {
	c, head := id.Counter(), r.Head()
	if c < w.counter {
		return fmt.Errorf("the newest went back from counter %d to %d", w.counter, c)
	}
	if head <= c {
		return fmt.Errorf("frame %d lies at or above the head, %d", c, head)
	}
	w.counter = c
	return nil
}

// echo answers every call with a frame of its own: echo fleet.
func echo(args []string) error {
	proc.WatchParent()
	f, err := join(args[0], 8)
	if err != nil {
		return err
	}
	defer f.Close()
	calls, err := f.Ring(kindCalls)
	if err != nil {
		return err
	}
	echoes, err := f.Ring(kindEchoes)
	if err != nil {
		return err
	}
	cursor := calls.Tail()
	fmt.Println("ready")
	for frame, err := range cursor.Frames(context.Background()) {
		if err != nil {
			return err
		}
		if frame.Version == 0 {
			return nil
		}
		if _, err := echoes.Publish(1, frame.Version, nil); err != nil {
			return err
		}
	}
	return nil
}

// A wake that is lost shows as a sleep of 100 ms, after which a sleeper looks
// by itself. In this game each of two processes goes to sleep just as the other
// is about to publish. A busy machine delays a wake that was not lost, now and
// then; a handshake that does not work loses one in a few.
func TestFewWakesTakeAsLongAsALostOne(t *testing.T) {
	const lost = 95 * time.Millisecond
	name := proc.Fleet(t)
	f, err := join(name, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	calls, err := f.Ring(kindCalls)
	if err != nil {
		t.Fatal(err)
	}
	echoes, err := f.Ring(kindEchoes)
	if err != nil {
		t.Fatal(err)
	}
	helper := proc.Start(t, "echo", name)
	helper.Line()
	cursor := echoes.Tail()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second+*long)
	defer cancel()
	rounds, slow := 0, 0
	for start := time.Now(); rounds < 50 || time.Since(start) < timeOf(500*time.Millisecond); rounds++ {
		began := time.Now()
		if _, err := calls.Publish(1, uint64(rounds)+1, nil); err != nil {
			t.Fatal(err)
		}
		for {
			echoed, _, err := cursor.Next(nil)
			if err == nil {
				if got, want := echoed.Version, uint64(rounds)+1; got != want {
					t.Fatalf("got echo %d, want %d", got, want)
				}
				break
			}
			if err := cursor.Wait(ctx); err != nil {
				t.Fatalf("round %d: %v", rounds, err)
			}
		}
		if time.Since(began) >= lost {
			slow++
		}
	}
	t.Logf("%d of %d rounds took %v or longer", slow, rounds, lost)
	if slow > rounds/10 {
		t.Errorf("got %d of %d rounds of %v or longer, want at most a tenth: wakes are lost", slow, rounds, lost)
	}
	if _, err := calls.Publish(1, 0, nil); err != nil {
		t.Fatal(err)
	}
	helper.Finish()
}
