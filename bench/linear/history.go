//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"orbit"
)

// The crew of a scenario: processes, lanes (goroutines) in each, and the most
// operations that a lane does in a history.
const (
	processes = 4
	lanesEach = 2
	maxOps    = 64
	setter    = processes * lanesEach // the lane of the parent, which sets the scene
	lanes     = setter + 1
)

// An action is what an operation does.
type action uint64

const (
	write action = 1 + iota // register
	read
	wipe
	put // cache
	get
	remove
	reset
	add
	claim // contest
	release
	renew
	valid
	holder
	expire // happens by itself: a time is over
	die    // happens by itself: the claims of a process fall with it
	extend // happens by itself: the first half of a renewal, which others may see
	drop   // happens by itself: a claim falls between the halves
)

func (a action) String() string {
	return [...]string{"", "write", "read", "wipe", "put", "get", "delete", "reset", "add",
		"claim", "release", "renew", "valid", "holder", "expire", "die", "extend", "drop"}[a]
}

// An outcome is how an operation ended.
type outcome uint64

const (
	unknown outcome = iota // its process died meanwhile
	done                   // it did what it says; a read found a value
	missed                 // there was nothing: no frame, no value, no holder
	refused                // held, lapsed, not valid, not added
	lapsed                 // a claim that was over before it was had
	busy                   // ErrBusy
	torn                   // bytes that nobody wrote
)

func (o outcome) String() string {
	return [...]string{"?", "done", "nothing", "refused", "lapsed", "busy", "TORN"}[o]
}

// A record is an operation as its lane writes it into shared memory. Call is
// written last of what is known before the operation, and Return last of all:
// so a record is sound whenever its process is killed.
type record struct {
	Call, Return  int64  // 0 until then
	Before, After uint64 // head of the ring before the call and after the return
	Action        action
	Key           int64
	Value         uint64 // written, or the token of the guard
	TTL           time.Duration
	Outcome       outcome
	Got           uint64 // read, or a token
	Holder        int64  // process id
}

// A notebook is what all processes of a crew write their operations into.
type notebook struct {
	stops uint64            // of processes by themselves
	steps [processes]uint64 // made in the last history
	pages [lanes][maxOps]record
}

// newNotebook makes a file without a name, for children to inherit.
func newNotebook() (*notebook, *os.File, error) {
	f, err := os.CreateTemp("", "orbit-linear")
	if err != nil {
		return nil, nil, err
	}
	os.Remove(f.Name())
	if err := f.Truncate(int64(unsafe.Sizeof(notebook{}))); err != nil {
		return nil, nil, err
	}
	b, err := mapNotebook(f)
	return b, f, err
}

func mapNotebook(f *os.File) (*notebook, error) {
	mem, err := syscall.Mmap(int(f.Fd()), 0, int(unsafe.Sizeof(notebook{})), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*notebook)(unsafe.Pointer(unsafe.SliceData(mem))), nil
}

func unmapNotebook(b *notebook) {
	syscall.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(b)), unsafe.Sizeof(*b)))
}

// A lane does operations one after the other.
type lane struct {
	*rand.Rand
	page   *[maxOps]record
	used   int
	number int
	round  uint64 // which history
	serial uint64
	buf    []byte
}

// fresh returns a value that was never written before.
func (l *lane) fresh() uint64 {
	l.serial++
	return l.round<<32 | uint64(l.number)<<24 | l.serial
}

// do does an operation and writes it down.
func (l *lane) do(ring *orbit.Ring, r record, op func(r *record) error) error {
	p := &l.page[l.used]
	l.used++
	*p = r
	p.Before = ring.Head()
	atomic.StoreInt64(&p.Call, now())
	err := op(p)
	end := now()
	p.After = ring.Head()
	atomic.StoreInt64(&p.Return, end)
	return err
}

// An op is an operation of a history.
type op struct {
	record
	id      int // from 1
	lane    int
	process int  // process id
	of      int  // of an expire, extend or drop: the operation that it belongs to
	excused bool // an outcome that something in the making explains
}

func (o *op) String() string {
	end := "        ?"
	if o.Return != endOfTime {
		end = fmt.Sprintf("%9.3f", float64(o.Return)/1e6)
	}
	s := fmt.Sprintf("%4d %9.3f %s  process %d lane %d  %v", o.id, float64(o.Call)/1e6, end, o.process, o.lane, o.Action)
	switch o.Action {
	case claim:
		s += fmt.Sprintf(" %d as %q for %v", o.Key, owners[o.Value], o.TTL)
	case renew:
		s += fmt.Sprintf(" %d guard %d for %v", o.Key, o.Value, o.TTL)
	case put, add:
		s += fmt.Sprintf(" %d value %x for %v", o.Key, o.Value, o.TTL)
	case write:
		s += fmt.Sprintf(" %d value %x", o.Key, o.Value)
	case valid, release:
		s += fmt.Sprintf(" %d guard %d", o.Key, o.Value)
	case expire, extend, drop:
		s += fmt.Sprintf(" %d of operation %d", o.Key, o.of)
	default:
		s += fmt.Sprintf(" %d", o.Key)
	}
	s += fmt.Sprintf(" -> %v", o.Outcome)
	switch {
	case o.Holder != 0:
		s += fmt.Sprintf(", guard %d of process %d", o.Got, o.Holder)
	case o.Action == claim && o.Outcome == done:
		s += fmt.Sprintf(", guard %d", o.Got)
	case o.Got != 0:
		s += fmt.Sprintf(", value %x", o.Got)
	}
	if o.excused {
		s += ", excused"
	}
	return s
}

// A history is what a crew did in one go, and who died of it when.
type history struct {
	round uint64
	ops   []*op
	died  map[int]int64 // when it was known, by process id
	last  map[int]int64 // the last sign of life of those
	ahead map[int]int64 // of the kernel's clock, by process id
}

// history returns what the notebook says. An operation without a return is of
// a process that died: it may have happened or not, but not after the death
// unless it is an add.
func (b *notebook) history(round uint64, ids [processes]int, died, ahead map[int]int64) (*history, error) {
	h := &history{round: round, died: died, last: map[int]int64{}, ahead: ahead}
	for n := range b.pages {
		id := os.Getpid()
		if n != setter {
			id = ids[n/lanesEach]
		}
		for i := range b.pages[n] {
			r := b.pages[n][i]
			if r.Call == 0 {
				break
			}
			if r.Return == 0 {
				if died[id] == 0 {
					return nil, fmt.Errorf("process %d lives and did not return from %v", id, r.Action)
				}
				h.last[id] = max(h.last[id], r.Call)
				r.Return, r.Outcome = died[id], unknown
				if r.Action == add {
					r.Return = endOfTime // others may have to decide whether it counts
				}
			} else {
				h.last[id] = max(h.last[id], r.Return)
			}
			h.ops = append(h.ops, &op{record: r, lane: n, process: id})
		}
	}
	slices.SortStableFunc(h.ops, func(a, b *op) int { return int(a.Call - b.Call) })
	for i, o := range h.ops {
		o.id = i + 1
	}
	return h, nil
}

// clear empties the pages.
func (b *notebook) clear() {
	for n := range b.pages {
		b.pages[n] = [maxOps]record{}
	}
}

// met returns how many operations overlap one of another lane.
func (h *history) met() (n int) {
	for i, a := range h.ops {
		for j, b := range h.ops {
			if i != j && a.lane != b.lane && a.Call <= b.Return && b.Call <= a.Return {
				n++
				break
			}
		}
	}
	return n
}

// skew returns the most that the clocks of two processes are apart.
func (h *history) skew() time.Duration {
	least, most := int64(endOfTime), int64(-endOfTime)
	for _, ahead := range h.ahead {
		least, most = min(least, ahead), max(most, ahead)
	}
	return time.Duration(most - least)
}

// of returns the operations on a key, without those that say nothing: reads
// that nobody heard the answer of, and what failed with ErrBusy.
func (h *history) of(key int) (ops []*op) {
	for _, o := range h.ops {
		if (int(o.Key) == key || o.Key == everyKey) && o.Outcome != busy && !(o.Outcome == unknown && o.looks()) {
			ops = append(ops, o)
		}
	}
	return ops
}

// everyKey is the key of operations on all of them.
const everyKey = -1

// looks tells whether the operation changes nothing.
func (o *op) looks() bool {
	return o.Action == read || o.Action == get || o.Action == valid || o.Action == holder || o.Action == claim && o.Outcome == refused
}
