package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"orbit"
)

var clearFlags struct {
	kind uint8 // 0 for the whole fleet
	dry  bool
}

var clearCommand = &command{
	name:     "clear",
	operands: "FLEET",
	short:    "remove a fleet that nobody is in, or empty one of its rings",
	long: `Removes the segments of FLEET from shared memory. While a member lives it
refuses, and says who: clearing under a live fleet would split it in two. What
is no plain file of this user alone stays where it is, with the reason.

With -kind it empties one ring of a fleet that nobody is in, and leaves its
segment and all other rings: it joins as the only member, with the geometry
there is, makes all frames unreadable, and leaves. Heads go on from where they
were, so no id comes twice. What is kept beside the frames stays: the newest
beat of every node, and the fence tokens of the contest, which must only grow.
A process that joins in the same moment may lose its first frames of that ring.

With -dry-run it only says what would go, and ends as it would without: with
exit code 1 if it would refuse, or something would stay.

  orbit clear -dry-run web
  orbit clear -kind cache web
`,
	flags: func(f *flag.FlagSet) {
		kindFlag(f, &clearFlags.kind, "empty only the ring of this `kind`")
		f.BoolVar(&clearFlags.dry, "dry-run", false, "say what would go, and change nothing")
	},
	run: runClear,
}

func runClear(args []string) error {
	v, err := lookAt(args[0])
	if err != nil {
		return err
	}
	defer v.close()
	if err := inUse(v.name, v.members); err != nil {
		return err
	}
	switch {
	case clearFlags.kind != 0:
		return clearRing(v, clearFlags.kind)
	case clearFlags.dry:
		return sayWhatGoes(v)
	}
	return clearFleet(v)
}

// inUse refuses to clear under live members, and names them.
func inUse(fleet string, members []orbit.Member) error {
	if len(members) == 0 {
		return nil
	}
	var who []string
	for _, m := range members {
		who = append(who, fmt.Sprintf("node %d (pid %d)", m.Node, m.PID))
	}
	return fmt.Errorf("%w: %q has %s: %s", orbit.ErrInUse, fleet, counted(len(who), "live member"), strings.Join(who, ", "))
}

func clearFleet(v *view) error {
	before := segments(v.name)
	if err := orbit.Remove(v.name); err != nil {
		return err
	}
	if len(before) == 0 { // where segments cannot be listed
		fmt.Printf("removed fleet %q\n", v.name)
		return nil
	}
	fmt.Printf("removed fleet %q: %s, %s\n", v.name, counted(len(before), "segment"), bytesText(v.size()))
	return nil
}

// sayWhatGoes lists the segments, and fails if some of them would stay.
func sayWhatGoes(v *view) error {
	list := segments(v.name)
	if v.fleet == nil && len(list) > 0 && list[0].kind == 0 {
		if list[0].stays != "" {
			return v.err // without its roster nobody can tell whether a fleet lives
		}
		fmt.Printf("would remove fleet %q, if its roster ever was one: %s\n", v.name, plain(v.err))
	} else {
		fmt.Printf("would remove fleet %q\n", v.name)
	}
	var failed error
	table := newSheet()
	for _, s := range list {
		use, stays := useOf(s.kind), ""
		if s.kind == 0 {
			use = "roster"
		}
		if s.stays != "" {
			stays = "  stays: " + s.stays
			failed = exitError(exitFailed)
		}
		table.line("  %d\t%s\t%s\t%s%s", s.kind, use, bytesText(s.size), segmentPath(v.name, s.kind), stays)
	}
	return errors.Join(table.close(), failed)
}

// clearRing empties a ring of a fleet that was seen without members.
func clearRing(v *view, kind uint8) error {
	r, err := v.ring(kind)
	if err != nil {
		return err
	}
	stats, err := r.ring.Stats()
	if err != nil {
		return err
	}
	about := fmt.Sprintf("ring %d of fleet %q (%s): %s", kind, v.name, useOf(kind), counted(stats.Frames, "frame"))
	if clearFlags.dry {
		fmt.Println("would empty " + about)
		return nil
	}
	if err := emptyRing(v.name, kind); err != nil {
		return err
	}
	fmt.Println("emptied " + about)
	return nil
}

// emptyRing joins a fleet that has a ring of this kind, and makes what is in it
// unreadable if nobody else is a member.
func emptyRing(fleet string, kind uint8) error {
	makesNone := func(*orbit.Fleet) error {
		return within(fmt.Sprintf("ring %d of fleet %q", kind, fleet), orbit.ErrNotExist)
	}
	return visit{fleet, kind, false, makesNone}.do(func(f *orbit.Fleet) error {
		members, err := f.Members()
		if err != nil {
			return err
		}
		others := slices.DeleteFunc(members, func(m orbit.Member) bool { return m.Node == f.Node() })
		if err := inUse(fleet, others); err != nil {
			return err
		}
		ring, err := openAsUsed(f, kind)
		if err != nil {
			return err
		}
		return ring.Reset()
	})
}

// openAsUsed opens a ring as those do who use it.
func openAsUsed(f *orbit.Fleet, kind uint8) (*orbit.Ring, error) {
	switch kind {
	case orbit.KindCache:
		return ringUnder(orbit.OpenCache(f, ""))
	case orbit.KindEvents:
		return ringUnder(orbit.Events(f))
	case orbit.KindHeartbeat:
		return ringUnder(orbit.Heartbeats(f))
	case orbit.KindContest:
		return ringUnder(orbit.OpenContest(f))
	}
	return f.Ring(kind)
}

func ringUnder[S interface{ Ring() *orbit.Ring }](substrate S, err error) (*orbit.Ring, error) {
	if err != nil {
		return nil, err
	}
	return substrate.Ring(), nil
}
