//go:build orbit_overlay

// Slots explores the slot protocol of package orbit. It is built against the
// instrumented copy of the package by the tests of orbit/internal/explore,
// which is also where it is described.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime/pprof"
	"time"
)

func main() {
	long := flag.Bool("long", false, "explore the large worlds too")
	list := flag.Bool("list", false, "only list the worlds")
	run := flag.String("run", "", "explore the worlds whose names match this `expression`")
	profile := flag.String("profile", "", "")
	limit := flag.Int("limit", 0, "give up after so many states")
	plain := flag.Bool("plain", false, "explore all orders of independent steps too")
	flag.Parse()
	if *profile != "" {
		f, _ := os.Create(*profile)
		pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	match := regexp.MustCompile(*run)
	for _, c := range configs {
		if c.long && !*long || !match.MatchString(c.name) {
			continue
		}
		if *list {
			fmt.Println(c.name)
			continue
		}
		w := newWorld(c)
		w.Limit, w.Plain = *limit, *plain
		start := time.Now()
		r := w.Run()
		fmt.Printf("%s: %d states, %d executions, %d steps, %d ends, %d cut, at most %d steps deep, %v\n",
			c.name, r.States, r.Executions, r.Steps, r.Ends, r.Cut, r.Deepest, time.Since(start).Round(time.Millisecond))
		if r.Violation != "" {
			fmt.Printf("violation: %s\n", r.Violation)
			pprof.StopCPUProfile()
			os.Exit(1)
		}
	}
}
