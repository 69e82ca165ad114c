//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"context"
	"net"
	"runtime"
	"syscall"
)

// reusePort is SO_REUSEPORT, which package syscall lacks on some systems.
func reusePort() int {
	if runtime.GOOS == "linux" {
		return 0xf
	}
	return 0x200
}

// listen listens at an address where others may listen as well.
func listen(address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, reusePort(), 1)
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	return config.Listen(context.Background(), "tcp", address)
}
