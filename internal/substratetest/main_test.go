//go:build linux

package substratetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/proc"
)

func TestMain(m *testing.M) { proc.Main(m) }

// patience is a grace that no test outlives: a reader that has it goes on only
// because the kernel says that a writer is dead.
const patience = time.Hour

// ---- Bytes that say who made them ----

// mark appends n bytes, at least 16, that name their maker and its turn. All
// the others follow from these two and from n.
func mark(dst []byte, who, turn uint64, n int) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, who)
	dst = binary.LittleEndian.AppendUint64(dst, turn)
	word := markSeed(who, turn, n)
	for n -= 16; n >= 8; n -= 8 {
		dst = binary.LittleEndian.AppendUint64(dst, word)
		word = nextWord(word)
	}
	for ; n > 0; n-- {
		dst = append(dst, byte(word))
		word >>= 8
	}
	return dst
}

func markSeed(who, turn uint64, n int) uint64 {
	return (who*0x9e3779b97f4a7c15+turn)*0xbf58476d1ce4e5b9 + uint64(n)
}

func nextWord(w uint64) uint64 { return w*6364136223846793005 + 1442695040888963407 }

// readMark returns whose mark p is, or an error if a byte of it is not.
func readMark(p []byte) (who, turn uint64, err error) {
	if len(p) < 16 {
		return 0, 0, fmt.Errorf("torn: %d bytes, want at least 16", len(p))
	}
	who, turn = binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
	word := markSeed(who, turn, len(p))
	for i := 16; i < len(p); {
		if len(p)-i >= 8 {
			if got := binary.LittleEndian.Uint64(p[i:]); got != word {
				return who, turn, fmt.Errorf("torn: %d bytes of %d in turn %d have %#x at %d, want %#x", len(p), who, turn, got, i, word)
			}
			word = nextWord(word)
			i += 8
			continue
		}
		if p[i] != byte(word) {
			return who, turn, fmt.Errorf("torn: %d bytes of %d in turn %d have %#x at %d, want %#x", len(p), who, turn, p[i], i, byte(word))
		}
		word >>= 8
		i++
	}
	return who, turn, nil
}

// ---- What outlives a process ----

// A ledger is words in a file, outside the fleet, that processes share and that
// stay when one of them is killed.
type ledger []atomic.Uint64

// ledgerWords is enough for an adder that has a key for each word to be at work
// for many seconds: whoever wants to catch it may lose the processor before.
const ledgerWords = 1 << 16

func openLedger(path string) (ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(ledgerWords * 8); err != nil {
		return nil, err
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, ledgerWords*8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(mem))), ledgerWords), nil
}

// newLedger returns an empty ledger and its path, to hand to helpers.
func newLedger(t testing.TB) (ledger, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger")
	l, err := openLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	return l, path
}

// ---- Fleets ----

// options gives the ring of a kind a geometry, written as "8x64", or the
// default one for "default".
func options(kind uint8, geometry string) orbit.Options {
	opts := orbit.Options{Size: 8}
	var g orbit.Geometry
	if n, _ := fmt.Sscanf(geometry, "%dx%d", &g.Capacity, &g.PayloadLimit); n == 2 {
		opts.Rings = map[uint8]orbit.Geometry{kind: g}
	}
	return opts
}

func join(t testing.TB, name string, opts orbit.Options) *orbit.Fleet {
	t.Helper()
	f, err := orbit.Join(name, opts)
	if err != nil {
		t.Fatalf("Join(%q): %v", name, err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// ---- Processes ----

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after 30 s: %s", what)
		}
	}
}

// line returns the next line that a helper prints. One that is silent for too
// long is made to say where it hangs, and fails the test.
func line(p *proc.Process) string {
	overdue := time.AfterFunc(30*time.Second, func() { p.Process.Signal(syscall.SIGQUIT) })
	defer overdue.Stop()
	return p.Line()
}

// ask says a line to a helper and returns its answer.
func ask(p *proc.Process, what string) string {
	p.Say(what)
	return line(p)
}

func kill(t testing.TB, p *proc.Process) {
	t.Helper()
	p.Kill()
	p.Died(syscall.SIGKILL)
}

// stop stops a process and waits until the kernel says that every thread of it
// has stopped.
func stop(t testing.TB, p *proc.Process) {
	t.Helper()
	p.Stop()
	eventually(t, fmt.Sprintf("process %d is stopped", p.Process.Pid), func() bool {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", p.Process.Pid)); err != nil { // it is no more, and says why
			p.Finish()
			t.Fatalf("process %d ended before it was stopped", p.Process.Pid)
		}
		return proc.Stopped(p.Process.Pid)
	})
}

// catch stops a process in the middle of a frame of a ring whose only writer
// it is, and returns the frame's counter.
func catch(t testing.TB, p *proc.Process, r *orbit.Ring) uint64 {
	t.Helper()
	for i := range 2000 {
		stop(t, p)
		head := r.Head()
		if head > 0 {
			if _, err := r.ReadAt(head-1, nil); errors.Is(err, orbit.ErrPending) {
				return head - 1
			}
		}
		p.Continue()
		time.Sleep(time.Duration(200+37*i%1000) * time.Microsecond)
	}
	t.Fatal("the writer was never caught in the middle of a frame")
	return 0
}

// untilTold returns a function that tells whether the helper was told to end.
func untilTold(read func() string) (told func() bool) {
	var end atomic.Bool
	go func() { read(); end.Store(true) }()
	return end.Load
}
