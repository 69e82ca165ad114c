package main

import (
	"flag"
	"slices"

	"orbit"
)

var keysFlags struct {
	prefix       *string // nil for all
	values, json bool
}

var keysCommand = &command{
	name:     "keys",
	operands: "FLEET",
	short:    "list the keys that have a value in the cache",
	long: `Lists the keys that have a value in the cache of FLEET, prefix by prefix, in the
order in which they were written: the size of the value, when it expires and the
node that wrote it. Each line is true of a moment of its own.

  orbit keys web
  orbit keys -values -prefix sessions web
`,
	flags: func(f *flag.FlagSet) {
		f.Func("prefix", "only the keys of this `prefix`, which may be empty", func(s string) error {
			keysFlags.prefix = &s
			return nil
		})
		f.BoolVar(&keysFlags.values, "values", false, "show the values as well")
		jsonFlag(f, &keysFlags.json)
	},
	run: runKeys,
}

func runKeys(args []string) error {
	f, err := observe(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	entries, err := wantedEntries(f)
	if err = notYet(err); err != nil || len(entries) == 0 { // no cache, no keys
		return err
	}
	if keysFlags.json {
		for _, e := range entries {
			if err := printJSON(e.object(f.Name(), keysFlags.values)); err != nil {
				return err
			}
		}
		return nil
	}
	return tabulateEntries(entries)
}

// wantedEntries returns the keys of the prefix asked for, or else of all.
func wantedEntries(f *orbit.Fleet) (entries []entry, err error) {
	ring, err := f.Ring(orbit.KindCache)
	if err != nil {
		return nil, err
	}
	var prefixes []string
	if keysFlags.prefix != nil {
		prefixes = []string{*keysFlags.prefix}
	} else if prefixes, err = prefixesOf(ring); err != nil {
		return nil, err
	}
	err = eachCache(f, prefixes, func(cache *orbit.Cache) error {
		more, err := entriesOf(cache)
		entries = append(entries, more...)
		return err
	})
	return entries, err
}

func tabulateEntries(entries []entry) error {
	// The prefix is no news if it was asked for, or if nobody uses one.
	withPrefix := keysFlags.prefix == nil && slices.ContainsFunc(entries, func(e entry) bool { return e.prefix != "" })
	s := newSheet()
	row := func(prefix, key, size, expires, node, value any) {
		cells := []any{key, size, expires, node}
		if withPrefix {
			cells = append([]any{prefix}, cells...)
		}
		if keysFlags.values {
			cells = append(cells, value)
		}
		s.row(cells...)
	}
	row("PREFIX", "KEY", "SIZE", "EXPIRES", "NODE", "VALUE")
	for _, e := range entries {
		row(nameText(e.prefix), nameText(e.key), bytesText(int64(len(e.value))), expiryText(e.expiry), e.writer(), bytesAsText(e.value))
	}
	return s.close()
}
