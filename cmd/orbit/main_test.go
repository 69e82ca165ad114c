package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"orbit"
)

// program is the command under test, built once.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "orbit")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		takeSignals()
		program = filepath.Join(dir, "orbit.exe")
		if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// takeSignals has commands under test get signals that this process was started
// to ignore, as by nohup or in the background of a script: what is caught here
// is not ignored there.
func takeSignals() {
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// A started command with its output as it comes.
type started struct {
	*exec.Cmd
	t      *testing.T
	lines  *bufio.Scanner
	said   strings.Builder
	stderr bytes.Buffer
}

// must returns a function that fails the test if there is an error, and returns
// the value.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func start(t *testing.T, args ...string) *started {
	t.Helper()
	return startCmd(t, exec.Command(program, args...))
}

// startCmd starts a command, which is killed when the test ends.
func startCmd(t *testing.T, cmd *exec.Cmd) *started {
	t.Helper()
	c := &started{Cmd: cmd, t: t}
	if c.Stderr == nil {
		c.Stderr = &c.stderr
	}
	out := must(c.StdoutPipe())(t)
	c.lines = bufio.NewScanner(out)
	must(0, c.Start())(t)
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return c
}

// until reads output up to the first line that matches, and returns what its
// group matched.
func (c *started) until(pattern string) string {
	c.t.Helper()
	re := regexp.MustCompile(pattern)
	for c.lines.Scan() {
		c.said.WriteString(c.lines.Text() + "\n")
		if m := re.FindStringSubmatch(c.lines.Text()); m != nil {
			return m[len(m)-1]
		}
	}
	c.t.Fatalf("output ended without a match of %q:\n%s%s", pattern, c.said.String(), c.stderr.String())
	return ""
}

// finish reads all output and wants the exit code.
func (c *started) finish(code int) string {
	c.t.Helper()
	for c.lines.Scan() {
		c.said.WriteString(c.lines.Text() + "\n")
	}
	c.Wait()
	if got := c.ProcessState.ExitCode(); got != code {
		c.t.Fatalf("got exit code %d (%v), want %d\n%s%s", got, c.ProcessState, code, c.said.String(), c.stderr.String())
	}
	return c.said.String()
}

var demos atomic.Int64 // how many fleets have been named

// demoFleet returns the name of a fleet that the test wants gone at its end.
func demoFleet(t *testing.T) string {
	t.Helper()
	// The time is against what another process of this number may have left.
	name := fmt.Sprintf("d%d.%s", os.Getpid(), strconv.FormatInt(demos.Add(1)*1e6+time.Now().UnixNano()%1e6, 36))
	if _, err := orbit.Observe(name); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	return name
}

// wantGone waits until nothing of a fleet is in shared memory.
func wantGone(t *testing.T, fleet string, patience time.Duration) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		_, err := orbit.Observe(fleet)
		fleets, listErr := orbit.Fleets()
		if errors.Is(err, orbit.ErrNotExist) && (listErr != nil || !slices.Contains(fleets, fleet)) {
			return
		}
		if time.Now().After(end) {
			orbit.Remove(fleet)
			t.Fatalf("fleet %q is still in shared memory: %v", fleet, err)
		}
	}
}

func number(t *testing.T, text, pattern string) int {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no match of %q in:\n%s", pattern, text)
	}
	n := must(strconv.Atoi(m[1]))(t)
	return n
}

func pids(said string) (pids []int) {
	for _, m := range regexp.MustCompile(`started sibling \d+, pid (\d+)`).FindAllStringSubmatch(said, -1) {
		pid, _ := strconv.Atoi(m[1])
		pids = append(pids, pid)
	}
	return pids
}

func TestDemoEndsByItselfWithCountsThatAddUp(t *testing.T) {
	t.Parallel()
	fleet := demoFleet(t)
	said := start(t, "demo", "-for", "4s", "-fleet", fleet).finish(exitDone)
	wantGone(t, fleet, 0)
	head := number(t, said, `(\d+)  values published`)
	delivered := number(t, said, `(\d+)  delivered`)
	passed := number(t, said, `(\d+)  passed`)
	moved := number(t, said, `(\d+)  counters the cursor moved`)
	if head < 4 || delivered+passed != moved || moved != head {
		t.Errorf("got head %d, delivered %d, passed %d, moved %d\n%s", head, delivered, passed, moved, said)
	}
	if own := number(t, said, `(\d+)  stored, as the siblings counted`); passed == 0 && own != delivered {
		t.Errorf("delivered %d of %d values that siblings stored, and passed none\n%s", delivered, own, said)
	}
	if after := number(t, said, `(\d+)  of them stored by the others after the kill`); after < 3 {
		t.Errorf("got %d values from the others after the kill, want some from each\n%s", after, said)
	}
	if events := number(t, said, `(\d+)  events published`); events != number(t, said, `events published, (\d+) of them`) || events < 3+2+1 {
		t.Errorf("got %d events published, want all delivered, and one for each joining and for two schedulers\n%s", events, said)
	}
	if old, young := number(t, said, `fence token \d+ after (\d+)`), number(t, said, `fence token (\d+) after`); young <= old {
		t.Errorf("got fence token %d for the new scheduler, %d for the killed one\n%s", young, old, said)
	}
	if hits := number(t, said, `(\d+)  hits in the cache`); hits == 0 {
		t.Errorf("got no hits in the cache\n%s", said)
	}
	if n := len(pids(said)); n != 4 {
		t.Errorf("got %d siblings, want 3 and a replacement\n%s", n, said)
	}
	if strings.Contains(said, "\x1b") {
		t.Errorf("escape sequences in plain output: %q", said)
	}
}

func TestDemoTableShowsTheVictimGoneAndTheOthersUnharmed(t *testing.T) {
	t.Parallel()
	fleet := demoFleet(t)
	c := start(t, "demo", "-n", "4", "-for", "4s", "-fleet", fleet)
	victim := c.until(`killed sibling \d+, pid (\d+): node \d+ was no member .* after SIGKILL`)
	said := c.finish(exitDone)
	table := said[strings.LastIndex(said, "sees"):]
	var members []string
	for _, pid := range pids(said) {
		line := regexp.MustCompile(fmt.Sprintf(`(?m)^ +\d+ +%d .*$`, pid)).FindString(table)
		switch {
		case strconv.Itoa(pid) == victim:
			if !strings.Contains(line, "killed") {
				t.Errorf("got %q for the victim", line)
			}
		default:
			members = append(members, line)
			if f := strings.Fields(line); len(f) < 8 || f[5] == "0" || f[6] != "3" {
				t.Errorf("got %q, want values stored and 3 siblings seen", line)
			}
		}
	}
	if len(members) != 4 {
		t.Errorf("got members %q, want 4\n%s", members, said)
	}
	wantGone(t, fleet, 0)
}

func TestInterruptedDemoLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			fleet := demoFleet(t)
			c := start(t, "demo", "-for", "60s", "-fleet", fleet)
			c.until(`loads +ring +\d+, head +[1-9]`)
			c.Process.Signal(sig)
			said := c.finish(exitInterrupted)
			wantGone(t, fleet, 0)
			if len(pids(said)) != 3 {
				t.Errorf("got siblings %v, want 3", pids(said))
			}
			for _, pid := range pids(said) {
				if p, err := os.FindProcess(pid); err == nil && p.Signal(syscall.Signal(0)) == nil {
					t.Errorf("sibling with pid %d still runs", pid)
				}
			}
		})
	}
}

func TestKilledDemoLeavesNothing(t *testing.T) {
	t.Parallel()
	fleet := demoFleet(t)
	c := start(t, "demo", "-for", "60s", "-fleet", fleet)
	c.until(`loads +ring +\d+, head +[1-9]`)
	c.Process.Kill()
	c.Wait()
	wantGone(t, fleet, 30*time.Second)
}

func TestDemoLeavesAFleetOfOthersAlone(t *testing.T) {
	fleet := demoFleet(t)
	f := must(orbit.Join(fleet, orbit.Options{Size: 1}))(t)
	defer orbit.Remove(fleet)
	defer f.Close()
	c := start(t, "demo", "-fleet", fleet)
	c.finish(exitFailed)
	if got := c.stderr.String(); !strings.Contains(got, fleet) || !strings.Contains(got, "exists already") {
		t.Errorf("got %q, want it to say that %q exists already", got, fleet)
	}
	if m, err := f.Members(); err != nil || len(m) != 1 {
		t.Errorf("got members %v, error %v", m, err)
	}
}

func TestWrongUsageSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "Looking"},
		{[]string{"nope"}, `unknown command "nope"`},
		{[]string{"demo", "more"}, `want no arguments, found ["more"]`},
		{[]string{"demo", "-n", "1"}, "-n 1: want 2 to 12"},
		{[]string{"demo", "-for", "1s"}, "for flag -for: want at least 2s"},
		{[]string{"demo", "-nope"}, "not defined: -nope"},
		{[]string{"demo", "-fleet", "../x"}, `bad fleet name "../x"`},
	} {
		p := start(t, c.args...)
		p.finish(exitUsage)
		if got := p.stderr.String(); !strings.Contains(got, c.want) {
			t.Errorf("%q: got %q, want %q in it", c.args, got, c.want)
		}
	}
}

func TestHelpListsWhatPeopleCanRun(t *testing.T) {
	list := start(t, "help").finish(exitDone)
	for _, g := range groups {
		if _, after, found := strings.Cut(list, "\n"+g.title+"\n"); g.title != "" {
			if group, _, _ := strings.Cut(after, "\n\n"); !found || strings.Count(group, "\n") != len(g.commands)-1 {
				t.Errorf("group %q is wrong in %q", g.title, list)
			}
		}
		for _, c := range g.commands {
			if strings.Contains(list, "\n  "+c.name+" ") != (g.title != "") {
				t.Errorf("command %s of group %q is wrong in %q", c.name, g.title, list)
			}
			out := start(t, "help", c.name).finish(exitDone)
			if !strings.HasPrefix(out, "Usage: orbit "+c.name) || !strings.Contains(out, "Flags:") {
				t.Errorf("got help of %s: %q", c.name, out)
			}
			if g.title != "" && !strings.Contains(out, "\n  orbit "+c.name) && !strings.Contains(out, "| orbit "+c.name) {
				t.Errorf("help of %s has no example: %q", c.name, out)
			}
			for line := range strings.Lines(out) {
				if utf8.RuneCountInString(line) > 81 && !strings.HasPrefix(line, "    \t") { // but for flags
					t.Errorf("help of %s has a line of more than 80 characters: %q", c.name, line)
				}
			}
		}
	}
}

func TestLiveScreenReplacesItsBlockAndKeepsWhatWasSaid(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := &screen{out: w, live: true}
	s.show([]string{"one", "two"})
	s.say("said")
	s.show([]string{"three"})
	s.end()
	s.say("last")
	w.Close()
	got, _ := io.ReadAll(r)
	line := func(s string) string { return s + "\x1b[K\n" }
	frame := func(up, stay, block string) string {
		return "\x1b[?25l" + up + "\r" + stay + "\x1b[?7l" + block + "\x1b[J\x1b[?7h\x1b[?25h"
	}
	want := frame("", "", line("one")+line("two")) +
		frame("\x1b[2A", line("said"), line("one")+line("two")) +
		frame("\x1b[2A", "", line("three")) +
		frame("", line("last"), "")
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
