//go:build linux

package main

import "sync"

// A registry holds what the goroutines of an in-process peer share, by place.
type registry[T any] struct {
	mu sync.Mutex
	by map[string]T
}

// at returns what is at a place, made if there is nothing.
func (r *registry[T]) at(p place, make func() (T, error)) (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.by[p.Name]; ok {
		return t, nil
	}
	t, err := make()
	if err == nil {
		if r.by == nil {
			r.by = map[string]T{}
		}
		r.by[p.Name] = t
	}
	return t, err
}

// take removes what is at a place.
func (r *registry[T]) take(p place) (T, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.by[p.Name]
	delete(r.by, p.Name)
	return t, ok
}

// noClose is the Close of handles that hold nothing.
type noClose struct{}

func (noClose) Close() error { return nil }
