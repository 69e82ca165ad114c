package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"orbit"
)

var benchFlags struct {
	length time.Duration
	json   bool
}

var benchCommand = &command{
	name:  "bench",
	short: "measure the main operations on this machine",
	long: `Measures what the main operations cost here, in a shared fleet of its own that
has the default geometries: in nanoseconds, as a ratio to one uncontended atomic
add of the same run, and as how many of them fit into a second. Ratios can be
compared between machines, nanoseconds hardly.

The figures of one process are the best of many rounds of about a millisecond,
and allocs is how many times each call allocates. A cursor and a subscriber read
frames that are there already. "claim and release" is a pair of calls. Writer
processes publish into one ring as fast as they can: the figure is what one
frame costs when all their frames are counted together. A wake is the time from
before the publish until a process that slept in Cursor.Wait has the frame, for
one in two and for 99 of 100.

The figures of several processes mean little on a machine that is busy with
other things. It leaves nothing in shared memory: also after Ctrl-C, and even if
this process is killed.

  orbit bench
  orbit bench -for 1m -json >bench.json
`,
	flags: func(f *flag.FlagSet) {
		spanFlag(f, &benchFlags.length, "for", 10*time.Second, 200*time.Millisecond, "the `duration` of all measuring, at least 200ms; longer is more exact")
		f.BoolVar(&benchFlags.json, "json", false, "print one JSON object when all is measured")
	},
	run: runBench,
}

func runBench([]string) error {
	ctx, stop := untilSignal()
	defer stop()
	b := &bench{
		name:   benchPrefix(os.Getpid()) + strconv.FormatInt(time.Now().UnixNano()%1e9, 36),
		length: benchFlags.length,
		report: benchReport{
			Type: "bench", Go: runtime.Version(), System: runtime.GOOS, Processor: runtime.GOARCH, Processors: runtime.NumCPU(),
			Seconds: benchFlags.length.Seconds(),
		},
	}
	err := b.run(ctx)
	if ctx.Err() != nil {
		err = errInterrupted
	}
	if clearErr := b.clear(); err == nil {
		err = clearErr
	}
	if err == nil && benchFlags.json {
		err = printJSON(b.report)
	}
	return err
}

// benchPrefix begins the names of fleets of benches with this process id, which
// another PID namespace can have as well.
func benchPrefix(pid int) string { return fmt.Sprintf("bench-%d-", pid) }

// A bench is one run of "orbit bench".
type bench struct {
	name   string // of its fleet
	length time.Duration
	fleet  *orbit.Fleet
	mates  []*mate
	report benchReport
}

// A benchReport is what was measured, as tools want it.
type benchReport struct {
	Type       string     `json:"type"`
	Go         string     `json:"go"`
	System     string     `json:"system"`
	Processor  string     `json:"processor"`
	Processors int        `json:"processors"`
	Seconds    float64    `json:"seconds"`
	Results    []benchRow `json:"results"`
}

// A benchRow is the figure of one operation.
type benchRow struct {
	Name   string   `json:"name"`
	Nanos  float64  `json:"ns"`
	Ratio  float64  `json:"ratio"` // to the atomic add, which comes first
	Allocs *float64 `json:"allocs"`
	Rounds *int     `json:"rounds"` // the best of which it is
	Wakes  *int     `json:"wakes"`  // that were measured
}

const (
	benchMates   = 4                // processes that help
	matePatience = 10 * time.Second // with their leaving at the end
)

// run measures everything, each for its share of the time. The mates join
// first: one of them is always there to clear the fleet away.
func (b *bench) run(ctx context.Context) (err error) {
	if err := mustNotExist(b.name); err != nil {
		return err
	}
	for range benchMates {
		m, err := startMate(ctx, b.name)
		if m != nil {
			b.mates = append(b.mates, m)
		}
		if err != nil {
			return err
		}
	}
	if b.fleet, err = orbit.Join(b.name, orbit.Options{Size: benchMates + 1}); err != nil {
		return err
	}
	b.head()
	if err := b.measureCalls(ctx, b.length*6/10); err != nil {
		return err
	}
	for _, writers := range []int{2, 4} {
		if err := b.measureWriters(ctx, writers, b.length/8); err != nil {
			return err
		}
	}
	return b.measureWake(ctx, b.length*15/100)
}

// clear ends the mates and removes the fleet.
func (b *bench) clear() error {
	var all []*process
	for _, m := range b.mates {
		m.tell(mateLeaves + "\n") // if it lives
		all = append(all, m.process)
	}
	err := stopAll(all, matePatience)
	if b.fleet != nil {
		b.fleet.Close()
	}
	if removeErr := orbit.Remove(b.name); removeErr != nil && !errors.Is(removeErr, orbit.ErrNotExist) {
		err = errors.Join(err, within("cannot clear the fleet away", removeErr))
	}
	return err
}

// ---- What is printed ----

const benchFormat = "%-34s %9s ns %8s %11s %7s\n"

func (b *bench) head() {
	if benchFlags.json {
		return
	}
	r := &b.report
	fmt.Printf("%s %s/%s, %d processors\n\n", r.Go, r.System, r.Processor, r.Processors)
	fmt.Printf(benchFormat, "", "", "ratio", "per s", "allocs")
}

// add takes a figure into the report, and prints it.
func (b *bench) add(row benchRow) {
	r := &b.report
	row.Ratio = 1
	if len(r.Results) > 0 {
		row.Ratio = row.Nanos / r.Results[0].Nanos
	}
	r.Results = append(r.Results, row)
	if benchFlags.json {
		return
	}
	allocs := ""
	if row.Allocs != nil {
		allocs = fmt.Sprintf("%.3g", *row.Allocs)
	}
	fmt.Printf(benchFormat, row.Name, figure(row.Nanos), figure(row.Ratio)+"x", rateText(1e9/row.Nanos), allocs)
}

// figure writes a number with the digits that mean something.
func figure(x float64) string {
	switch {
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}
