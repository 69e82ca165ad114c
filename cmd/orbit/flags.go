package main

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"

	"orbit"
)

// Flags that more than one command has.

func jsonFlag(f *flag.FlagSet, on *bool) {
	f.BoolVar(on, "json", false, "print JSON, one object a line")
}

func prefixFlag(f *flag.FlagSet, prefix *string) {
	f.StringVar(prefix, "prefix", "", "the `prefix` of the key space")
}

func createFlag(f *flag.FlagSet, create *bool) {
	f.BoolVar(create, "create", false, "make the fleet if it does not exist; it stays in shared memory afterwards")
}

func freshFlag(f *flag.FlagSet, fresh *time.Duration) {
	spanFlag(f, fresh, "fresh", 3*orbit.DefaultBeat, 0, "the `duration` for which a node is fresh after a beat")
}

func kindFlag(f *flag.FlagSet, kind *uint8, usage string) {
	f.Func("kind", usage+":\na number, cache, events, heartbeat or contest", func(s string) (err error) {
		*kind, err = parseKind(s)
		return err
	})
}

// parseKind reads a kind as people give it: a number, or the name of a
// substrate.
func parseKind(s string) (uint8, error) {
	for _, kind := range []uint8{orbit.KindCache, orbit.KindEvents, orbit.KindHeartbeat, orbit.KindContest} {
		if s == useOf(kind) {
			return kind, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		return 0, errors.New("want 1 to 255, cache, events, heartbeat or contest")
	}
	return uint8(n), nil
}

// spanFlag is a flag for a time that is not shorter than the least.
func spanFlag(f *flag.FlagSet, to *time.Duration, name string, value, least time.Duration, usage string) {
	*to = value
	f.Var(span{to, least}, name, usage)
}

type span struct {
	to    *time.Duration
	least time.Duration
}

func (s span) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("want a duration, such as 1.5s or 2h")
	}
	if d < s.least {
		return fmt.Errorf("want at least %v", s.least)
	}
	*s.to = d
	return nil
}

// String is empty for no time, which help then does not show as a default.
func (s span) String() string {
	if s.to == nil || *s.to == 0 {
		return ""
	}
	return s.to.String()
}
