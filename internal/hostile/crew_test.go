//go:build linux

package hostile

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// A crew is goroutines of one process that do everything there is to do in a
// fleet at once. Whatever befalls it, every turn must end in time, with a
// result that is sound or an error that has a name.
type crew struct {
	fleet  *orbit.Fleet
	jobs   []*job
	spoils string // one of spoilt
	closed atomic.Bool
	wg     sync.WaitGroup
}

// A job is one thing to do with one segment, again and again.
type job struct {
	segment string
	name    string
	turn    func(i int) error
	alone   bool // does not end with the crew's fleet

	turns   atomic.Int64
	damaged atomic.Int64 // turns that met damage, without a break
	began   atomic.Int64 // when the turn under way began, 0 between turns
}

const (
	kindFrames = 60
	kindValues = 61
)

// kinds are the segments that a crew works with, by the names of its jobs.
var kinds = map[string]int{
	"roster": 0, "frames": kindFrames, "values": kindValues, "cache": int(orbit.KindCache),
	"events": int(orbit.KindEvents), "heartbeat": int(orbit.KindHeartbeat), "contest": int(orbit.KindContest),
}

// crewOptions make the rings so small that they are lapped all the time.
func crewOptions() orbit.Options {
	return orbit.Options{Size: 4, Rings: map[uint8]orbit.Geometry{
		kindFrames: {Capacity: 32, PayloadLimit: 1000}, kindValues: {Capacity: 16, PayloadLimit: 200},
		orbit.KindCache: {Capacity: 64, PayloadLimit: 300}, orbit.KindEvents: {Capacity: 64, PayloadLimit: 300},
		orbit.KindHeartbeat: {Capacity: 64}, orbit.KindContest: {Capacity: 32},
	}}
}

// spoilt says which frames may have had their own bytes overwritten, by the
// counter: what those deliver is not looked at.
var spoilt = map[string]func(counter uint64) bool{
	"none": func(uint64) bool { return false },
	"some": dirty,
	"all":  func(uint64) bool { return true },
}

// dirty picks every fourth slot, in the middle of the others.
func dirty(counter uint64) bool { return counter%4 == 2 }

func (w *crew) spoiled(counter uint64) bool { return spoilt[w.spoils](counter) }
func (w *crew) anySpoiled() bool            { return w.spoils != "none" }

// sound checks bytes read from the frame at a counter, unless that frame's own
// bytes may have been overwritten.
func (w *crew) sound(counter uint64, about string, p []byte) error {
	if w.spoiled(counter) {
		return nil
	}
	return check(about, p)
}

func (w *crew) start() error {
	for _, make := range []func() error{w.frames, w.values, w.cache, w.events, w.heartbeat, w.contest, w.roster} {
		if err := make(); err != nil {
			return err
		}
	}
	for _, j := range w.jobs {
		w.wg.Add(1)
		go w.work(j)
	}
	go w.watch()
	return nil
}

func (w *crew) add(segment, name string, turn func(i int) error) *job {
	j := &job{segment: segment, name: name, turn: turn}
	w.jobs = append(w.jobs, j)
	return j
}

// work takes turns until the crew's fleet is closed, and then until one fails
// for good.
func (w *crew) work(j *job) {
	defer w.wg.Done()
	var end time.Time
	for i := 0; ; i++ {
		if end.IsZero() && w.closed.Load() {
			end = time.Now().Add(patience)
		}
		j.began.Store(time.Now().UnixNano())
		err := j.turn(i)
		j.began.Store(0)
		gone := errors.Is(err, orbit.ErrClosed) || errors.Is(err, orbit.ErrDamaged)
		switch {
		case errors.Is(err, errUnsound), nameOf(err) == "unnamed":
			die("%s of %s: %v", j.name, j.segment, err)
		case !end.IsZero() && (gone || j.alone):
			return
		case !end.IsZero() && time.Now().After(end):
			die("%s of %s after Close: got error %v, want ErrClosed or ErrDamaged", j.name, j.segment, err)
		case errors.Is(err, orbit.ErrDamaged):
			j.damaged.Add(1)
		default:
			j.damaged.Store(0)
		}
		j.turns.Add(1)
		if i%4 == 0 {
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// watch ends the process if a turn hangs.
func (w *crew) watch() {
	for range time.Tick(100 * time.Millisecond) {
		for _, j := range w.jobs {
			if began := j.began.Load(); began != 0 && time.Now().UnixNano()-began > int64(patience) {
				die("%s of %s hangs: its turn is not over after %v\n%s", j.name, j.segment, patience, stacks())
			}
		}
	}
}

func die(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

// moves waits until every job that is asked for has ended two turns.
func (w *crew) moves(which func(j *job) bool) {
	for _, j := range w.jobs {
		for before := j.turns.Load(); which(j) && j.turns.Load() < before+2; {
			time.Sleep(time.Millisecond) // watch is there if it does not move
		}
	}
}

// meets waits until every job of a segment meets nothing but damage, and
// returns which do not.
func (w *crew) meets(segment string) (others []string) {
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		others = nil
		for _, j := range w.jobs {
			if j.segment == segment && !j.alone && j.damaged.Load() < 3 {
				others = append(others, j.name)
			}
		}
		if others == nil || time.Now().After(end) {
			return others
		}
	}
}

// harmed returns which jobs of other segments than these have met damage.
func (w *crew) harmed(segments []string) (names []string) {
	other := func(j *job) bool { return !slices.Contains(segments, j.segment) && !j.alone }
	w.moves(other)
	for _, j := range w.jobs {
		if other(j) && j.damaged.Load() > 0 {
			names = append(names, j.name+" of "+j.segment)
		}
	}
	return names
}

// end closes the fleet under the crew, which must notice.
func (w *crew) end() error {
	if err := w.fleet.Close(); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	w.closed.Store(true)
	w.wg.Wait() // watch is there if a job hangs
	return nil
}

func init() { roles["worker"] = worker }

// worker is a process with a crew: worker fleet spoils side. It answers
// questions about the crew.
func worker(args []string) error {
	read := proc.WatchParent()
	before := runtime.NumGoroutine()
	f, err := orbit.Join(args[0], crewOptions())
	if err != nil {
		return err
	}
	if len(args) > 2 {
		side = args[2]
	}
	w := crew{fleet: f, spoils: args[1]}
	if err := w.start(); err != nil {
		return err
	}
	fmt.Println("at work")
	for line := read(); line != ""; line = read() {
		switch word, segment, _ := strings.Cut(line, " "); word {
		case "moves":
			w.moves(func(*job) bool { return true })
			fmt.Println("moves")
		case "damaged":
			all := strings.Fields(segment)
			fmt.Printf("undamaged %v, harmed %v\n", w.meets(all[len(all)-1]), w.harmed(all))
		case "meets":
			fmt.Printf("undamaged %v\n", w.meets(segment))
		case "end":
			if err := w.end(); err != nil {
				return err
			}
			// One more watches, and one reads.
			for end := time.Now().Add(patience); runtime.NumGoroutine() > before+1; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					return fmt.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks())
				}
			}
			fmt.Println("ended")
			return nil
		}
	}
	return nil
}
