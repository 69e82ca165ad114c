package explore_test

import (
	"flag"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"orbit/internal/overlay"
)

var long = flag.Bool("explore.long", false, "explore all worlds: this takes long")

// A command explores the worlds of one protocol.
type command struct {
	name   string // of its directory
	expose string
	short  []string // the worlds that go test explores
}

// slots has two writers and a reader or three writers over one slot and two,
// and every kind of operation over up to eight, with deaths.
var slots = command{"slots", "expose.go", []string{
	"1 2w newest", "1 2w newest 2d", "2 2w newest", "2 2w newest 2d", "2 2w cursor", "2 2w cursor jump", "1 3w", "2 3w", "2 3w 2d",
	"mint", "1 mint", "mint cursor", "reset", "reset cursor", "lap", "batch", "1 batch",
}}

// claims has two and three claimants, and every kind of operation, with deaths
// and expiries, in tables with and without room.
var claims = command{"claims", "expose_claims.go", []string{
	"2", "2 apart", "2 release", "2 look", "3", "again", "announced", "2 d", "2 2d", "apart d",
	"renew jump", "2 jump", "edge", "jump d",
	"1 entry", "2 entries", "3 entries", "2 entries apart", "1 entry jump", "1 record", "record of the dead",
	"share", "share 3", "tick", "tick 3", "close",
}}

// build builds the command with faults in the code it explores.
func (c *command) build(t *testing.T, faults ...overlay.Fault) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), c.name)
	v := overlay.Variant{Faults: faults, Expose: "internal/explore/testdata/" + c.expose}
	overlay.Build(t, v, "build", "-tags=orbit_overlay", "-o", binary, "./internal/explore/"+c.name)
	return binary
}

// explore explores the short worlds, or all of them.
func (c *command) explore(t *testing.T) {
	t.Helper()
	args := []string{"-run", "^(" + strings.Join(c.short, "|") + ")$"}
	if *long {
		args = []string{"-long"}
	}
	out, err := exec.Command(c.build(t), args...).CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	if explored := strings.Count(string(out), " states, "); !*long && explored != len(c.short) {
		t.Errorf("explored %d worlds, want %d", explored, len(c.short))
	}
	t.Logf("\n%s", out)
}

// mustNotice checks that the exploration of a world ends with a violation.
func mustNotice(t *testing.T, binary, world string, args ...string) {
	t.Helper()
	out, err := exec.Command(binary, append(args, "-run", "^"+world+"$")...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "violation: ") || strings.Contains(string(out), " panics: ") {
		t.Errorf("exploring %q: %v, want a violation\n%s", world, err, out)
	}
	if *long {
		t.Logf("\n%s", out)
	}
}

// TestNoInterleavingBreaksTheSlotProtocol explores every interleaving of the
// real code's steps on shared memory, in small worlds.
func TestNoInterleavingBreaksTheSlotProtocol(t *testing.T) { slots.explore(t) }

// TestNoInterleavingBreaksTheClaimProtocol does the same for claims.
func TestNoInterleavingBreaksTheClaimProtocol(t *testing.T) { claims.explore(t) }

// TestExplorationNoticesFaults shows that the exploration would find what the
// protocol guards against.
func TestExplorationNoticesFaults(t *testing.T) {
	tests := []struct {
		name, world string
		old, new    string
	}{
		{"a reader does not look again", "1 2w newest",
			"	r.mem.getBytes(f.Payload, s)\n	if atomic.LoadUint64((*uint64)(s)) != st {",
			"	r.mem.getBytes(f.Payload, s)\n	if false {"},
		{"a stopped writer is taken for a dead one", "1 2w newest",
			"if st&heldBit != 0 && r.alive(st) {", "if st&heldBit != 0 && false {"},
		{"a claim does not compare", "1 2w newest",
			"	return atomic.CompareAndSwapUint64((*uint64)(r.slot(t)), before, r.writing(t))",
			"	atomic.StoreUint64((*uint64)(r.slot(t)), r.writing(t)); return before != 0"},
		{"a ticket that was made void is used", "2 2w cursor jump",
			"if since(st, t) >= 0 && since(st, head) < 0 || head-t >= farOff {", "if head-t >= farOff {"},
		{"a counter is made void without a compare", "2 2w cursor jump",
			"		if atomic.CompareAndSwapUint64(s, st, hole(c, st)) {\n			return", "		if atomic.StoreUint64(s, hole(c, st)); true {\n			return"},
		{"a counter is passed before it is settled", "2 2w cursor",
			"	case d < 0:\n		return nil, 0, errUnmarked", "	case d < 0:\n		return nil, 0, ErrHole"},
		{"a publisher is refused in a ring with free slots", "2 3w far",
			"held = 0; r.full() {", "held = 0; true {"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			binary := slots.build(t, overlay.Fault{File: "ring.go", Old: tt.old, New: tt.new})
			mustNotice(t, binary, tt.world)
		})
	}
}

// claimFaults are all built into one command, which is told which to commit.
// Those with an empty name go with the one before.
var claimFaults = []struct {
	name, world string
	old, new    string
}{
	{"a younger claim is passed by, not struck", "2 apart",
		"			atomic.CompareAndSwapUint64(c.entry(i), w, 0) // strike",
		"			if FAULT { return false, nil }; atomic.CompareAndSwapUint64(c.entry(i), w, 0)"},
	{"a claimant yields to any other", "2 apart",
		"case s.own == 0 || w&phaseMask == phaseHeld || older(w, s.own):",
		"case s.own == 0 || w&phaseMask == phaseHeld || FAULT || older(w, s.own):"},
	{"a claimant who was struck strikes others", "2 jump",
		"		case atomic.LoadUint64(c.entry(s.place)) != s.own:",
		"		case !FAULT && atomic.LoadUint64(c.entry(s.place)) != s.own:"},
	{"the token is minted before the claim can be seen", "2 release",
		"	g.entry, g.word = s.free, c.nextOrder()|",
		"	if FAULT { g.token = c.mint(g.record) }; g.entry, g.word = s.free, c.nextOrder()|"},
	{"", "",
		"	g.token = c.mint(g.record)\n	return true, nil",
		"	if !FAULT { g.token = c.mint(g.record) }\n	return true, nil"},
	{"no look at clock and entry after the token", "2 jump",
		"		case g.stands():",
		"		case FAULT || g.stands():"},
	{"the promotion does not compare", "2 apart",
		"	if !atomic.CompareAndSwapUint64(c.entry(g.entry), tentative, g.word) {",
		"	if FAULT { atomic.StoreUint64(c.entry(g.entry), g.word) } else if !atomic.CompareAndSwapUint64(c.entry(g.entry), tentative, g.word) {"},
	{"what is over is passed by, not buried", "renew jump",
		"			c.bury(&s.sighting)",
		"			if FAULT { return false, nil }; c.bury(&s.sighting)"},
	{"a burial does not compare", "renew jump",
		"	if !atomic.CompareAndSwapUint64(c.entry(v.entry), v.word, 0) {",
		"	if FAULT { atomic.StoreUint64(c.entry(v.entry), 0) } else if !atomic.CompareAndSwapUint64(c.entry(v.entry), v.word, 0) {"},
	{"a renewal changes the entry before the record", "renew jump",
		"	atomic.StoreUint64(c.recordWord(g.record, recDeadline), uint64(end+clockSlack))",
		"	if !FAULT { atomic.StoreUint64(c.recordWord(g.record, recDeadline), uint64(end+clockSlack)) }"},
	{"", "",
		"	g.word = w\n	g.deadline.Store(end)",
		"	g.word = w; if FAULT { atomic.StoreUint64(c.recordWord(g.record, recDeadline), uint64(end+clockSlack)) }\n	g.deadline.Store(end)"},
	{"a renewal does not compare", "renew jump",
		"	if !atomic.CompareAndSwapUint64(c.entry(g.entry), g.word, w) {",
		"	if FAULT { atomic.StoreUint64(c.entry(g.entry), w) } else if !atomic.CompareAndSwapUint64(c.entry(g.entry), g.word, w) {"},
	{"a claim is over for others as soon as for its owner", "edge",
		"		deadline: g.deadline.Load() + clockSlack,",
		"		deadline: g.deadline.Load() + map[bool]int64{false: clockSlack}[FAULT],"},
	{"the dead are taken for alive", "2 d",
		"{ return !c.fleet.memberAlive(deedOwner(deed)) }",
		"{ return !c.fleet.memberAlive(deedOwner(deed)) && !FAULT }"},
	{"a record of the dead changes hands while an entry names it", "record of the dead",
		"			c.unname(i, d)",
		"			if !FAULT { c.unname(i, d) }"},
	{"a record goes back before its entry", "2 release",
		"	freed = g.word != 0 &&",
		"	if FAULT { c.giveRecord(g.record) }; freed = g.word != 0 &&"},
	{"a claim is taken up without a look whether it stands", "share",
		"	if old.word != s.word || !old.check() {",
		"	if FAULT {} else if old.word != s.word || !old.check() {"},
	{"a guard that was taken up does not end", "again",
		"	old.finish(ErrLapsed)",
		"	if !FAULT { old.finish(ErrLapsed) }"},
}

// TestExplorationNoticesFaultsOfClaims shows the same for claims.
func TestExplorationNoticesFaultsOfClaims(t *testing.T) {
	var faults []overlay.Fault
	name := ""
	for _, f := range claimFaults {
		if f.name != "" {
			name = f.name
		}
		commit := strings.ReplaceAll(f.new, "FAULT", "(step.Fault == "+strconv.Quote(name)+")")
		faults = append(faults, overlay.Fault{File: "contest.go", Old: f.old, New: commit})
	}
	binary := claims.build(t, faults...)
	for _, f := range claimFaults {
		if f.name != "" {
			t.Run(f.name, func(t *testing.T) { mustNotice(t, binary, f.world, "-fault", f.name) })
		}
	}
}
