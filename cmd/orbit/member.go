package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"orbit"
)

// What the commands that write into a fleet have in common: they are members
// of it for as long as they take.

// A visit is a membership that changes nothing but what it is for.
type visit struct {
	fleet  string
	kind   uint8 // of the only ring it writes into
	create bool  // whether the fleet may begin with it
	// rehearse does the same in a fleet of this process's own. It is asked
	// before a ring is made: what must fail should not leave one behind.
	rehearse func(*orbit.Fleet) error
}

// topNode is the first node id that a visit tries. Siblings that choose their
// ids choose small ones, and must find them free.
const topNode = math.MaxUint16

// do joins the fleet, does what there is to do, and leaves.
func (v visit) do(act func(*orbit.Fleet) error) error {
	for {
		rings, err := v.geometry()
		if err != nil {
			return err
		}
		err = v.once(orbit.Options{Size: 1, Rings: rings, MustExist: !v.create}, act)
		if rings == nil && errors.Is(err, orbit.ErrGeometry) {
			continue // a sibling was first to make the ring, in another shape
		}
		return err
	}
}

// geometry returns the shape the ring has in the fleet, as options want it, or
// nil if the visit will make the ring.
func (v visit) geometry() (map[uint8]orbit.Geometry, error) {
	f, err := observe(v.fleet)
	switch {
	case err == nil:
		defer f.Close()
		ring, err := f.Ring(v.kind)
		if err == nil {
			return map[uint8]orbit.Geometry{v.kind: ring.Geometry()}, nil
		}
		if !errors.Is(err, orbit.ErrNotExist) {
			return nil, err
		}
	case !errors.Is(err, orbit.ErrNotExist):
		return nil, err
	case !v.create:
		return nil, fmt.Errorf("%w, and -create makes one", err)
	}
	local, err := orbit.Local(v.fleet, orbit.Options{Size: 1})
	if err != nil {
		return nil, err
	}
	defer local.Close()
	return nil, v.rehearse(local)
}

func (v visit) once(opts orbit.Options, act func(*orbit.Fleet) error) error {
	f, err := joinAtTop(v.fleet, opts)
	if err != nil {
		return err
	}
	defer f.Close()
	return act(f)
}

// joinAtTop joins with the highest node id that is free.
func joinAtTop(fleet string, opts orbit.Options) (f *orbit.Fleet, err error) {
	for node := topNode; node > topNode-orbit.MaxMembers; node-- {
		opts.Node = uint16(node)
		if f, err = orbit.Join(fleet, opts); !errors.Is(err, orbit.ErrNode) {
			break
		}
	}
	return f, err
}

// payload returns an argument's bytes, or those of standard input for "-".
func payload(arg string) ([]byte, error) {
	if arg != "-" {
		return []byte(arg), nil
	}
	b, err := io.ReadAll(io.LimitReader(os.Stdin, orbit.MaxPayload+1))
	if err == nil && len(b) > orbit.MaxPayload {
		err = fmt.Errorf("standard input has more than %d bytes, the largest limit a ring can have", orbit.MaxPayload)
	}
	return b, err
}
