package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
	"unicode/utf8"

	"orbit"
)

var getFlags struct {
	prefix     string
	meta, json bool
}

var getCommand = &command{
	name:  "get",
	args:  "[-prefix prefix] [-meta] [-json] FLEET KEY",
	short: "print the value a key has in the cache",
	long: `Prints the value that KEY has in the cache of FLEET, byte for byte as it was
put. Only on a terminal a newline is added. It observes: it joins nothing and
changes nothing.

If the key has no value the exit code is 4 and standard error says as much as
can be known of why: it expired, it was deleted or the cache was reset, or the
ring does not hold it any more. The ring forgets, so that is said only as long
as it holds what was written last about the key.

A cache has a key space for each prefix. A program that opens its cache with a
prefix needs that one here.

  orbit get web motd
  orbit get -prefix sessions web 4711 | jq .user
  orbit get web lock >/dev/null || echo free
`,
	flags: func(f *flag.FlagSet) {
		prefixFlag(f, &getFlags.prefix)
		f.BoolVar(&getFlags.meta, "meta", false, "print what is known about the value instead of the value")
		f.BoolVar(&getFlags.json, "json", false, "print both as one JSON object, without the value if -meta is given")
	},
	run: runGet,
}

func prefixFlag(f *flag.FlagSet, prefix *string) {
	f.StringVar(prefix, "prefix", "", "the `prefix` of the key space")
}

func runGet(args []string) error {
	if len(args) != 2 {
		return usagef("want FLEET and KEY, found %q", args)
	}
	key := args[1]
	f, err := observe(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	cache, err := orbit.OpenCache(f, getFlags.prefix)
	if errors.Is(err, orbit.ErrNotExist) {
		return missing(key, "the fleet has no cache yet")
	}
	if err != nil {
		return err
	}
	value, meta, err := cache.GetMeta(nil, key)
	switch {
	case err != nil:
		return err
	case !meta.Hit:
		return missing(key, whyMissing(meta, cache.Ring()))
	}
	e := newEntry(cache, key, value, meta)
	switch {
	case getFlags.json:
		return printJSON(e.json(!getFlags.meta))
	case getFlags.meta:
		return e.print()
	}
	if isTerminal(os.Stdout) {
		value = append(value, '\n')
	}
	_, err = os.Stdout.Write(value)
	return err
}

func missing(key, why string) error { return nof("key %q has no value: %s", key, why) }

// A no is an answer that matches errNo.
type no string

func (n no) Error() string      { return string(n) }
func (no) Is(target error) bool { return target == errNo }

func nof(format string, args ...any) error { return no(fmt.Sprintf(format, args...)) }

// whyMissing says as much as the ring tells.
func whyMissing(meta orbit.CacheMeta, ring *orbit.Ring) string {
	switch {
	case meta.Evicted:
		return "newer writes pushed it out of the ring"
	case meta.Expiry != 0:
		return fmt.Sprintf("it expired %s ago", spanText(meta.Expiry.Age()))
	case meta.Epoch > 0:
		return "it was deleted, or the cache was reset"
	case ring.Head() > uint64(ring.Geometry().Capacity):
		return fmt.Sprintf("nothing about it is among the newest %d writes, and the ring holds no more", ring.Geometry().Capacity)
	}
	return "nothing was ever written about it"
}

// An entry is a key that has a value, with what is known about it. Bytes that
// are not UTF-8 are in the fields for hex.
type entry struct {
	Key      *string  `json:"key,omitempty"`
	KeyHex   *string  `json:"key_hex,omitempty"`
	Prefix   string   `json:"prefix"`
	Size     int      `json:"size"`
	Expires  *float64 `json:"expires_in_seconds"` // null: never
	Node     uint16   `json:"node"`               // of the writer; 0 if it was overwritten meanwhile
	Counter  uint64   `json:"counter"`            // of its frame
	Value    *string  `json:"value,omitempty"`
	ValueHex *string  `json:"value_hex,omitempty"`

	key, value []byte
}

func newEntry(cache *orbit.Cache, key string, value []byte, meta orbit.CacheMeta) entry {
	e := entry{
		Prefix:  validText(cache.Prefix()),
		Size:    len(value),
		Counter: meta.Epoch,
		key:     []byte(key),
		value:   value,
	}
	if meta.Expiry != 0 {
		left := -meta.Expiry.Age().Seconds()
		e.Expires = &left
	}
	if frame, err := cache.Ring().ReadAt(meta.Epoch, nil); err == nil {
		e.Node = frame.ID.Node()
	}
	return e
}

// expiry says when the value expires.
func (e *entry) expiry() string {
	if e.Expires == nil {
		return "never"
	}
	return "in " + spanText(time.Duration(*e.Expires*float64(time.Second)))
}

// writer says who wrote the value.
func (e *entry) writer() string {
	if e.Node == 0 {
		return "unknown"
	}
	return fmt.Sprintf("node %d", e.Node)
}

func (e *entry) print() error {
	t := newTable()
	fmt.Fprintf(t, "size\t%s\n", bytesText(int64(e.Size)))
	fmt.Fprintf(t, "expires\t%s\n", e.expiry())
	fmt.Fprintf(t, "writer\t%s\n", e.writer())
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

func textOrHex(b []byte) (text, inHex *string) {
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	s := hex.EncodeToString(b)
	return nil, &s
}

// validText is text as it is, and the hex form of what is none.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return bytesAsText([]byte(s))
}
