// Package sync stands in for sync in the instrumented copy of package orbit: a
// harness can answer for its locks. It has what package orbit uses; a use of
// anything else fails to compile, so that no lock goes unseen.
package sync

import (
	"sync"

	"orbit/internal/overlay/step"
)

// Mutex is sync.Mutex.
type Mutex struct {
	real  sync.Mutex
	state step.Lock
}

func (m *Mutex) Lock() {
	if step.Acquire != nil {
		step.Acquire(&m.state, false)
	} else {
		m.real.Lock()
	}
}

func (m *Mutex) TryLock() bool {
	if step.Try != nil {
		return step.Try(&m.state)
	}
	return m.real.TryLock()
}

func (m *Mutex) Unlock() {
	if step.Release != nil {
		step.Release(&m.state, false)
	} else {
		m.real.Unlock()
	}
}

// RWMutex is sync.RWMutex.
type RWMutex struct {
	real  sync.RWMutex
	state step.Lock
}

func (m *RWMutex) Lock() {
	if step.Acquire != nil {
		step.Acquire(&m.state, false)
	} else {
		m.real.Lock()
	}
}

func (m *RWMutex) Unlock() {
	if step.Release != nil {
		step.Release(&m.state, false)
	} else {
		m.real.Unlock()
	}
}

func (m *RWMutex) RLock() {
	if step.Acquire != nil {
		step.Acquire(&m.state, true)
	} else {
		m.real.RLock()
	}
}

func (m *RWMutex) RUnlock() {
	if step.Release != nil {
		step.Release(&m.state, true)
	} else {
		m.real.RUnlock()
	}
}

// OnceValues is sync.OnceValues.
func OnceValues[T1, T2 any](f func() (T1, T2)) func() (T1, T2) { return sync.OnceValues(f) }
