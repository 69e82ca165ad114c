package main

import (
	"flag"
	"fmt"
	"slices"

	"orbit"
)

var keysFlags struct {
	prefix       *string // nil for all
	values, json bool
}

var keysCommand = &command{
	name:  "keys",
	args:  "[-prefix prefix] [-values] [-json] FLEET",
	short: "list the keys that have a value in the cache",
	long: `Lists the keys that have a value in the cache of FLEET, prefix by prefix, in the
order in which they were written: the size of the value, when it expires and the
node that wrote it. "orbit put" writes as node 65535, or the next below if taken.

It observes: it joins nothing and changes nothing. Each line is true of a moment
of its own; a key that lost its value meanwhile is left out.

Bytes that are not text are shown in hex; in JSON as key_hex and value_hex.
`,
	flags: func(f *flag.FlagSet) {
		f.Func("prefix", "only the keys of this `prefix`, which may be empty", func(s string) error {
			keysFlags.prefix = &s
			return nil
		})
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
	entries, err := wantedEntries(f)
	if err = notYet(err); err != nil { // no cache, no keys
		return err
	}
	if keysFlags.json {
		return printEntries(entries)
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
	for _, prefix := range prefixes {
		cache, err := orbit.OpenCache(f, prefix)
		if err != nil {
			return nil, err
		}
		more, err := entriesOf(cache)
		if err != nil {
			return nil, err
		}
		entries = append(entries, more...)
	}
	return entries, nil
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
	// The prefix is no news if it was asked for, or if nobody uses one.
	withPrefix := keysFlags.prefix == nil && slices.ContainsFunc(entries, func(e entry) bool { return e.prefix != "" })
	t := newTable()
	if withPrefix {
		fmt.Fprint(t, "PREFIX\t")
	}
	fmt.Fprint(t, "KEY\tSIZE\tEXPIRES\tNODE")
	if keysFlags.values {
		fmt.Fprint(t, "\tVALUE")
	}
	fmt.Fprintln(t)
	for _, e := range entries {
		if withPrefix {
			fmt.Fprintf(t, "%s\t", nameText(e.prefix))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s", nameText(string(e.key)), bytesText(int64(e.Size)), e.expiry(), e.node())
		if keysFlags.values {
			fmt.Fprintf(t, "\t%s", bytesAsText(e.value))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
