package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"orbit"
)

// benchNames are the figures in the order in which they are measured.
var benchNames = []string{
	"atomic add", "publish 64 B", "newest 64 B", "next of a cursor 64 B",
	"store a value of 16 B", "load a value of 16 B",
	"publish an event of 64 B", "poll an event of 64 B",
	"put 64 B into the cache", "get 64 B from the cache",
	"claim and release", "beat",
	"2 writer processes, per frame 64 B", "4 writer processes, per frame 64 B",
	"wake of another process, p50", "wake of another process, p99",
}

// fleetsOfBench returns the fleets of a bench with a process id.
func fleetsOfBench(t *testing.T, pid int) (names []string) {
	t.Helper()
	fleets, err := orbit.Fleets()
	if err != nil {
		t.Skip(err)
	}
	for _, name := range fleets {
		if strings.HasPrefix(name, benchPrefix(pid)) {
			names = append(names, name)
		}
	}
	return names
}

func TestBenchMeasuresEverythingAndLeavesNothing(t *testing.T) {
	demoFleet(t) // or skip
	c := start(t, "bench", "-for", "300ms", "-json")
	said := c.finish(exitDone)
	var report benchReport
	if err := json.Unmarshal([]byte(said), &report); err != nil {
		t.Fatalf("%v in %s", err, said)
	}
	var names []string
	for i, row := range report.Results {
		names = append(names, row.Name)
		if row.Nanos <= 0 || row.Ratio <= 0 || i == 0 && row.Ratio != 1 {
			t.Errorf("got %+v", row)
		}
		if row.Allocs != nil && *row.Allocs != 0 && row.Name != "claim and release" {
			t.Errorf("%s: got %v allocations per call, want none", row.Name, *row.Allocs)
		}
	}
	wantLines(t, names, benchNames...)
	if left := fleetsOfBench(t, c.Process.Pid); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
}

func TestBenchPrintsOneLineForEachFigure(t *testing.T) {
	demoFleet(t) // or skip
	said := start(t, "bench", "-for", "200ms").finish(exitDone)
	var names []string
	for line := range strings.Lines(said) {
		if m := regexp.MustCompile(`^(\S.*?) +[\d.]+ ns +[\d.]+x +[\d.]+[kM]? *[\d.]*\n$`).FindStringSubmatch(line); m != nil {
			names = append(names, m[1])
		}
	}
	wantLines(t, names, benchNames...)
}

func TestInterruptedBenchLeavesNothing(t *testing.T) {
	demoFleet(t) // or skip
	for _, patience := range []string{"atomic add", "^2 writer"} {
		c := start(t, "bench", "-for", "2s")
		c.until(patience)
		if got := fleetsOfBench(t, c.Process.Pid); len(got) != 1 {
			t.Errorf("at work, got fleets %q, want one", got)
		}
		c.Process.Signal(os.Interrupt)
		c.finish(exitInterrupted)
		if left := fleetsOfBench(t, c.Process.Pid); len(left) > 0 {
			t.Errorf("interrupted, it left %q", left)
		}
	}
}

func TestKilledBenchLeavesNothing(t *testing.T) {
	demoFleet(t) // or skip
	c := start(t, "bench", "-for", "60s")
	c.until("processors")
	c.Process.Signal(syscall.SIGKILL)
	c.Wait()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := fleetsOfBench(t, c.Process.Pid)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			for _, name := range left {
				orbit.Remove(name)
			}
			t.Fatalf("killed, it left %q", left)
		}
	}
}

func TestBenchSaysWhatItCannotDo(t *testing.T) {
	for args, want := range map[string]string{
		"bench more":       `want no arguments, found ["more"]`,
		"bench -for 100ms": "want at least 200ms",
	} {
		p := start(t, strings.Fields(args)...)
		p.finish(exitUsage)
		if got := p.stderr.String(); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q in it", args, got, want)
		}
	}
}
