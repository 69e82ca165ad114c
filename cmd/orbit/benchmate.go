package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"orbit"
)

// Processes that help a bench: they write at the same time, or sleep until they
// are woken. Each does what it is told by lines of its standard input, and
// answers with a line.

var benchMateFlags struct{ fleet string }

var benchMateCommand = &command{
	name: "bench-mate",
	long: "One of the processes that \"orbit bench\" starts. It leaves when it is told to.\nWhen its standard input ends before, it clears the fleet away.\n",
	flags: func(f *flag.FlagSet) {
		f.StringVar(&benchMateFlags.fleet, "fleet", "", "`name` of the fleet")
	},
	run: func([]string) error { return runBenchMate() },
}

// What a mate can be told to do, and what it says when it is ready to.
const (
	mateReady  = "ready"
	mateWrites = "write" // from one Stamp to another; it answers with the number of frames
	mateSleeps = "sleep" // until woken, over and over; see listen
	mateLeaves = "leave"
)

func runBenchMate() error {
	// A Ctrl-C reaches the whole foreground of a terminal. The bench decides.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	ctx, end := context.WithCancel(context.Background())
	orders := make(chan string)
	dismissed := false
	go func() {
		defer close(orders)
		defer end()
		for in := bufio.NewScanner(os.Stdin); !dismissed && in.Scan(); {
			if dismissed = in.Text() == mateLeaves; !dismissed {
				orders <- in.Text()
			}
		}
	}()
	fleet, err := orbit.Join(benchMateFlags.fleet, orbit.Options{Size: benchMates + 1})
	if err != nil {
		return err
	}
	defer func() {
		fleet.Close()
		if ctx.Err() != nil && !dismissed {
			clearAfterDeath(benchMateFlags.fleet)
		}
	}()
	ring, err := fleet.Ring(benchKind)
	if err != nil {
		return err
	}
	fmt.Println(mateReady)
	for order := range orders {
		if err := obey(ctx, ring, order); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// clearAfterDeath removes the fleet of a bench that was killed, as soon as the
// kernel has let go of it and the other mates have left.
func clearAfterDeath(fleet string) {
	for end := time.Now().Add(matePatience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := orbit.Remove(fleet); !errors.Is(err, orbit.ErrInUse) {
			return
		}
	}
}

func obey(ctx context.Context, ring *orbit.Ring, order string) error {
	word, arg, _ := strings.Cut(order, " ")
	switch word {
	case mateWrites:
		var from, to orbit.Stamp
		if _, err := fmt.Sscan(arg, &from, &to); err != nil {
			return fmt.Errorf("order %q: %w", order, err)
		}
		return write(ctx, ring, from, to)
	case mateSleeps:
		return listen(ctx, ring)
	}
	return fmt.Errorf("unknown order %q", order)
}

// write publishes as fast as it can between two moments, and answers with how
// many frames that were. The moments are those of the other writers.
func write(ctx context.Context, ring *orbit.Ring, from, to orbit.Stamp) error {
	payload := make([]byte, benchPayload)
	sleep(ctx, -from.Age())
	n := 0
	for ; orbit.Now() < to && ctx.Err() == nil; n += 100 {
		for range 100 {
			if _, err := ring.Publish(1, 1, payload); err != nil {
				return err
			}
		}
	}
	fmt.Println(n)
	return nil
}

// Classes of the frames that wake a mate. Their version is when they were
// published.
const (
	wakeFrame = 10
	lastWake  = 11
)

// listen sleeps until each frame comes, and answers the last one with the time
// between publishing and reading for half of the wakes, for 99 of 100, and with
// their number.
func listen(ctx context.Context, ring *orbit.Ring) error {
	c := ring.Tail()
	var took []time.Duration
	buf := make([]byte, 0, benchPayload)
	fmt.Println(mateReady)
	for {
		f, _, err := c.Next(buf)
		switch {
		case errors.Is(err, orbit.ErrNoFrame):
			err = c.Wait(ctx)
		case err == nil && f.Kind == lastWake:
			slices.Sort(took)
			n := max(len(took), 1)
			took = append(took, 0) // for none at all
			fmt.Println(took[n/2].Nanoseconds(), took[n*99/100].Nanoseconds(), len(took)-1)
			return nil
		case err == nil && f.Kind == wakeFrame:
			took = append(took, orbit.Stamp(f.Version).Age())
		}
		if err != nil {
			return err
		}
	}
}

// ---- Their side in the bench ----

// A mate is a helping process as the bench knows it.
type mate struct {
	*process
	answers chan string // closed when it says no more
}

// startMate starts this program again as a mate and waits until it is ready.
func startMate(ctx context.Context, fleet string) (*mate, error) {
	m := &mate{answers: make(chan string, 1)}
	var err error
	if m.process, err = startSelf(m.listen, benchMateCommand.name, "-fleet", fleet); err != nil {
		return nil, err
	}
	_, err = m.answer(ctx)
	return m, err
}

func (m *mate) listen(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		m.answers <- lines.Text()
	}
	close(m.answers)
}

func (m *mate) tell(order string) error {
	_, err := io.WriteString(m.stdin, order)
	return err
}

func (m *mate) answer(ctx context.Context) (string, error) {
	select {
	case answer, ok := <-m.answers:
		if !ok {
			<-m.exited
			_, err := m.ended()
			return "", fmt.Errorf("process %d ended by itself: %v", m.pid(), err)
		}
		return answer, nil
	case <-ctx.Done():
		return "", errInterrupted
	}
}

// measureWriters measures mates that write one ring at the same time.
func (b *bench) measureWriters(ctx context.Context, writers int, d time.Duration) error {
	total, err := race(ctx, b.mates[:writers], d)
	if err != nil {
		return err
	}
	b.add(benchRow{Name: fmt.Sprintf("%d writer processes, per frame 64 B", writers), Nanos: float64(d) / float64(max(total, 1))})
	return nil
}

// race has mates write at the same time, and adds up what they count.
func race(ctx context.Context, mates []*mate, d time.Duration) (total int, err error) {
	const untilAllKnow = 10 * time.Millisecond
	from := orbit.Now() + orbit.Stamp(untilAllKnow)
	for _, m := range mates {
		if err := m.tell(fmt.Sprintln(mateWrites, int64(from), int64(from)+int64(d))); err != nil {
			return 0, err
		}
	}
	for _, m := range mates {
		answer, err := m.answer(ctx)
		if err != nil {
			return 0, err
		}
		n, err := strconv.Atoi(answer)
		if err != nil {
			return 0, fmt.Errorf("process %d said %q, want how many frames it wrote", m.pid(), answer)
		}
		total += n
	}
	return total, nil
}

// wakePause is long enough for a woken process to sleep again.
const wakePause = time.Millisecond

// measureWake measures how fast a process wakes that sleeps until a frame
// comes.
func (b *bench) measureWake(ctx context.Context, d time.Duration) error {
	ring, err := b.fleet.Ring(benchKind)
	if err != nil {
		return err
	}
	m := b.mates[0]
	if err := m.tell(mateSleeps + "\n"); err != nil {
		return err
	}
	if _, err := m.answer(ctx); err != nil {
		return err
	}
	for start := time.Now(); time.Since(start) < d && ctx.Err() == nil; {
		sleep(ctx, wakePause)
		if _, err := ring.Publish(wakeFrame, uint64(orbit.Now()), nil); err != nil {
			return err
		}
	}
	if _, err := ring.Publish(lastWake, 0, nil); err != nil {
		return err
	}
	answer, err := m.answer(ctx)
	if err != nil {
		return err
	}
	var median, slow float64
	var wakes int
	if _, err := fmt.Sscan(answer, &median, &slow, &wakes); err != nil || wakes == 0 {
		return fmt.Errorf("process %d said %q about its wakes: %v", m.pid(), answer, err)
	}
	b.add(benchRow{Name: "wake of another process, p50", Nanos: median, Wakes: &wakes})
	b.add(benchRow{Name: "wake of another process, p99", Nanos: slow, Wakes: &wakes})
	return nil
}
