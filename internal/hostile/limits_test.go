//go:build linux

package hostile

import (
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
	var c proc.Checker
	fleet := args[0]
	filler, err := os.Create("/dev/shm/filler")
	if err != nil {
		return err
	}
	// leave makes n bytes the room that is left.
	leave := func(n int) {
		c.Worked("empty", filler.Truncate(0))
		if rest := free() - n; rest > 0 {
			c.Worked("fill", syscall.Fallocate(int(filler.Fd()), 0, 0, int64(rest)))
		}
		if got := free(); got != n {
			c.Say("%d bytes are left, want %d", got, n)
		}
	}
	// short tries something with too little room, and then with just enough.
	short := func(name string, kind int, size int, open func() error) {
		for _, room := range []int{0, page, size / 2 &^ (page - 1), size - page} {
			leave(room)
			before := listing()
			c.Failed(fmt.Sprintf("%s with %d of %d bytes", name, room, size), open(), orbit.ErrNoSpace, fleet, "/dev/shm", strconv.Itoa(size)+" bytes")
			if after := listing(); after != before {
				c.Say("%s with %d of %d bytes left %s, it was %s", name, room, size, after, before)
			}
		}
		leave(size)
		c.Worked(name+" with just enough room", open())
		if st, err := os.Stat(proc.Segment(fleet, kind)); err != nil || int(st.Size()) != size || free() != 0 {
			c.Say("%s: %v, %v, and %d bytes left; want %d bytes, and none left", name, st, err, free(), size)
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
		return c.Done()
	}
	for _, name := range slices.Sorted(maps.Keys(openers)) {
		short(name, kinds[name], sizes[name], func() error { return openers[name](f) })
	}
	c.Worked("Close", f.Close())
	c.Worked("Remove", orbit.Remove(fleet))
	return c.Done()
}

// measured makes a fleet where there is room, to learn the sizes of its
// segments.
func measured(fleet string, c *proc.Checker) map[string]int {
	f, err := orbit.Join(fleet, crewOptions())
	c.Worked("Join with room", err)
	sizes := map[string]int{}
	for name, kind := range kinds {
		if open := openers[name]; open != nil {
			c.Worked(name+" with room", open(f))
		}
		st, err := os.Stat(proc.Segment(fleet, kind))
		c.Worked(name, err)
		sizes[name] = int(st.Size())
	}
	c.Worked("Close", f.Close())
	c.Worked("Remove", orbit.Remove(fleet))
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
	var c proc.Checker
	fleet := args[0]
	var limit syscall.Rlimit
	c.Worked("Getrlimit", syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	f, err := orbit.Join(fleet, crewOptions())
	if err != nil {
		return err
	}
	short := func(what string, names []string, open func(name string) error) {
		free := firstFree()
		low := syscall.Rlimit{Cur: uint64(free), Max: limit.Max}
		for _, name := range names {
			c.Worked("Setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
			var errs [3]error
			for i := range errs {
				errs[i] = open(name)
			}
			c.Worked("Setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
			for _, err := range errs {
				c.Failed(what+" "+name+" without a descriptor", err, syscall.EMFILE, fleet, "too many open files")
			}
			if now := firstFree(); now != free {
				c.Say("%s %s: the first free descriptor is %d, was %d", what, name, now, free)
			}
			c.Worked(what+" "+name+" with descriptors again", open(name))
		}
	}
	names := slices.Sorted(maps.Keys(openers))
	before := len(proc.Segments(fleet))
	short("make", names, func(name string) error { return openers[name](f) })
	if after := len(proc.Segments(fleet)); after != before+len(names) {
		c.Say("%d segments, want %d", after, before+len(names))
	}
	g, err := orbit.Join(fleet, crewOptions())
	c.Worked("Join", err)
	short("meet", names, func(name string) error { return openers[name](g) })
	o, err := orbit.Observe(fleet)
	c.Worked("Observe", err)
	short("observe", names, func(name string) error { return openers[name](o) })
	for _, f := range []*orbit.Fleet{f, g, o} {
		c.Worked("Close", f.Close())
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
	if left := proc.Segments(fleet); len(left) > 0 {
		c.Say("left: %v", left)
	}
	return c.Done()
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
	var c proc.Checker
	fleet := args[0]
	names := slices.Sorted(maps.Keys(openers))
	under := func(resource int, cur uint64, run func()) {
		var limit syscall.Rlimit
		c.Worked("Getrlimit", syscall.Getrlimit(resource, &limit))
		c.Worked("Setrlimit", syscall.Setrlimit(resource, &syscall.Rlimit{Cur: cur, Max: limit.Max}))
		run()
		c.Worked("Setrlimit", syscall.Setrlimit(resource, &limit))
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
		c.Failed("make "+name+" without addresses", errs[i], syscall.ENOMEM, fleet, "cannot map", "bytes")
	}
	under(syscall.RLIMIT_FSIZE, page, open)
	for i, name := range names {
		c.Failed("make "+name+" of a size that files must not have", errs[i], orbit.ErrNoSpace, fleet, "bytes")
	}
	if left := proc.Segments(fleet); len(left) != 1 {
		c.Say("left: %v, want the roster", left)
	}
	open()
	for i, name := range names {
		c.Worked("make "+name+" with addresses again", errs[i])
	}

	// What exists cannot be met without addresses, either.
	g, err := orbit.Join(fleet, wideOptions())
	c.Worked("Join", err)
	o, err := orbit.Observe(fleet)
	c.Worked("Observe", err)
	for _, h := range []*orbit.Fleet{g, o} {
		f = h
		under(rlimitAS, addressSpace()+slack, open)
		for i, name := range names {
			c.Failed("meet "+name+" without addresses", errs[i], syscall.ENOMEM, fleet, "cannot map", "bytes")
		}
		open()
		for i, name := range names {
			c.Worked("meet "+name+" with addresses again", errs[i])
		}
		// Close can do without.
		under(rlimitAS, addressSpace()+slack, func() { errs[0] = f.Close() })
		c.Worked("Close without addresses", errs[0])
	}
	return c.Done()
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
