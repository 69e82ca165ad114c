package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

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
	return slices.Sorted(maps.Keys(found)), nil
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
	for _, prefix := range prefixes {
		cache, err := orbit.OpenCache(f, prefix)
		if err != nil {
			return nil, err
		}
		stats, err := cache.Stats()
		if err != nil {
			return nil, err
		}
		if stats.Entries > 0 {
			list = append(list, prefixCount{prefix, stats.Entries})
		}
	}
	return list, nil
}

// An entry is a key that has a value, with what is known about it. Bytes that
// are not UTF-8 are in the fields for hex.
type entry struct {
	Key      *string  `json:"key,omitempty"`
	KeyHex   *string  `json:"key_hex,omitempty"`
	Prefix   string   `json:"prefix"`
	Size     int      `json:"size"`
	Expires  *float64 `json:"expires_in_seconds"` // null: never
	Node     *uint16  `json:"node"`               // that wrote it; null if it was overwritten meanwhile
	Counter  uint64   `json:"counter"`            // of its frame
	Value    *string  `json:"value,omitempty"`
	ValueHex *string  `json:"value_hex,omitempty"`

	prefix     string
	key, value []byte
}

func newEntry(cache *orbit.Cache, key string, value []byte, meta orbit.CacheMeta) entry {
	e := entry{
		Prefix:  validText(cache.Prefix()),
		Size:    len(value),
		Counter: meta.Epoch,
		prefix:  cache.Prefix(),
		key:     []byte(key),
		value:   value,
	}
	if meta.Expiry != 0 {
		left := -meta.Expiry.Age().Seconds()
		e.Expires = &left
	}
	if frame, err := cache.Ring().ReadAt(meta.Epoch, nil); err == nil {
		e.Node = known(frame.ID.Node(), true)
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

// expiry says when the value expires.
func (e *entry) expiry() string {
	if e.Expires == nil {
		return "never"
	}
	return "in " + spanText(time.Duration(*e.Expires*float64(time.Second)))
}

// node says who wrote the value.
func (e *entry) node() string {
	if e.Node == nil {
		return "-"
	}
	return fmt.Sprint(*e.Node)
}

func (e *entry) print() error {
	t := newTable()
	fmt.Fprintf(t, "size\t%s\n", bytesText(int64(e.Size)))
	fmt.Fprintf(t, "expires\t%s\n", e.expiry())
	fmt.Fprintf(t, "node\t%s\n", e.node())
	fmt.Fprintf(t, "counter\t%d\n", e.Counter)
	return t.Flush()
}

// json returns the entry as JSON has it.
func (e entry) json(withValue bool) entry {
	e.Key, e.KeyHex = textOrHex(e.key)
	if withValue {
		e.Value, e.ValueHex = textOrHex(e.value)
	}
	return e
}

// writeText shows a write to the cache.
func writeText(w *orbit.CacheWrite, value string) string {
	parts := []string{fmt.Sprintf("%-6v", w.Op), "prefix " + strconv.Quote(string(w.Prefix))}
	if w.Op != orbit.CacheReset {
		parts = append(parts, "key "+strconv.Quote(string(w.Key)))
	}
	if w.Op == orbit.CachePut || w.Op == orbit.CacheAdd {
		parts = append(parts, writeEnd(w.Expiry), value)
	}
	return strings.Join(parts, "  ")
}

// writeEnd says when a written value expires.
func writeEnd(expiry orbit.Stamp) string {
	switch age := expiry.Age(); {
	case expiry == 0:
		return "never expires"
	case age >= 0:
		return "expired " + spanText(age) + " ago"
	default:
		return "expires in " + spanText(-age)
	}
}
