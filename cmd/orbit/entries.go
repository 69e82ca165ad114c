package main

import (
	"errors"
	"maps"
	"slices"

	"orbit"
)

// What the commands that look into the cache have in common.

// prefixesOf returns the prefixes that the cache's ring holds writes of, in
// order. Which of their keys have a value is for a handle of each to say.
func prefixesOf(ring *orbit.Ring) ([]string, error) {
	found := map[string]bool{}
	var buf []byte
	for c := range back(ring) {
		f, err := ring.ReadAt(c, buf[:0])
		if errors.Is(err, orbit.ErrNoFrame) {
			continue
		}
		if err != nil {
			return nil, err
		}
		buf = f.Payload
		if w, err := orbit.DecodeCache(f); err == nil && !found[string(w.Prefix)] {
			found[string(w.Prefix)] = true
		}
	}
	// A ring that was damaged meanwhile looks empty until it is asked.
	if _, err := ring.Newest(buf[:0]); err != nil && !errors.Is(err, orbit.ErrNoFrame) {
		return nil, err
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// eachCache does something with a handle of each prefix, one after the other:
// a handle takes memory in proportion to the ring.
func eachCache(f *orbit.Fleet, prefixes []string, do func(*orbit.Cache) error) error {
	for _, prefix := range prefixes {
		cache, err := orbit.OpenCache(f, prefix)
		if err != nil {
			return err
		}
		if err := do(cache); err != nil {
			return err
		}
	}
	return nil
}

// A prefixCount is how many keys of a prefix have a value.
type prefixCount struct {
	prefix string
	keys   int
}

// countKeys counts the keys of every prefix that has some.
func countKeys(f *orbit.Fleet, ring *orbit.Ring) (list []prefixCount, err error) {
	prefixes, err := prefixesOf(ring)
	if err != nil {
		return nil, err
	}
	err = eachCache(f, prefixes, func(cache *orbit.Cache) error {
		stats, err := cache.Stats()
		if stats.Entries > 0 {
			list = append(list, prefixCount{cache.Prefix(), stats.Entries})
		}
		return err
	})
	return list, err
}

// An entry is a key that has a value, with what is known about it.
type entry struct {
	prefix, key string
	value       []byte
	expiry      orbit.Stamp
	counter     uint64 // of the frame that wrote it
	node        uint16 // that wrote it, 0 if the frame was overwritten meanwhile
}

func newEntry(cache *orbit.Cache, key string, value []byte, meta orbit.CacheMeta) entry {
	e := entry{prefix: cache.Prefix(), key: key, value: value, expiry: meta.Expiry, counter: meta.Epoch}
	if frame, err := cache.Ring().ReadAt(meta.Epoch, nil); err == nil {
		e.node = frame.ID.Node()
	}
	return e
}

// entriesOf returns the keys of a handle's prefix that have a value.
func entriesOf(cache *orbit.Cache) (entries []entry, err error) {
	for key := range cache.All() {
		value, meta, err := cache.GetMeta(nil, key)
		if err != nil {
			return nil, err
		}
		if meta.Hit {
			entries = append(entries, newEntry(cache, key, value, meta))
		}
	}
	_, err = cache.Stats() // All ends in silence if the segment was damaged
	return entries, err
}

// writer shows the node that wrote the value.
func (e *entry) writer() any {
	if e.node == 0 {
		return "-"
	}
	return e.node
}

func (e *entry) object(fleet string, withValue bool) entryJSON {
	return entryJSON{
		objectJSON{"entry", fleet}, prefixOf(e.prefix), keyOf(e.key), valueOf(e.value, e.expiry, withValue),
		known(e.node, e.node != 0), e.counter,
	}
}
