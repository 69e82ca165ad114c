//go:build linux

package main

import "orbit"

// A scenario is an object that processes share, and what its histories must
// look like.
type scenario struct {
	name  string
	rings func(payload int) map[uint8]orbit.Geometry
	open  func(f *orbit.Fleet) (player, error)
	parts func(h *history) []part
}

// A player does operations in one process.
type player interface {
	begin(l *lane) error // sets the scene of a history; the parent does it
	act(l *lane) error   // does one operation chosen at random
	forget()             // lets go of what is left of the last history
}

var scenarios = []scenario{
	registerScenario("latest-1", 1),
	registerScenario("latest-2", 2),
	registerScenario("latest-8", 8),
	registerScenario("latest-64", 64),
	cacheScenario("cache", 2048, false),
	cacheScenario("cache-16", 16, true),
	cacheScenario("cache-64", 64, true),
	lockScenario("contest", false),
	lockScenario("rush", true),
}

func find(name string) *scenario {
	for i := range scenarios {
		if scenarios[i].name == name {
			return &scenarios[i]
		}
	}
	return nil
}

// Payloads are large where only their copying takes time, and small where
// every word is a step that can be hindered.
const (
	plainPayload   = 8 << 10
	steppedPayload = 256
)

func (s *scenario) options(stepped bool) orbit.Options {
	payload := plainPayload
	if stepped {
		payload = steppedPayload
	}
	return orbit.Options{Size: processes + 1, Rings: s.rings(payload)}
}
