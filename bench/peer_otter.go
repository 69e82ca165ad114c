//go:build linux

package main

import (
	"time"

	"github.com/maypok86/otter/v2"
)

// otterCache is a cache of one process, with expiry and eviction.
var otterCache = &peer{
	name:   "otter",
	class:  classLocal,
	notes:  []string{"one process only; a put allocates a copy of the value"},
	serve:  func(*bench) (string, string, error) { return "", moduleVersion("github.com/maypok86/otter/v2"), nil },
	store:  func(at place) (store, error) { return otterOf(at) },
	remove: func(at place) { otters.take(at) },
}

var otters registry[*otterHandle]

type otterHandle struct {
	noClose
	cache *otter.Cache[string, []byte]
}

func otterOf(at place) (*otterHandle, error) {
	return otters.at(at, func() (*otterHandle, error) {
		c, err := otter.New(&otter.Options[string, []byte]{
			MaximumSize:      4096,
			ExpiryCalculator: otter.ExpiryWriting[string, []byte](ttl * time.Second),
		})
		return &otterHandle{cache: c}, err
	})
}

func (o *otterHandle) put(key string, value []byte) error {
	o.cache.Set(key, append([]byte(nil), value...))
	return nil
}

func (o *otterHandle) get(key string, dst []byte) ([]byte, bool, error) {
	value, ok := o.cache.GetIfPresent(key)
	return append(dst[:0], value...), ok, nil
}
