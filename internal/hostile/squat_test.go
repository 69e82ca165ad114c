//go:build linux

package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"orbit"
	"orbit/internal/proc"
)

// A second user of the machine, who takes names before their owner does, and
// would like to read and change what others have.

const (
	squatterID = 65534
	victimID   = 65533
)

func init() {
	roles["squatter"] = squatter
	roles["victim"] = victim
	roles["thief"] = thief
	roles["namesake"] = namesake
}

// become makes this process another user's, for good.
func become(uid int) error {
	if uid == os.Geteuid() {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(uid); err != nil {
		return err
	}
	return syscall.Setuid(uid)
}

// segmentOf is the path of another user's segment.
func segmentOf(fleet string, kind, uid int) string {
	return fmt.Sprintf("/dev/shm/orbit-%s-%d-%d", fleet, kind, uid)
}

// squats are the ways to take a name. Sound is the bytes of a sound segment of
// that kind, bait a file of the victim's with the same bytes.
var squats = map[string]func(path, bait string, sound []byte) error{
	"closed file": func(path, _ string, sound []byte) error { return os.WriteFile(path, sound, 0o600) },
	"open file": func(path, _ string, sound []byte) error {
		if err := os.WriteFile(path, sound, 0o666); err != nil {
			return err
		}
		return os.Chmod(path, 0o666)
	},
	"empty file":      func(path, _ string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
	"directory":       func(path, _ string, _ []byte) error { return os.Mkdir(path, 0o777) },
	"link to bait":    func(path, bait string, _ []byte) error { return os.Symlink(bait, path) },
	"link to nothing": func(path, bait string, _ []byte) error { return os.Symlink(bait+".not", path) },
	"link to itself":  func(path, _ string, _ []byte) error { return os.Symlink(path, path) },
	"FIFO":            func(path, _ string, _ []byte) error { return syscall.Mkfifo(path, 0o666) },
	"socket": func(path, _ string, _ []byte) error {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		return syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
	},
}

// found is what the victim is told of a squat.
func found(way string) string {
	for _, kind := range []string{"directory", "link", "FIFO", "socket"} {
		if strings.Contains(way, kind) {
			return strings.Replace(kind, "link", "symbolic link", 1)
		}
	}
	return "uid " + strconv.Itoa(squatterID)
}

// squatter takes the names of a victim: squatter way path bait sound.
func squatter(args []string) error {
	sound, err := os.ReadFile(args[3])
	if err != nil {
		return err
	}
	if err := become(squatterID); err != nil {
		return err
	}
	return squats[args[0]](args[1], args[2], sound)
}

// victim meets what others made under its names: victim uid fleet. It first
// says that it is in the fleet, if it can be, and then what it is told.
func victim(args []string) error {
	read := proc.WatchParent()
	uid, _ := strconv.Atoi(args[0])
	if err := become(uid); err != nil {
		return err
	}
	f, err := orbit.Join(args[1], crewOptions())
	fmt.Println("Join|", nameOf(err), "|", err)
	if err != nil {
		_, err = orbit.Observe(args[1])
		fmt.Println("Observe|", nameOf(err), "|", err)
	} else {
		read()
		_, err = orbit.OpenCache(f, "p")
		fmt.Println("OpenCache|", nameOf(err), "|", err)
		o, observed := orbit.Observe(args[1])
		if observed == nil {
			_, observed = o.Ring(orbit.KindCache)
			o.Close()
		}
		fmt.Println("Ring|", nameOf(observed), "|", observed)
		// All else goes on.
		r, err := f.Ring(kindFrames)
		if err == nil {
			_, err = r.Publish(1, 0, []byte("alive"))
		}
		fmt.Println("Publish|", nameOf(err), "|", err)
		if err := f.Close(); err != nil {
			return err
		}
	}
	err = orbit.Remove(args[1])
	fmt.Println("Remove|", nameOf(err), "|", err)
	return nil
}

// looks is all there is to see of an object without following it.
func looks(path string) string {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return err.Error()
	}
	text := fmt.Sprint(st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Mtim, st.Ctim)
	if st.Mode&syscall.S_IFMT == syscall.S_IFREG {
		b, err := os.ReadFile(path)
		text += fmt.Sprint(sumOf("", append(make([]byte, 4), b...)), err)
	}
	return text
}

// template returns a file with the bytes of a sound segment, which everybody
// can read.
func template(t *testing.T, kind int) string {
	t.Helper()
	fleet := proc.Fleet(t)
	f := join(t, fleet, crewOptions())
	if kind != 0 {
		if _, err := orbit.OpenCache(f, "p"); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(proc.Segment(fleet, kind))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sound")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	f.Close()
	proc.RemoveFleet(t, fleet)
	return path
}

// expectTold reads what a victim was told: by all of these calls, of a foreign
// object, what it found, and where.
func expectTold(t *testing.T, p *proc.Process, fleet, what string, calls ...string) {
	t.Helper()
	for _, call := range calls {
		got := answer(t, p)
		for _, want := range []string{call + "| ErrForeign |", fleet, what, "want "} {
			if !strings.Contains(got, want) {
				t.Errorf("got %q, want %q in it", got, want)
			}
		}
	}
}

// TestSquattedNamesAreNamedAndLeftAlone has a second user take the names of
// another's segments in every way there is.
func TestSquattedNamesAreNamedAndLeftAlone(t *testing.T) {
	proc.NeedRoot(t, "become other users")
	rosterBytes, cacheBytes := template(t, 0), template(t, int(orbit.KindCache))
	for way := range squats {
		for _, uid := range []int{0, victimID} {
			t.Run(fmt.Sprint(way, " of uid ", uid), func(t *testing.T) {
				fleet := proc.Fleet(t)
				bait := filepath.Join("/dev/shm", fleet+"-bait")
				baited, err := os.ReadFile(rosterBytes)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(bait, baited, 0o600); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.Remove(bait) })
				if err := os.Chown(bait, uid, uid); err != nil {
					t.Fatal(err)
				}
				before := looks(bait)
				squat := func(kind int, sound string) (path, seen string) {
					t.Helper()
					path = segmentOf(fleet, kind, uid)
					t.Cleanup(func() { os.Remove(path) })
					start(t, "squatter", way, path, bait, sound).Finish()
					return path, looks(path)
				}

				// The roster's name: there is no fleet.
				path, seen := squat(0, rosterBytes)
				p := start(t, "victim", strconv.Itoa(uid), fleet)
				expectTold(t, p, fleet, found(way), "Join", "Observe", "Remove")
				p.Finish()
				if after := looks(path); after != seen {
					t.Errorf("the object changed from %s to %s", seen, after)
				}
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}

				// A ring's name: all else works.
				p = start(t, "victim", strconv.Itoa(uid), fleet)
				hear(t, p, "Join| nil | <nil>")
				path, seen = squat(int(orbit.KindCache), cacheBytes)
				p.Say("go")
				expectTold(t, p, fleet, found(way), "OpenCache", "Ring")
				hear(t, p, "Publish| nil | <nil>")
				expectTold(t, p, fleet, found(way), "Remove")
				p.Finish()
				if after := looks(path); after != seen {
					t.Errorf("the object changed from %s to %s", seen, after)
				}
				if left := proc.Segments(fleet); !slices.Equal(left, []string{path}) {
					t.Errorf("Remove left %v, want what is not ours: %v", left, path)
				}
				if after := looks(bait); after != before {
					t.Errorf("the bait changed from %s to %s", before, after)
				}
			})
		}
	}
}

// thief tries to get at another user's segments: thief path.
func thief(args []string) error {
	if err := become(squatterID); err != nil {
		return err
	}
	path := args[0]
	open := func(flags int) func() error {
		return func() error { _, err := syscall.Open(path, flags, 0); return err }
	}
	for _, try := range []struct {
		how string
		do  func() error
	}{
		{"read", open(syscall.O_RDONLY)},
		{"write", open(syscall.O_WRONLY)},
		{"map", open(syscall.O_RDWR)},
		{"truncate", func() error { return syscall.Truncate(path, 0) }},
		{"chmod", func() error { return syscall.Chmod(path, 0o666) }},
		{"chown", func() error { return syscall.Lchown(path, squatterID, squatterID) }},
		{"unlink", func() error { return syscall.Unlink(path) }},
		{"rename", func() error { return syscall.Rename(path, path+".stolen") }},
		{"replace", func() error {
			mine := path + ".mine"
			if err := os.WriteFile(mine, nil, 0o600); err != nil {
				return nil
			}
			defer os.Remove(mine)
			return syscall.Rename(mine, path)
		}},
	} {
		if err := try.do(); err != syscall.EACCES && err != syscall.EPERM {
			fmt.Printf("%s: %v\n", try.how, err)
		}
	}
	fmt.Println("end")
	return nil
}

// TestSegmentsAreClosedToOtherUsers, whatever the umask of who made them.
func TestSegmentsAreClosedToOtherUsers(t *testing.T) {
	proc.NeedRoot(t, "become another user")
	st, err := os.Stat("/dev/shm")
	if err != nil || st.Mode()&os.ModeSticky == 0 {
		t.Skipf("/dev/shm has mode %v: others may unlink what is in it", st.Mode())
	}
	defer syscall.Umask(syscall.Umask(0))
	fleet := proc.Fleet(t)
	f := join(t, fleet, crewOptions())
	r := ring(t, f, kindFrames)
	contest(t, f)
	for _, path := range proc.Segments(fleet) {
		before := looks(path)
		p := start(t, "thief", path)
		for line := answer(t, p); line != "end"; line = answer(t, p) {
			t.Errorf("another user could %s of %s, want permission denied", line, path)
		}
		p.Finish()
		if after := looks(path); after != before {
			t.Errorf("%s changed from %s to %s", path, before, after)
		}
	}
	if _, err := r.Publish(1, 0, []byte("alive")); err != nil {
		t.Error(err)
	}
	f.Close()
	proc.RemoveFleet(t, fleet)
}

// namesake has a fleet of the same name as another user's: namesake uid fleet.
func namesake(args []string) error {
	read := proc.WatchParent()
	uid, _ := strconv.Atoi(args[0])
	if err := become(uid); err != nil {
		return err
	}
	f, err := orbit.Join(args[1], crewOptions())
	if err != nil {
		return err
	}
	r, err := f.Ring(kindFrames)
	if err != nil {
		return err
	}
	if _, err := r.Publish(1, 0, []byte(args[0])); err != nil {
		return err
	}
	fmt.Println("node", f.Node())
	for line := read(); line != "end"; line = read() {
		m, err := f.Members()
		if err != nil {
			return err
		}
		s, err := r.Stats()
		if err != nil {
			return err
		}
		newest, err := r.Newest(nil)
		fmt.Printf("%d members, %d frames, %s, %v\n", len(m), s.Frames, newest.Payload, err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	fleets, err := orbit.Fleets()
	fmt.Println("lists it:", slices.Contains(fleets, args[1]), err)
	fmt.Println("Remove:", orbit.Remove(args[1]))
	fleets, err = orbit.Fleets()
	fmt.Println("lists it:", slices.Contains(fleets, args[1]), err)
	return nil
}

// TestFleetsOfTwoUsersAreTwo: a name is a user's own.
func TestFleetsOfTwoUsersAreTwo(t *testing.T) {
	proc.NeedRoot(t, "become other users")
	fleet := proc.Fleet(t)
	uids := []int{0, victimID, squatterID}
	var all []*proc.Process
	for _, uid := range uids {
		p := start(t, "namesake", strconv.Itoa(uid), fleet)
		hear(t, p, "node 1")
		all = append(all, p)
	}
	for i, p := range all {
		tell(t, p, "look", fmt.Sprintf("1 members, 1 frames, %d, <nil>", uids[i]))
	}
	for i, p := range all {
		p.Say("end")
		for _, want := range []string{"lists it: true <nil>", "Remove: <nil>", "lists it: false <nil>"} {
			hear(t, p, want)
		}
		p.Finish()
		for _, q := range all[i+1:] {
			q.Say("look")
			if got := answer(t, q); !strings.HasPrefix(got, "1 members, 1 frames, ") {
				t.Errorf("after another user's Remove: %s", got)
			}
		}
	}
	if left := proc.Segments(fleet); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
