//go:build !linux

package main

import "runtime"

// checkHost says what can be known without trying a fleet.
func checkHost() []finding {
	if runtime.GOOS != "darwin" {
		return nil // the fleet made for the check tells all there is to tell
	}
	return []finding{
		found(note, "names", "Keep names of fleets short.", "macOS takes names of at most 30 bytes for shared memory, of which some 15 are the fleet's"),
		found(note, "list", "Name the fleet: \"orbit ls FLEET\", \"orbit doctor FLEET\".", "macOS cannot list shared memory"),
	}
}
