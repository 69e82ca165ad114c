// Package step is where an instrumented copy of package orbit says what it is
// about to do. The copy calls the variables below; a harness sets the ones it
// wants before it starts, and what is nil costs a comparison and does nothing.
// See package overlay.
package step

import (
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// A Kind says what a step does.
type Kind uint8

const (
	Load Kind = iota
	Store
	Add
	Swap
	Compare // compare-and-swap
	Call    // a system call
)

func (k Kind) String() string {
	return [...]string{"load", "store", "add", "swap", "compare-and-swap", "call"}[k]
}

// Fault names the deliberate fault to commit, if the copy has any.
var Fault string

var (
	// Before is called before every atomic operation on the word at addr.
	Before func(k Kind, addr unsafe.Pointer)
	// After is called after it, with what it returned: the value loaded, the
	// sum, the value swapped out, or 1 for a compare that swapped. Of a pointer
	// only tells whether it was nil.
	After func(k Kind, addr unsafe.Pointer, result uint64)
	// System is called before every system call.
	System func(name string)

	// Enter is called before a loop that tries until it succeeds, and Again at
	// the beginning of every try, with all that one try leaves to the next.
	Enter func(loop int)
	Again func(loop int, carried ...uint64)

	// Alive, Pause and Clock answer in place of the kernel, of a moment's
	// sleep, and of the clock.
	Alive func(owner uint64) bool
	Pause func(limit time.Duration) bool
	Clock func() int64

	// Acquire, Try and Release answer in place of a lock, to write or shared.
	// They must be set together, and while nothing is locked.
	Acquire func(l *Lock, shared bool)
	Try     func(l *Lock) bool
	Release func(l *Lock, shared bool)
)

// A Lock is what a harness that answers for a lock keeps of it.
type Lock struct {
	Writer  bool
	Readers int
}

// Where returns the place in package orbit that is making a step, as the
// functions from the exported one down to it, and the line in its file: the
// copies keep the lines of their originals.
func Where() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	var names []string
	line := ""
	for {
		f, more := frames.Next()
		if name, ok := strings.CutPrefix(f.Function, "orbit."); ok {
			if line == "" {
				line = f.File[strings.LastIndexByte(f.File, '/')+1:] + ":" + strconv.Itoa(f.Line)
			}
			name = strings.TrimSuffix(strings.TrimPrefix(name, "("), "[...]")
			names = append(names, strings.NewReplacer("*", "", ")", "", "[...]", "").Replace(name))
		}
		if !more {
			break
		}
	}
	for i, j := 0, len(names)-1; i < j; i, j = i+1, j-1 {
		names[i], names[j] = names[j], names[i]
	}
	return strings.Join(names, " > ") + " " + line
}
