package main

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"orbit"
)

// exampleTop is a snapshot with something of everything.
func exampleTop() *topSnapshot {
	return &topSnapshot{
		fleet:  "web",
		at:     time.Date(2026, 11, 24, 15, 4, 5, 0, time.UTC),
		strays: 1,
		rings: []topRing{
			{kind: 7, geometry: orbit.Geometry{Capacity: 1024, PayloadLimit: 40}, head: 1234, rate: 15, history: []float64{0, 1, 2, 4, 8, 16, 12}},
			{kind: 9, trouble: `ring 9 of fleet "web": truncated`},
			{kind: orbit.KindEvents, geometry: orbit.Geometry{Capacity: 4096, PayloadLimit: 512}, head: 99_999_999, rate: 1_234_567, history: []float64{0, 0}},
		},
		members: []topMember{
			{node: 3, pid: 100, age: 90 * time.Second, pulse: orbit.Pulse{State: orbit.Fresh, Age: 20 * time.Millisecond}},
			{node: 1, pid: 300, age: time.Second, pulse: orbit.Pulse{State: orbit.Stale, Age: 4100 * time.Millisecond}},
			{node: 2, pid: 200, age: 3 * time.Hour, pulse: orbit.Pulse{State: orbit.Missing}},
		},
		holders: []orbit.Holder{
			{Kind: 8, Label: "\x1b", Owner: "\x1b[2J", Node: 1, PID: 300, Left: math.MaxInt64},
			{Kind: 9, Label: "b", Owner: "worker 1", Node: 3, PID: 100, Token: 17, Left: 1500 * time.Millisecond},
		},
		cache:  &topCache{rate: 2, capacity: 4096, prefixes: []topPrefix{{"demo", 1, 0}}},
		events: []string{"one", "-- 12 overwritten --", "two", "three"},
	}
}

func topText(lines []topLine) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line.text + "\n")
	}
	return b.String()
}

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if want = strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestTopShowsAllOfASnapshotWhereThereIsRoom(t *testing.T) {
	v := topView{}
	wantText(t, topText(v.lines(exampleTop())), `
fleet "web"   3 members, 1 node gone   15:04:05

  ring  use          slots   payload         head frames/s  lately
     7  user          1024      40 B         1234     15.0  ▁▂▂▃▅█▇
     9  user      ring 9 of fleet "web": truncated
   220  events        4096     512 B     99999999     1.2M  ▁▁

  node       pid      joined  heartbeat
     1       300      1s ago  stale, 4.1s ago
     2       200    3h0m ago  missing
     3       100   1m30s ago  fresh, 20ms ago

  node       pid    token           left  owner                subject
     1       300 claiming until released  "\x1b[2J"            8 "\x1b"
     3       100       17           1.5s  worker 1             9 "b"

      cache
      2.0 writes per s: at that pace a value is pushed out after 34m8s
      prefix "demo": 1 key, 0 pushed out

      events
      one
      -- 12 overwritten --
      two
      three
`)
}

func TestTopFitsIntoASmallTerminal(t *testing.T) {
	v := topView{width: 60, height: 17, help: true, order: byAge, paused: true}
	wantText(t, topText(v.lines(exampleTop())), `
fleet "web"   3 members, 1 node gone   15:04:05   paused
  ring  use          slots   payload         head frames/s …
     7  user          1024      40 B         1234     15.0
      … 2 more
  node       pid      joined  heartbeat
     1       300      1s ago  stale, 4.1s ago
      … 2 more
  node       pid    token           left  owner            …
     1       300 claiming until released  "\x1b[2J"        …
     3       100       17           1.5s  worker 1         …
      cache
      2.0 writes per s: at that pace a value is pushed out …
      prefix "demo": 1 key, 0 pushed out
      events
      two
      three
q quit   s sort by node   p pause   c clear   1-5 hide or s…
`)
}

func TestTopHidesWhatItIsToldTo(t *testing.T) {
	s := exampleTop()
	s.trouble = "No member lives."
	s.members, s.events = nil, nil
	v := topView{width: 80, height: 12, help: true, hidden: [topSections]bool{0: true, 2: true, 3: true}}
	wantText(t, topText(v.lines(s)), `
fleet "web"   0 members, 1 node gone   15:04:05
No member lives.

  node       pid      joined  heartbeat
      none

      events
      none



q quit   s sort by pid   p pause   c clear   1-5 hide or show a part
`)
}

func TestTopNeverDrawsBeyondTheTerminal(t *testing.T) {
	s := exampleTop()
	for i := range 100 {
		s.events = append(s.events, fmt.Sprint("event ", i))
		s.members = append(s.members, topMember{node: uint16(i), pid: i})
		s.rings[0].history = append(s.rings[0].history, float64(i))
	}
	for width := 1; width < 130; width += 12 {
		for height := 1; height < 60; height++ {
			v := topView{width: width, height: height, help: true}
			lines := v.lines(s)
			if len(lines) > height || height > 1 && len(lines) != height {
				t.Fatalf("%d rows: got %d lines", height, len(lines))
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line.text); n > width {
					t.Fatalf("%d columns: got a line of %d: %q", width, n, line.text)
				}
			}
			if newest := lines[max(height-2, 0)].text; height > 24 && width > 20 && !strings.HasSuffix(newest, "event 99") {
				t.Fatalf("%d rows: got %q above the help, want the newest event", height, newest)
			}
		}
	}
}

func TestTopStylesWhatIsWrong(t *testing.T) {
	s := exampleTop()
	s.trouble = "trouble"
	v := topView{}
	var marked []string
	for _, line := range v.lines(s) {
		if line.style == red {
			marked = append(marked, strings.Fields(line.text)[0])
		}
	}
	if want := []string{"trouble", "9", "1", "--"}; !slices.Equal(marked, want) {
		t.Errorf("got red lines %q, want %q", marked, want)
	}
}

func TestTopSortsMembers(t *testing.T) {
	for order, want := range map[topOrder][]uint16{byNode: {1, 2, 3}, byPID: {3, 2, 1}, byAge: {1, 3, 2}} {
		members := exampleTop().members
		order.sort(members)
		var got []uint16
		for _, m := range members {
			got = append(got, m.node)
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %v: got nodes %d, want %d", order, got, want)
		}
	}
}

func TestRoomIsSharedFairly(t *testing.T) {
	for _, c := range []struct {
		room        int
		wants, want []int
	}{
		{100, []int{5, 3}, []int{5, 3}},
		{10, []int{3, 100, 4}, []int{3, 4, 3}},
		{10, []int{100, 2, 100}, []int{4, 2, 4}},
		{9, []int{100, 2, 100}, []int{3, 2, 4}},
		{0, []int{3, 2}, []int{0, 0}},
		{-5, []int{3, 2}, []int{0, 0}},
		{5, nil, []int{}},
	} {
		if got := share(c.room, c.wants); !slices.Equal(got, c.want) {
			t.Errorf("%d for %d: got %d, want %d", c.room, c.wants, got, c.want)
		}
	}
}

func TestSparklinesShowTheLargestAsTheHighest(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   string
	}{
		{nil, ""},
		{[]float64{0, 0}, "▁▁"},
		{[]float64{5}, "█"},
		{[]float64{0, 1e-9, 7}, "▁▂█"},
		{[]float64{0, 1, 2, 3, 4, 5, 6, 7}, "▁▃▄▅▆▇██"},
	} {
		if got := sparkline(c.values); got != c.want {
			t.Errorf("%v: got %q, want %q", c.values, got, c.want)
		}
	}
	for rate, want := range map[float64]string{0: "0.0", 99.94: "99.9", 99.96: "100", 9999: "9999", 9999.9: "10.0k", 999_900: "999.9k", 2.5e6: "2.5M", 1e10: "10000.0M"} {
		if got := rateText(rate); got != want {
			t.Errorf("%v: got %q, want %q", rate, got, want)
		}
	}
}

func TestRatesAreOverTheLastSecond(t *testing.T) {
	at := func(ms int, head uint64) headSample {
		return headSample{orbit.Stamp(time.Duration(ms) * time.Millisecond), head}
	}
	for _, c := range []struct {
		samples []headSample
		rates   []float64
		lately  float64
	}{
		{[]headSample{at(0, 5)}, nil, 0},
		{[]headSample{at(0, 5), at(500, 10)}, []float64{10}, 10},
		{[]headSample{at(0, 0), at(500, 100), at(1000, 100), at(1500, 110)}, []float64{200, 0, 20}, 10},
		{[]headSample{at(0, 0), at(5000, 10), at(10000, 10)}, []float64{2, 0}, 0},
		{[]headSample{at(0, math.MaxUint64), at(1000, 1)}, []float64{2}, 2}, // the head wrapped
	} {
		if got := rates(c.samples); !slices.Equal(got, c.rates) {
			t.Errorf("%v: got rates %v, want %v", c.samples, got, c.rates)
		}
		if got := lately(c.samples); got != c.lately {
			t.Errorf("%v: got %v lately, want %v", c.samples, got, c.lately)
		}
	}
}

func TestTopReadsWhatTheFleetDoes(t *testing.T) {
	f := joinFleet(t, nil)
	r := newTopReader(f.Name(), time.Minute)
	must(0, r.open())(t)
	defer r.place.close()
	if s := r.read(); s.trouble != "" || len(s.members) != 1 || s.members[0].pulse.State != orbit.Missing || s.cache != nil || len(s.rings)+len(s.holders)+len(s.events) > 0 {
		t.Errorf("of an empty fleet, got %+v", s)
	}
	ring := must(f.Ring(12))(t)
	cache := must(orbit.OpenCache(f, "p"))(t)
	contest := must(orbit.OpenContest(f))(t)
	heart := must(orbit.Heartbeats(f))(t)
	bus := openBus(t, f)
	r.read()
	for range 100 {
		must(ring.Publish(0, 0, nil))(t)
	}
	must(orbit.Claim[Job](contest, "nightly", "worker", time.Hour))(t)
	must(0, cache.Put("k", []byte("v"), 0))(t)
	must(0, heart.Beat())(t)
	publish(t, bus, "topic", "payload")
	s := r.read()
	heads := map[uint8]uint64{}
	for _, ring := range s.rings {
		heads[ring.kind] = ring.head
		if (ring.rate > 0) != (ring.head > 0) || len(ring.history) != 1 {
			t.Errorf("got head %d and rate %v of ring %d after %d samples", ring.head, ring.rate, ring.kind, len(ring.history))
		}
	}
	if want := map[uint8]uint64{12: 100, orbit.KindCache: 1, orbit.KindEvents: 1, orbit.KindHeartbeat: 1, orbit.KindContest: 1}; fmt.Sprint(heads) != fmt.Sprint(want) {
		t.Errorf("got heads %v, want %v", heads, want)
	}
	if m := s.members[0]; m.node != f.Node() || m.pulse.State != orbit.Fresh {
		t.Errorf("got member %+v, want a fresh node %d", m, f.Node())
	}
	if len(s.holders) != 1 || s.holders[0].Label != "nightly" || s.holders[0].Token == 0 {
		t.Errorf("got holders %+v", s.holders)
	}
	if s.cache == nil || !slices.Equal(s.cache.prefixes, []topPrefix{{"p", 1, 0}}) || s.cache.rate == 0 {
		t.Errorf("got cache %+v", s.cache)
	}
	if len(s.events) != 1 || !strings.HasSuffix(s.events[0], "topic                payload") {
		t.Errorf("got events %q", s.events)
	}
	r.clear()
	if s := r.read(); len(s.events) != 0 || len(s.rings[0].history) != 1 {
		t.Errorf("cleared, got events %q and %d samples", s.events, len(s.rings[0].history))
	}
}

func TestTopWatchesTheCacheOfAllPrefixes(t *testing.T) {
	f := joinFleet(t, map[uint8]orbit.Geometry{orbit.KindCache: {Capacity: 8, PayloadLimit: 64}})
	r := newTopReader(f.Name(), time.Minute)
	must(0, r.open())(t)
	defer r.place.close()
	put := func(prefix, key string) {
		t.Helper()
		cache := must(orbit.OpenCache(f, prefix))(t)
		must(0, cache.Put(key, nil, 0))(t)
	}
	want := func(prefixes ...topPrefix) {
		t.Helper()
		if s := r.read(); s.cache == nil || !slices.Equal(s.cache.prefixes, prefixes) {
			t.Errorf("got cache %+v, want %+v", s.cache, prefixes)
		}
	}
	put("b", "early")
	put("", "early")
	put("", "late")
	want(topPrefix{"", 2, 0}, topPrefix{"b", 1, 0})
	for i := range 6 {
		put("", fmt.Sprint(i))
	}
	want(topPrefix{"", 8, 0}) // and nothing of the other is left
	put("", "once more")
	want(topPrefix{"", 8, 1})
}

func TestTopWatchesNoMorePrefixesThanItHasMemoryFor(t *testing.T) {
	f := joinFleet(t, map[uint8]orbit.Geometry{orbit.KindCache: {Capacity: watchedSlots / 2, PayloadLimit: 32}})
	for _, prefix := range []string{"c", "b", "d", "a"} {
		cache := must(orbit.OpenCache(f, prefix))(t)
		must(0, cache.Put("k", nil, 0))(t)
	}
	r := newTopReader(f.Name(), time.Minute)
	must(0, r.open())(t)
	defer r.place.close()
	s := r.read()
	v := topView{}
	if text := topText(v.lines(s)); len(r.caches) != 2 || !strings.Contains(text, "\"a\": 1 key, 0 pushed out\n      prefix \"b\": 1 key, 0 pushed out\n      and 2 more prefixes\n") {
		t.Errorf("got %d handles and\n%s", len(r.caches), text)
	}
}

func TestTopFollowsTheNameToTheNextFleet(t *testing.T) {
	f := joinFleet(t, nil)
	r := newTopReader(f.Name(), time.Minute)
	must(0, r.open())(t)
	defer r.place.close()
	publish(t, openBus(t, f), "first", "")
	r.read()
	publish(t, openBus(t, f), "second", "")
	f.Close()
	if s := r.read(); !strings.Contains(s.trouble, "No member") || len(s.rings) != 1 || s.rings[0].head != 2 {
		t.Errorf("without members, got %q and rings %+v", s.trouble, s.rings)
	}
	disband(t, f)
	if s := r.read(); !strings.Contains(s.trouble, "was removed") || len(s.rings) > 0 {
		t.Errorf("without a fleet, got %q and rings %+v", s.trouble, s.rings)
	}
	f = rejoin(t, f.Name(), nil)
	publish(t, openBus(t, f), "third", "")
	if s := r.read(); s.trouble != "" || len(s.members) != 1 || s.rings[0].head != 1 || len(s.rings[0].history) != 0 {
		t.Errorf("with the next fleet, got %q and rings %+v", s.trouble, s.rings)
	}
	// The next one comes unseen, and is gone but for what it left.
	disband(t, f)
	f = rejoin(t, f.Name(), nil)
	for range 2 {
		publish(t, openBus(t, f), "fourth", "")
	}
	f.Close()
	s := r.read()
	if s.rings[0].head != 2 || len(s.rings[0].history) != 0 {
		t.Errorf("with the fleet after, got rings %+v", s.rings)
	}
	var events []string
	for _, e := range s.events {
		events = append(events, regexp.MustCompile(`.*  node 1 +`).ReplaceAllString(e, ""))
	}
	wantLines(t, events, "first", "second", "-- the fleet ends --", "-- the fleet begins --", "third", "-- the fleet begins --", "fourth", "fourth")
}

func TestTopPrintsOneSnapshotWhereThereIsNoTerminal(t *testing.T) {
	f := joinFleet(t, nil)
	publish(t, openBus(t, f), "topic", "payload")
	for _, args := range [][]string{{"-once"}, nil} {
		said := start(t, append([]string{"top", "-interval", "100ms", f.Name()}, args...)...).finish(exitDone)
		for _, want := range []string{
			`^fleet "` + f.Name() + `"   1 member   \d\d:\d\d:\d\d\n`,
			`\n   220  events +4096 +512 B +1 +0.0  ▁{20}\n`,
			`\n +1 +\d+ +\S+ ago  missing\n`,
			`  node 1 +topic +payload\n$`,
		} {
			if !regexp.MustCompile(want).MatchString(said) {
				t.Errorf("%q: got no match of %q in:\n%s", args, want, said)
			}
		}
		if strings.Contains(said, "\x1b") {
			t.Errorf("%q: escape sequences in plain output: %q", args, said)
		}
	}
}

func TestTopSaysWhatItCannotDo(t *testing.T) {
	name := demoFleet(t)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"top", exitUsage, "want FLEET, found"},
		{"top -interval 1ms a", exitUsage, "at least 50ms"},
		{"top -fresh -1s a", exitUsage, "at least 0s"},
		{"top -once " + name, exitNo, `"orbit ls" lists the fleets`},
		{"top " + name, exitNo, `"orbit ls" lists the fleets`},
	} {
		p := start(t, strings.Fields(c.args)...)
		p.finish(c.code)
		if got := p.stderr.String(); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q in it", c.args, got, c.want)
		}
	}
}
