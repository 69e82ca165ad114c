//go:build linux

package substratetest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"orbit/internal/proc"
)

// Counting system calls: a thread of a helper is traced, and what it calls
// between two marks is compared with what it may call.

// A call is a system call as the kernel sees it begin.
type call struct {
	nr   uint64
	args [6]uint64
}

func (c call) String() string { return fmt.Sprintf("system call %d(%#x)", c.nr, c.args) }

// The helper's side: a mark is a harmless call with an argument that nobody
// else gives it.

const markCall, markBegin, markEnd = syscall.SYS_GETPPID, 0x0b17be61, 0x0b17e2d5

func markTrace(what uintptr) { syscall.RawSyscall(markCall, what, 0, 0) }

// offMainThread runs a function on a thread of its own that is not the first
// of the process: a parent that waits for the process would take the news of
// that one away from the tracer.
func offMainThread(run func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if syscall.Gettid() != os.Getpid() {
		run()
		return
	}
	done := make(chan struct{})
	go func() { defer close(done); offMainThread(run) }()
	<-done
}

// The tracer's side.

const (
	ptraceSeize       = 0x4206
	ptraceInterrupt   = 0x4207
	ptraceSyscallInfo = 0x420e
	optionSysGood     = 1
	waitAll           = 0x40000000
	syscallStop       = syscall.SIGTRAP | 0x80
	infoEntry         = 1
)

func ptrace(request, tid int, addr, data uintptr) error {
	if _, _, e := syscall.Syscall6(syscall.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); e != 0 {
		return e
	}
	return nil
}

// trace follows a thread and returns a channel of what it called between the
// marks, round by round, until it ends.
func trace(t *testing.T, tid int) <-chan []call {
	t.Helper()
	rounds, begun := make(chan []call, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // a tracer is a thread, and lets go when it ends
		defer close(rounds)
		err := ptrace(ptraceSeize, tid, 0, optionSysGood)
		if err == nil {
			err = ptrace(ptraceInterrupt, tid, 0, 0)
		}
		begun <- err
		if err == nil {
			follow(tid, rounds)
		}
	}()
	if err := <-begun; errors.Is(err, syscall.EPERM) {
		t.Skipf("this machine lets nobody trace: %v", err)
	} else if err != nil {
		t.Fatalf("cannot trace thread %d: %v", tid, err)
	}
	return rounds
}

func follow(tid int, rounds chan<- []call) {
	var calls []call
	for {
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(tid, &status, waitAll, nil); err == syscall.EINTR {
			continue
		} else if err != nil || !status.Stopped() {
			return
		}
		signal := status.StopSignal()
		switch {
		case signal == syscallStop:
			signal = 0
			switch c, entry := syscallAt(tid); {
			case !entry:
			case c.nr == markCall && c.args[0] == markBegin:
				calls = nil
			case c.nr == markCall && c.args[0] == markEnd:
				rounds <- calls
			default:
				calls = append(calls, c)
			}
		case status>>16 != 0: // an event of the tracer's own
			signal = 0
		}
		// It fails if the process ended meanwhile: that is the next news.
		ptrace(syscall.PTRACE_SYSCALL, tid, 0, uintptr(signal))
	}
}

// syscallAt returns the call that a stopped thread begins, if it begins one.
func syscallAt(tid int) (c call, entry bool) {
	var info struct {
		op   uint8
		_    [3]uint8
		arch uint32
		ip   uint64
		sp   uint64
		call call
		_    [24]byte
	}
	if ptrace(ptraceSyscallInfo, tid, unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info))) != nil {
		return c, false
	}
	return info.call, info.op == infoEntry
}

// ---- Whose calls they are ----

// A span is addresses from one up to another.
type span struct{ from, to uint64 }

// mapped returns where a process has a file mapped.
func mapped(t testing.TB, pid int, file string) (all []span) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if fields := strings.Fields(line); len(fields) >= 6 && fields[5] == file {
			var s span
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &s.from, &s.to); err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		t.Fatalf("process %d has not mapped %s", pid, file)
	}
	return all
}

func contains(spans []span, addr uint64) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.from <= addr && addr < s.to })
}

const futexWake, futexCommand = 1, 0x7f

// futexTime64 is the runtime's futex call where words have 32 bits.
const futexTime64 = 422

func isFutex(nr uint64) bool { return nr == syscall.SYS_FUTEX || nr == futexTime64 }

// wakes counts the calls that wake sleepers on words of a mapping.
func wakes(calls []call, ring []span) (n int) {
	for _, c := range calls {
		if isFutex(c.nr) && contains(ring, c.args[0]) && c.args[1]&futexCommand == futexWake {
			n++
		}
	}
	return n
}

// runtimeCalls are those that the Go runtime makes on whatever thread it finds:
// to preempt a goroutine, to hand its thread's work on, to start a timer.
var runtimeCalls = []uint64{
	syscall.SYS_FUTEX, futexTime64, syscall.SYS_SCHED_YIELD, syscall.SYS_RT_SIGRETURN, syscall.SYS_RT_SIGPROCMASK,
	syscall.SYS_SIGALTSTACK, syscall.SYS_NANOSLEEP, syscall.SYS_TGKILL, syscall.SYS_GETPID, syscall.SYS_GETTID,
	syscall.SYS_MADVISE, syscall.SYS_MMAP, syscall.SYS_WRITE, syscall.SYS_EPOLL_PWAIT, syscall.SYS_CLONE,
	syscall.SYS_RESTART_SYSCALL, syscall.SYS_PRCTL, // with the last it names its mappings
}

// foreign returns the calls that the runtime does not make.
func foreign(calls []call, ring []span) []call {
	return slices.DeleteFunc(slices.Clone(calls), func(c call) bool {
		return slices.Contains(runtimeCalls, c.nr) && !(isFutex(c.nr) && contains(ring, c.args[0]))
	})
}

// asleep counts the threads of a process that sleep in the kernel on a word of
// a mapping.
func asleep(t testing.TB, pid int, ring []span) (n int) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, task.Name()))
		if err != nil {
			continue // the thread has ended
		}
		fields := strings.Fields(string(text))
		if len(fields) > 2 && fields[0] == strconv.Itoa(syscall.SYS_FUTEX) {
			if addr, err := strconv.ParseUint(fields[1], 0, 64); err == nil && contains(ring, addr) {
				n++
			}
		}
	}
	return n
}

func threads(t testing.TB, p *proc.Process) int {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}
