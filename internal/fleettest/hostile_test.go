//go:build linux

package fleettest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// Objects under a segment's name that are no sound segment: each is a named
// error that says what was found and what was wanted, and stays as it was.

func init() { proc.Helper("stranger", stranger) }

const kindHostile = 70

var soundGeometry = orbit.Geometry{Capacity: 8, PayloadLimit: 100}

// snapshot is all there is to see of an object without reading it through a
// link, but for the time of access.
func snapshot(path string) string {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return err.Error()
	}
	s := fmt.Sprintf("inode %d mode %o uid %d gid %d links %d size %d mtime %v ctime %v", st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Mtim, st.Ctim)
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		to, err := os.Readlink(path)
		s += fmt.Sprint(" to ", to, err, snapshot(to))
	case syscall.S_IFREG:
		b, err := os.ReadFile(path)
		s += fmt.Sprint(" bytes ", versionOf(b), err)
	case syscall.S_IFDIR:
		e, err := os.ReadDir(path)
		s += fmt.Sprint(" entries ", e, err)
	}
	return s
}

// edited returns a way to make a segment with one thing wrong with it.
func edited(edit func(m image) image) func(t *testing.T, path string, sound image) {
	return func(t *testing.T, path string, sound image) {
		edit(append(image(nil), sound...)).store(t, path)
	}
}

func sealed(off int, v uint64) func(t *testing.T, path string, sound image) {
	return edited(func(m image) image { m.put(off, v); return m.seal() })
}

func withMode(mode uint32) func(t *testing.T, path string, sound image) {
	return func(t *testing.T, path string, sound image) {
		sound.store(t, path)
		if err := syscall.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
}

// A hostileCase is a way to make an object that must be refused, and words of
// the error: what was found, what was wanted.
type hostileCase struct {
	name  string
	make  func(t *testing.T, path string, sound image)
	want  error
	words []string
}

// hostileCases apply to segments of every kind.
var hostileCases = []hostileCase{
	{"empty", edited(func(m image) image { return nil }), orbit.ErrForeign, []string{"0 bytes", "4096"}},
	{"one byte", edited(func(m image) image { return m[:1] }), orbit.ErrForeign, []string{"1 bytes", "4096"}},
	{"short of a header", edited(func(m image) image { return m[:4095] }), orbit.ErrForeign, []string{"4095 bytes", "4096"}},
	{"truncated to its header", edited(func(m image) image { return m[:4096] }), orbit.ErrForeign, []string{"4096 bytes", "header says"}},
	{"truncated by a byte", edited(func(m image) image { return m[:len(m)-1] }), orbit.ErrForeign, []string{"bytes", "header says"}},
	{"over-long by a byte", edited(func(m image) image { return append(m, 0) }), orbit.ErrForeign, []string{"bytes", "header says"}},
	{"over-long by a page", edited(func(m image) image { return append(m, make(image, pageSize)...) }), orbit.ErrForeign, []string{"bytes", "header says"}},
	{"zeros", edited(func(m image) image { return make(image, len(m)) }), orbit.ErrForeign, []string{`\x00`, "begins with"}},
	{"foreign bytes", edited(func(m image) image { return image(strings.Repeat("somebody's own. ", 1000)) }), orbit.ErrForeign, []string{"somebody", "begins with"}},
	{"wrong version", edited(func(m image) image { m.put32(offVersion, 9); return m.seal() }), orbit.ErrVersion, []string{"version 9", fmt.Sprint("want ", orbit.FormatVersion)}},
	{"wrong byte order", edited(func(m image) image { m.put32(offMark, 0x04030201); return m.seal() }), orbit.ErrForeign, []string{"0x4030201", "want 0x1020304"}},
	{"wrong kind", sealed(offKind, 71), orbit.ErrForeign, nil},
	{"impossible kind", sealed(offKind, 1<<40), orbit.ErrForeign, nil},
	{"bad checksum", edited(func(m image) image { m.put(offChecksum, m.word(offChecksum)^1<<33); return m }), orbit.ErrForeign, []string{"checksum"}},
	{"capacity 2^63", sealed(offCapacity, 1<<63), orbit.ErrForeign, nil},
	{"payload limit 2^63", sealed(offLimit, 1<<63), orbit.ErrForeign, nil},
	{"stride 0", sealed(offStride, 0), orbit.ErrForeign, nil},
	{"slots in the header", sealed(offSlots, 0), orbit.ErrForeign, nil},
	{"slots beyond the end", sealed(offSlots, 1<<40), orbit.ErrForeign, nil},
	{"table beyond the end", sealed(offTable, 1<<40), orbit.ErrForeign, nil},
	{"table in the header", sealed(offTable, 8), orbit.ErrForeign, nil},
	{"endless table", sealed(offTableLen, 1<<63), orbit.ErrForeign, nil},
	{"wrong size", sealed(offSize, 1<<40), orbit.ErrForeign, nil},
	{"mode 0644", withMode(0o644), orbit.ErrForeign, []string{"mode 0644", "want 0600"}},
	{"mode 0660", withMode(0o660), orbit.ErrForeign, []string{"mode 0660", "want 0600"}},
	{"mode 0400", withMode(0o400), orbit.ErrForeign, []string{"mode 0400", "want 0600"}},
	{"mode 04600", withMode(0o4600), orbit.ErrForeign, []string{"mode 04600", "want 0600"}},
	{"owned by another user", func(t *testing.T, path string, sound image) {
		proc.NeedRoot(t, "give a file away")
		sound.store(t, path)
		if err := os.Chown(path, 4711, 0); err != nil {
			t.Fatal(err)
		}
	}, orbit.ErrForeign, []string{"uid 4711", fmt.Sprint("want ", os.Geteuid())}},
	{"link to a sound segment", func(t *testing.T, path string, sound image) {
		to := filepath.Join(t.TempDir(), "sound")
		sound.store(t, to)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}, orbit.ErrForeign, []string{"symbolic link", "want a plain file"}},
	{"link to another file", func(t *testing.T, path string, sound image) {
		to := filepath.Join(t.TempDir(), "diary")
		image("dear diary").store(t, to)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}, orbit.ErrForeign, []string{"symbolic link", "want a plain file"}},
	{"link to nothing", func(t *testing.T, path string, sound image) {
		if err := os.Symlink(filepath.Join(t.TempDir(), "nothing"), path); err != nil {
			t.Fatal(err)
		}
	}, orbit.ErrForeign, []string{"symbolic link", "want a plain file"}},
	{"directory", func(t *testing.T, path string, sound image) {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		image("x").store(t, filepath.Join(path, "x"))
		t.Cleanup(func() { os.RemoveAll(path) })
	}, orbit.ErrForeign, []string{"directory", "want a plain file"}},
	{"FIFO", func(t *testing.T, path string, sound image) {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}, orbit.ErrForeign, []string{"FIFO", "want a plain file"}},
}

// refuses runs one case against what opens the segment.
func refuses(t *testing.T, c hostileCase, path string, sound image, open map[string]func() error) {
	c.make(t, path, sound)
	before := snapshot(path)
	for how, open := range open {
		within(t, 20*time.Second, how, func() {
			proc.MustBe(t, how, open(), c.want, c.words...)
		})
		if after := snapshot(path); after != before {
			t.Errorf("%s changed the foreign object\nfrom %s\nto   %s", how, before, after)
		}
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func TestForeignObjectInPlaceOfARing(t *testing.T) {
	name := proc.Fleet(t)
	opts := one(kindHostile, soundGeometry.Capacity, soundGeometry.PayloadLimit)
	opts.Rings[kindHostile+1] = soundGeometry
	f := join(t, name, opts)
	instance := load(t, proc.Segment(name, 0)).word(offInstance)
	path := proc.Segment(name, kindHostile)
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	open := map[string]func() error{
		"Ring":            func() error { _, err := f.Ring(kindHostile); return err },
		"Ring of a type":  func() error { _, err := orbit.RingOf[hostileType](f); return err },
		"Ring, observing": func() error { _, err := o.Ring(kindHostile); return err },
	}
	cases := append(hostileCases,
		hostileCase{"kind 71", sealed(offKind, 71), orbit.ErrForeign, []string{"kind 71", "kind 70"}},
		hostileCase{"capacity 3", sealed(offCapacity, 3), orbit.ErrForeign, []string{"capacity 3"}},
		hostileCase{"capacity 0", sealed(offCapacity, 0), orbit.ErrForeign, []string{"capacity 0"}},
		hostileCase{"capacity 16 of 8", sealed(offCapacity, 16), orbit.ErrForeign, []string{"contradicts"}},
		hostileCase{"payload limit 4096 of 100", sealed(offLimit, 4096), orbit.ErrForeign, []string{"contradicts"}},
		hostileCase{"a roster", edited(func(image) image { return newRoster(instance) }), orbit.ErrForeign, []string{"kind 0", "kind 70"}},
		hostileCase{"another incarnation's", sealed(offInstance, 1), orbit.ErrForeign, []string{"incarnation"}},
	)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			refuses(t, c, path, newImage(kindHostile, soundGeometry, 0, instance, 0), open)
		})
	}
	t.Run("every byte of the header", func(t *testing.T) {
		sound := newImage(kindHostile, soundGeometry, 0, instance, 0)
		for off := range offChecksum + 8 {
			m := append(image(nil), sound...)
			m[off] ^= 1 << (off % 8)
			m.store(t, path)
			for how, open := range open {
				if err := open(); off/4 == offVersion/4 {
					proc.MustBe(t, fmt.Sprintf("%s with byte %d damaged", how, off), err, orbit.ErrVersion)
				} else {
					proc.MustBe(t, fmt.Sprintf("%s with byte %d damaged", how, off), err, orbit.ErrForeign)
				}
			}
			if load(t, path).word(0) != m.word(0) || string(load(t, path)) != string(m) {
				t.Fatalf("the segment with byte %d damaged was changed", off)
			}
		}
		os.Remove(path)
	})
	// The fleet has taken no harm.
	r, err := f.Ring(kindHostile)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, r, 1, 100)
	f.Close()
	proc.RemoveFleet(t, name)
}

// TestRingOfAnotherTableIsRefusedAndForgotten: a ring of a user kind has no
// table behind its slots.
func TestRingOfAnotherTableIsRefusedAndForgotten(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(kindHostile, soundGeometry.Capacity, soundGeometry.PayloadLimit))
	path := proc.Segment(name, kindHostile)
	m := newImage(kindHostile, soundGeometry, 64, load(t, proc.Segment(name, 0)).word(offInstance), 0)
	m.store(t, path)
	_, err := f.Ring(kindHostile)
	proc.MustBe(t, "Ring with a table", err, orbit.ErrGeometry, name, "70", "64")
	checkForgotten(t, f, path)
}

// TestRingOfAnotherGeometryIsForgotten: a ring that was refused is not kept.
func TestRingOfAnotherGeometryIsForgotten(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(kindHostile, soundGeometry.Capacity, soundGeometry.PayloadLimit))
	path := proc.Segment(name, kindHostile)
	newImage(kindHostile, orbit.Geometry{Capacity: 2, PayloadLimit: 9}, 0, load(t, proc.Segment(name, 0)).word(offInstance), 0).store(t, path)
	_, err := f.Ring(kindHostile)
	proc.MustBe(t, "Ring of another geometry", err, orbit.ErrGeometry, name, "70", "2 slots of 9 bytes", "8 slots of 100 bytes")
	checkForgotten(t, f, path)
}

// checkForgotten takes a refused segment away: then the ring can be made.
func checkForgotten(t *testing.T, f *orbit.Fleet, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r, err := f.Ring(kindHostile)
	if err != nil {
		t.Fatalf("Ring once the refused segment is gone: %v", err)
	}
	if g := r.Geometry(); g != soundGeometry {
		t.Errorf("the ring has %v, want %v", g, soundGeometry)
	}
}

type hostileType struct{}

func (hostileType) OrbitKind() uint8 { return kindHostile }

func TestForeignObjectInPlaceOfTheRoster(t *testing.T) {
	name := proc.Fleet(t)
	path := proc.Segment(name, 0)
	open := map[string]func() error{
		"Join":    func() error { _, err := orbit.Join(name, orbit.Options{Size: 1}); return err },
		"Observe": func() error { _, err := orbit.Observe(name); return err },
	}
	for _, c := range hostileCases {
		t.Run(c.name, func(t *testing.T) {
			refuses(t, c, path, newRoster(1), open)
			if left := proc.Segments(name); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
	t.Run("a ring", func(t *testing.T) {
		refuses(t, hostileCase{"", edited(func(image) image { return newImage(3, soundGeometry, 0, 1, 0) }), orbit.ErrForeign, []string{"kind 3", "kind 0"}}, path, newRoster(1), open)
	})
	f := join(t, name, orbit.Options{Size: 1})
	f.Close()
	proc.RemoveFleet(t, name)
}

// TestRemoveLeavesForeignObjectsAlone has Remove meet everything that has a
// fleet's names but is no segment of ours.
func TestRemoveLeavesForeignObjectsAlone(t *testing.T) {
	for _, c := range hostileCases {
		if c.words == nil || !strings.Contains(strings.Join(c.words, " "), "want 0600") && !strings.Contains(strings.Join(c.words, " "), "plain file") && !strings.Contains(strings.Join(c.words, " "), "uid") {
			continue // plain files of ours alone go
		}
		t.Run(c.name, func(t *testing.T) {
			name := proc.Fleet(t)
			f := join(t, name, one(9, 8, 100))
			ring(t, f, 9)
			f.Close()
			path := proc.Segment(name, kindHostile)
			c.make(t, path, newImage(kindHostile, soundGeometry, 0, 1, 0))
			before := snapshot(path)
			proc.MustBe(t, "Remove", orbit.Remove(name), orbit.ErrForeign, append(c.words, name, "70")...)
			if after := snapshot(path); after != before {
				t.Errorf("Remove changed the foreign object\nfrom %s\nto   %s", before, after)
			}
			os.RemoveAll(path)
			if err := orbit.Remove(name); err != nil && len(proc.Segments(name)) > 0 {
				t.Errorf("Remove with the foreign object gone: %v", err)
			}
		})
	}
}

// TestGeometryOfASoundSegmentIsNotChanged: a sound segment of another geometry
// is no foreign one, and the error names both.
func TestGeometryOfASoundSegmentIsNotChanged(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(kindHostile, 8, 100))
	publish(t, ring(t, f, kindHostile), 1, 100)
	path := proc.Segment(name, kindHostile)
	before := snapshot(path)
	for _, g := range []orbit.Geometry{{Capacity: 16, PayloadLimit: 100}, {Capacity: 8, PayloadLimit: 101}, {Capacity: 1, PayloadLimit: 0}} {
		h := join(t, name, one(kindHostile, g.Capacity, g.PayloadLimit))
		_, err := h.Ring(kindHostile)
		proc.MustBe(t, "Ring of another geometry", err, orbit.ErrGeometry, name, "70", "8 slots of 100 bytes", g.String())
		h.Close()
	}
	if after := snapshot(path); after != before {
		t.Errorf("the segment changed\nfrom %s\nto   %s", before, after)
	}
}

// stranger gives up being root, and then meets the objects that others made
// under the names of its fleets. It prints what came of it.
func stranger(args []string) error {
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(strangerID); err != nil {
		return err
	}
	if err := syscall.Setuid(strangerID); err != nil {
		return err
	}
	for _, name := range args {
		_, joined := orbit.Join(name, orbit.Options{Size: 1})
		_, observed := orbit.Observe(name)
		removed := orbit.Remove(name)
		for _, err := range []error{joined, observed, removed} {
			fmt.Println(classify(err), "|", err)
		}
	}
	// And it can have fleets of its own.
	f, err := orbit.Join("own-"+args[0], one(kindHostile, 8, 100))
	if err != nil {
		fmt.Println("own |", err)
		return nil
	}
	r, err := f.Ring(kindHostile)
	if err == nil {
		_, err = r.Publish(1, 2, []byte("three"))
	}
	f.Close()
	if err == nil {
		err = orbit.Remove("own-" + args[0])
	}
	fmt.Println("own |", err)
	return nil
}

const strangerID = 65533

func TestUnprivilegedProcessMeetsForeignObjects(t *testing.T) {
	proc.NeedRoot(t, "become another user")
	sound := newRoster(1)
	cases := []struct {
		name  string
		make  func(path string) error
		found string // what Join, Observe and Remove say of it
	}{
		{"root's, closed", func(p string) error { return os.WriteFile(p, sound, 0o600) }, "uid 0"},
		{"root's, open to all", func(p string) error {
			if err := os.WriteFile(p, sound, 0o666); err != nil {
				return err
			}
			return os.Chmod(p, 0o666)
		}, "uid 0"},
		{"its own, too open", func(p string) error {
			if err := os.WriteFile(p, sound, 0o666); err != nil {
				return err
			}
			if err := os.Chmod(p, 0o640); err != nil {
				return err
			}
			return os.Chown(p, strangerID, strangerID)
		}, "mode 0640"},
		{"its own, read-only", func(p string) error {
			if err := os.WriteFile(p, sound, 0o400); err != nil {
				return err
			}
			return os.Chown(p, strangerID, strangerID)
		}, "mode 0400"},
		{"a link to root's secret", func(p string) error { return os.Symlink("/etc/shadow", p) }, "symbolic link"},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o755) }, "directory"},
		{"a FIFO", func(p string) error { return syscall.Mkfifo(p, 0o600) }, "FIFO"},
	}
	names := make([]string, len(cases))
	paths := make([]string, len(cases))
	before := make([]string, len(cases))
	for i, c := range cases {
		names[i] = proc.Fleet(t)
		paths[i] = fmt.Sprintf("/dev/shm/orbit-%s-0-%d", names[i], strangerID)
		if err := c.make(paths[i]); err != nil {
			t.Fatal(err)
		}
		before[i] = snapshot(paths[i])
		t.Cleanup(func() { os.RemoveAll(paths[i]) })
	}
	p := proc.Start(t, "stranger", names...)
	for i, c := range cases {
		for _, how := range []string{"Join", "Observe", "Remove"} {
			got := p.Line()
			if !strings.HasPrefix(got, "ErrForeign |") || !strings.Contains(got, names[i]) || !strings.Contains(got, c.found) || !strings.Contains(got, "want ") {
				t.Errorf("%s, %s: got %q, want an error that names the fleet, says %q and what it wanted, and matches ErrForeign", c.name, how, got, c.found)
			}
		}
	}
	if got := p.Line(); got != "own | <nil>" {
		t.Errorf("a fleet of its own: %s", got)
	}
	p.Finish()
	for i, c := range cases {
		if after := snapshot(paths[i]); after != before[i] {
			t.Errorf("%s: changed\nfrom %s\nto   %s", c.name, before[i], after)
		}
	}
}
