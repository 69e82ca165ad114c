//go:build linux

package fleettest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// Values and cached values that are overwritten while they are being read, by
// another process, as fast as it can.

func init() { proc.Helper("tearer", tearer) }

const (
	kindTorn = 52
	wideSize = 4096
)

// wide is a value that takes long to copy. All its words are the same.
type wide struct{ Words [wideSize / 8]uint64 }

func (wide) OrbitKind() uint8              { return kindTorn }
func (wide) OrbitGeometry() orbit.Geometry { return orbit.Geometry{Capacity: 2} }

func (w *wide) fill(n uint64) {
	for i := range w.Words {
		w.Words[i] = n
	}
}

func (w *wide) whole() bool {
	for _, n := range w.Words {
		if n != w.Words[0] {
			return false
		}
	}
	return true
}

// tornOptions gives the cache one slot: whatever is written goes over what is
// being read.
var tornOptions = orbit.Options{Size: 2, Rings: map[uint8]orbit.Geometry{orbit.KindCache: {Capacity: 1, PayloadLimit: 16 + wideSize}}}

// tearer stores values, or puts them into the cache, until its input ends.
func tearer(args []string) error {
	read := proc.WatchParent()
	done := make(chan string, 1)
	go func() { done <- read() }()
	f, err := orbit.Join(args[0], tornOptions)
	if err != nil {
		return err
	}
	values, err := orbit.Bind[wide](f)
	if err != nil {
		return err
	}
	cache, err := orbit.OpenCache(f, "")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var v wide
	text := make([]byte, wideSize)
	for n := uint64(1); ; n++ {
		select {
		case <-done:
			return f.Close()
		default:
		}
		if args[1] == "values" {
			v.fill(n)
			_, err = values.Store(v)
		} else {
			for i := 0; i < len(text); i += 8 {
				binary.NativeEndian.PutUint64(text[i:], n)
			}
			err = cache.Put("k", text, 0)
			// A reader needs a moment of peace to take the short way.
			for start := time.Now(); time.Since(start) < time.Duration(n%64)*time.Microsecond; {
			}
		}
		if err != nil && !errors.Is(err, orbit.ErrBusy) {
			return err
		}
	}
}

// besideATearer runs read for a second, in a member with these options, and goes
// on until something was read.
func besideATearer(t *testing.T, what string, unguarded bool, read func(f *orbit.Fleet) (got bool)) {
	t.Helper()
	name := proc.Fleet(t)
	opts := tornOptions
	opts.NoFaultGuard = unguarded
	f := join(t, name, opts)
	p := proc.Start(t, "tearer", name, what)
	p.Line()
	got := 0
	goOn := proc.Chance(long(time.Second), 20*time.Second, func() bool { return got > 0 })
	for !t.Failed() && goOn() {
		for range 100 {
			if read(f) {
				got++
			}
		}
	}
	if got == 0 {
		t.Errorf("no value was ever read: this shows nothing")
	}
	p.Stdin.Close()
	p.Finish()
}

func TestLoadedValuesAreNeverTorn(t *testing.T) {
	for _, unguarded := range []bool{false, true} {
		var values *orbit.Orbital[wide]
		var recent uint64
		besideATearer(t, "values", unguarded, func(f *orbit.Fleet) bool {
			var err error
			if values == nil {
				if values, err = orbit.Bind[wide](f); err != nil {
					t.Fatal(err)
				}
			}
			v, id, err := values.Load()
			if err != nil {
				if !errors.Is(err, orbit.ErrNoFrame) && !errors.Is(err, orbit.ErrBusy) {
					t.Errorf("Load: %v", err)
				}
				return false
			}
			if !v.whole() {
				t.Errorf("unguarded %v: value %v is torn: begins with %d, ends with %d", unguarded, id, v.Words[0], v.Words[len(v.Words)-1])
			}
			if v.Words[0] < recent {
				t.Errorf("unguarded %v: value %d after %d", unguarded, v.Words[0], recent)
			}
			recent = v.Words[0]
			return true
		})
	}
}

func TestCachedValuesAreNeverTorn(t *testing.T) {
	for _, unguarded := range []bool{false, true} {
		var cache *orbit.Cache
		buf := make([]byte, 0, wideSize)
		short := false
		besideATearer(t, "cache", unguarded, func(f *orbit.Fleet) bool {
			var err error
			if cache == nil {
				if cache, err = orbit.OpenCache(f, ""); err != nil {
					t.Fatal(err)
				}
			}
			// The short way to a value, and the long one.
			v, ok, err := cache.AppendGet(buf, "k")
			if short = !short; !short {
				var meta orbit.CacheMeta
				v, meta, err = cache.GetMeta(buf, "k")
				ok = meta.Hit
			}
			if err != nil {
				if !errors.Is(err, orbit.ErrBusy) {
					t.Errorf("AppendGet: %v", err)
				}
				return false
			}
			if ok && (len(v) != wideSize || !bytes.Equal(v[8:], v[:wideSize-8])) {
				t.Errorf("unguarded %v: a value of %d bytes is torn: begins with %x, ends with %x", unguarded, len(v), v[:8], v[len(v)-8:])
			}
			return ok
		})
	}
}
