package main

import (
	"flag"
	"time"

	"orbit"
)

var putFlags struct {
	prefix      string
	ttl         time.Duration
	add, create bool
}

var putCommand = &command{
	name:     "put",
	operands: "FLEET KEY VALUE|-",
	short:    "put a value into the cache",
	long: `Makes VALUE what KEY has in the cache of FLEET. With "-" for VALUE it is all of
standard input, byte for byte. Without -ttl the value lives until the ring
pushes it out: until as many writes came after it as the ring has slots.

With -add it is put only if the key has no value; the exit code is 4 if it has.
Of all who add a key at once, in whatever process, exactly one succeeds.

A fleet without a cache gets one of 4096 slots of 1024 bytes, and siblings that
want another shape will be refused. A value that a slot has no room for changes
nothing, with exit code 1.

  orbit put -ttl 5m web motd 'back at noon'
  gzip <motd.txt | orbit put web motd.gz -
  orbit put -add -ttl 1h web mailed "$(hostname)" && send-mail
`,
	flags: func(f *flag.FlagSet) {
		prefixFlag(f, &putFlags.prefix)
		spanFlag(f, &putFlags.ttl, "ttl", 0, 0, "the `duration` for which the key has the value\n(default as long as the ring holds it)")
		f.BoolVar(&putFlags.add, "add", false, "only if the key has no value")
		createFlag(f, &putFlags.create)
	},
	run: runPut,
}

func runPut(args []string) error {
	value, err := payload(args[2])
	if err != nil {
		return err
	}
	put := func(f *orbit.Fleet) error { return put(f, args[1], value) }
	return visit{args[0], orbit.KindCache, putFlags.create, put}.do(put)
}

func put(f *orbit.Fleet, key string, value []byte) error {
	cache, err := orbit.OpenCache(f, putFlags.prefix)
	if err != nil {
		return err
	}
	if !putFlags.add {
		return cache.Put(key, value, putFlags.ttl)
	}
	added, err := cache.Add(key, value, putFlags.ttl)
	if err == nil && !added {
		err = nof("key %q has a value already", key)
	}
	return err
}
