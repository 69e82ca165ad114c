package main

import (
	"bytes"
	"os"
	"os/exec"
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
	return err == nil && group == syscall.Getpgrp() && group == foreground()
}

// foreground returns the process group that the terminal of this process, if it
// has one, sends what is typed: the eighth field of its line in /proc.
func foreground() int {
	line, _ := os.ReadFile("/proc/self/stat")
	// The second field is a name in brackets that may hold anything.
	fields := bytes.Fields(line[bytes.LastIndexByte(line, ')')+1:])
	if len(fields) < 6 {
		return -1
	}
	group, err := strconv.Atoi(string(fields[5]))
	if err != nil {
		return -1
	}
	return group
}
