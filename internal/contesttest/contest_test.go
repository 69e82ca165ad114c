// Package contesttest holds the contest to its promises with many processes:
// they are killed and stopped at any moment, and their claims end under them.
package contesttest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func TestMain(m *testing.M) { proc.Main(m) }

// job is the kind of all subjects here.
type job struct{}

func (job) OrbitKind() uint8 { return 12 }

// small makes the smallest table: for 64 claims.
var small = map[uint8]orbit.Geometry{orbit.KindContest: {Capacity: 8}}

func open(name string, node uint16) (*orbit.Fleet, *orbit.Contest, error) {
	f, err := orbit.Join(name, orbit.Options{Size: 16, Node: node, Rings: small})
	if err != nil {
		return nil, nil, err
	}
	c, err := orbit.OpenContest(f)
	return f, c, err
}

func mustOpen(t *testing.T, name string) *orbit.Contest {
	t.Helper()
	f, c, err := open(name, 0)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return c
}

func init() {
	proc.Helper("hold", hold)
	proc.Helper("race", race)
}

// hold claims each label after the first three arguments: the fleet, the node
// and the TTL. It prints the tokens, and at each line it reads what has become
// of the first guard.
func hold(args []string) error {
	read := proc.WatchParent()
	node, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return err
	}
	ttl, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	_, c, err := open(args[0], uint16(node))
	if err != nil {
		return err
	}
	var guards []*orbit.Guard
	for _, label := range args[3:] {
		g, err := orbit.Claim[job](c, label, "holder", ttl)
		if err != nil {
			return err
		}
		guards = append(guards, g)
		fmt.Println(g.Token())
	}
	ctx := guards[0].Context()
	for read() != "" {
		valid := guards[0].Valid()
		if !valid {
			<-ctx.Done()
		}
		fmt.Println(valid, guards[0].Release())
	}
	return nil
}

// startHolder starts a process that holds the labels, and returns the token of
// the last.
func startHolder(t *testing.T, name string, node int, ttl string, labels ...string) (*proc.Process, uint64) {
	t.Helper()
	p := proc.Start(t, "hold", append([]string{name, fmt.Sprint(node), ttl}, labels...)...)
	var token uint64
	for range labels {
		if _, err := fmt.Sscan(p.Line(), &token); err != nil {
			t.Fatal(err)
		}
	}
	return p, token
}

func kill(p *proc.Process) {
	p.Kill()
	p.Died(syscall.SIGKILL)
}

func TestClaimOfTheDeadFallsAtOnce(t *testing.T) {
	name := proc.Fleet(t)
	c := mustOpen(t, name)
	p, token := startHolder(t, name, 0, "1000h", "x")
	var held *orbit.HeldError
	if _, err := orbit.Claim[job](c, "x", "heir", time.Hour); !errors.As(err, &held) {
		t.Fatalf("Claim while a process holds the subject = %v, want a HeldError", err)
	}
	if h := held.Holder; h.PID != p.Process.Pid || h.Token != token || h.Owner != "holder" {
		t.Errorf("holder = %+v, want process %d with token %d", h, p.Process.Pid, token)
	}
	kill(p)
	if h, found, err := orbit.HolderOf[job](c, "x"); found || err != nil {
		t.Errorf("HolderOf after the holder's death = %+v, %v, %v", h, found, err)
	}
	g, err := orbit.Claim[job](c, "x", "heir", time.Hour)
	if err != nil {
		t.Fatalf("Claim after the holder's death: %v", err)
	}
	if g.Token() <= token {
		t.Errorf("token %d after %d", g.Token(), token)
	}
}

func TestClaimOfTheDeadIsAnnouncedAsFallen(t *testing.T) {
	name := proc.Fleet(t)
	c := mustOpen(t, name)
	news := c.Ring().Tail()
	p, token := startHolder(t, name, 0, "1000h", "x")
	kill(p)
	if _, err := orbit.Claim[job](c, "x", "heir", time.Hour); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		f, _, err := news.Next(nil)
		if err != nil {
			break
		}
		e, err := orbit.DecodeClaim(f)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Change, " ", e.Holder.Owner, " ", e.Holder.Token == token))
	}
	if want := "claimed holder true, fell holder true, claimed heir false"; strings.Join(got, ", ") != want {
		t.Errorf("announced: %s; want %s", strings.Join(got, ", "), want)
	}
}

func TestWaitFreeNoticesADeath(t *testing.T) {
	name := proc.Fleet(t)
	c := mustOpen(t, name)
	p, _ := startHolder(t, name, 0, "1000h", "x")
	done := make(chan error, 1)
	go func() { done <- orbit.WaitFree[job](context.Background(), c, "x") }()
	time.Sleep(10 * time.Millisecond)
	kill(p)
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("WaitFree = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("WaitFree sleeps on after the holder's death")
	}
}

func TestStoppedHolderIsToldThatItLapsed(t *testing.T) {
	name := proc.Fleet(t)
	c := mustOpen(t, name)
	p, token := startHolder(t, name, 0, "300ms", "x")
	p.Stop()
	if err := orbit.WaitFree[job](context.Background(), c, "x"); err != nil {
		t.Fatal(err)
	}
	g, err := orbit.Claim[job](c, "x", "heir", time.Hour)
	if err != nil {
		t.Fatalf("Claim after the TTL of a stopped holder: %v", err)
	}
	p.Continue()
	p.Say("well?")
	if got := p.Line(); !strings.HasPrefix(got, "false orbit:") || !strings.Contains(got, "has lapsed") {
		t.Errorf("the stopped holder says %q, want false and ErrLapsed", got)
	}
	if !g.Valid() || g.Token() <= token {
		t.Errorf("the heir's guard: valid %v, token %d after %d", g.Valid(), g.Token(), token)
	}
}

func TestStoppedHolderKeepsItsClaimForItsTTL(t *testing.T) {
	name := proc.Fleet(t)
	c := mustOpen(t, name)
	p, _ := startHolder(t, name, 0, "1000h", "x")
	p.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := orbit.WaitFree[job](ctx, c, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitFree = %v, want DeadlineExceeded", err)
	}
	p.Continue()
	p.Say("well?")
	if got := p.Line(); got != "true <nil>" {
		t.Errorf("the stopped holder says %q, want true <nil>", got)
	}
}

func TestRestartedOwnerClaimsAtOnce(t *testing.T) {
	name := proc.Fleet(t)
	mustOpen(t, name)
	last := uint64(0)
	for range 5 {
		p, token := startHolder(t, name, 7, "1000h", "x", "y")
		if token <= last {
			t.Errorf("token %d after %d", token, last)
		}
		last = token
		kill(p)
	}
}

func TestRecordsOfTheDeadComeBack(t *testing.T) {
	name := proc.Fleet(t)
	c := mustOpen(t, name)
	var labels []string
	for i := range c.Capacity() {
		labels = append(labels, fmt.Sprint("dead", i))
	}
	for round := range 4 {
		p, _ := startHolder(t, name, 0, "1000h", labels...)
		if _, err := orbit.Claim[job](c, "one more", "o", time.Hour); !errors.Is(err, orbit.ErrTableFull) {
			t.Fatalf("claim in a full table = %v, want ErrTableFull", err)
		}
		kill(p)
		takeAll(t, c, fmt.Sprint("heir", round))
	}
}

// takeAll claims as many subjects as the table has room for, from several
// goroutines, and releases them: no record may be lost, or given out twice.
func takeAll(t *testing.T, c *orbit.Contest, prefix string) {
	t.Helper()
	const workers = 4
	results := make(chan []*orbit.Guard, workers)
	for w := range workers {
		go func() {
			var guards []*orbit.Guard
			for i := w; i < c.Capacity(); i += workers {
				g, err := orbit.Claim[job](c, fmt.Sprint(prefix, i), "o", math.MaxInt64)
				if err != nil {
					t.Errorf("claim %d of %d: %v", i, c.Capacity(), err)
					break
				}
				guards = append(guards, g)
			}
			results <- guards
		}()
	}
	var all []*orbit.Guard
	for range workers {
		all = append(all, <-results...)
	}
	if _, err := orbit.Claim[job](c, prefix+" one more", "o", time.Hour); !errors.Is(err, orbit.ErrTableFull) && !t.Failed() {
		t.Errorf("claim in a full table = %v, want ErrTableFull", err)
	}
	for i, g := range all {
		if !g.Valid() {
			t.Errorf("guard %d was lost", i)
		}
		g.Release()
	}
}

// race claims subjects 0 to n-1 as fast as it can, never releases one, and
// prints which it won.
func race(args []string) error {
	read := proc.WatchParent()
	f, err := orbit.Join(args[0], orbit.Options{Size: 16})
	if err != nil {
		return err
	}
	c, err := orbit.OpenContest(f)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	read()
	n, _ := strconv.Atoi(args[1])
	won := ""
	for i := range n {
		g, err := orbit.Claim[job](c, fmt.Sprint(i), "racer", math.MaxInt64)
		if err != nil && !errors.Is(err, orbit.ErrHeld) {
			return err
		}
		if g != nil {
			won += fmt.Sprint(i, ":", g.Token(), " ")
		}
	}
	fmt.Println(won)
	read()
	return nil
}

func TestOneOfManyProcessesWins(t *testing.T) {
	const processes, subjects = 8, 1000
	name := proc.Fleet(t)
	f, err := orbit.Join(name, orbit.Options{Size: 16})
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	var racers []*proc.Process
	for range processes {
		racers = append(racers, proc.Start(t, "race", name, fmt.Sprint(subjects)))
	}
	for _, p := range racers {
		p.Line()
	}
	for _, p := range racers {
		p.Say("go")
	}
	winners := make([]int, subjects)
	tokens := map[uint64]bool{}
	for _, p := range racers {
		for _, w := range strings.Fields(p.Line()) {
			var i int
			var token uint64
			if _, err := fmt.Sscanf(w, "%d:%d", &i, &token); err != nil {
				t.Fatal(err)
			}
			winners[i]++
			if tokens[token] {
				t.Errorf("token %d was given out twice", token)
			}
			tokens[token] = true
		}
	}
	for i, n := range winners {
		if n != 1 {
			t.Errorf("subject %d has %d holders, want 1", i, n)
		}
	}
	for _, p := range racers {
		p.Say("done")
		p.Finish()
	}
}
