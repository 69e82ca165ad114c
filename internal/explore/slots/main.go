//go:build orbit_overlay

// Slots explores the slot protocol of package orbit. It is built against the
// instrumented copy of the package by the tests of orbit/internal/explore,
// which is also where it is described.
package main

import "orbit/internal/explore"

func main() {
	var worlds []explore.Choice
	for _, c := range configs {
		worlds = append(worlds, explore.Choice{Name: c.name, Long: c.long, New: func() *explore.Search { return newWorld(c).Search }})
	}
	explore.Command(worlds)
}
