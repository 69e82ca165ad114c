//go:build linux

package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orbit/internal/overlay"
)

var (
	lengthFlag = flag.Duration("linear.for", 12*time.Second, "how long to play histories, over all scenarios")
	seedFlag   = flag.Uint64("linear.seed", 0, "seed of the random choices; 0 takes the time")
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		exitActor(role)
	}
	flag.Parse()
	os.Exit(m.Run())
}

func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", s)
	return s
}

func mustBuild(t *testing.T, faults ...overlay.Fault) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command here to build the instrumented program with")
	}
	binary, err := buildStepped(t.TempDir(), faults...)
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// TestHistoriesAreLinearizable is the short form of the check; -linear.for
// makes it longer.
func TestHistoriesAreLinearizable(t *testing.T) {
	plain, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all := trials(plain, mustBuild(t), "", os.TempDir())
	seed := seed(t)
	var table, offending bytes.Buffer
	printHeader(&table)
	var sum row
	for i := range all {
		all[i].out = &offending
		r, err := all[i].run(t.Context(), *lengthFlag/time.Duration(len(all)), seed+uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		r.print(&table)
		sum.add(&r)
	}
	sum.print(&table)
	t.Logf("\n%s%s", &table, &offending)
	if sum.failed() {
		t.Errorf("of %d histories %d are not linearizable, and %d were not decided within %v each; clocks were %v apart, want at most %v",
			sum.histories, sum.violations, sum.undecided, checkLimit, sum.skew, time.Duration(clockSlack))
	}
	if sum.met == 0 || sum.unknown == 0 || sum.kills == 0 || sum.stops == 0 {
		t.Error("the processes hardly met: this run shows nothing")
	}
	if left, _ := filepath.Glob("/dev/shm/orbit-" + fleetPrefix() + ".*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestGetHeldUpBeforeAnyStepIsNotStale has a Get, which begins after its key
// was deleted, held up before each of its steps in turn while another Get of
// the same handle brings the index up to date.
func TestGetHeldUpBeforeAnyStepIsNotStale(t *testing.T) {
	cmd := exec.Command(mustBuild(t))
	cmd.Env = append(os.Environ(), roleEnv+"="+holdRole)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	steps := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, line := range steps {
		if got, where, _ := strings.Cut(line, " "); got != "nothing" {
			t.Errorf("a Get held up before step %d, in %s, got %q after the key was deleted, want nothing", i+1, where, got)
		}
	}
	if len(steps) < 10 {
		t.Errorf("a Get was held up before %d steps only:\n%s", len(steps)-1, out)
	}
}

// Faults to commit in package orbit, and the trials that must find them.
var faults = []struct{ name, scenario, file, old, new string }{
	{"a reader does not look at the state again", "latest-1", "ring.go",
		"	if atomic.LoadUint64((*uint64)(s)) != st {\n		return errChanged\n	}\n	// Last,",
		"	if atomic.LoadUint64((*uint64)(s)) != st && %s {\n		return errChanged\n	}\n	// Last,"},
	{"a search for the newest frame goes on to the oldest", "latest-8", "ring.go",
		"		case st == c<<counterShift|phaseDone:\n			return s, st, nil",
		"		case st == c<<counterShift|phaseDone && (%s || c == oldest):\n			return s, st, nil"},
	{"an add counts whatever lies between", "cache", "cache.go",
		"		case string(rec.key) == key:\n			return addFailed, q",
		"		case string(rec.key) == key && %s:\n			return addFailed, q"},
	{"a delete does not hide what lies before it", "cache-64", "cache.go",
		"	if hash := x.hash(key); c.supersede(n, hash, key) {",
		"	if hash := x.hash(key); (rec.op != cacheDelete || %s) && c.supersede(n, hash, key) {"},
	{"a claimant does not strike the younger", "rush", "contest.go",
		"			atomic.CompareAndSwapUint64(c.entry(i), w, 0) // strike",
		"			if !(%s) { return false, nil }; atomic.CompareAndSwapUint64(c.entry(i), w, 0)"},
	{"a token is minted before the promotion", "contest", "contest.go",
		"	g.token = c.mint(g.record)\n	return true, nil",
		"	if %s { g.token = c.mint(g.record) }\n	return true, nil"},
	{"a token is minted before the promotion", "contest", "contest.go",
		"	s.own, s.place = g.word, g.entry\n",
		"	s.own, s.place = g.word, g.entry; if !(%s) { g.token = c.mint(g.record) }\n"},
}

// faultyCopy returns the faults to build into a copy, in which each is
// committed only if a process is told to.
func faultyCopy() (all []overlay.Fault) {
	// These files do not see package step otherwise.
	for file, first := range map[string]string{"cache.go": "iter", "contest.go": "context"} {
		all = append(all, overlay.Fault{File: file, Old: "import (\n	\"" + first + "\"\n",
			New: "import (\n	\"orbit/internal/overlay/step\"; \"" + first + "\"\n"})
	}
	for _, f := range faults {
		sound := fmt.Sprintf("step.Fault != %q", f.name)
		all = append(all, overlay.Fault{File: f.file, Old: f.old, New: strings.ReplaceAll(f.new, "%s", sound)})
	}
	return all
}

// TestFaultsAreFound commits one fault after the other in package orbit, and
// plays until it has led to a history that is not linearizable.
func TestFaultsAreFound(t *testing.T) {
	binary := mustBuild(t, faultyCopy()...)
	seed := seed(t)
	tried := map[string]bool{}
	for _, f := range faults {
		if tried[f.name] {
			continue // a fault in two places
		}
		tried[f.name] = true
		t.Run(f.name, func(t *testing.T) {
			var out bytes.Buffer
			trial := trial{scenario: find(f.scenario), binary: binary, stepped: true, fault: f.name, dir: t.TempDir(), out: &out}
			start := time.Now()
			for time.Since(start) < 2*time.Minute {
				seed++
				r, err := trial.run(t.Context(), 30*time.Second, seed)
				if err != nil {
					t.Fatal(err)
				}
				if r.violations > 0 {
					t.Logf("found after %v, %d histories\n%s", time.Since(start).Round(time.Millisecond), r.histories, &out)
					return
				}
			}
			t.Error("not found")
		})
	}
}
