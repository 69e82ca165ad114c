// Command ratelimit shares one rate limit between processes. Each of several
// workers asks as often as it can, and together they are admitted exactly as
// often as the limit allows:
//
//	go run ./examples/ratelimit
//	go run ./examples/ratelimit -n 8 -limit 1000 -period 500ms
//
// Run it in two terminals at once, and both together keep the limit. The
// limiter itself is in limiter.go.
//
// # How it counts
//
// Time is cut into windows, and every window has a number of slots per key,
// each a key of the shared [orbit.Cache]. To be admitted is to add a slot's
// key: of all who try, in whatever process, Add tells exactly one that it was
// first. Nothing is read, changed and written back, so nothing can get lost
// between, whoever is stopped or killed at whatever moment. No process waits
// for another.
//
// The limit is exact: a window never admits one request more. What that costs:
//
//   - Each admission is a frame of the cache, and so is each race for a slot
//     that was lost. A refusal costs next to nothing, once a process knows
//     that the slots are taken.
//   - The cache forgets its oldest frames. Its ring needs room for twice what
//     is written to it in a window, see [options]. The limiter notices when
//     that was too little, and admits nothing until the window is over.
//   - A process that is killed between its claim and its request has used a
//     slot for nothing.
//   - At the border of two windows, twice the limit can pass in a moment, as
//     with every limiter of fixed windows.
//
// Where about right is enough, let each process store its own count as an
// [orbit.Orbital] and add up the newest of all nodes before it admits. That
// writes one value, however high the limit, but processes that ask at the same
// moment do not see each other, and admit a little too much.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"time"

	"orbit"
)

var (
	fleetName = flag.String("fleet", "ratelimit", "`name` of the fleet")
	count     = flag.Int("n", 4, "`number` of workers")
	limit     = flag.Int("limit", 100, "how many requests a window admits")
	period    = flag.Duration("period", time.Second, "length of a window")
	length    = flag.Duration("for", 5*time.Second, "how long it takes")
	isWorker  = flag.Bool("worker", false, "be one of the workers")
)

// options give the cache room for 8192 claims in a window.
var options = orbit.Options{
	Size:  8,
	Rings: map[uint8]orbit.Geometry{orbit.KindCache: {Capacity: 1 << 14, PayloadLimit: 96}},
}

func main() {
	flag.Parse()
	run := supervise
	if *isWorker {
		run = work
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// work asks without rest, as a busy server would, until standard input ends.
// For each request admitted it prints the number of the window.
func work() error {
	signal.Ignore(os.Interrupt) // it reaches all of a terminal; the supervisor decides
	ctx, supervisorGone := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		supervisorGone()
	}()
	fleet, err := orbit.Join(*fleetName, options)
	if err != nil {
		return err
	}
	defer fleet.Close()
	limiter, err := NewLimiter(fleet, *limit, *period)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		window, ok, err := limiter.Allow("alice")
		switch {
		case ok:
			fmt.Println(window)
		case err == nil, errors.Is(err, ErrOverrun):
			time.Sleep(time.Millisecond)
		default:
			return err
		}
	}
	return nil
}

// supervise runs the workers for a while, and prints what they were admitted.
func supervise() error {
	defer orbit.Remove(*fleetName) // fails, as it should, if others use it as well
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *length)

	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	windows := make([]map[int]int, *count) // by worker, then by window
	for i := range windows {
		windows[i] = map[int]int{}
		worker, stdout, err := start(ctx)
		if err != nil {
			return err
		}
		workers.Add(1)
		go func() {
			defer workers.Done()
			for window := 0; ; windows[i][window]++ {
				if _, err := fmt.Fscan(stdout, &window); err != nil {
					break
				}
			}
			worker.Wait()
		}()
	}
	workers.Wait()
	report(windows)
	return nil
}

// start runs this program as a worker, until ctx ends.
func start(ctx context.Context) (worker *exec.Cmd, stdout io.Reader, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	worker = exec.CommandContext(ctx, self, append(os.Args[1:], "-worker")...)
	worker.Stderr = os.Stderr
	stdin, err := worker.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	worker.Cancel = stdin.Close
	worker.WaitDelay = 5 * time.Second
	pipe, err := worker.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	return worker, bufio.NewReader(pipe), worker.Start()
}

// report prints a line for each window.
func report(windows []map[int]int) {
	var all []int
	for _, w := range windows {
		all = slices.AppendSeq(all, maps.Keys(w))
	}
	slices.Sort(all)
	for _, window := range slices.Compact(all) {
		fmt.Printf("window %d:", window)
		sum := 0
		for _, w := range windows {
			fmt.Printf("%5d", w[window])
			sum += w[window]
		}
		fmt.Printf("  together %d of %d\n", sum, *limit)
	}
}
