//go:build linux

package docs

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"orbit"
	"orbit/internal/proc"
)

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

type other struct{ A uint64 }

func (other) OrbitKind() uint8 { return 7 }

type plain struct{}

func (plain) OrbitKind() uint8 { return 8 }

// TestGuideGivesTheSizesOfSegments compares the table with what is made.
func TestGuideGivesTheSizesOfSegments(t *testing.T) {
	rows := regexp.MustCompile(`(?m)^\| ([^|]+) \| [^|]+ \| ([\d.]+ [KM]iB) \|$`).FindAllStringSubmatch(read(t, "../../docs/GUIDE.md"), -1)
	name := proc.Fleet(t)
	f, err := orbit.Join(name, orbit.Options{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer orbit.Remove(name)
	defer f.Close()
	open := func(kind uint8, err error) uint8 {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return kind
	}
	_, typedErr := orbit.Bind[typed](f)
	_, ringErr := f.Ring(9)
	_, cacheErr := orbit.OpenCache(f, "")
	_, eventsErr := orbit.Events(f)
	_, heartErr := orbit.Heartbeats(f)
	_, contestErr := orbit.OpenContest(f)
	kinds := map[string]uint8{
		"the roster, one in each fleet": 0,
		"a ring of your own":            open(9, ringErr),
		"an `Orbital` of 16 bytes":      open(7, typedErr),
		"cache":                         open(orbit.KindCache, cacheErr),
		"events":                        open(orbit.KindEvents, eventsErr),
		"heartbeat":                     open(orbit.KindHeartbeat, heartErr),
		"contest":                       open(orbit.KindContest, contestErr),
	}
	if len(rows) != len(kinds) {
		t.Errorf("the guide has %d sizes, want %d", len(rows), len(kinds))
	}
	for _, row := range rows {
		kind, ok := kinds[row[1]]
		if !ok {
			t.Errorf("the guide has a size of %q", row[1])
			continue
		}
		info, err := os.Stat(proc.Segment(name, int(kind)))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%.0f KiB", float64(info.Size())/(1<<10))
		if info.Size() >= 1<<20 {
			want = fmt.Sprintf("%.1f MiB", float64(info.Size())/(1<<20))
		}
		if row[2] != want {
			t.Errorf("%s: the guide says %s, its segment has %s", row[1], row[2], want)
		}
	}
}

// TestGuideQuotesErrorsAsTheyAre makes the errors that the guide quotes, as far
// as one process can: each quote, but for its numbers and names, must be found
// in one of them.
func TestGuideQuotesErrorsAsTheyAre(t *testing.T) {
	name := proc.Fleet(t)
	opts := orbit.Options{Size: 2}
	f, err := orbit.Join(name, orbit.Options{Size: 2, Node: 3})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	hear := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("no error")
			return
		}
		said = append(said, err.Error())
	}
	_, err = orbit.Join(name, orbit.Options{Size: 2, Node: 3})
	hear(err)
	hear(orbit.Remove(name))
	_, err = f.Ring(orbit.KindCache)
	hear(err)
	ring, err := orbit.RingOf[plain](f)
	if err != nil {
		t.Fatal(err)
	}
	_ = ring
	opts.Rings = map[uint8]orbit.Geometry{8: {Capacity: 512, PayloadLimit: 256}}
	g, err := orbit.Join(name, opts)
	if err != nil {
		t.Fatal(err)
	}
	_, err = orbit.RingOf[plain](g)
	hear(err)
	if _, err := orbit.RingOf[typed](f); err != nil {
		t.Fatal(err)
	}
	_, err = orbit.RingOf[other](f)
	hear(err)
	_, err = orbit.RingOf[other](g)
	hear(err)
	ninth := proc.Segment(name, 9)
	if err := os.WriteFile(ninth, []byte("not a segment"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = f.Ring(9)
	hear(err)
	os.Remove(ninth)
	if _, err := f.Ring(10); err != nil {
		t.Fatal(err)
	}
	os.Remove(proc.Segment(name, 10))
	_, err = g.Ring(10)
	hear(err)
	os.Remove(proc.Segment(name, 0))
	h, err := orbit.Join(name, orbit.Options{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Ring(7)
	hear(err)
	for _, f := range []*orbit.Fleet{f, g, h} {
		f.Close()
	}
	if err := orbit.Remove(name); err != nil {
		t.Error(err)
	}

	elsewhere := []string{ // by tests of full memory, many members, other users and systems
		"/dev/shm has no room for", "owned by uid", "full: 1024 live members", "need Linux or macOS",
	}
	vary := regexp.MustCompile(`\d+|main\.|docs\.|(Load|Stat|plain|typed|other)`)
	heard := vary.ReplaceAllString(strings.Join(said, "\n"), "")
	quotes := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(read(t, "../../docs/GUIDE.md"), -1)
	if len(quotes) < 10 {
		t.Errorf("the guide quotes %d errors", len(quotes))
	}
next:
	for _, q := range quotes {
		for _, e := range elsewhere {
			if strings.Contains(q[1], e) {
				continue next
			}
		}
		if !strings.Contains(heard, vary.ReplaceAllString(q[1], "")) {
			t.Errorf("the guide quotes %q, which no error says:\n%s", q[1], strings.Join(said, "\n"))
		}
	}
	if _, err := orbit.Observe(name); !errors.Is(err, orbit.ErrNotExist) {
		t.Errorf("Observe after Remove: %v", err)
	}
}
