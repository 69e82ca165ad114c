//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import (
	"errors"
	"fmt"
	"net"
)

// listen fails: here only one process can listen on a port.
func listen(address string) (net.Listener, error) {
	return nil, fmt.Errorf("many listeners at %s: %w", address, errors.ErrUnsupported)
}
