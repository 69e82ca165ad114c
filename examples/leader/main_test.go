//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func init() {
	proc.Helper("leader", func([]string) error { main(); return nil })
}

func TestMain(m *testing.M) { proc.Main(m) }

// A crowd is some processes of one fleet, and what they say.
type crowd struct {
	t     *testing.T
	fleet string
	dir   string
	procs []*proc.Process
	said  chan saying
	log   []string
}

// A saying is a line of output, and whose.
type saying struct {
	who  int
	text string
}

func start(t *testing.T, n int, args ...string) *crowd {
	c := &crowd{t: t, fleet: proc.Fleet(t), dir: t.TempDir(), said: make(chan saying, 1000)}
	args = append([]string{"-fleet", c.fleet, "-dir", c.dir, "-every", "50ms"}, args...)
	for i := range n {
		p := proc.Start(t, "leader", args...)
		c.procs = append(c.procs, p)
		go func() {
			for p.Stdout.Scan() {
				c.said <- saying{i, p.Stdout.Text()}
			}
		}()
	}
	return c
}

// until waits until a process that is wanted says what matches, and returns
// which one did and what the group of the pattern matched.
func (c *crowd) until(pattern string, wanted func(who int) bool) (who, number int) {
	c.t.Helper()
	re := regexp.MustCompile(pattern)
	patience := time.After(60 * time.Second)
	for {
		select {
		case s := <-c.said:
			c.log = append(c.log, fmt.Sprintf("%d: %s", s.who, s.text))
			if m := re.FindStringSubmatch(s.text); m != nil && wanted(s.who) {
				number, _ := strconv.Atoi(m[len(m)-1])
				return s.who, number
			}
		case <-patience:
			c.t.Fatalf("nobody wanted said %q:\n%q", pattern, c.log)
		}
	}
}

const (
	leads = `leads with token (\d+)`
	wrote = `wrote result \d+ with token (\d+)`
)

func anyone(int) bool { return true }

func only(n int) func(int) bool { return func(who int) bool { return who == n } }

func but(n int) func(int) bool { return func(who int) bool { return who != n } }

// tokens reads the ledger: the token of each entry, in order.
func (c *crowd) tokens() (tokens []uint64) {
	c.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(c.dir, "*"))
	if err != nil || len(dirs) != 1 {
		c.t.Fatalf("got ledgers %q, error %v, want one", dirs, err)
	}
	l := &Ledger{dir: dirs[0]}
	for n := 1; ; n++ {
		if _, err := os.Stat(l.path(n)); err != nil {
			return tokens
		}
		token, err := l.token(n)
		if err != nil {
			c.t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
}

// wantOrder wants that no result of a leader is behind one of its successors.
func (c *crowd) wantOrder(leaders int) {
	c.t.Helper()
	tokens := c.tokens()
	changes := 0
	for i, token := range tokens {
		switch {
		case i == 0 || token > tokens[i-1]:
			changes++
		case token < tokens[i-1]:
			c.t.Fatalf("entry %d has token %d, behind %d; all tokens: %d", i+1, token, tokens[i-1], tokens)
		}
	}
	if changes < leaders {
		c.t.Errorf("got %d leaders in the ledger, want at least %d; tokens %d", changes, leaders, tokens)
	}
}

// stopLeader stops a leader that has begun the job, until another one leads.
func (c *crowd) stopLeader() (stopped int) {
	c.t.Helper()
	for {
		who, _ := c.until("begins the job", anyone)
		c.procs[who].Stop()
		// On a busy machine what it said may be old news.
		if c.holder() == c.procs[who].Process.Pid {
			c.until(leads, but(who))
			return who
		}
		c.procs[who].Continue()
	}
}

// holder returns the process id of who holds the job, 0 if nobody does.
func (c *crowd) holder() int {
	c.t.Helper()
	fleet, err := orbit.Observe(c.fleet)
	if err != nil {
		c.t.Fatal(err)
	}
	defer fleet.Close()
	contest, err := orbit.OpenContest(fleet)
	if err != nil {
		c.t.Fatal(err)
	}
	holder, _, err := orbit.HolderOf[Job](contest, "report")
	if err != nil {
		c.t.Fatal(err)
	}
	return holder.PID
}

func TestOneLeadsAndAnotherTakesOverWhenItIsKilled(t *testing.T) {
	t.Parallel()
	c := start(t, 3, "-ttl", "1h", "-work", "10ms")
	leader, token := c.until(leads, anyone)
	for range 2 {
		c.until(wrote, only(leader))
		c.procs[leader].Kill()
		next, nextToken := c.until(leads, but(leader))
		if nextToken <= token {
			t.Errorf("process %d leads with token %d, after one with %d", next, nextToken, token)
		}
		leader, token = next, nextToken
	}
	c.until(wrote, only(leader))
	c.wantOrder(3)
}

func TestLateResultOfAStoppedLeaderIsRefused(t *testing.T) {
	t.Parallel()
	c := start(t, 3, "-ttl", "500ms", "-work", "200ms", "-deaf")
	// The leader may be stopped between two runs. Then it has no result to be
	// late with, and the next one is tried.
	for range 20 {
		leader := c.stopLeader()
		c.procs[leader].Continue()
		_, seen := c.until(`leads no more: .* seen (\d+)|leads no more`, only(leader))
		c.wantOrder(2)
		if seen > 0 {
			return
		}
	}
	t.Fatalf("no late result was refused:\n%q", c.log)
}

func TestContextCutsTheJobOfAStoppedLeaderShort(t *testing.T) {
	t.Parallel()
	c := start(t, 2, "-ttl", "500ms", "-work", "1h")
	leader := c.stopLeader()
	c.procs[leader].Continue()
	c.until("leads no more: job cut short: .*guard has lapsed", only(leader))
	c.wantOrder(2)
}

func TestLastToLeaveRemovesTheFleet(t *testing.T) {
	t.Parallel()
	c := start(t, 2, "-ttl", "1h", "-work", "10ms")
	leader, _ := c.until(wrote, anyone)
	c.procs[leader].Process.Signal(os.Interrupt)
	c.procs[leader].Finish()
	other, _ := c.until(wrote, but(leader))
	c.procs[other].Process.Signal(os.Interrupt)
	c.procs[other].Finish()
	if _, err := orbit.Observe(c.fleet); !errors.Is(err, orbit.ErrNotExist) {
		t.Errorf("got error %v, want that the fleet does not exist", err)
	}
}
