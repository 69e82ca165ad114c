//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"

	"orbit/internal/overlay"
)

// buildStepped builds this program in dir against the instrumented copy of
// package orbit, in which a process can be held up, stopped and killed before
// every single step. The copy may have faults, for tests of the check.
func buildStepped(dir string, faults ...overlay.Fault) (binary string, err error) {
	root, err := overlay.Root()
	if err != nil {
		return "", err
	}
	file, err := overlay.Write(root, dir, overlay.Variant{Faults: faults})
	if err != nil {
		return "", err
	}
	binary = filepath.Join(dir, "stepped")
	cmd := exec.Command("go", "build", "-overlay="+file, "-o", binary, "./linear")
	cmd.Dir = filepath.Join(root, "bench")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the instrumented program: %w\n%s", err, out)
	}
	return binary, nil
}
