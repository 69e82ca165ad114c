//go:build linux

package hostile

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"orbit"
	"orbit/internal/proc"
)

// A system that has no more of something when a segment is made or met: each
// segment, each shortage. What fails leaves nothing, and works once there is
// enough again.

func init() {
	roles["cramped"] = cramped
	roles["poor"] = poor
	roles["narrow"] = narrow
}

// openers make or meet each segment of a fleet.
var openers = map[string]func(f *orbit.Fleet) error{
	"frames":    func(f *orbit.Fleet) error { _, err := f.Ring(kindFrames); return err },
	"values":    func(f *orbit.Fleet) error { _, err := orbit.Bind[value](f); return err },
	"cache":     func(f *orbit.Fleet) error { _, err := orbit.OpenCache(f, "p"); return err },
	"events":    func(f *orbit.Fleet) error { _, err := orbit.Events(f); return err },
	"heartbeat": func(f *orbit.Fleet) error { _, err := orbit.Heartbeats(f); return err },
	"contest":   func(f *orbit.Fleet) error { _, err := orbit.OpenContest(f); return err },
}

// A checker is a role's way to say what was not as it should be.
type checker struct{ bad int }

func (c *checker) failed(what string, err, want error, words ...string) {
	text := fmt.Sprint(err)
	ok := err != nil && errors.Is(err, want)
	for _, w := range words {
		ok = ok && strings.Contains(text, w)
	}
	if !ok {
		c.say("%s: got error %q, want one that matches %v and says %q", what, text, want, words)
	}
}

func (c *checker) worked(what string, err error) {
	if err != nil {
		c.say("%s: %v", what, err)
	}
}

func (c *checker) say(format string, args ...any) {
	c.bad++
	fmt.Printf(format+"\n", args...)
}

func (c *checker) done() error {
	if c.bad == 0 {
		fmt.Println("ok")
	}
	return nil
}

// expectOK passes on what a role complained of.
func expectOK(t *testing.T, p *proc.Process) {
	t.Helper()
	for line := answer(t, p); line != "ok"; line = answer(t, p) {
		t.Error(line)
	}
	p.Finish()
}

// ---- Space ----

const crampedSize = 4 << 20

// cramped has a /dev/shm of its own and leaves ever less room in it.
func cramped(args []string) error {
	proc.WatchParent()
	if err := syscall.Mount("orbit", "/dev/shm", "tmpfs", 0, "size="+strconv.Itoa(crampedSize)+",mode=1777"); err != nil {
		return err
	}
	var c checker
	fleet := args[0]
	filler, err := os.Create("/dev/shm/filler")
	if err != nil {
		return err
	}
	// leave makes n bytes the room that is left.
	leave := func(n int) {
		c.worked("empty", filler.Truncate(0))
		if rest := free() - n; rest > 0 {
			c.worked("fill", syscall.Fallocate(int(filler.Fd()), 0, 0, int64(rest)))
		}
		if got := free(); got != n {
			c.say("%d bytes are left, want %d", got, n)
		}
	}
	// short tries something with too little room, and then with just enough.
	short := func(name string, kind int, size int, open func() error) {
		for _, room := range []int{0, page, size / 2 &^ (page - 1), size - page} {
			leave(room)
			before := listing()
			c.failed(fmt.Sprintf("%s with %d of %d bytes", name, room, size), open(), orbit.ErrNoSpace, fleet, "/dev/shm", strconv.Itoa(size)+" bytes")
			if after := listing(); after != before {
				c.say("%s with %d of %d bytes left %s, it was %s", name, room, size, after, before)
			}
		}
		leave(size)
		c.worked(name+" with just enough room", open())
		if st, err := os.Stat(proc.Segment(fleet, kind)); err != nil || int(st.Size()) != size || free() != 0 {
			c.say("%s: %v, %v, and %d bytes left; want %d bytes, and none left", name, st, err, free(), size)
		}
		leave(crampedSize / 2)
	}

	sizes := measured(fleet, &c)
	var f *orbit.Fleet
	short("roster", 0, sizes["roster"], func() (err error) {
		f, err = orbit.Join(fleet, crewOptions())
		return err
	})
	if f == nil {
		return c.done()
	}
	for _, name := range slices.Sorted(maps.Keys(openers)) {
		short(name, kinds[name], sizes[name], func() error { return openers[name](f) })
	}
	c.worked("Close", f.Close())
	c.worked("Remove", orbit.Remove(fleet))
	return c.done()
}

// measured makes a fleet where there is room, to learn the sizes of its
// segments.
func measured(fleet string, c *checker) map[string]int {
	f, err := orbit.Join(fleet, crewOptions())
	c.worked("Join with room", err)
	sizes := map[string]int{}
	for name, kind := range kinds {
		if open := openers[name]; open != nil {
			c.worked(name+" with room", open(f))
		}
		st, err := os.Stat(proc.Segment(fleet, kind))
		c.worked(name, err)
		sizes[name] = int(st.Size())
	}
	c.worked("Close", f.Close())
	c.worked("Remove", orbit.Remove(fleet))
	return sizes
}

func free() int {
	var st syscall.Statfs_t
	syscall.Statfs("/dev/shm", &st)
	return int(st.Bfree) * int(st.Bsize)
}

func listing() string {
	files, _ := filepath.Glob("/dev/shm/*")
	return fmt.Sprint(files, free())
}

func TestNoRoomForAnySegment(t *testing.T) {
	expectOK(t, startIn(t, "--mount", "cramped", proc.Fleet(t)))
}

// ---- Descriptors ----

// poor has no descriptors left, and then enough again.
func poor(args []string) error {
	proc.WatchParent()
	var c checker
	fleet := args[0]
	var limit syscall.Rlimit
	c.worked("Getrlimit", syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	f, err := orbit.Join(fleet, crewOptions())
	if err != nil {
		return err
	}
	short := func(what string, names []string, open func(name string) error) {
		free := firstFree()
		low := syscall.Rlimit{Cur: uint64(free), Max: limit.Max}
		for _, name := range names {
			c.worked("Setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
			var errs [3]error
			for i := range errs {
				errs[i] = open(name)
			}
			c.worked("Setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
			for _, err := range errs {
				c.failed(what+" "+name+" without a descriptor", err, syscall.EMFILE, fleet, "too many open files")
			}
			if now := firstFree(); now != free {
				c.say("%s %s: the first free descriptor is %d, was %d", what, name, now, free)
			}
			c.worked(what+" "+name+" with descriptors again", open(name))
		}
	}
	names := slices.Sorted(maps.Keys(openers))
	before := len(segments(fleet))
	short("make", names, func(name string) error { return openers[name](f) })
	if after := len(segments(fleet)); after != before+len(names) {
		c.say("%d segments, want %d", after, before+len(names))
	}
	g, err := orbit.Join(fleet, crewOptions())
	c.worked("Join", err)
	short("meet", names, func(name string) error { return openers[name](g) })
	o, err := orbit.Observe(fleet)
	c.worked("Observe", err)
	short("observe", names, func(name string) error { return openers[name](o) })
	for _, f := range []*orbit.Fleet{f, g, o} {
		c.worked("Close", f.Close())
	}

	short("come in to", []string{"Join", "Observe", "Remove"}, func(how string) (err error) {
		var f *orbit.Fleet
		switch how {
		case "Join":
			f, err = orbit.Join(fleet, crewOptions())
		case "Observe":
			f, err = orbit.Observe(fleet)
		default:
			return orbit.Remove(fleet)
		}
		if err == nil {
			f.Close()
		}
		return err
	})
	if left := segments(fleet); len(left) > 0 {
		c.say("left: %v", left)
	}
	return c.done()
}

// firstFree is the number that the next descriptor will have.
func firstFree() int {
	f, err := os.Open("/dev/null")
	if err != nil {
		return -1
	}
	defer f.Close()
	return int(f.Fd())
}

func TestNoDescriptorForAnySegment(t *testing.T) {
	expectOK(t, start(t, "poor", proc.Fleet(t)))
}

// ---- Addresses and file sizes ----

// wideOptions make every ring too large for a process that is short of
// addresses: of a file in shared memory only what is written costs anything,
// but making a ring writes all of it.
func wideOptions() orbit.Options {
	opts := orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{}}
	for name, kind := range kinds {
		if name != "roster" {
			opts.Rings[uint8(kind)] = orbit.Geometry{Capacity: 8, PayloadLimit: 4 << 20}
		}
	}
	return opts
}

// narrow may map no more than it has, but for what the runtime may want in the
// meantime, and may then make no file larger than a page.
func narrow(args []string) error {
	proc.WatchParent()
	runtime.LockOSThread()
	// The heap must not grow while addresses are short.
	debug.SetGCPercent(-1)
	runtime.KeepAlive(make([]byte, 64<<20))
	runtime.GC()
	var c checker
	fleet := args[0]
	names := slices.Sorted(maps.Keys(openers))
	under := func(resource int, cur uint64, run func()) {
		var limit syscall.Rlimit
		c.worked("Getrlimit", syscall.Getrlimit(resource, &limit))
		c.worked("Setrlimit", syscall.Setrlimit(resource, &syscall.Rlimit{Cur: cur, Max: limit.Max}))
		run()
		c.worked("Setrlimit", syscall.Setrlimit(resource, &limit))
	}
	f, err := orbit.Join(fleet, wideOptions())
	if err != nil {
		return err
	}
	errs := make([]error, len(names))
	open := func() {
		for i, name := range names {
			errs[i] = openers[name](f)
		}
	}
	// The runtime may want a thread or two: the slack is less than a ring.
	const rlimitAS, slack = 9, 28 << 20
	under(rlimitAS, addressSpace()+slack, open)
	for i, name := range names {
		c.failed("make "+name+" without addresses", errs[i], syscall.ENOMEM, fleet, "cannot map", "bytes")
	}
	under(syscall.RLIMIT_FSIZE, page, open)
	for i, name := range names {
		c.failed("make "+name+" of a size that files must not have", errs[i], orbit.ErrNoSpace, fleet, "bytes")
	}
	if left := segments(fleet); len(left) != 1 {
		c.say("left: %v, want the roster", left)
	}
	open()
	for i, name := range names {
		c.worked("make "+name+" with addresses again", errs[i])
	}

	// What exists cannot be met without addresses, either.
	g, err := orbit.Join(fleet, wideOptions())
	c.worked("Join", err)
	o, err := orbit.Observe(fleet)
	c.worked("Observe", err)
	for _, h := range []*orbit.Fleet{g, o} {
		f = h
		under(rlimitAS, addressSpace()+slack, open)
		for i, name := range names {
			c.failed("meet "+name+" without addresses", errs[i], syscall.ENOMEM, fleet, "cannot map", "bytes")
		}
		open()
		for i, name := range names {
			c.worked("meet "+name+" with addresses again", errs[i])
		}
		// Close can do without.
		under(rlimitAS, addressSpace()+slack, func() { errs[0] = f.Close() })
		c.worked("Close without addresses", errs[0])
	}
	return c.done()
}

// addressSpace returns how many bytes of addresses the process uses.
func addressSpace() uint64 {
	b, _ := os.ReadFile("/proc/self/statm")
	pages, _ := strconv.ParseUint(strings.Fields(string(b))[0], 10, 64)
	return pages * uint64(os.Getpagesize())
}

func TestNoAddressesForAnySegment(t *testing.T) {
	expectOK(t, start(t, "narrow", proc.Fleet(t)))
}
