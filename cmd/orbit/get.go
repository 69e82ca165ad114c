package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
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
can be known of why: it expired, who deleted it or reset its prefix, or the ring
does not hold it any more. The ring forgets, so that is said only as long
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
		return missing(key, whyMissing(cache, key, meta))
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
func whyMissing(cache *orbit.Cache, key string, meta orbit.CacheMeta) string {
	switch {
	case meta.Evicted:
		return "newer writes pushed it out of the ring"
	case meta.Expiry != 0:
		return fmt.Sprintf("it expired %s ago", spanText(meta.Expiry.Age()))
	}
	if why := whoTookIt(cache, key, meta.Epoch); why != "" {
		return why
	}
	ring := cache.Ring()
	oldest := ring.Oldest().Position()
	if oldest == 0 {
		return "nothing was ever written about it"
	}
	return fmt.Sprintf("nothing about it is among the newest %d writes, and the ring holds no more", ring.Head()-oldest)
}

// whoTookIt reads the frame that decided about a key without a value: a delete
// of it, or a reset of its prefix, if there is one. It is "" if there is none.
func whoTookIt(cache *orbit.Cache, key string, counter uint64) string {
	f, err := cache.Ring().ReadAt(counter, nil)
	if err != nil {
		return ""
	}
	w, err := orbit.DecodeCache(f)
	switch {
	case err != nil || string(w.Prefix) != cache.Prefix():
		return ""
	case w.Op == orbit.CacheReset:
		return fmt.Sprintf("node %d reset all keys of the prefix", f.ID.Node())
	case w.Op == orbit.CacheDelete && string(w.Key) == key:
		return fmt.Sprintf("node %d deleted it", f.ID.Node())
	}
	return ""
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
