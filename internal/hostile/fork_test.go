//go:build linux

package hostile

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/proc"
)

// Members that have children, and die before them.

func init() { roles["parent"] = parent }

// births are the ways to have a child. Each returns its process id.
var births = map[string]func() (int, error){
	"exec": func() (int, error) {
		cmd := exec.Command("sleep", "600")
		err := cmd.Start()
		return pidOf(cmd), err
	},
	"exec with inherited files": func() (int, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return 0, err
		}
		null, err := os.Open("/dev/null")
		if err != nil {
			return 0, err
		}
		cmd := exec.Command("sleep", "600")
		cmd.Stdin, cmd.ExtraFiles = r, []*os.File{w, null}
		err = cmd.Start()
		return pidOf(cmd), err
	},
	"exec in new namespaces and a session": func() (int, error) {
		cmd := exec.Command("sleep", "600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if os.Geteuid() == 0 {
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
		}
		err := cmd.Start()
		return pidOf(cmd), err
	},
	// The child closes nothing, and so gets whatever does not close by itself.
	"raw fork and exec": func() (int, error) { return rawFork("sleep", "sleep", "600") },
	// The child has all that its parent had, open and mapped.
	"raw fork": func() (int, error) { return rawFork("") },
}

func pidOf(cmd *exec.Cmd) int {
	if cmd.Process == nil {
		return 0
	}
	return cmd.Process.Pid
}

// rawFork forks as no Go program should, with all descriptors as they are but
// the first three, which belong to the test. Without a program the child waits
// to be killed.
func rawFork(program string, args ...string) (int, error) {
	found, err := exec.LookPath(program)
	if err != nil && program != "" {
		return 0, err
	}
	path, err := syscall.BytePtrFromString(found)
	if err != nil {
		return 0, err
	}
	argv, err := syscall.SlicePtrFromStrings(args) // it ends with nil
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	pid := cloneInto(program != "", path, &argv[0])
	if pid < 0 {
		return 0, fmt.Errorf("clone: %v", syscall.Errno(-pid))
	}
	return pid, nil
}

// cloneInto makes the child and, in it, nothing but raw system calls.
//
//go:norace
//go:nosplit
func cloneInto(program bool, path *byte, argv **byte) int {
	flags, stack := uintptr(syscall.SIGCHLD), uintptr(0)
	if runtime.GOARCH == "s390x" { // where the stack comes first
		flags, stack = stack, flags
	}
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, flags, stack, 0, 0, 0, 0)
	if errno != 0 {
		return -int(errno)
	}
	if pid != 0 {
		return int(pid)
	}
	for fd := uintptr(0); fd < 3; fd++ {
		syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	}
	var none *byte
	if program {
		syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(&none)))
		syscall.RawSyscall(syscall.SYS_EXIT, 1, 0, 0)
	}
	for {
		syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

// parent is a keeper that has a child: parent fleet birth.
func parent(args []string) error {
	read := proc.WatchParent()
	return keep(args[0], "parent", read, map[string]func() string{"birth": func() string {
		pid, err := births[args[1]]()
		return fmt.Sprint(pid, " ", err)
	}})
}

// born starts a parent, and has it have a child that is killed when the test
// ends.
func born(t *testing.T, fleet, birth string) (p *proc.Process, child int) {
	t.Helper()
	p = start(t, "parent", fleet, birth)
	hear(t, p, "keeps parent")
	p.Say("birth")
	line := answer(t, p)
	child, err := strconv.Atoi(strings.TrimSuffix(line, " <nil>"))
	if err != nil || child == 0 {
		t.Fatalf("no child: %s", line)
	}
	t.Cleanup(func() { syscall.Kill(child, syscall.SIGKILL) })
	return p, child
}

// lives tells whether a process is there and no zombie.
func lives(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, ok := strings.Cut(string(b), ") ")
	return err == nil && ok && after[0] != 'Z' && after[0] != 'X'
}

// holds returns what a process has of a fleet, open or mapped.
func holds(t *testing.T, pid int, fleet string) (all []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(dir + fd.Name()); err == nil && strings.Contains(to, "orbit-"+fleet) {
			all = append(all, to)
		}
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "orbit-"+fleet) {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// TestChildOfADeadMemberHoldsNothing: once a child runs a program of its own,
// its parent's seat, claims and memory are its parent's alone.
func TestChildOfADeadMemberHoldsNothing(t *testing.T) {
	for birth := range births {
		if birth == "raw fork" {
			continue
		}
		t.Run(birth, func(t *testing.T) {
			fleet := proc.Fleet(t)
			f := join(t, fleet, crewOptions())
			c := contest(t, f)
			p, child := born(t, fleet, birth)
			proc.Eventually(t, "the child runs its program", func() bool {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child))
				return err == nil && string(b) == "sleep\n"
			})
			if got := holds(t, child, fleet); len(got) > 0 {
				t.Errorf("the child has %v", got)
			}
			kill(p)
			proc.Eventually(t, "the parent's seat is free", func() bool { return members(t, f) == 1 })
			if _, err := orbit.Claim[task](c, "parent", "heir", time.Hour); err != nil {
				t.Errorf("Claim of what the dead parent held: %v", err)
			}
			if !lives(child) {
				t.Error("the child is gone: the test shows nothing")
			}
			f.Close()
			proc.RemoveFleet(t, fleet)
		})
	}
}

// TestForkWithoutAProgramKeepsTheSeat: the kernel drops a member's lock with
// the last process that has its open file. A fork that runs on with all that
// its parent had is one, for as long as it lives. Then the seat is free.
func TestForkWithoutAProgramKeepsTheSeat(t *testing.T) {
	fleet := proc.Fleet(t)
	f := join(t, fleet, crewOptions())
	c := contest(t, f)
	p, child := born(t, fleet, "raw fork")
	kill(p)
	if n := members(t, f); n != 2 || !lives(child) {
		t.Errorf("%d members while the fork of a dead one lives (%v), want 2", n, lives(child))
	}
	// All else goes on beside it.
	_, err := orbit.Claim[task](c, "parent", "heir", time.Hour)
	proc.MustBe(t, "Claim of what the dead parent held", err, orbit.ErrHeld)
	if _, err := ring(t, f, kindFrames).Publish(1, 0, []byte("alive")); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	proc.Eventually(t, "the seat is free", func() bool { return members(t, f) == 1 })
	if _, err := orbit.Claim[task](c, "parent", "heir", time.Hour); err != nil {
		t.Errorf("Claim after the end of the fork: %v", err)
	}
	f.Close()
	proc.RemoveFleet(t, fleet)
}
