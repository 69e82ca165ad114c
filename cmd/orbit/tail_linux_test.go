package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"orbit"
	"orbit/internal/proc"
)

// halt stops a process and returns when all its threads stand still.
func halt(t *testing.T, p *os.Process) {
	t.Helper()
	must(0, p.Signal(syscall.SIGSTOP))(t)
	proc.Eventually(t, fmt.Sprintf("process %d is stopped", p.Pid), func() bool { return proc.Stopped(p.Pid) })
}

func TestTailThatWasStoppedTellsHowManyItMissed(t *testing.T) {
	f := joinFleet(t, map[uint8]orbit.Geometry{orbit.KindEvents: {Capacity: 8, PayloadLimit: 64}})
	bus := openBus(t, f)
	publish(t, bus, "before", "")
	c := start(t, "tail", "-f", f.Name())
	c.until("before")
	halt(t, c.Process)
	want := []string{"before", "-- 12 overwritten --"}
	for i := range 20 {
		publish(t, bus, "more", fmt.Sprint(i))
		if i >= 12 {
			want = append(want, fmt.Sprintf("more %d", i))
		}
	}
	c.Process.Signal(syscall.SIGCONT)
	c.until("more +19")
	c.Process.Signal(os.Interrupt)
	wantLines(t, columns(c.finish(exitDone), 3), want...)
}

func TestTailSaysThatItsRingWasRemovedByHand(t *testing.T) {
	f := joinFleet(t, nil)
	publish(t, openBus(t, f), "there", "")
	c := start(t, "tail", "-f", f.Name())
	c.until("there")
	must(0, os.Remove(fmt.Sprintf("/dev/shm/orbit-%s-%d-%d", f.Name(), orbit.KindEvents, os.Geteuid())))(t)
	c.finish(exitFailed)
	if got := c.stderr.String(); !strings.Contains(got, "its segment was removed while in use") {
		t.Errorf("got %q on standard error, want it to say that the segment was removed", got)
	}
}
