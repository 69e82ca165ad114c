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
	"time"
)

func main() {
	long := flag.Bool("long", false, "explore the large worlds too")
	list := flag.Bool("list", false, "only list the worlds")
	run := flag.String("run", "", "explore the worlds whose names match this `expression`")
	limit := flag.Int("limit", 0, "give up after so many states")
	flag.Parse()
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
		w.Limit = *limit
		start := time.Now()
		r := w.Run()
		fmt.Printf("%s: %d states, %d executions, %d steps, %d ends, at most %d steps deep, %v\n",
			c.name, r.States, r.Executions, r.Steps, r.Ends, r.Deepest, time.Since(start).Round(time.Millisecond))
		if r.Violation != "" {
			fmt.Printf("violation: %s\n", r.Violation)
			os.Exit(1)
		}
	}
}
