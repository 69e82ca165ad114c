//go:build linux

// Mutate shows that the tests notice what they are there for. It puts
// deliberate faults into package orbit, one at a time, and runs for each the
// tests that are to notice it:
//
//	go run ./internal/mutate                every fault, in some minutes
//	go run ./internal/mutate -run cache     the faults whose name or file matches
//	go run ./internal/mutate -list          what they are and mean, without running
//	go run ./internal/mutate -v -run cache  with what the failing tests said
//
// A fault that no named test notices survives: then the tests have a hole. The
// command fails if one survives, does not apply any more, or does not compile,
// and, before any of that, if a named test fails without a fault: that would
// prove nothing. Some tests skip unless they run as root; the faults that only
// these would notice are then not tried, and counted as such.
//
// The faults are in faults.go. The sources are not touched: the go command
// builds the tests with its -overlay flag, which has it read a faulty file in
// place of the sound one.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"orbit/internal/overlay"
)

func main() {
	run := flag.String("run", "", "only faults whose name or file matches this `expression`")
	list := flag.Bool("list", false, "only list the faults, and what each would mean")
	verbose := flag.Bool("v", false, "show what the tests that noticed a fault said")
	flag.Parse()
	match, err := regexp.Compile(*run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	chosen := choose(match)
	if *list {
		describe(chosen)
		return
	}
	if err := try(chosen, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func choose(match *regexp.Regexp) (chosen []fault) {
	for _, f := range faults {
		if match.MatchString(f.name) || match.MatchString(f.file) {
			chosen = append(chosen, f)
		}
	}
	return chosen
}

func describe(chosen []fault) {
	for _, f := range chosen {
		fmt.Printf("%s: %s\n\t%s\n", f.file, f.name, f.life)
		for _, s := range f.noticed {
			fmt.Printf("\t%s\n", s)
		}
	}
}

// try runs the tests without a fault and then with one fault at a time, and
// prints a line for each.
func try(chosen []fault, verbose bool) error {
	root, err := overlay.Root()
	if err != nil {
		return err
	}
	w := &workshop{root: root}
	if w.dir, err = os.MkdirTemp("", "mutate"); err != nil {
		return err
	}
	defer os.RemoveAll(w.dir)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		w.abandon()
		os.RemoveAll(w.dir)
		os.Exit(130)
	}()

	const line = "%-58s %-16s %-72s %6s\n"
	fmt.Printf(line, "fault", "file", "noticed by", "s")
	for _, s := range union(chosen) {
		start := time.Now()
		v, err := w.tryOne(fault{}, s)
		if err != nil {
			return err
		}
		if v.how != passed && v.how != skipped {
			return fmt.Errorf("%s does not pass without a fault: %s\n%s", s, v, v.said)
		}
		fmt.Printf(line, "(none)", "", "nobody of "+s.where(), seconds(start))
	}
	failed, untried := 0, 0
	for _, f := range chosen {
		start := time.Now()
		v, err := w.tryAll(f)
		result := v.String()
		switch {
		case err != nil:
			failed++
			result = "DOES NOT APPLY: " + err.Error()
		case v.how == skipped:
			untried++
		case v.how == passed:
			failed++
			result = "SURVIVES " + v.suite.String()
		}
		fmt.Printf(line, f.name, f.file, result, seconds(start))
		if verbose {
			fmt.Print(v.said)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d faults were not noticed", failed, len(chosen))
	}
	fmt.Printf("all %d faults were noticed", len(chosen)-untried)
	if untried > 0 {
		fmt.Printf("; %d were not tried, for the tests skip here", untried)
	}
	fmt.Println()
	return nil
}

func seconds(start time.Time) string { return fmt.Sprintf("%.1f", time.Since(start).Seconds()) }
