//go:build linux

package hostile

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

var (
	goesOn = flag.Duration("hostile.for", 0, "how long each random test goes on; 0 means 1.5 s, or 0.4 s with -short")
)

func TestMain(m *testing.M) {
	// With the race detector a process would sleep for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	proc.Main(m)
}

// patience bounds every operation and every answer of a process: what takes
// longer hangs, even on a busy machine.
const patience = 20 * time.Second

// long is how long a random test goes on.
func long() time.Duration {
	switch {
	case *goesOn > 0:
		return *goesOn
	case testing.Short():
		return 400 * time.Millisecond
	}
	return 1500 * time.Millisecond
}

// dice returns random numbers and says from which seed.
func dice(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// ---- Processes ----

// roles are what a process of a test can be. Each file adds its own.
var roles = map[string]func(args []string) error{}

func init() {
	proc.Helper("play", func(args []string) error { return roles[args[0]](args[1:]) })
}

func start(t testing.TB, role string, args ...string) *proc.Process {
	t.Helper()
	return proc.Start(t, "play", append([]string{role}, args...)...)
}

// startIn starts a role in new namespaces: those of the flags of unshare(1),
// and one of users around them for those who are not root. It skips the test
// where the machine does not allow them.
func startIn(t *testing.T, flags, role string, args ...string) *proc.Process {
	t.Helper()
	if os.Geteuid() != 0 {
		flags = "--user --map-current-user --keep-caps " + flags
	}
	argv := append(strings.Fields(flags), "--fork", "--kill-child")
	if out, err := exec.Command("unshare", append(argv, "true")...).CombinedOutput(); err != nil {
		t.Skipf("this machine allows no unshare %s: %v %s", flags, err, out)
	}
	const program = "ORBIT_TEST_EXEC" // what package proc runs test binaries with
	before, was := os.LookupEnv(program)
	os.Setenv(program, strings.TrimSpace("unshare "+strings.Join(argv, " ")+" "+before))
	defer func() {
		if os.Setenv(program, before); !was {
			os.Unsetenv(program)
		}
	}()
	return start(t, role, args...)
}

// answer returns the next line that a process prints. A process that is silent
// for too long is asked where it hangs.
func answer(t testing.TB, p *proc.Process) string {
	t.Helper()
	late := time.AfterFunc(2*patience, func() { p.Process.Signal(syscall.SIGQUIT) })
	defer late.Stop()
	return p.Line()
}

// tell says a line to a process and expects an answer.
func tell(t testing.TB, p *proc.Process, say, want string) {
	t.Helper()
	p.Say(say)
	if got := answer(t, p); got != want {
		t.Fatalf("told to %q, a process answered %q, want %q", say, got, want)
	}
}

// hear fails the test unless the next line of a process is the one wanted.
func hear(t testing.TB, p *proc.Process, want string) {
	t.Helper()
	if got := answer(t, p); got != want {
		t.Fatalf("a process says %q, want %q", got, want)
	}
}

// kill kills a process and waits for its end.
func kill(p *proc.Process) {
	p.Kill()
	p.Died(syscall.SIGKILL)
}

// ---- Bytes that vouch for themselves ----

// vouched returns n bytes, at least 4, that begin with a sum over the others
// and over what they belong to.
func vouched(about string, seed uint64, n int) []byte {
	p := make([]byte, max(n, 4))
	word := seed*0x9e3779b97f4a7c15 + 1
	for i := 4; i < len(p); i++ {
		word = word*6364136223846793005 + 1442695040888963407
		p[i] = byte(word >> 56)
	}
	sum := sumOf(about, p)
	copy(p, []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
	return p
}

// side is whose bytes a process writes, and expects to read.
var side string

func sumOf(about string, p []byte) uint32 {
	sum := crc32.ChecksumIEEE([]byte(side + about))
	return crc32.Update(sum, crc32.IEEETable, append([]byte{byte(len(p)), byte(len(p) >> 8)}, p[4:]...))
}

// check returns an error unless p is, byte for byte, what vouched made.
func check(about string, p []byte) error {
	if len(p) >= 4 {
		sum := sumOf(about, p)
		if p[0] == byte(sum) && p[1] == byte(sum>>8) && p[2] == byte(sum>>16) && p[3] == byte(sum>>24) {
			return nil
		}
	}
	return fmt.Errorf("%w: %d bytes about %q that nobody wrote: %x", errUnsound, len(p), about, p[:min(len(p), 64)])
}

// errUnsound is what a process dies of.
var errUnsound = errors.New("unsound")

// ---- Small things ----

func join(t testing.TB, name string, opts orbit.Options) *orbit.Fleet {
	t.Helper()
	opts.Size = max(opts.Size, 1)
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

func contest(t testing.TB, f *orbit.Fleet) *orbit.Contest {
	t.Helper()
	c, err := orbit.OpenContest(f)
	if err != nil {
		t.Fatalf("OpenContest: %v", err)
	}
	return c
}

// members returns how many members a fleet has.
func members(t testing.TB, f *orbit.Fleet) int {
	t.Helper()
	m, err := f.Members()
	if err != nil {
		t.Fatalf("Members: %v", err)
	}
	return len(m)
}

func stacks() string {
	buf := make([]byte, 1<<18)
	return string(buf[:runtime.Stack(buf, true)])
}

// sentinels are the names by which callers tell errors apart.
var sentinels = map[string]error{
	"ErrClosed": orbit.ErrClosed, "ErrReadOnly": orbit.ErrReadOnly, "ErrName": orbit.ErrName,
	"ErrSize": orbit.ErrSize, "ErrNode": orbit.ErrNode, "ErrFull": orbit.ErrFull, "ErrInUse": orbit.ErrInUse,
	"ErrNotExist": orbit.ErrNotExist, "ErrKind": orbit.ErrKind, "ErrType": orbit.ErrType,
	"ErrGeometry": orbit.ErrGeometry, "ErrForeign": orbit.ErrForeign, "ErrVersion": orbit.ErrVersion,
	"ErrNoSpace": orbit.ErrNoSpace, "ErrDamaged": orbit.ErrDamaged, "ErrTooLarge": orbit.ErrTooLarge,
	"ErrBusy": orbit.ErrBusy, "ErrNoFrame": orbit.ErrNoFrame, "ErrHeld": orbit.ErrHeld,
	"ErrLapsed": orbit.ErrLapsed, "ErrTableFull": orbit.ErrTableFull, "ErrTTL": orbit.ErrTTL,
	"ErrClaimEvent": orbit.ErrClaimEvent, "ErrTopic": orbit.ErrTopic,
	"EMFILE": syscall.EMFILE, "ENOMEM": syscall.ENOMEM,
	"deadline": context.DeadlineExceeded, "canceled": context.Canceled,
}

// nameOf returns the name of an error, "nil", or "unnamed".
func nameOf(err error) string {
	if err == nil {
		return "nil"
	}
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			return name
		}
	}
	return "unnamed"
}
