//go:build !linux

package main

import (
	"errors"
	"os"
)

// Keys, sizes and Ctrl-Z need calls that differ between systems. Where there
// are none, a live screen shows what fits into the usual size, until Ctrl-C.

func rawKeys(*os.File) (restore func(), err error) { return nil, errors.ErrUnsupported }

func windowSize(*os.File) (columns, rows int) { return 0, 0 }

func notifyResize(chan<- os.Signal)  {}
func notifySuspend(chan<- os.Signal) {}
func suspend()                       {}
