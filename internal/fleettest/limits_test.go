//go:build linux

package fleettest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"orbit"
	"orbit/internal/proc"
)

// A system that has no more of something: space, inodes, descriptors,
// addresses. Each befalls a process of its own, which says what was wrong, line
// by line.

func init() {
	proc.Helper("noDescriptors", noDescriptors)
	proc.Helper("noAddresses", noAddresses)
}

const kindCramped = 120

// expectOK passes on what a helper's checker complained of.
func expectOK(t *testing.T, p *proc.Process) {
	t.Helper()
	for {
		got := p.Line()
		if got == "ok" {
			p.Finish()
			return
		}
		t.Error(got)
		if !p.Stdout.Scan() {
			return
		}
		t.Error(p.Stdout.Text())
	}
}

// cramped has a /dev/shm of its own: 512 KiB and 8 inodes.
func cramped(args []string) error {
	proc.WatchParent()
	for _, err := range []error{
		syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""),
		syscall.Mount("orbit", "/dev/shm", "tmpfs", 0, "size=512k,nr_inodes=8,mode=1777"),
	} {
		if err != nil {
			fmt.Println("cannot:", err)
			return nil
		}
	}
	fmt.Println("mounted")
	var c proc.Checker
	name := args[0]
	opts := orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{
		kindCramped: {Capacity: 1024, PayloadLimit: 4096}, kindCramped + 1: {Capacity: 64, PayloadLimit: 256},
	}}
	f, err := orbit.Join(name, opts)
	c.Worked("Join with room", err)
	before := listing()
	_, err = f.Ring(kindCramped)
	c.Failed("a ring larger than all of /dev/shm", err, orbit.ErrNoSpace, name, strconv.Itoa(kindCramped), "/dev/shm", strconv.Itoa(pageSize+1024*4160))
	if after := listing(); after != before {
		c.Worked("a failed ring", fmt.Errorf("left %s, before it was %s", after, before))
	}
	r, err := f.Ring(kindCramped + 1)
	c.Worked("a ring that fits", err)

	// Fill it up to the last page. What exists goes on.
	fill, err := os.Create("/dev/shm/fill")
	c.Worked("fill", err)
	for err = nil; err == nil; {
		_, err = fill.Write(make([]byte, pageSize))
	}
	for i := range uint64(200) {
		p, version := payload(nil, i, 256)
		_, err := r.Publish(1, version, p)
		c.Worked("Publish in a full /dev/shm", err)
		got, err := r.Newest(nil)
		c.Worked("Newest in a full /dev/shm", errors.Join(err, verify(got)))
	}
	second, err := orbit.Join(name, opts)
	c.Worked("Join of a fleet that exists", err)
	if err == nil {
		c.Worked("Close", second.Close())
	}
	_, err = orbit.Join(name+"x", opts)
	c.Failed("Join without room for a roster", err, orbit.ErrNoSpace, name+"x", "/dev/shm", strconv.Itoa(18*pageSize)) // of header and table, in whole pages
	if left := proc.Segments(name + "x"); len(left) > 0 {
		c.Worked("a failed Join", fmt.Errorf("left %v", left))
	}
	fill.Close()
	c.Worked("empty", os.Remove("/dev/shm/fill"))

	// Use up the inodes.
	for i := 0; os.WriteFile(fmt.Sprint("/dev/shm/inode", i), nil, 0o600) == nil; i++ {
	}
	_, err = orbit.Join(name+"y", opts)
	c.Failed("Join without an inode", err, orbit.ErrNoSpace, name+"y", "/dev/shm")
	c.Worked("Close", f.Close())
	c.Worked("Remove", orbit.Remove(name))
	if left := proc.Segments(name); len(left) > 0 {
		c.Worked("Remove", fmt.Errorf("left %v", left))
	}
	f, err = orbit.Join(name, opts)
	c.Worked("Join with room again", err)
	if err == nil {
		c.Worked("Close", f.Close())
	}
	return c.Done()
}

func listing() string {
	files, _ := filepath.Glob("/dev/shm/*")
	var st syscall.Statfs_t
	syscall.Statfs("/dev/shm", &st)
	return fmt.Sprint(files, st.Bfree, st.Ffree)
}

func TestFullSharedMemory(t *testing.T) {
	p, _ := launched(t, "mount", "cramped", proc.Fleet(t))
	expectOK(t, p)
}

// noDescriptors has ever fewer descriptors left, and then enough again.
func noDescriptors(args []string) error {
	proc.WatchParent()
	var c proc.Checker
	name := args[0]
	opts := one(kindCramped, 8, 64)
	f, err := orbit.Join(name, opts)
	c.Worked("Join", err)
	var limit syscall.Rlimit
	c.Worked("Getrlimit", syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	free := firstFree()
	atMost := func(spare int) {
		c.Worked("Setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(free + spare), Max: limit.Max}))
	}
	atMost(0)
	for range 10 {
		_, err := orbit.Join(name, opts)
		c.Failed("Join without a descriptor", err, syscall.EMFILE, name, "too many open files")
		_, err = orbit.Join(name+"-other", opts)
		c.Failed("Join without a descriptor, to create", err, syscall.EMFILE, name, "too many open files")
		_, err = orbit.Observe(name)
		c.Failed("Observe without a descriptor", err, syscall.EMFILE, name, "too many open files")
		_, err = f.Ring(kindCramped)
		c.Failed("Ring without a descriptor", err, syscall.EMFILE, name, "too many open files")
		_, err = f.Members()
		c.Worked("Members without a descriptor", err)
	}
	atMost(1)
	_, err = f.Ring(kindCramped)
	c.Worked("Ring with one descriptor", err)
	g, err := orbit.Join(name, opts)
	c.Worked("Join with one descriptor", err)
	_, err = orbit.Join(name, opts)
	c.Failed("Join with no descriptor more", err, syscall.EMFILE)
	if g != nil {
		c.Worked("Close", g.Close())
	}
	c.Worked("Setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	if now := firstFree(); now != free {
		c.Worked("descriptors", fmt.Errorf("the first free one is %d, was %d", now, free))
	}
	r, err := f.Ring(kindCramped)
	c.Worked("Ring with descriptors again", err)
	if err == nil {
		_, err = r.Publish(1, 1, []byte("alive"))
		c.Worked("Publish", err)
	}
	c.Worked("Close", f.Close())
	c.Worked("Remove", orbit.Remove(name))
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

// settle has the collector run until what it can give back is given back.
func settle() {
	for range 4 {
		runtime.GC()
		runtime.Gosched()
	}
}

func TestNoDescriptorsLeft(t *testing.T) {
	expectOK(t, proc.Start(t, "noDescriptors", proc.Fleet(t)))
}

// noAddresses may map no more than a few megabytes beyond what it has.
func noAddresses(args []string) error {
	proc.WatchParent()
	var c proc.Checker
	name := args[0]
	opts := orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{
		kindCramped: {Capacity: 1024, PayloadLimit: 40 << 10}, kindCramped + 1: {Capacity: 8, PayloadLimit: 64},
	}}
	f, err := orbit.Join(name, opts)
	c.Worked("Join", err)
	debug.SetGCPercent(-1) // the heap must not grow while addresses are short
	var limit syscall.Rlimit
	c.Worked("Getrlimit", syscall.Getrlimit(syscall.RLIMIT_AS, &limit))
	low := limit
	low.Cur = addressSpace() + 16<<20
	c.Worked("Setrlimit", syscall.Setrlimit(syscall.RLIMIT_AS, &low))
	_, err = f.Ring(kindCramped)
	r, smallErr := f.Ring(kindCramped + 1)
	var publishErr error
	if smallErr == nil {
		_, publishErr = r.Publish(1, 1, []byte("alive"))
	}
	c.Worked("Setrlimit", syscall.Setrlimit(syscall.RLIMIT_AS, &limit))
	c.Failed("a ring of 40 MiB with 16 MiB of addresses", err, syscall.ENOMEM, name, strconv.Itoa(kindCramped), "bytes")
	c.Worked("a small ring", smallErr)
	c.Worked("Publish in a small ring", publishErr)
	if left := proc.Segments(name); len(left) != 2 {
		c.Worked("the ring that could not be mapped", fmt.Errorf("left %v, want the roster and the small ring", left))
	}
	c.Worked("Close", f.Close())
	c.Worked("Remove", orbit.Remove(name))
	return c.Done()
}

// addressSpace returns how many bytes of addresses the process uses.
func addressSpace() uint64 {
	b, _ := os.ReadFile("/proc/self/statm")
	pages, _ := strconv.ParseUint(strings.Fields(string(b))[0], 10, 64)
	return pages * uint64(os.Getpagesize())
}

func TestNoAddressesLeft(t *testing.T) {
	expectOK(t, proc.Start(t, "noAddresses", proc.Fleet(t)))
}
