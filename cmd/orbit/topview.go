package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"orbit"
)

// A topSnapshot is a fleet at one moment, as "orbit top" shows it.
type topSnapshot struct {
	fleet   string
	at      time.Time
	trouble string // what keeps the rest from being up to date, if anything does

	rings   []topRing
	members []topMember
	strays  int // nodes that beat once and are no member
	holders []orbit.Holder
	cache   *topCache // nil if the fleet has none
	events  []string  // lines, the newest last
}

// A topRing is a ring with its frames per second: now, and in the past samples.
type topRing struct {
	kind     uint8
	geometry orbit.Geometry
	head     uint64
	rate     float64
	history  []float64 // the newest last
	trouble  string    // what is wrong with its segment, if it cannot be read
}

// A topMember is a member, for how long it is one, and its heartbeat.
type topMember struct {
	node  uint16
	pid   int
	age   time.Duration
	pulse orbit.Pulse
}

// A topCache is what an observer knows about the cache.
type topCache struct {
	rate     float64 // frames per second: puts, adds, deletes and resets
	capacity int
	prefixes []topPrefix

	unwatched int // how many prefixes there are besides
}

// A topPrefix is the cache of one prefix, since it is watched.
type topPrefix struct {
	prefix  string
	keys    int
	evicted uint64
}

// A topOrder is what the members are sorted by.
type topOrder int

const (
	byNode topOrder = iota
	byPID
	byAge
	topOrders
)

func (o topOrder) String() string { return [...]string{"node", "pid", "age"}[o] }

// sort sorts members: by age with the youngest first.
func (o topOrder) sort(members []topMember) {
	slices.SortFunc(members, func(a, b topMember) int {
		switch o {
		case byPID:
			return cmp.Or(cmp.Compare(a.pid, b.pid), cmp.Compare(a.node, b.node))
		case byAge:
			return cmp.Or(cmp.Compare(a.age, b.age), cmp.Compare(a.node, b.node))
		}
		return cmp.Compare(a.node, b.node)
	})
}

// A topView is how a snapshot is shown.
type topView struct {
	width, height int // 0 for as much as there is
	order         topOrder
	hidden        [topSections]bool
	paused        bool
	help          bool // whether the last line tells the keys
}

const topSections = 5

// A topLine is a line with the style of all of it.
type topLine struct{ text, style string }

// A topSection is a part of the screen. Where there is no room for all of its
// rows, it shows the first, or the last if that is where the news are.
type topSection struct {
	head  string
	rows  []topLine
	lasts bool
}

// lines draws a snapshot. It is a function of nothing else.
func (v *topView) lines(s *topSnapshot) []topLine {
	lines := v.top(s)
	room := math.MaxInt
	if v.height > 0 {
		room = v.height - len(lines)
		if v.help {
			room--
		}
	}
	lines = append(lines, v.body(s, room)...)
	if v.help {
		for len(lines) < v.height-1 {
			lines = append(lines, topLine{})
		}
		lines = append(lines, topLine{fmt.Sprintf("q quit   s sort by %v   p pause   c clear   1-%d hide or show a part", (v.order+1)%topOrders, topSections), dim})
	}
	if v.height > 0 && len(lines) > v.height {
		lines = lines[:v.height]
	}
	for i := range lines {
		lines[i].text = cutText(strings.TrimRight(lines[i].text, " "), v.width)
	}
	return lines
}

// cutText cuts a line to what is visible, if that is limited.
func cutText(text string, width int) string {
	if width <= 0 || utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// top is what stands above the sections.
func (v *topView) top(s *topSnapshot) []topLine {
	members := counted(len(s.members), "member")
	if s.strays > 0 {
		members += fmt.Sprintf(", %s gone", counted(s.strays, "node"))
	}
	head := fmt.Sprintf("fleet %q   %s   %s", s.fleet, members, s.at.Format("15:04:05"))
	if v.paused {
		head += "   paused"
	}
	lines := []topLine{{head, bold}}
	if s.trouble != "" {
		lines = append(lines, topLine{s.trouble, red})
	}
	return lines
}

// body draws the sections into the room there is, with blank lines between
// them if it is enough for all.
func (v *topView) body(s *topSnapshot, room int) []topLine {
	var sections []topSection
	for i, section := range v.sections(s) {
		if !v.hidden[i] && section.head != "" {
			sections = append(sections, section)
		}
	}
	wants := make([]int, len(sections))
	blank := 0
	for i, section := range sections {
		wants[i] = 1 + max(len(section.rows), 1)
		blank += wants[i] + 1
		if section.lasts { // it fills what the others leave
			blank -= max(wants[i]-6, 0)
		}
	}
	airy := blank <= room
	if airy {
		room -= len(sections)
	}
	var lines []topLine
	for i, n := range share(room, wants) {
		if n < 2 {
			continue
		}
		if airy {
			lines = append(lines, topLine{})
		}
		lines = append(lines, sections[i].draw(n)...)
	}
	return lines
}

// share divides room among those who want some of it: who wants no more than
// an equal share gets all, and leaves the rest to the others.
func share(room int, wants []int) []int {
	given := make([]int, len(wants))
	order := make([]int, len(wants))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(wants[a], wants[b]) })
	for k, i := range order {
		given[i] = min(wants[i], max(room, 0)/(len(order)-k))
		room -= given[i]
	}
	return given
}

// draw draws a section into n lines, at least two.
func (s *topSection) draw(n int) []topLine {
	lines := []topLine{{s.head, dim}}
	rows := s.rows
	switch over := len(rows) - (n - 1); {
	case len(rows) == 0:
		rows = []topLine{{"      none", ""}}
	case over > 0 && s.lasts:
		rows = rows[over:]
	case over > 0:
		rows = append(slices.Clip(rows[:n-2]), topLine{fmt.Sprintf("      … %d more", over+1), dim})
	}
	return append(lines, rows...)
}

// sections draws the sections in full, in the order of the keys that hide
// them. One without a head has nothing to show.
func (v *topView) sections(s *topSnapshot) [topSections]topSection {
	return [topSections]topSection{
		{head: fmt.Sprintf(ringFormat, "ring", "use", "slots", "payload", "head", "frames/s", "lately"), rows: ringRows(s.rings, v.width)},
		{head: fmt.Sprintf(memberFormat, "node", "pid", "joined", "heartbeat"), rows: v.memberRows(s.members)},
		{head: fmt.Sprintf(holderFormat, "node", "pid", "token", "left", "owner", "subject"), rows: holderRows(s.holders)},
		cacheSection(s.cache),
		{head: "      events", rows: eventRows(s.events), lasts: true},
	}
}

const (
	ringFormat   = "%6v  %-9v %8v %9v %12v %8v  %v"
	memberFormat = "%6v %9v %11v  %v"
	holderFormat = "%6v %9v %8v %14v  %-20v %v"
)

// ringFixed is the width of a ring's line up to its sparkline.
const ringFixed = 6 + 2 + 9 + 1 + 8 + 1 + 9 + 1 + 12 + 1 + 8 + 2

func ringRows(rings []topRing, width int) (rows []topLine) {
	for _, r := range rings {
		if r.trouble != "" {
			rows = append(rows, topLine{fmt.Sprintf("%6d  %-9s %s", r.kind, useOf(r.kind), r.trouble), red})
			continue
		}
		history := r.history
		if width > 0 {
			history = history[max(len(history)-max(width-ringFixed, 0), 0):]
		}
		rows = append(rows, topLine{text: fmt.Sprintf(ringFormat, r.kind, useOf(r.kind), r.geometry.Capacity,
			bytesText(int64(r.geometry.PayloadLimit)), r.head, rateText(r.rate), sparkline(history))})
	}
	return rows
}

// sparkline draws numbers as bars, the largest as the highest. Only nothing has
// the lowest.
func sparkline(values []float64) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	most := slices.Max(append([]float64{0}, values...))
	line := make([]rune, len(values))
	for i, v := range values {
		line[i] = bars[0]
		if v > 0 {
			line[i] = bars[min(1+int(v/most*float64(len(bars)-1)), len(bars)-1)]
		}
	}
	return string(line)
}

func (v *topView) memberRows(members []topMember) (rows []topLine) {
	members = slices.Clone(members)
	v.order.sort(members)
	for _, m := range members {
		style := ""
		if m.pulse.State == orbit.Stale {
			style = red
		}
		rows = append(rows, topLine{fmt.Sprintf(memberFormat, m.node, m.pid, spanText(m.age)+" ago", pulseText(m.pulse)), style})
	}
	return rows
}

func holderRows(holders []orbit.Holder) (rows []topLine) {
	for _, h := range holders {
		rows = append(rows, topLine{text: fmt.Sprintf(holderFormat, h.Node, h.PID, tokenText(h.Token), leftText(h.Left), ownerText(h.Owner), subjectText(&h))})
	}
	return rows
}

// cacheSection tells at what pace the cache is written to, and for how long a
// value can live at that pace until the ring pushes it out.
func cacheSection(c *topCache) topSection {
	if c == nil {
		return topSection{}
	}
	text := "      nothing is being written"
	if c.rate > 0 {
		lap := time.Duration(min(float64(c.capacity)/c.rate*float64(time.Second), math.MaxInt64/2))
		text = fmt.Sprintf("      %s writes per s: at that pace a value is pushed out after %s", rateText(c.rate), spanText(lap))
	}
	s := topSection{head: "      cache", rows: []topLine{{text: text}}}
	for _, p := range c.prefixes {
		s.rows = append(s.rows, topLine{text: fmt.Sprintf("      prefix %q: %s, %d pushed out", p.prefix, counted(p.keys, "key"), p.evicted)})
	}
	if c.unwatched > 0 {
		s.rows = append(s.rows, topLine{text: fmt.Sprintf("      and %d more prefixes", c.unwatched)})
	}
	return s
}

func eventRows(events []string) (rows []topLine) {
	for _, e := range events {
		style := ""
		if strings.HasPrefix(e, "--") {
			style = red
		}
		rows = append(rows, topLine{"      " + e, style})
	}
	return rows
}
