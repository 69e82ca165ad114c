package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// passedOn are the signals that a command gets that come to this process.
var passedOn = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
}

// dieWithUs has the kernel kill the command when this process dies. The kernel
// means the thread that starts the command, so that has to live as long: it
// belongs to the calling goroutine from here on.
func dieWithUs(cmd *exec.Cmd) {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// hasIt tells whether the command got a signal by itself, because it was typed
// at the terminal: that reaches every process in the foreground. Twice it may
// mean something else, as "at once" to a program that is leaving.
func hasIt(cmd *exec.Cmd, s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	group, err := syscall.Getpgid(cmd.Process.Pid)
	self, ok := readStat("/proc/self/stat")
	return err == nil && ok && group == syscall.Getpgrp() && group == self.foreground
}

// adoptOrphans makes what the command left behind, when it ends, children of
// this process.
func adoptOrphans() {
	const setChildSubreaper = 36
	syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
}

// descendants returns the processes that this one started, and those that they
// did, except for the dead.
func descendants() (pids []int) {
	all := map[int]stat{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if s, ok := readStat(path); ok {
			all[pid] = s
		}
	}
	for pid, s := range all {
		if s.state != 'Z' && descends(all, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// descends tells whether a process goes back to this one. What was read of one
// process after the other need not be a tree, so the search has a limit.
func descends(all map[int]stat, pid int) bool {
	for range all {
		pid = all[pid].parent
		if pid == os.Getpid() {
			return true
		}
	}
	return false
}

// A stat is what /proc says of a process.
type stat struct {
	state      byte
	parent     int
	foreground int // the process group that its terminal sends what is typed
}

func readStat(path string) (s stat, ok bool) {
	line, err := os.ReadFile(path)
	if err != nil {
		return s, false
	}
	// The second field is a name in brackets that may hold anything.
	var group, session, terminal int
	_, err = fmt.Sscanf(string(line[bytes.LastIndexByte(line, ')')+1:]), " %c %d %d %d %d %d",
		&s.state, &s.parent, &group, &session, &terminal, &s.foreground)
	return s, err == nil
}
