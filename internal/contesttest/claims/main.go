//go:build orbit_overlay

// Claims explores the claim protocol of the contest: every interleaving of the
// steps that a few claimants make in shared memory, with the deaths of some of
// them and jumps of the clock at any step. What it runs is the code of package
// orbit, in the instrumented copy that package overlay makes of it.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"
)

var configs = []config{
	{name: "two", free: 2, threads: []string{"claim", "claim"}},
	{name: "two, every word", free: 2, exact: true, threads: []string{"claim", "claim"}},
	{name: "two, one entry", free: 1, threads: []string{"claim", "claim"}},
	{name: "two, three entries", free: 3, threads: []string{"claim", "claim"}},
	{name: "two, a death", free: 2, deaths: 1, threads: []string{"claim", "claim"}},
	{name: "two, an expiry", free: 2, jumps: 1, threads: []string{"claim", "claim"}},
	{name: "two, a death and an expiry", free: 2, deaths: 1, jumps: 1, threads: []string{"claim", "claim"}},
	{name: "release", free: 2, threads: []string{"claim release", "claim release claim"}},
	{name: "release, every word", free: 1, exact: true, threads: []string{"claim release", "claim"}},
	{name: "release, a death and an expiry", free: 2, deaths: 1, jumps: 1, threads: []string{"claim release", "claim"}},
	{name: "renewal", free: 2, jumps: 1, threads: []string{"claim renew", "claim"}},
	{name: "renewal, a death", free: 2, deaths: 1, jumps: 1, threads: []string{"claim renew release", "claim"}},
	{name: "take-up", free: 2, jumps: 1, threads: []string{"claim again release", "claim"}},
	{name: "two, apart", free: 1, threads: []string{"claim", "claim", "clear"}},
	{name: "two, apart, a death", free: 1, deaths: 1, threads: []string{"claim", "claim", "clear"}},
	{name: "two, apart, an expiry", free: 1, jumps: 1, threads: []string{"claim", "claim", "clear"}},
	{name: "two, apart, renewal", free: 1, jumps: 1, threads: []string{"claim renew", "claim", "clear"}},
	{name: "endless", free: 2, deaths: 2, threads: []string{"endless", "claim", "look"}},
	{name: "three", free: 3, threads: []string{"claim", "claim", "claim"}},
	{name: "three, two entries", free: 2, threads: []string{"claim", "claim", "claim"}},
	{name: "three, a death", free: 3, deaths: 1, threads: []string{"claim", "claim", "claim"}, long: true},
	{name: "three, an expiry", free: 3, jumps: 1, threads: []string{"claim", "claim", "claim"}, long: true},
	{name: "three, a death and an expiry", free: 2, deaths: 1, jumps: 1, threads: []string{"claim", "claim", "claim"}, long: true},
	{name: "three, release", free: 2, threads: []string{"claim release", "claim", "claim"}, long: true},
}

func main() {
	long := flag.Bool("long", false, "explore the large worlds too")
	run := flag.String("run", "", "explore the worlds whose names match this `expression`")
	flag.Parse()
	match := regexp.MustCompile(*run)
	for _, c := range configs {
		if c.long && !*long || !match.MatchString(c.name) {
			continue
		}
		start := time.Now()
		w := newWorld(c)
		r := w.Run()
		fmt.Printf("%s: %d states, %d executions, %d steps, %d ends, at most %d steps deep, %v\n",
			c.name, r.States, r.Executions, r.Steps, r.Ends, r.Deepest, time.Since(start).Round(time.Millisecond))
		fmt.Printf("\t%d guards handed out, %d claims yielded, %d found the table full, %d lapsed\n", w.guardsOut, w.yielded, w.full, w.lapsed)
		if r.Violation != "" {
			fmt.Printf("violation: %s\n", r.Violation)
			os.Exit(1)
		}
	}
}
