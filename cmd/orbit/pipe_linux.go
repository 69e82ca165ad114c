package main

import (
	"os"
	"syscall"
	"unsafe"
)

// readerGone tells whether a file is a pipe that nobody will read from any
// more. Whoever has nothing to write would not learn it otherwise.
func readerGone(f *os.File) bool {
	const pollError = 0x8
	poll := struct {
		fd           int32
		events, told int16
	}{fd: int32(f.Fd())}
	var now syscall.Timespec
	n, _, _ := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n == 1 && poll.told&pollError != 0
}
