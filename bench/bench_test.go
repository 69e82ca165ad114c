//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shortest is enough to see that everything works, and says nothing of speed.
var shortest = effort{rounds: 5, round: time.Millisecond, crowds: 5, crowd: 5 * time.Millisecond, samples: 50, wakes: 20}

var everything = regexp.MustCompile("")

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "sibling" {
		check(beSibling(os.Args[2]))
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "run" {
		check(longRun())
		return
	}
	os.Exit(m.Run())
}

// longRun names its traces, says once it is at work, and is meant to be
// interrupted.
func longRun() error {
	b, err := newBench(shortest, os.Stdout)
	if err != nil {
		return err
	}
	defer b.close()
	defer b.closeWhenInterrupted()()
	fmt.Println(b.prefix())
	r := newResults(shortest)
	for {
		if err := b.run(jobs(allPoints), b.serve(everything, r), r); err != nil {
			return err
		}
	}
}

func newTestBench(t *testing.T) *bench {
	t.Helper()
	b, err := newBench(shortest, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

func TestEveryJobHasFiguresForOrbitAndForWhoeverCanDoIt(t *testing.T) {
	b := newTestBench(t)
	r := newResults(shortest)
	there := b.serve(everything, r)
	list := jobs(fewPoints)
	if err := b.run(list, there, r); err != nil {
		t.Error(err)
	}
	for i, g := range r.Groups {
		orbits := 0
		for _, f := range g.Figures {
			if f.Error != "" {
				t.Errorf("%s, %s: %s", g.Name, f.Peer, f.Error)
				continue
			}
			if !(f.Nanos > 0) || math.IsInf(f.Nanos, 0) || !(f.Ratio > 0) {
				t.Errorf("%s, %s: got %v ns and %v atomic adds, want more than 0", g.Name, f.Peer, f.Nanos, f.Ratio)
			}
			if r.classOf(f.Peer) == classOrbit {
				orbits++
				checkAllocs(t, g.Name, f)
			}
		}
		if orbits == 0 {
			t.Errorf("%s: no figure for Orbit", g.Name)
		}
		for _, p := range there {
			if can, has := list[i].can(p), figured(g, p.name); can != has {
				t.Errorf("%s: %s has a figure: %v, can do the job: %v", g.Name, p.name, has, can)
			}
		}
	}
	for _, m := range r.Missing {
		t.Logf("missing: %s: %s", m.Peer, m.Reason)
	}
}

func figured(g group, peer string) bool {
	for _, f := range g.Figures {
		if f.Peer == peer {
			return true
		}
	}
	return false
}

// checkAllocs wants no allocation where Orbit promises none.
func checkAllocs(t *testing.T, job string, f figure) {
	for _, free := range []string{"latest/", "cache/", "event/publish", "payload/", "capacity/", "members/"} {
		if strings.HasPrefix(job, free) && (f.Allocs == nil || *f.Allocs >= 0.5) {
			t.Errorf("%s, %s: allocates, want no allocation: %v", job, f.Peer, f.row())
		}
	}
}

func (f figure) row() []string { return group{}.row(f) }

func TestMissingPeersAreNamedWithTheReason(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	b := newTestBench(t)
	r := newResults(shortest)
	there := b.serve(regexp.MustCompile("^(orbit|Redis|memcached)$"), r)
	if len(there) != 1 || there[0].name != "orbit" {
		t.Errorf("without programs got %d peers, want orbit alone", len(there))
	}
	var text, chart bytes.Buffer
	if err := b.run(chosen(jobs(fewPoints), regexp.MustCompile("^latest/write$")), there, r); err != nil {
		t.Fatal(err)
	}
	if err := r.text(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.chart(&chart); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Redis", "memcached"} {
		if want := "MISSING on this machine: " + name + ": no program "; !strings.Contains(text.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, text.String())
		}
		if !strings.Contains(chart.String(), name) {
			t.Errorf("the chart does not name %s as missing", name)
		}
	}
}

// A peer that lets two in would win at claiming without doing the work.
func TestAClaimKeepsSiblingsOutUntilItIsReleased(t *testing.T) {
	b := newTestBench(t)
	for _, p := range b.serve(everything, newResults(shortest)) {
		if p.claimer == nil {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			at, leave := b.enter(p)
			defer leave()
			c, err := p.claimer(at)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if won, err := c.claim(); err != nil || !won {
				t.Fatalf("first claim: got %v, %v, want true", won, err)
			}
			other, _, err := b.spawn(order{Role: "claim", Peer: p.name, Place: at})
			if err != nil {
				t.Fatal(err)
			}
			defer other.end()
			r := until(t, other, func(r report) bool { return r.Tries >= 3 })
			if r.Count != 0 {
				t.Errorf("a sibling won %d claims while the first stood", r.Count)
			}
			if err := c.release(); err != nil {
				t.Fatal(err)
			}
			until(t, other, func(r report) bool { return r.Count > 0 })
		})
	}
}

// until waits until a sibling reports what is wanted.
func until(t *testing.T, s *sibling, wanted func(report) bool) report {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		r, err := tally(s)
		if err != nil {
			t.Fatal(err)
		}
		if wanted(r[0]) {
			return r[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 20s the sibling reports %+v", r[0])
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAnInterruptedRunLeavesNothing(t *testing.T) {
	for _, progress := range []int{1, 20, 45} {
		prefix, code := endRun(t, progress, os.Interrupt)
		if code != 130 {
			t.Errorf("after %d lines: exit code %d, want 130", progress, code)
		}
		if left := filesOf(prefix); len(left) > 0 {
			t.Errorf("after %d lines: left %v", progress, left)
		}
		if left := processesOf(prefix); len(left) > 0 {
			t.Errorf("after %d lines: processes %v still run", progress, left)
		}
	}
}

func TestSiblingsAndServersEndWithAKilledRun(t *testing.T) {
	prefix, _ := endRun(t, 20, os.Kill)
	for deadline := time.Now().Add(10 * time.Second); len(processesOf(prefix)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("10s after the run was killed, processes %v still run", processesOf(prefix))
		}
	}
}

// endRun starts a run, and sends it a signal once it has told of some
// progress. It returns the prefix of the run's traces and its exit code.
func endRun(t *testing.T, progress int, signal os.Signal) (prefix string, code int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "run")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	lines.Scan()
	prefix = lines.Text()
	if !regexp.MustCompile(`^bench-\d+$`).MatchString(prefix) {
		t.Fatalf("the run names its traces %q, want bench- and a number", prefix)
	}
	t.Cleanup(func() {
		for _, pid := range processesOf(prefix) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		for _, f := range filesOf(prefix) {
			os.RemoveAll(f)
		}
	})
	for range progress {
		lines.Scan()
	}
	cmd.Process.Signal(signal)
	io.Copy(io.Discard, out)
	cmd.Wait()
	return prefix, cmd.ProcessState.ExitCode()
}

// filesOf returns what a run has in shared memory.
func filesOf(prefix string) []string {
	dir, _ := filepath.Glob("/dev/shm/" + prefix)
	segments, _ := filepath.Glob("/dev/shm/orbit-" + prefix + ".*")
	return append(dir, segments...)
}

// processesOf returns the processes whose arguments mention a run.
func processesOf(prefix string) (pids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		if arguments, err := os.ReadFile(path); err == nil && bytes.Contains(arguments, []byte(prefix)) {
			var pid int
			fmt.Sscanf(path, "/proc/%d/", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestTheChartIsWellFormedAndShowsEveryFigure(t *testing.T) {
	r := &results{
		Peers: []peerNotes{{Name: "orbit", Class: classOrbit}, {Name: "R & D", Class: classServer}},
		Groups: []group{
			{Title: "a < b", Chart: true, Figures: []figure{{Peer: "R & D", Nanos: 31_000}, {Peer: "orbit", Nanos: 1}}},
			{Title: "a rate", Chart: true, Rate: true, Figures: []figure{{Peer: "orbit", Nanos: 50}, {Peer: "R & D", Error: "no"}}},
			{Title: "not in it", Figures: []figure{{Peer: "orbit", Nanos: 7e9}}},
		},
	}
	var chart bytes.Buffer
	if err := r.chart(&chart); err != nil {
		t.Fatal(err)
	}
	texts := map[string]int{}
	for d := xml.NewDecoder(&chart); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			texts[string(text)]++
		}
	}
	for text, want := range map[string]int{
		"a < b": 1, "a rate": 1, "not in it": 0, "orbit": 2, "R & D": 1, "31.0 µs": 1, "1.00 ns": 1, "20.0 M/s": 1,
	} {
		if texts[text] != want {
			t.Errorf("the chart has the text %q %d times, want %d", text, texts[text], want)
		}
	}
}

func TestSavedFiguresMakeTheSameTable(t *testing.T) {
	r := newResults(shortest)
	f := figure{Job: "latest/read", Peer: "orbit", Nanos: 6.4, P99: 20, Rounds: []float64{6, 6.4, 9}}
	f.allocates(0)
	r.Peers = []peerNotes{{Name: "orbit", Class: classOrbit, Does: []string{"latest value"}}}
	r.Missing = []missing{{"Redis", "no program"}}
	r.Groups = []group{{Name: "latest/read", Title: "read", Figures: []figure{f}}}
	r.relate(2.5, 2)
	path := filepath.Join(t.TempDir(), "figures.json")
	if err := writeTo(path, r.json); err != nil {
		t.Fatal(err)
	}
	saved, err := readResults(path)
	if err != nil {
		t.Fatal(err)
	}
	var got, want bytes.Buffer
	saved.text(&got)
	r.text(&want)
	if got.String() != want.String() {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want.String())
	}
	if !strings.Contains(want.String(), "3.20x") {
		t.Errorf("want a ratio of 3.20 to the smaller atomic add:\n%s", want.String())
	}
}

func TestQuantiles(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		q    float64
		want float64
	}{
		{nil, 0.5, 0},
		{[]float64{3}, 0.99, 3},
		{[]float64{9, 1, 5}, 0.5, 5},
		{[]float64{4, 1, 3, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 1, 4},
		{[]float64{4, 1, 3, 2}, 0, 1},
	} {
		if got := quantile(c.of, c.q); got != c.want {
			t.Errorf("quantile %v of %v: got %v, want %v", c.q, c.of, got, c.want)
		}
	}
}
