//go:build linux

package main

import "sync"

// syncMap is what a single process would use for a cache without expiry.
var syncMap = &peer{
	name:    "sync.Map",
	class:   classLocal,
	notes:   []string{"one process only; no TTL, no bound; a put allocates a copy of the value"},
	latest:  func(at place) (latest, error) { return mapOf(at) },
	store:   func(at place) (store, error) { return mapOf(at) },
	claimer: func(at place) (claimer, error) { return mapOf(at) },
	remove:  func(at place) { maps.take(at) },
}

var maps registry[*goMap]

type goMap struct {
	noClose
	m sync.Map
}

func mapOf(at place) (*goMap, error) {
	return maps.at(at, func() (*goMap, error) { return &goMap{}, nil })
}

func (g *goMap) put(key string, value []byte) error {
	g.m.Store(key, append([]byte(nil), value...))
	return nil
}

func (g *goMap) get(key string, dst []byte) ([]byte, bool, error) {
	v, ok := g.m.Load(key)
	if !ok {
		return dst, false, nil
	}
	return append(dst[:0], v.([]byte)...), true, nil
}

func (g *goMap) write(value []byte) error        { return g.put("latest", value) }
func (g *goMap) read(dst []byte) ([]byte, error) { return readKey(g, "latest", dst) }

func (g *goMap) claim() (bool, error) {
	_, taken := g.m.LoadOrStore("nightly", true)
	return !taken, nil
}

func (g *goMap) release() error {
	g.m.Delete("nightly")
	return nil
}

// readKey makes the latest value of one key of a store.
func readKey(s store, key string, dst []byte) ([]byte, error) {
	value, hit, err := s.get(key, dst)
	if err == nil && !hit {
		err = errMiss
	}
	return value, err
}
