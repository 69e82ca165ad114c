package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"orbit"
)

// What the commands that look into a fleet have in common.

// observe opens a fleet for reading: it maps read-only and never joins.
func observe(fleet string) (*orbit.Fleet, error) {
	f, err := orbit.Observe(fleet)
	if errors.Is(err, orbit.ErrNotExist) {
		return nil, fmt.Errorf("%w: \"orbit ls\" lists the fleets of this host", err)
	}
	return f, err
}

// what names the use of a ring.
func what(kind uint8) string {
	switch kind {
	case orbit.KindCache:
		return "cache"
	case orbit.KindEvents:
		return "events"
	case orbit.KindHeartbeat:
		return "heartbeat"
	case orbit.KindContest:
		return "contest"
	}
	if kind == 0 || kind > 199 {
		return "reserved"
	}
	return "user"
}

// parseKind reads a kind as people give it: a number, or the name of a
// substrate.
func parseKind(s string) (uint8, error) {
	for _, kind := range []uint8{orbit.KindCache, orbit.KindEvents, orbit.KindHeartbeat, orbit.KindContest} {
		if s == what(kind) {
			return kind, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		return 0, usagef("kind %q: want 1 to 255, cache, events, heartbeat or contest", s)
	}
	return uint8(n), nil
}

// newTable returns a writer that aligns columns separated by tabs. Flush it.
func newTable() *tabwriter.Writer { return tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0) }

// printJSON writes one value as one line, as tools that read streams want it.
func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// bytesText writes a size as people read it, as in "1.5 MiB".
func bytesText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	units, size := "KMGT", float64(n)/(1<<10)
	for size >= 1<<10 && len(units) > 1 {
		units, size = units[1:], size/(1<<10)
	}
	return fmt.Sprintf("%.3g %ciB", size, units[0])
}

// spanText writes a duration with what matters of it, as in "1.5s" or "3h2m".
func spanText(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// nameText shows a name that may be empty, such as a key or a prefix, in a
// table.
func nameText(s string) string {
	if s == "" {
		return `""`
	}
	return bytesAsText([]byte(s))
}

// bytesAsText shows bytes as text if that is what they are, and in hex
// otherwise. What could move a terminal's cursor is never written as it is.
func bytesAsText(b []byte) string {
	if !utf8.Valid(b) {
		return "0x" + hex.EncodeToString(b)
	}
	for _, c := range string(b) {
		if !unicode.IsPrint(c) {
			return strconv.Quote(string(b))
		}
	}
	return string(b)
}
