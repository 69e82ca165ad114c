package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"orbit"
)

// How things are written for people.

// A sheet prints tables one below the other, each aligned by itself.
type sheet struct {
	table *tabwriter.Writer
	*screen
}

func newSheet() *sheet {
	return &sheet{tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0), newScreen(os.Stdout)}
}

// line prints a line, whose cells end with tabs but for the last.
func (s *sheet) line(format string, args ...any) { fmt.Fprintf(s.table, format+"\n", args...) }

// row prints a line of cells.
func (s *sheet) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(s.table, "\t")
		}
		fmt.Fprint(s.table, cell)
	}
	fmt.Fprintln(s.table)
}

func (s *sheet) gap()         { s.table.Flush(); fmt.Println() }
func (s *sheet) close() error { return s.table.Flush() }

// plain writes an error without the name of the library in front.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "orbit: ") }

// within puts a place in front of what an error says.
func within(place string, err error) error { return &placedError{place, err} }

type placedError struct {
	place string
	err   error
}

func (e *placedError) Error() string { return e.place + ": " + plain(e.err) }
func (e *placedError) Unwrap() error { return e.err }

// counted writes a number of things, as in "1 ring" or "2 rings".
func counted[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// someOf joins what there is of something, as far as people want to read it.
func someOf(list []string) string {
	if n := len(list) - 8; n > 0 {
		list = append(list[:8:8], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(list, ", ")
}

// bytesText writes a size, as in "1.5 MiB".
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

// sizeText is bytesText for a size that may be unknown.
func sizeText(size int64) string {
	if size < 0 {
		return "-"
	}
	return bytesText(size)
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

// rateText writes a number per second in few characters.
func rateText(rate float64) string {
	switch {
	case rate >= 999_950:
		return fmt.Sprintf("%.1fM", rate/1e6)
	case rate >= 9_999.5:
		return fmt.Sprintf("%.1fk", rate/1e3)
	case rate >= 99.95:
		return fmt.Sprintf("%.0f", rate)
	}
	return fmt.Sprintf("%.1f", rate)
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

// nameText shows a name that may be empty, such as a key or a prefix.
func nameText(s string) string {
	if s == "" {
		return `""`
	}
	return bytesAsText([]byte(s))
}

// ownerText shows in whose name a claim is, if in any.
func ownerText(owner string) string {
	if owner == "" {
		return "-"
	}
	return bytesAsText([]byte(owner))
}

// tokenText shows the fence token of a claim, which has none while it is made.
func tokenText(token uint64) string {
	if token == 0 {
		return "claiming"
	}
	return strconv.FormatUint(token, 10)
}

// leftText says how long a claim holds unless it is renewed.
func leftText(left time.Duration) string {
	if endless(left) {
		return "until released"
	}
	return spanText(max(left, 0))
}

// pulseText says how a node is by its heartbeat.
func pulseText(p orbit.Pulse) string {
	if p.State == orbit.Missing {
		return p.State.String()
	}
	return fmt.Sprintf("%v, %s ago", p.State, spanText(p.Age))
}

// expiryText says when a value expires, or that it has.
func expiryText(expiry orbit.Stamp) string {
	switch age := expiry.Age(); {
	case expiry == 0:
		return "never"
	case expiry < 0: // before the clock began
		return "at once"
	case age >= 0:
		return spanText(age) + " ago"
	default:
		return "in " + spanText(-age)
	}
}

// subjectText names a subject.
func subjectText(h *orbit.Holder) string { return fmt.Sprintf("%d %q", h.Kind, h.Label) }
