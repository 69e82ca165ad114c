//go:build !unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// passedOn are the signals that a command gets that come to this process.
var passedOn = []os.Signal{
	os.Interrupt, syscall.SIGTERM,
}

// dieWithUs is for systems that can tie a command to the life of this process.
func dieWithUs(*exec.Cmd) {}

// hasIt tells whether the command got a signal by itself. Here nobody says.
func hasIt(*exec.Cmd, os.Signal) bool { return false }

// adoptOrphans and descendants are for systems that tell whose child is whose.
func adoptOrphans()      {}
func descendants() []int { return nil }
