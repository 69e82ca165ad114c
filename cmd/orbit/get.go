package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"orbit"
)

var getFlags struct {
	prefix     string
	meta, json bool
}

var getCommand = &command{
	name:     "get",
	operands: "FLEET KEY",
	short:    "print the value a key has in the cache",
	long: `Prints the value that KEY has in the cache of FLEET, byte for byte as it was
put. Only on a terminal a newline is added.

If the key has no value the exit code is 4 and standard error says why, as far
as the ring still holds that: it expired, which node deleted it or reset its
prefix, or newer writes pushed it out.

Every prefix is a key space of its own. A program that opens its cache with a
prefix needs that one here; "orbit keys" lists all.

  orbit get web motd
  orbit get -prefix sessions web 4711 | jq .user
`,
	flags: func(f *flag.FlagSet) {
		prefixFlag(f, &getFlags.prefix)
		f.BoolVar(&getFlags.meta, "meta", false, "print what is known about the value instead of the value")
		f.BoolVar(&getFlags.json, "json", false, "print both as one JSON object, without the value if -meta is given")
	},
	run: runGet,
}

func runGet(args []string) error {
	f, err := observe(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	key := args[1]
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
		return printJSON(e.object(f.Name(), !getFlags.meta))
	case getFlags.meta:
		s := newSheet()
		s.row("size", bytesText(int64(len(value))))
		s.row("expires", expiryText(e.expiry))
		s.row("node", e.writer())
		s.row("counter", e.counter)
		return s.close()
	}
	if isTerminal(os.Stdout) {
		value = append(value, '\n')
	}
	_, err = os.Stdout.Write(value)
	return err
}

func missing(key, why string) error { return nof("key %q has no value: %s", key, why) }

// whyMissing says as much as the ring tells.
func whyMissing(cache *orbit.Cache, key string, meta orbit.CacheMeta) string {
	switch {
	case meta.Evicted:
		return "newer writes pushed it out of the ring"
	case meta.Expiry != 0:
		return "it expired " + expiryText(meta.Expiry)
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
