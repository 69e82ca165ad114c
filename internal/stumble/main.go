// Command stumble runs test suites over a copy of package orbit that loses the
// processor at its steps: before and after its atomic operations and before its
// system calls it sleeps now and then, for milliseconds. What happens once in
// thousands of runs on a busy machine happens there in every one: a claimant that
// is away between its ticket and its slot, a reader in the middle of a copy, a
// walk that others overtake.
//
//	go run ./internal/stumble                              # the suites below
//	go run ./internal/stumble -one 100 ./internal/hostile  # one step in 100
//
// A test that fails only here assumes what Orbit does not promise, or has found
// what it does.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"orbit/internal/overlay"
)

// suites are those that a stumbling library must pass.
var suites = []string{".", "./internal/fleettest", "./internal/substratetest", "./internal/contesttest", "./internal/hostile"}

// unfit are the tests that a copy of the library cannot pass: they count what the
// sleeps of a goroutine cost, or have a rival that writes a MiB all the time.
var unfit = []string{"TestSleepAllocatesNothing", "TestNothingIsAskedOfTheKernelWhileNobodySleeps", "TestOneSlotHeldByAStoppedWriter"}

func main() {
	one := flag.Int("one", 300, "stumble at one in so many steps that change memory")
	run := flag.String("run", "", "only the tests that match this `expression`")
	count := flag.Int("count", 1, "run the suites so many times")
	flag.Parse()
	if err := test(flag.Args(), *one, *run, *count); err != nil {
		fmt.Fprintln(os.Stderr, "stumble:", err)
		os.Exit(1)
	}
}

func test(packages []string, one int, run string, count int) error {
	if len(packages) == 0 {
		packages = suites
	}
	root, err := overlay.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "stumble")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, err := overlay.Write(root, dir, overlay.Variant{Expose: "internal/stumble/testdata/stumble.go"})
	if err != nil {
		return err
	}
	args := []string{"test", "-overlay=" + file, "-p=1", "-vet=off", "-run=" + run, "-count=" + strconv.Itoa(count), "-skip=" + strings.Join(unfit, "|")}
	c := exec.Command("go", append(args, packages...)...)
	c.Dir, c.Stdout, c.Stderr = root, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), "ORBIT_STUMBLE="+strconv.Itoa(one))
	return c.Run()
}
