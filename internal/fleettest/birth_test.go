//go:build linux

package fleettest

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"testing"

	"orbit"
	"orbit/internal/proc"
)

func init() { proc.Helper("strict", strict) }

// strict begins a fleet under a umask that takes every permission away.
func strict(args []string) error {
	read := proc.WatchParent()
	syscall.Umask(0o777)
	f, err := orbit.Join(args[0], one(1, 8, 8))
	if err != nil {
		return err
	}
	if _, err := f.Ring(1); err != nil {
		return err
	}
	fmt.Println("ready")
	read()
	return f.Close()
}

// TestStrictUmaskDoesNotSpoilASegment: what a process takes away from its
// files it does not take away from its siblings.
func TestStrictUmaskDoesNotSpoilASegment(t *testing.T) {
	name := proc.Fleet(t)
	p := proc.Start(t, "strict", name)
	p.Line()
	for _, kind := range []int{0, 1} {
		st, err := os.Stat(proc.Segment(name, kind))
		if err != nil || st.Mode() != 0o600 {
			t.Fatalf("segment of kind %d: mode %v, %v; want %v", kind, st.Mode(), err, os.FileMode(0o600))
		}
	}
	f := join(t, name, one(1, 8, 8))
	publish(t, ring(t, f, 1), 1, 8)
	p.Stdin.Close()
	p.Finish()
	f.Close()
	proc.RemoveFleet(t, name)
}

// TestSegmentAppearsWhole looks at the last slot of a large ring as soon as the
// ring has a name.
func TestSegmentAppearsWhole(t *testing.T) {
	const capacity = 1 << 17
	for range 20 {
		name := proc.Fleet(t)
		path := proc.Segment(name, 1)
		f := join(t, name, one(1, capacity, 8))
		done := make(chan error, 1)
		go func() {
			_, err := f.Ring(1)
			done <- err
		}()
		var file *os.File
		for file == nil {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				done <- nil
			default:
			}
			file, _ = os.Open(path)
		}
		var last [8]byte
		_, err := file.ReadAt(last[:], pageSize+(capacity-1)*64)
		file.Close()
		if got, want := binary.NativeEndian.Uint64(last[:]), state(1<<40-1, 0, phaseSkipped); got != want || err != nil {
			t.Fatalf("a new ring has a name and its last slot is in state %#x, %v; want %#x", got, err, want)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f.Close()
		proc.RemoveFleet(t, name)
	}
}
