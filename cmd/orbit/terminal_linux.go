package main

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// What a terminal can do here beyond the writing of text.

// rawKeys makes a terminal hand over keys one by one as they are pressed, and
// not show them. Ctrl-C and Ctrl-Z stay signals.
func rawKeys(f *os.File) (restore func(), err error) {
	var saved syscall.Termios
	if err := ioctl(f, syscall.TCGETS, unsafe.Pointer(&saved)); err != nil {
		return nil, err
	}
	raw := saved
	raw.Lflag &^= syscall.ICANON | syscall.ECHO
	raw.Cc[syscall.VMIN], raw.Cc[syscall.VTIME] = 1, 0
	if err := ioctl(f, syscall.TCSETS, unsafe.Pointer(&raw)); err != nil {
		return nil, err
	}
	return func() { ioctl(f, syscall.TCSETS, unsafe.Pointer(&saved)) }, nil
}

// windowSize returns the columns and rows of a terminal, 0 if it does not know.
func windowSize(f *os.File) (columns, rows int) {
	var size struct{ rows, columns, x, y uint16 }
	if ioctl(f, syscall.TIOCGWINSZ, unsafe.Pointer(&size)) != nil {
		return 0, 0
	}
	return int(size.columns), int(size.rows)
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// notifyResize asks to be told when the size changes, and notifySuspend when
// Ctrl-Z is pressed.
func notifyResize(c chan<- os.Signal)  { signal.Notify(c, syscall.SIGWINCH) }
func notifySuspend(c chan<- os.Signal) { signal.Notify(c, syscall.SIGTSTP) }

// suspend stops this process, and returns when it goes on. Go keeps a signal
// that it was asked for, and so it is SIGSTOP, which nobody can ignore: where no
// shell is there to let this process go on, suspend does nothing. The signal
// goes to this very thread, which would otherwise run on for a moment.
func suspend() {
	if !underShell() {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	syscall.Tgkill(syscall.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
}

// underShell tells whether the process group was started from within its
// session, where the kernel too would let Ctrl-Z stop it.
func underShell() bool {
	parent := syscall.Getppid()
	for group := syscall.Getpgrp(); ; {
		if g, err := syscall.Getpgid(parent); err != nil || g != group {
			break
		}
		parent = parentOf(parent)
	}
	return parent > 0 && sessionOf(parent) == sessionOf(0)
}

// parentOf returns the parent of a process, 0 if that cannot be told.
func parentOf(pid int) (parent int) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	var state string
	fmt.Sscan(string(b[bytes.LastIndexByte(b, ')')+1:]), &state, &parent)
	return parent
}

func sessionOf(pid int) int {
	sid, _, errno := syscall.RawSyscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return -1
	}
	return int(sid)
}
