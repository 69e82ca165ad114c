package main

import (
	"errors"
	"flag"

	"orbit"
)

var delFlags struct {
	prefix string
	all    bool
}

var delCommand = &command{
	name:     "del",
	operands: "FLEET [KEY...]",
	short:    "delete keys from the cache, or all of a prefix",
	long: `Makes every KEY have nothing in the cache of FLEET, whether or not it had a
value. With -all that is done for every key of the prefix at once, in one write
that no reader sees half of; keys of other prefixes stay.

  orbit del web motd motd.gz
  orbit del -all -prefix sessions web
`,
	flags: func(f *flag.FlagSet) {
		prefixFlag(f, &delFlags.prefix)
		f.BoolVar(&delFlags.all, "all", false, "all keys of the prefix")
	},
	run: runDel,
}

func runDel(args []string) error {
	if delFlags.all != (len(args) == 1) {
		return usagef("want FLEET and keys, or -all and FLEET, found %q", args)
	}
	del := func(f *orbit.Fleet) error { return del(f, args[1:]) }
	err := visit{args[0], orbit.KindCache, false, func(*orbit.Fleet) error { return errNoCache }}.do(del)
	if errors.Is(err, errNoCache) {
		return nil
	}
	return err
}

// errNoCache keeps a cache from being made only to delete from it.
var errNoCache = errors.New("the fleet has no cache")

func del(f *orbit.Fleet, keys []string) error {
	cache, err := orbit.OpenCache(f, delFlags.prefix)
	if err != nil {
		return err
	}
	if delFlags.all {
		return cache.Reset()
	}
	for _, key := range keys {
		if err := cache.Delete(key); err != nil {
			return err
		}
	}
	return nil
}
