//go:build linux

package hostile

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/proc"
)

// Clocks that disagree. Ages and deadlines run on CLOCK_MONOTONIC, which is
// one clock for all processes of a boot, unless one of them is in a time
// namespace of its own. Then everything that is a time is wrong by the offset
// between the two: claims, values and beats are over too early or too late.
// What does not rest on a time holds: one guard, growing tokens, whole frames,
// the kernel's word on who lives.

// offset is how far the clock of a time namespace is from ours, either way: as
// far as the age of this boot allows, and at least two minutes.
func offset(t *testing.T) (seconds int) {
	t.Helper()
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Skip(err)
	}
	up, _ := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	if up < 300 {
		t.Skipf("this machine is up for %.0f s: a clock cannot be set back by minutes", up)
	}
	return int(min(3600, up/2))
}

func startAt(t *testing.T, seconds int, role string, args ...string) *proc.Process {
	t.Helper()
	return startIn(t, fmt.Sprint("--time --monotonic ", seconds), role, args...)
}

// TestTimesAreWrongByTheOffsetOfATimeNamespace writes down what befalls a
// fleet over two time namespaces.
func TestTimesAreWrongByTheOffsetOfATimeNamespace(t *testing.T) {
	fleet := proc.Fleet(t)
	n := offset(t)
	here := start(t, "keeper", fleet, "here")
	hear(t, here, "keeps here")
	ahead := startAt(t, n, "keeper", fleet, "ahead")
	hear(t, ahead, "keeps ahead")
	behind := startAt(t, -n, "keeper", fleet, "behind")
	hear(t, behind, "keeps behind")

	// Who lives is no question of time.
	for _, p := range []*proc.Process{here, ahead, behind} {
		tell(t, p, "members", "members 3 nil")
	}

	// Claims for a minute: to a clock that is ahead they are over, to one that
	// is behind they have long to go. The guard of a claim that fell too early
	// knows as soon as it is asked, and the token has grown.
	tell(t, ahead, "held here", "held false nil")
	tell(t, behind, "held here", "held true nil")
	tell(t, here, "held ahead", "held true nil")
	tell(t, here, "held behind", "held false nil")
	tell(t, here, "valid here", "valid true")
	tell(t, ahead, "claim here", "claim nil")
	tell(t, here, "valid here", "valid false")
	tell(t, ahead, "valid here", "valid true")
	if before, after := token(t, here, "here"), token(t, ahead, "here"); after <= before {
		t.Errorf("token %d after %d", after, before)
	}

	// Values for a minute, in the same way.
	for _, p := range []*proc.Process{here, ahead, behind} {
		tell(t, p, "put by", "put nil")
		for _, q := range []struct {
			*proc.Process
			sees bool
		}{{here, p != behind}, {ahead, p == ahead}, {behind, true}} {
			name := map[*proc.Process]string{here: "here", ahead: "ahead", behind: "behind"}[p]
			want := "get " + name + " true nil"
			if !q.sees {
				want = "get  false nil"
			}
			tell(t, q.Process, "get by", want)
		}
	}

	// Beats: one of the future is fresh, one of long ago is stale.
	for _, p := range []*proc.Process{here, ahead, behind} {
		tell(t, p, "beat", "beat nil")
	}
	tell(t, here, "pulse 1", "pulse fresh nil")
	tell(t, here, "pulse 2", "pulse fresh nil")
	tell(t, here, "pulse 3", "pulse stale nil")
	tell(t, ahead, "pulse 1", "pulse stale nil")
	tell(t, behind, "pulse 1", "pulse fresh nil")

	// A death is seen at once by all clocks.
	ahead.Kill()
	for _, p := range []*proc.Process{here, behind} {
		becomes(t, p, "members", "members 2 nil")
		tell(t, p, "held here", "held false nil")
	}
}

func token(t *testing.T, p *proc.Process, subject string) (n uint64) {
	t.Helper()
	p.Say("token " + subject)
	fmt.Sscan(answer(t, p), &n)
	return n
}

func init() { roles["contender"] = contender }

// contender claims a few subjects at random for a while, and then tells the
// spans in which its guards were valid beyond doubt: since false is final,
// that is from the end of the first call of Valid that said true to the
// beginning of the last: contender fleet offset duration.
func contender(args []string) error {
	proc.WatchParent()
	seconds, _ := strconv.Atoi(args[1])
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	common := func() int64 { return monotonic() - int64(seconds)*int64(time.Second) }
	f, err := orbit.Join(args[0], crewOptions())
	if err != nil {
		return err
	}
	c, err := orbit.OpenContest(f)
	if err != nil {
		return err
	}
	var log []span
	// To a clock that is ahead every claim is over, so that who is behind has to
	// be lucky.
	for goOn := proc.Chance(d, patience, func() bool { return len(log) > 0 }); goOn(); {
		s := span{subject: rand.IntN(2)}
		g, err := orbit.Claim[task](c, fmt.Sprint("subject ", s.subject), "", time.Duration(1+rand.IntN(20))*time.Millisecond)
		if contended(err) != nil {
			return err
		}
		for i := 0; err == nil; i++ {
			before := common()
			if !g.Valid() {
				break
			}
			if s.to = before; i == 0 {
				s.from = common()
			}
			if time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond); rand.IntN(40) == 0 {
				g.Release()
			}
		}
		if err == nil && s.to > s.from {
			s.token = g.Token()
			log = append(log, s)
		}
	}
	for _, s := range log {
		fmt.Println(s.subject, s.token, s.from, s.to)
	}
	fmt.Println("end")
	return f.Close()
}

type span struct {
	subject  int
	token    uint64
	from, to int64
}

// monotonic asks the kernel for the clock of this process's time namespace.
func monotonic() int64 {
	var ts syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

// TestOneGuardThoughClocksDisagree has processes of three time namespaces
// contend: claims fall too early and are taken again, and yet two guards of a
// subject are never valid at once, and tokens grow in the order of the guards.
func TestOneGuardThoughClocksDisagree(t *testing.T) {
	fleet := proc.Fleet(t)
	n := offset(t)
	var crew []*proc.Process
	for _, seconds := range []int{0, 0, n, -n} {
		args := []string{fleet, strconv.Itoa(seconds), long().String()}
		if seconds == 0 {
			crew = append(crew, start(t, "contender", args...))
		} else {
			crew = append(crew, startAt(t, seconds, "contender", args...))
		}
	}
	var all []span
	for i, p := range crew {
		guards := 0
		for line := answer(t, p); line != "end"; line = answer(t, p) {
			var s span
			if _, err := fmt.Sscan(line, &s.subject, &s.token, &s.from, &s.to); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			all = append(all, s)
			guards++
		}
		p.Finish()
		if guards == 0 {
			t.Errorf("contender %d never held anything", i)
		}
	}
	slices.SortFunc(all, func(a, b span) int { return int(a.from - b.from) })
	var last [2]span
	for _, s := range all {
		before := &last[s.subject]
		if s.from < before.to {
			t.Errorf("subject %d: the guard with token %d was valid from %d, that with token %d until %d", s.subject, s.token, s.from, before.token, before.to)
		}
		if s.token <= before.token {
			t.Errorf("subject %d: token %d after %d", s.subject, s.token, before.token)
		}
		*before = s
	}
	t.Logf("%d guards", len(all))
	proc.RemoveFleet(t, fleet)
}

// TestExpiryFollowsAnInjectedClockAnywhere steps the clock of a cache back and
// forth: values come and go by it, and nothing else happens.
func TestExpiryFollowsAnInjectedClockAnywhere(t *testing.T) {
	fleet := proc.Fleet(t)
	c, err := orbit.OpenCache(join(t, fleet, crewOptions()), "p")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Hour
	c.Clock = func() time.Duration { return now }
	if err := c.Put("forever", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Put("minute", []byte("2"), time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		to   time.Duration
		live bool
	}{{time.Hour, true}, {0, true}, {time.Hour + time.Minute, false}, {time.Hour + time.Minute - 1, true}, {-1 << 62, true}, {1<<63 - 1, false}, {time.Hour, true}} {
		now = step.to
		if _, ok, err := c.Get("forever"); !ok || err != nil {
			t.Errorf("at %v the value without expiry is there: %v, %v", now, ok, err)
		}
		if _, ok, err := c.Get("minute"); ok != step.live || err != nil {
			t.Errorf("at %v the value that expires at %v is there: %v, %v; want %v", now, time.Hour+time.Minute, ok, err, step.live)
		}
	}
}
