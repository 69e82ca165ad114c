package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"orbit"
)

// roleEnv makes a process an actor: "reader FLEET" or "writer FLEET".
const roleEnv = "ORBIT_SOAK_ROLE"

var roles = [...]string{"reader", "writer"}

// A report is what an actor has to say at its end.
type report struct {
	published, delivered     uint64
	overwritten, holes, lost uint64
	torn, unaccounted        uint64
}

// play is the life of an actor: it acts until its standard input ends.
func play(roleAndFleet string) (code int) {
	role, name, _ := strings.Cut(roleAndFleet, " ")
	var done atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		done.Store(true)
	}()
	f, err := orbit.Join(name, options())
	if err == nil {
		defer f.Close()
		var r report
		if role == roles[0] {
			err = r.read(f, &done)
		} else {
			err = r.write(f, &done)
		}
		fmt.Println(r.published, r.delivered, r.overwritten, r.holes, r.lost, r.torn, r.unaccounted)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	return 0
}

func open(f *orbit.Fleet) (all []*orbit.Ring, err error) {
	for kind := range rings {
		r, err := f.Ring(kind)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// write publishes payloads of all sizes, one by one, in batches, and mints.
func (w *report) write(f *orbit.Fleet, done *atomic.Bool) error {
	all, err := open(f)
	if err != nil {
		return err
	}
	var buf []byte
	batch := make([]orbit.Frame, 8)
	for !done.Load() {
		r := all[rand.IntN(len(all))]
		n := rand.IntN(r.Geometry().PayloadLimit + 1)
		switch rand.IntN(64) {
		case 0:
			_, err = r.Mint()
		case 1:
			for i := range batch {
				batch[i].Payload = selfVerifying(batch[i].Payload[:0], rand.Uint64(), n)
			}
			n, e := r.PublishBatch(batch)
			w.published += uint64(n)
			err = e
		default:
			buf = selfVerifying(buf[:0], rand.Uint64(), n)
			if _, err = r.Publish(byte(n), uint64(n), buf); err == nil {
				w.published++
			}
		}
		// Two slots can both be in the hands of stopped writers.
		if err != nil && !errors.Is(err, orbit.ErrBusy) {
			return err
		}
	}
	return nil
}

// read follows every ring from its oldest frame to the end, looks at newest
// frames on the way, and adds up what the cursors say.
func (w *report) read(f *orbit.Fleet, done *atomic.Bool) error {
	all, err := open(f)
	if err != nil {
		return err
	}
	cursors := make([]*orbit.Cursor, len(all))
	starts := make([]uint64, len(all))
	for i, r := range all {
		cursors[i] = r.Oldest()
		cursors[i].Grace = 200 * time.Millisecond
		starts[i] = cursors[i].Position()
	}
	var buf []byte
	for end := false; !end; {
		end = done.Load()
		for i, c := range cursors {
			for n := 0; n < 256; n++ {
				frame, _, err := c.Next(buf)
				if errors.Is(err, orbit.ErrNoFrame) {
					break
				}
				if err != nil {
					return err
				}
				buf = frame.Payload[:0]
				w.check(frame)
			}
			if frame, err := all[i].Newest(buf); err == nil {
				w.check(frame)
			} else if !errors.Is(err, orbit.ErrNoFrame) && !errors.Is(err, orbit.ErrBusy) {
				return err
			}
		}
	}
	for i, c := range cursors {
		t := c.Tally()
		w.delivered += t.Delivered
		w.overwritten += t.Overwritten
		w.holes += t.Holes
		w.lost += t.Lost
		if t.Delivered+t.Total() != c.Position()-starts[i] {
			w.unaccounted++
		}
	}
	return nil
}

func (w *report) check(f orbit.Frame) {
	if !verify(f.Payload) {
		w.torn++
		fmt.Fprintf(os.Stderr, "torn frame %v of %d bytes\n", f.ID, len(f.Payload))
	}
}

// selfVerifying appends n bytes of which each follows from the first eight.
func selfVerifying(b []byte, tag uint64, n int) []byte {
	start := len(b)
	for x := tag; len(b) < start+n; x = x*6364136223846793005 + 1442695040888963407 {
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
