package main

import (
	"errors"

	"orbit"
)

// An attachment observes whatever fleet has a name. A fleet can be removed, and
// another one can begin under its name; the mapping of an observer then stays
// what it was, and so the attachment looks now and then.
type attachment struct {
	name  string
	fleet *orbit.Fleet // nil while no fleet has the name

	// leave, if set, is called before the view of a fleet that is over is
	// closed: what was published last can still be read in it.
	leave func()
}

// A turn is what became of the fleet between two looks.
type turn int

const (
	stays  turn = iota
	begins      // a fleet has the name that had not before
	ends        // no fleet has the name any more
)

// look attaches to the fleet that has the name now.
func (a *attachment) look() (turn, error) {
	now, err := orbit.Observe(a.name)
	switch {
	case errors.Is(err, orbit.ErrNotExist):
		if a.fleet == nil {
			return stays, nil
		}
		a.part()
		return ends, nil
	case err != nil:
		return stays, err
	case a.fleet != nil && a.fleet.Incarnation() == now.Incarnation():
		now.Close()
		return stays, nil
	}
	a.part()
	a.fleet = now
	return begins, nil
}

// part closes the view of a fleet that is over.
func (a *attachment) part() {
	if a.fleet != nil && a.leave != nil {
		a.leave()
	}
	a.close()
}

func (a *attachment) close() {
	if a.fleet != nil {
		a.fleet.Close()
		a.fleet = nil
	}
}
