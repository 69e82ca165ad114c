package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math"
	"slices"
	"time"

	"orbit"
)

var whoFlags struct{ json bool }

var whoCommand = &command{
	name:  "who",
	args:  "[-json] FLEET",
	short: "list who holds which subject",
	long: `Lists the subjects that are held in the contest of FLEET, by kind and label:
whose name the claim is in, the node and process that hold it, the fence token,
since when, and how much time is left unless it is renewed. It is empty if
nobody holds anything. The process id is as the holder sees itself: in another
PID namespace it has another number.

It observes: it joins nothing and changes nothing. "orbit run" claims subjects
of kind 199.
`,
	flags: func(f *flag.FlagSet) {
		f.BoolVar(&whoFlags.json, "json", false, "print one JSON object per subject")
	},
	run: runWho,
}

func runWho(args []string) error {
	if len(args) != 1 {
		return usagef("want FLEET, found %q", args)
	}
	f, err := observe(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	contest, err := orbit.OpenContest(f)
	if errors.Is(err, orbit.ErrNotExist) {
		return nil // no contest, no holders
	}
	if err != nil {
		return err
	}
	holders, err := contest.Holders()
	if err != nil {
		return err
	}
	slices.SortFunc(holders, func(a, b orbit.Holder) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Label, b.Label))
	})
	if whoFlags.json {
		return printHolders(holders)
	}
	return tabulateHolders(holders)
}

func printHolders(holders []orbit.Holder) error {
	for _, h := range holders {
		err := printJSON(struct {
			Kind  uint8     `json:"kind"`
			Label string    `json:"label"`
			Owner string    `json:"owner"`
			Node  uint16    `json:"node"`
			PID   int       `json:"pid"`
			Token uint64    `json:"token"`
			Since time.Time `json:"since"`
			Left  *float64  `json:"left_seconds"` // null: until release or death
		}{h.Kind, validText(h.Label), validText(h.Owner), h.Node, h.PID, h.Token, h.Since.Time().Round(0), leftSeconds(h.Left)})
		if err != nil {
			return err
		}
	}
	return nil
}

func tabulateHolders(holders []orbit.Holder) error {
	if len(holders) == 0 {
		return nil
	}
	t := newTable()
	fmt.Fprintln(t, "KIND\tSUBJECT\tOWNER\tNODE\tPID\tTOKEN\tSINCE\tLEFT")
	for _, h := range holders {
		left := "until released"
		if !endless(h.Left) {
			left = spanText(h.Left)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", h.Kind, bytesAsText([]byte(h.Label)), bytesAsText([]byte(h.Owner)),
			h.Node, h.PID, h.Token, h.Since.Time().Format("2006-01-02 15:04:05"), left)
	}
	return t.Flush()
}

// endless tells whether a claim ends only by release or death: its time left
// is then that to the end of the clock.
func endless(left time.Duration) bool { return left > math.MaxInt64/2 }

func leftSeconds(left time.Duration) *float64 {
	if endless(left) {
		return nil
	}
	s := left.Seconds()
	return &s
}
