package main

import (
	"os"
	"os/signal"
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

// suspend stops this process as Ctrl-Z does, and returns when it goes on.
func suspend() {
	signal.Reset(syscall.SIGTSTP)
	syscall.Kill(syscall.Getpid(), syscall.SIGTSTP)
}
