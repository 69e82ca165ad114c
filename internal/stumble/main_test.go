//go:build linux

package main

import (
	"os/exec"
	"testing"
)

// TestSuiteRunsOverALibraryThatStumbles: the copy is made and compiles, and a test
// of many processes passes over it.
func TestSuiteRunsOverALibraryThatStumbles(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command here to build the copy with")
	}
	if err := test([]string{"./internal/contesttest"}, 300, "TestOneOfManyProcessesWins", 1); err != nil {
		t.Error(err)
	}
}
