//go:build linux

package fleettest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func TestMain(m *testing.M) { proc.Main(m) }

// ---- Payloads that verify themselves ----

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// payload appends n bytes to dst that no other seed gives, and returns them
// with the version that vouches for them: a sum over the bytes, and how many
// there are.
func payload(dst []byte, seed uint64, n int) ([]byte, uint64) {
	start := len(dst)
	word := seed*0x9e3779b97f4a7c15 + 1
	for len(dst)-start+8 <= n {
		dst = binary.LittleEndian.AppendUint64(dst, word)
		word = word*6364136223846793005 + 1442695040888963407
	}
	for len(dst)-start < n {
		dst = append(dst, byte(word))
		word >>= 8
	}
	return dst, versionOf(dst[start:])
}

func versionOf(p []byte) uint64 {
	return uint64(crc32.Checksum(p, castagnoli))<<32 | uint64(len(p))
}

// verify returns an error if a frame is not, byte for byte, one that payload
// made.
func verify(f orbit.Frame) error {
	if want := versionOf(f.Payload); f.Version != want {
		return fmt.Errorf("frame %v is torn: %d bytes that sum up to %#x, written as %#x", f.ID, len(f.Payload), want, f.Version)
	}
	return nil
}

// ---- A cursor whose accounts are checked at every step ----

type audited struct {
	*orbit.Cursor
	ring  *orbit.Ring
	start uint64
	sum   orbit.Tally // what the results said, added up
}

func audit(r *orbit.Ring, c *orbit.Cursor) *audited {
	return &audited{Cursor: c, ring: r, start: c.Position()}
}

// next is Cursor.Next with a look at everything it promises.
func (a *audited) next(buf []byte) (f orbit.Frame, err error) {
	f, gap, err := a.Next(buf)
	a.sum.Overwritten += gap.Overwritten
	a.sum.Holes += gap.Holes
	a.sum.Lost += gap.Lost
	if err == nil {
		a.sum.Delivered++
		if bad := a.check(f); bad != nil {
			return f, bad
		}
	}
	if bad := a.balance(); bad != nil {
		return f, bad
	}
	return f, err
}

// errUnsound is what the checks of this package fail with.
var errUnsound = errors.New("unsound")

func (a *audited) check(f orbit.Frame) error {
	if err := verify(f); err != nil {
		return fmt.Errorf("%w: %w", errUnsound, err)
	}
	if got, want := f.ID.Counter(), (a.Position()-1)%(1<<orbit.CounterBits); got != want {
		return fmt.Errorf("%w: the cursor delivered counter %d, but stood at %d", errUnsound, got, want)
	}
	return nil
}

func (a *audited) balance() error {
	t := a.Tally()
	if passed := a.Position() - a.start; t.Delivered+t.Total() != passed || t != a.sum {
		return fmt.Errorf("%w: accounts: %+v in the tally, %+v by the results, %d counters passed", errUnsound, t, a.sum, passed)
	}
	return nil
}

// drain reads until nothing more is ready.
func (a *audited) drain(buf []byte) error {
	for {
		f, err := a.next(buf)
		if errors.Is(err, orbit.ErrNoFrame) {
			return nil
		}
		if err != nil {
			return err
		}
		buf = f.Payload[:0]
	}
}

// ---- Small things ----

func join(t testing.TB, name string, opts orbit.Options) *orbit.Fleet {
	t.Helper()
	if opts.Size == 0 {
		opts.Size = 4
	}
	f, err := orbit.Join(name, opts)
	if err != nil {
		t.Fatalf("Join(%q): %v", name, err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func ring(t testing.TB, f *orbit.Fleet, kind uint8) *orbit.Ring {
	t.Helper()
	r, err := f.Ring(kind)
	if err != nil {
		t.Fatalf("Ring(%d): %v", kind, err)
	}
	return r
}

func publish(t testing.TB, r *orbit.Ring, seed uint64, n int) orbit.NetID64 {
	t.Helper()
	p, version := payload(nil, seed, n)
	id, err := r.Publish(1, version, p)
	if err != nil {
		t.Fatalf("Publish of %d bytes: %v", n, err)
	}
	return id
}

// one gives a fleet's ring of a kind this geometry.
func one(kind uint8, capacity, limit int) orbit.Options {
	return orbit.Options{Size: 4, Rings: map[uint8]orbit.Geometry{kind: {Capacity: capacity, PayloadLimit: limit}}}
}

// within fails the test, at once, if run hangs.
func within(t testing.TB, limit time.Duration, what string, run func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); run() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s hangs: not done after %v", what, limit)
	}
}

// stopped waits until the kernel says that every thread of the process has
// stopped.
func stopped(t testing.TB, pid int) {
	t.Helper()
	proc.Eventually(t, fmt.Sprintf("process %d is stopped", pid), func() bool { return proc.Stopped(pid) })
}

// long tells for how many seconds a soak may run: ORBIT_SOAK, or fallback.
func long(fallback time.Duration) time.Duration {
	if s, err := strconv.ParseFloat(os.Getenv("ORBIT_SOAK"), 64); err == nil && s > 0 {
		return time.Duration(s * float64(time.Second))
	}
	if testing.Short() {
		return fallback / 4
	}
	return fallback
}

// ---- Helpers in other surroundings ----

func init() { proc.Helper("launch", launch) }

// launchable is what launch can run.
var launchable = map[string]func(args []string) error{"cramped": cramped, "member": member}

// launch runs one of them as its child in surroundings that only a new process
// can have: launch namespaces name args... The child is a launch inside.
func launch(args []string) error {
	if args[0] == "inside" {
		return launchable[args[1]](args[2:])
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := append([]string{self, "inside"}, args[1:]...)
	if run := os.Getenv("ORBIT_TEST_EXEC"); run != "" {
		argv = append(strings.Fields(run), argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		// In a namespace of users around the others it may make them, too.
		const capSysAdmin = 21
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{capSysAdmin}
	}
	for _, ns := range strings.Split(args[0], ",") {
		switch ns {
		case "pid":
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
		case "mount":
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNS
		}
	}
	if err := cmd.Start(); err != nil {
		fmt.Println("cannot:", err)
		return nil
	}
	return cmd.Wait()
}

// launched starts something in new namespaces, and skips the test where the
// machine does not allow it. It must begin by printing a line.
func launched(t testing.TB, namespaces, name string, args ...string) (*proc.Process, string) {
	t.Helper()
	p := proc.Start(t, "launch", append([]string{namespaces, name}, args...)...)
	first := p.Line()
	if strings.HasPrefix(first, "cannot:") {
		t.Skipf("this machine allows no new %s namespace: %s", namespaces, first)
	}
	return p, first
}

// neverDone is a context for helpers, which end with their parent.
func neverDone() context.Context { return context.Background() }

// classify names the sentinel that an error matches, for helpers to print.
func classify(err error) string {
	for _, s := range []struct {
		name string
		err  error
	}{
		{"ErrClosed", orbit.ErrClosed}, {"ErrDamaged", orbit.ErrDamaged}, {"ErrForeign", orbit.ErrForeign},
		{"ErrVersion", orbit.ErrVersion}, {"ErrNoSpace", orbit.ErrNoSpace}, {"ErrGeometry", orbit.ErrGeometry},
		{"ErrNotExist", orbit.ErrNotExist}, {"ErrInUse", orbit.ErrInUse}, {"ErrFull", orbit.ErrFull},
		{"ErrBusy", orbit.ErrBusy}, {"ErrNoFrame", orbit.ErrNoFrame}, {"ErrType", orbit.ErrType},
		{"ErrReadOnly", orbit.ErrReadOnly}, {"ErrNode", orbit.ErrNode}, {"ErrTooLarge", orbit.ErrTooLarge},
		{"EMFILE", syscall.EMFILE}, {"ENOMEM", syscall.ENOMEM},
	} {
		if errors.Is(err, s.err) {
			return s.name
		}
	}
	if err == nil {
		return "nil"
	}
	return "unnamed"
}
