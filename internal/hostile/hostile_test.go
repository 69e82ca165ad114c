//go:build linux

// Package hostile meets the kernel of Orbit with shared memory as it should
// not be: foreign, damaged, cut short, full, or changed while in use. Every
// case must be a named error, in a process that lives on, with the foreign
// object untouched.
package hostile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func TestMain(m *testing.M) { proc.Main(m) }

const (
	kind   = 9
	roster = 0
)

var small = orbit.Options{Size: 2, Rings: map[uint8]orbit.Geometry{kind: {Capacity: 8, PayloadLimit: 64}}}

func join(t testing.TB, name string, opts orbit.Options) *orbit.Fleet {
	t.Helper()
	f, err := orbit.Join(name, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func ring(t testing.TB, f *orbit.Fleet) *orbit.Ring {
	t.Helper()
	r, err := f.Ring(kind)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// abandoned makes a fleet of one ring with three frames, leaves it, and
// returns the bytes of the ring's segment.
func abandoned(t testing.TB, name string) []byte {
	t.Helper()
	f := join(t, name, small)
	r := ring(t, f)
	for i := range 3 {
		if _, err := r.Publish(1, uint64(i), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	b, err := os.ReadFile(proc.Segment(name, kind))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// state is all that may not change about a foreign object.
func state(t testing.TB, path string) string {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	content := "not a file"
	if st.Mode&syscall.S_IFMT == syscall.S_IFREG {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content = fmt.Sprintf("%x", b)
	}
	return fmt.Sprint(st.Ino, st.Mode, st.Uid, st.Size, st.Nlink, st.Mtim, content)
}

// word returns segment bytes with the word at off changed, and the checksum
// of the header made good again.
func word(b []byte, off int, v uint64) []byte {
	b = bytes.Clone(b)
	binary.NativeEndian.PutUint64(b[off:], v)
	return sealed(b)
}

func sealed(b []byte) []byte {
	h := uint64(14695981039346656037)
	for _, c := range b[:96] {
		h = (h ^ uint64(c)) * 1099511628211
	}
	binary.NativeEndian.PutUint64(b[96:], h)
	return b
}

func TestForeignSegmentIsRefusedAndLeftAlone(t *testing.T) {
	write := func(b []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	good := abandoned(t, proc.Fleet(t))
	damaged := bytes.Clone(good)
	damaged[40] ^= 1
	cases := []struct {
		name string
		make func(t *testing.T, path string)
		want error
		says string
	}{
		{"empty", write(nil), orbit.ErrForeign, "0 bytes"},
		{"too short", write(good[:100]), orbit.ErrForeign, "100 bytes"},
		{"header alone", write(good[:4096]), orbit.ErrForeign, "its header says"},
		{"truncated by a byte", write(good[:len(good)-1]), orbit.ErrForeign, "truncated"},
		{"a byte too long", write(append(bytes.Clone(good), 0)), orbit.ErrForeign, "padded"},
		{"other bytes", write(bytes.Repeat([]byte("foreign "), 1000)), orbit.ErrForeign, `begins with "foreign "`},
		{"zeros", write(make([]byte, len(good))), orbit.ErrForeign, "not an Orbit segment"},
		{"other version", write(word(good, 8, binary.NativeEndian.Uint64(good[8:])+1<<32)), orbit.ErrVersion, "version 2, want 1"},
		{"other byte order", write(word(good, 8, 0x0000000104030201)), orbit.ErrForeign, "byte order"},
		{"bad checksum", write(damaged), orbit.ErrForeign, "checksum"},
		{"capacity of 3", write(word(good, 24, 3)), orbit.ErrForeign, "capacity 3"},
		{"capacity of 2^63", write(word(good, 24, 1<<63)), orbit.ErrForeign, "impossible"},
		{"other capacity", write(word(good, 24, 16)), orbit.ErrForeign, "contradicts"},
		{"other stride", write(word(good, 40, 64)), orbit.ErrForeign, "contradicts"},
		{"slots elsewhere", write(word(good, 48, 0)), orbit.ErrForeign, "contradicts"},
		{"huge table", write(word(good, 64, 1<<40)), orbit.ErrForeign, "impossible"},
		{"other kind", write(word(good, 72, kind+1)), orbit.ErrForeign, "kind 10 under the name of kind 9"},
		{"other incarnation", write(word(good, 80, 12345)), orbit.ErrForeign, "another incarnation"},
		{"directory", func(t *testing.T, path string) { os.Mkdir(path, 0o700) }, orbit.ErrForeign, "want a plain file"},
		{"fifo", func(t *testing.T, path string) { syscall.Mkfifo(path, 0o600) }, orbit.ErrForeign, "want a plain file"},
		{"mode 0644", func(t *testing.T, path string) { write(good)(t, path); os.Chmod(path, 0o644) }, orbit.ErrForeign, "mode 0644, want 0600"},
		{"mode 0660", func(t *testing.T, path string) { write(good)(t, path); os.Chmod(path, 0o660) }, orbit.ErrForeign, "mode 0660, want 0600"},
		{"link to a segment", func(t *testing.T, path string) {
			write(good)(t, path+".target")
			t.Cleanup(func() { os.Remove(path + ".target") })
			os.Symlink(path+".target", path)
		}, orbit.ErrForeign, "symbolic link"},
		{"link to nothing", func(t *testing.T, path string) { os.Symlink("/nonexistent", path) }, orbit.ErrForeign, "symbolic link"},
		{"other owner", func(t *testing.T, path string) {
			write(good)(t, path)
			if err := os.Chown(path, 12345, 12345); err != nil {
				t.Skip("needs root: ", err)
			}
		}, orbit.ErrForeign, "uid 12345"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			name := proc.Fleet(t)
			f := join(t, name, small)
			path := proc.Segment(name, kind)
			c.make(t, path)
			before := state(t, path)
			_, err := f.Ring(kind)
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("got %v, want %v that says %q", err, c.want, c.says)
			}
			o, err := orbit.Observe(name)
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			if _, err := o.Ring(kind); c.name != "other incarnation" && !errors.Is(err, c.want) {
				t.Errorf("observer: got %v, want %v", err, c.want)
			}
			if after := state(t, path); after != before {
				t.Errorf("the object changed:\n%.200s\n%.200s", before, after)
			}
		})
	}
}

func TestForeignRosterIsRefusedAndLeftAlone(t *testing.T) {
	for _, content := range []string{"", "foreign", strings.Repeat("x", 1<<17)} {
		name := proc.Fleet(t)
		path := proc.Segment(name, roster)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		before := state(t, path)
		_, err := orbit.Join(name, small)
		if !errors.Is(err, orbit.ErrForeign) {
			t.Errorf("join: got %v, want %v", err, orbit.ErrForeign)
		}
		if err := orbit.Remove(name); content == "" {
			if err != nil { // nothing in it: what is left of a roster
				t.Errorf("remove: got %v", err)
			}
			continue
		} else if !errors.Is(err, orbit.ErrForeign) {
			t.Errorf("remove: got %v, want %v", err, orbit.ErrForeign)
		}
		if after := state(t, path); after != before {
			t.Errorf("the object changed:\n%.200s\n%.200s", before, after)
		}
	}
}

// TestEveryHeaderByteIsChecked flips each bit of the fixed header in turn.
func TestEveryHeaderByteIsChecked(t *testing.T) {
	name := proc.Fleet(t)
	good := abandoned(t, name)
	path := proc.Segment(name, kind)
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for off := range 104 {
		bad := bytes.Clone(good)
		bad[off] ^= 1 << rand.IntN(8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Ring(kind); !errors.Is(err, orbit.ErrForeign) && !errors.Is(err, orbit.ErrVersion) {
			t.Errorf("byte %d: got %v", off, err)
		}
	}
}

// TestTruncatedInUse cuts segments short under a process that is at work in
// them: it gets errors and lives.
func TestTruncatedInUse(t *testing.T) {
	for _, victim := range []int{kind, roster} {
		for _, size := range []int64{0, 100, 4096} {
			t.Run(fmt.Sprintf("kind %d to %d bytes", victim, size), func(t *testing.T) {
				name := proc.Fleet(t)
				f := join(t, name, small)
				r := ring(t, f)
				var wg sync.WaitGroup
				stop := make(chan struct{})
				work := func(op func() error) {
					wg.Add(1)
					go func() {
						defer wg.Done()
						for {
							select {
							case <-stop:
								return
							default:
							}
							if err := op(); errors.Is(err, orbit.ErrDamaged) || errors.Is(err, orbit.ErrClosed) {
								return
							} else if err != nil && !errors.Is(err, orbit.ErrNoFrame) {
								t.Errorf("got %v", err)
								return
							}
						}
					}()
				}
				c, w := r.Oldest(), r.Oldest()
				work(func() error { _, err := r.Publish(0, 0, []byte("payload")); return err })
				work(func() error { _, err := r.Newest(nil); return err })
				work(func() error { _, _, err := c.Next(nil); return err })
				work(func() error {
					err := w.Wait(t.Context())
					w = r.Tail()
					return err
				})
				work(func() error { _, err := r.Stats(); return err })
				work(func() error { _, err := f.Members(); return err })
				time.Sleep(time.Duration(rand.IntN(int(5 * time.Millisecond))))
				if err := os.Truncate(proc.Segment(name, victim), size); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond)
				if victim == kind && size < 4096 {
					_, err := r.Publish(0, 0, nil)
					if !errors.Is(err, orbit.ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprintf("%d bytes now", size)) {
						t.Errorf("publish: got %v, want %v and the size", err, orbit.ErrDamaged)
					}
				}
				close(stop)
				f.Close()
				wg.Wait()
			})
		}
	}
}

// TestRandomDamageIsSurvived scribbles over a ring in use. Frames may be lost;
// the process may not crash, hang or read out of bounds.
func TestRandomDamageIsSurvived(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, small)
	r := ring(t, f)
	for _, victim := range []int{kind, roster} {
		mem, err := os.OpenFile(proc.Segment(name, victim), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer mem.Close()
		info, _ := mem.Stat()
		deadline := time.Now().Add(time.Second)
		for time.Now().Before(deadline) {
			if _, err := mem.WriteAt([]byte{byte(rand.Uint32())}, 128+rand.Int64N(info.Size()-128)); err != nil {
				t.Fatal(err)
			}
			c := r.Oldest()
			before := c.Position()
			r.Publish(1, 1, []byte("payload"))
			r.Newest(nil)
			for n := 0; n < 100; n++ {
				if _, _, err := c.Next(nil); errors.Is(err, orbit.ErrNoFrame) {
					break
				}
			}
			r.Stats()
			f.Members()
			if tally := c.Tally(); tally.Delivered+tally.Total() != c.Position()-before {
				t.Fatalf("got %+v from %d to %d", tally, before, c.Position())
			}
		}
	}
}

// TestHeadsNearBoundaries presets a ring's counters near where words of 32,
// 40 and 64 bits wrap, and laps it across.
func TestHeadsNearBoundaries(t *testing.T) {
	for _, capacity := range []int{1, 2, 8} {
		for _, boundary := range []uint64{1 << 32, 1 << 40, 1 << 63, 0} {
			t.Run(fmt.Sprintf("%d slots, %#x", capacity, boundary), func(t *testing.T) {
				name := proc.Fleet(t)
				opts := orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{kind: {Capacity: capacity, PayloadLimit: 16}}}
				f := join(t, name, opts)
				ring(t, f)
				f.Close()
				head := boundary - 20
				preset(t, proc.Segment(name, kind), head, capacity, 64)
				f = join(t, name, opts)
				r := ring(t, f)
				c := r.Oldest()
				if r.Head() != head || c.Position() != head {
					t.Fatalf("got head %#x and oldest %#x, want %#x", r.Head(), c.Position(), head)
				}
				for i := range uint64(40) {
					id, err := r.Publish(0, i, binary.LittleEndian.AppendUint64(nil, i))
					if err != nil || id.Counter() != (head+i)&(1<<40-1) {
						t.Fatalf("publish %d: got %v, %v", i, id, err)
					}
					newest, err1 := r.Newest(nil)
					byID, err2 := r.Read(id, nil)
					at, err3 := r.ReadAt(head+i, nil)
					next, gap, err4 := c.Next(nil)
					for _, got := range []orbit.Frame{newest, byID, at, next} {
						if got.ID != id || got.Version != i || binary.LittleEndian.Uint64(got.Payload) != i || gap.Total() != 0 {
							t.Fatalf("frame %d: got %v version %d, gap %+v, errors %v %v %v %v", i, got.ID, got.Version, gap, err1, err2, err3, err4)
						}
					}
					if i >= uint64(capacity) {
						old := head + i - uint64(capacity)
						if _, err := r.ReadAt(old, nil); !errors.Is(err, orbit.ErrOverwritten) {
							t.Fatalf("read at %#x: got %v, want %v", old, err, orbit.ErrOverwritten)
						}
					}
				}
				lapped := r.At(head)
				n := uint64(0)
				for {
					_, gap, err := lapped.Next(nil)
					n += gap.Total()
					if err != nil {
						break
					}
					n++
				}
				if n != 40 || r.Head() != head+40 {
					t.Errorf("a lapped cursor accounts for %d of 40, head moved %d", n, r.Head()-head)
				}
			})
		}
	}
}

// preset makes the segment at path an empty ring whose next counter is head.
func preset(t testing.TB, path string, head uint64, capacity, stride int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	binary.NativeEndian.PutUint64(b[192:], head) // first
	binary.NativeEndian.PutUint64(b[256:], head) // head
	for c := head - uint64(capacity); c != head; c++ {
		slot := 4096 + int(c&uint64(capacity-1))*stride
		binary.NativeEndian.PutUint64(b[slot:], c<<24)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

func TestObservationChangesNothing(t *testing.T) {
	name := proc.Fleet(t)
	abandoned(t, name)
	before := state(t, proc.Segment(name, kind)) + state(t, proc.Segment(name, roster))
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	r := ring(t, o)
	r.Newest(nil)
	r.Stats()
	o.Members()
	for c := r.Oldest(); ; {
		if _, _, err := c.Next(nil); err != nil {
			break
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	mapped := 0
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "orbit-"+name+"-") && !strings.Contains(line, "(deleted)") {
			if mapped++; !strings.Contains(line, "r--s") && !strings.Contains(line, "rw-s") {
				t.Errorf("unexpected mapping %s", line)
			}
		}
	}
	if mapped < 2 {
		t.Errorf("got %d mappings of the fleet, want the roster's and the ring's", mapped)
	}
	if after := state(t, proc.Segment(name, kind)) + state(t, proc.Segment(name, roster)); after != before {
		t.Error("an observer changed a segment")
	}
}

// ---- Limits of the system, in a process of its own ----

func init() {
	proc.Helper("full-shm", fullShm)
	proc.Helper("no-descriptors", noDescriptors)
}

func TestFullSharedMemoryIsAnError(t *testing.T) {
	p := proc.Start(t, "full-shm", proc.Fleet(t))
	if got := p.Line(); got == "skip" {
		t.Skip("no private mount namespace here")
	} else if got != "ok" {
		t.Error(got)
	}
	p.Finish()
}

// fullShm joins fleets on a /dev/shm of 256 KiB, in a mount namespace of its
// own.
func fullShm(args []string) error {
	if syscall.Unshare(syscall.CLONE_NEWNS) != nil || syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") != nil ||
		syscall.Mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=256k") != nil {
		fmt.Println("skip")
		return nil
	}
	f, err := orbit.Join(args[0], orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{kind: {Capacity: 1024, PayloadLimit: 1024}}})
	if err != nil {
		return err
	}
	_, err = f.Ring(kind)
	if !errors.Is(err, orbit.ErrNoSpace) || !strings.Contains(err.Error(), "no room for") {
		return fmt.Errorf("large ring: got %v, want %v", err, orbit.ErrNoSpace)
	}
	if left, _ := filepath.Glob("/dev/shm/*"); len(left) != 1 {
		return fmt.Errorf("left %v, want the roster alone", left)
	}
	// What fits still works.
	r, err := f.Ring(kind + 1)
	if err == nil {
		return fmt.Errorf("a default ring fits 256 KiB beside the roster: %v", r.Geometry())
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Println("ok")
	return nil
}

func TestNoDescriptorsLeftIsAnError(t *testing.T) {
	p := proc.Start(t, "no-descriptors", proc.Fleet(t))
	if got := p.Line(); got != "ok" {
		t.Error(got)
	}
	p.Finish()
}

func noDescriptors(args []string) error {
	f, err := orbit.Join(args[0], small)
	if err != nil {
		return err
	}
	defer f.Close()
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: 3})
	_, err = f.Ring(kind)
	if !errors.Is(err, syscall.EMFILE) {
		return fmt.Errorf("got %v, want %v", err, syscall.EMFILE)
	}
	if _, err := orbit.Join(args[0]+"x", small); !errors.Is(err, syscall.EMFILE) {
		return fmt.Errorf("join: got %v, want %v", err, syscall.EMFILE)
	}
	fmt.Println("ok")
	return nil
}

// TestRoundsLeaveNothingBehind joins, binds, stores and closes many times.
func TestRoundsLeaveNothingBehind(t *testing.T) {
	name := proc.Fleet(t)
	count := func() [3]int {
		fds, _ := os.ReadDir("/proc/self/fd")
		tasks, _ := os.ReadDir("/proc/self/task")
		maps, _ := os.ReadFile("/proc/self/maps")
		return [3]int{len(fds), len(tasks), strings.Count(string(maps), "orbit-"+name)}
	}
	round := func() {
		f, err := orbit.Join(name, small)
		if err != nil {
			t.Fatal(err)
		}
		r, err := f.Ring(kind)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Publish(0, 0, []byte("x")); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for range 20 {
		round()
	}
	before := count()
	for range 1000 {
		round()
	}
	after := count()
	if after[0] > before[0]+2 || after[1] > before[1]+4 {
		t.Errorf("descriptors, threads, mappings: got %v, before %v", after, before)
	}
	settle()
	if n := count()[2]; n > 4 {
		t.Errorf("got %d mappings after collection, want them given back", n)
	}
}
