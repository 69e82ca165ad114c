//go:build linux

package hostile

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// Two PID namespaces over one /dev/shm, where a process id means nothing to
// the other side: who lives is the kernel's word.

func init() { roles["warden"] = warden }

// warden is process 1 of a PID namespace: it is a keeper, has another keeper
// as its child, and kills that when it is told to: warden fleet.
func warden(args []string) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("process %d, want 1", os.Getpid())
	}
	read := proc.WatchParent()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, "keeper", args[0], "inner")
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if _, err := child.StdinPipe(); err != nil { // it stays open as long as this process
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	if s := bufio.NewScanner(out); !s.Scan() {
		return errors.New("the child says nothing")
	}
	return keep(args[0], "warden", read, map[string]func() string{"kill": func() string {
		child.Process.Kill()
		return fmt.Sprint("killed: ", child.Wait())
	}})
}

// TestDeathIsSeenAcrossPIDNamespaces kills a member on either side: both sides
// see it go, and its claim fall.
func TestDeathIsSeenAcrossPIDNamespaces(t *testing.T) {
	fleet := proc.Fleet(t)
	f := join(t, fleet, crewOptions())
	c := contest(t, f)
	outer := start(t, "keeper", fleet, "outer")
	hear(t, outer, "keeps outer")
	inside := startIn(t, "--pid", "warden", fleet)
	hear(t, inside, "keeps warden")

	list, err := f.Members()
	if err != nil || len(list) != 4 {
		t.Fatalf("Members = %+v, %v; want four", list, err)
	}
	tell(t, inside, "members", "members 4 nil")
	tell(t, inside, "held outer", "held true nil")
	h, held, err := orbit.HolderOf[task](c, "warden")
	if err != nil || !held || h.PID != 1 {
		t.Errorf("the holder inside: %+v, %v, %v; want process 1", h, held, err)
	}
	_, err = orbit.Claim[task](c, "inner", "heir", time.Minute)
	proc.MustBe(t, "Claim of what a process in there holds", err, orbit.ErrHeld)

	// Killed inside, seen from both sides.
	tell(t, inside, "kill", "killed: signal: killed")
	proc.Eventually(t, "three members are left", func() bool { return members(t, f) == 3 })
	becomes(t, inside, "members", "members 3 nil")
	tell(t, inside, "held inner", "held false nil")
	g, err := orbit.Claim[task](c, "inner", "heir", time.Minute)
	if err != nil {
		t.Fatalf("Claim of what was held by a process killed in there: %v", err)
	}
	tell(t, inside, "claim inner", "claim ErrHeld")

	// Killed outside, seen from both sides.
	kill(outer)
	becomes(t, inside, "members", "members 2 nil")
	tell(t, inside, "claim outer", "claim nil")
	if !g.Valid() || members(t, f) != 2 {
		t.Errorf("%d members, and a guard that is valid: %v; want 2, and true", members(t, f), g.Valid())
	}

	// The end of the namespace is the end of all who are in it.
	inside.Kill()
	proc.Eventually(t, "nobody else is left", func() bool { return members(t, f) == 1 })
	for _, subject := range []string{"outer", "warden"} {
		if _, err := orbit.Claim[task](c, subject, "heir", time.Minute); err != nil {
			t.Errorf("Claim of %q after the end of the namespace: %v", subject, err)
		}
	}
	f.Close()
	proc.RemoveFleet(t, fleet)
}
