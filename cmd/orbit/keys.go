package main

import (
	"errors"
	"flag"
	"fmt"

	"orbit"
)

var keysFlags struct {
	prefix       string
	values, json bool
}

var keysCommand = &command{
	name:  "keys",
	args:  "[-prefix prefix] [-values] [-json] FLEET",
	short: "list the keys that have a value in the cache",
	long: `Lists the keys of one prefix that have a value in the cache of FLEET, in the
order in which they were written: the size of the value, when it expires and the
node that wrote it. "orbit put" writes as node 65535, or the next below if taken.

It observes: it joins nothing and changes nothing. Each line is true of a moment
of its own; a key that lost its value meanwhile is left out.

Bytes that are not text are shown in hex; in JSON as key_hex and value_hex.
`,
	flags: func(f *flag.FlagSet) {
		prefixFlag(f, &keysFlags.prefix)
		f.BoolVar(&keysFlags.values, "values", false, "show the values as well")
		f.BoolVar(&keysFlags.json, "json", false, "print one JSON object per key")
	},
	run: runKeys,
}

func runKeys(args []string) error {
	if len(args) != 1 {
		return usagef("want FLEET, found %q", args)
	}
	f, err := observe(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	cache, err := orbit.OpenCache(f, keysFlags.prefix)
	if errors.Is(err, orbit.ErrNotExist) {
		return nil // no cache, no keys
	}
	if err != nil {
		return err
	}
	entries, err := entriesOf(cache)
	if err != nil {
		return err
	}
	if keysFlags.json {
		return printEntries(entries)
	}
	return tabulateEntries(entries)
}

// entriesOf returns the keys that have a value.
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

func printEntries(entries []entry) error {
	for _, e := range entries {
		if err := printJSON(e.json(keysFlags.values)); err != nil {
			return err
		}
	}
	return nil
}

func tabulateEntries(entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	t := newTable()
	fmt.Fprint(t, "KEY\tSIZE\tEXPIRES\tWRITER")
	if keysFlags.values {
		fmt.Fprint(t, "\tVALUE")
	}
	fmt.Fprintln(t)
	for _, e := range entries {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s", bytesAsText(e.key), bytesText(int64(e.Size)), e.expiry(), e.writer())
		if keysFlags.values {
			fmt.Fprintf(t, "\t%s", bytesAsText(e.value))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
