//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"orbit"
)

// Tests of the commands that look: ls, info and doctor, and of clear.

var inspected atomic.Int64

// ownFleet returns the name of a fleet that no other test uses, and clears
// away at the end what has its names, whatever that is.
func ownFleet(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("i%d.%d", os.Getpid(), inspected.Add(1))
	t.Cleanup(func() {
		left, _ := filepath.Glob(shmDir + "/orbit-" + name + "-*")
		for _, path := range left {
			os.RemoveAll(path)
		}
	})
	return name
}

func joinOwn(t *testing.T, name string, rings map[uint8]orbit.Geometry) *orbit.Fleet {
	t.Helper()
	f := must(orbit.Join(name, orbit.Options{Size: 2, Rings: rings}))(t)
	t.Cleanup(func() { f.Close() })
	return f
}

// office is a subject of contests.
type office struct{}

func (office) OrbitKind() uint8 { return 33 }

// fullFleet joins a fleet with a ring of every use and something in each.
func fullFleet(t *testing.T, name string) *orbit.Fleet {
	t.Helper()
	f := joinOwn(t, name, map[uint8]orbit.Geometry{9: {Capacity: 8, PayloadLimit: 1000}})
	ring := must(f.Ring(9))(t)
	for i := range 11 {
		must(ring.Publish(uint8(i), math.MaxUint64, fmt.Appendf(nil, "frame %d", i)))(t)
	}
	must(ring.Mint())(t)
	cache := must(orbit.OpenCache(f, "pre"))(t)
	for _, key := range []string{"a", "b", "c"} {
		must(0, cache.Put(key, []byte("value"), 0))(t)
	}
	bus := must(orbit.Events(f))(t)
	must(bus.Publish("first", nil))(t)
	must(bus.Publish("job.done", []byte{0xff, 7}))(t)
	must(0, must(orbit.Heartbeats(f))(t).Beat())(t)
	contest := must(orbit.OpenContest(f))(t)
	must(orbit.Claim[office](contest, "desk", "tester", time.Hour))(t)
	must(orbit.Claim[office](contest, "chair", "", math.MaxInt64))(t)
	return f
}

// sibling starts a process that is the only member of a fleet until the test
// ends it.
func siblingOf(t *testing.T, fleet string) *exec.Cmd {
	t.Helper()
	c := exec.Command(program, siblingCommand.name, "-fleet", fleet, "-size", "1", "-number", "1")
	in := must(c.StdinPipe())(t)
	must(0, c.Start())(t)
	t.Cleanup(func() {
		in.Close()
		c.Process.Kill()
		c.Wait()
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		f, err := orbit.Observe(fleet)
		if err == nil {
			members, _ := f.Members()
			kinds, _ := f.Kinds()
			f.Close()
			if len(members) == 1 && len(kinds) == 5 {
				return c
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the sibling is no member of %q after 20s: %v", fleet, err)
		}
	}
}

// said runs the command, wants the exit code, and returns what it printed.
func said(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	c := start(t, args...)
	stdout = c.finish(code)
	return stdout, c.stderr.String()
}

// An object is one line of -json.
type object map[string]any

// objects runs the command with -json and decodes its lines. Numbers stay as
// they were printed.
func objects(t *testing.T, code int, args ...string) (list []object) {
	t.Helper()
	out, _ := said(t, code, append(args, "-json")...)
	for line := range strings.Lines(out) {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		var o object
		if err := d.Decode(&o); err != nil {
			t.Fatalf("line %q of %q: %v", line, args, err)
		}
		list = append(list, o)
	}
	return list
}

// pick returns the objects that have what is wanted.
func pick(list []object, want object) (found []object) {
	for _, o := range list {
		if o.has(want) {
			found = append(found, o)
		}
	}
	return found
}

func (o object) has(want object) bool {
	for k, v := range want {
		if fmt.Sprint(o[k]) != fmt.Sprint(v) {
			return false
		}
	}
	return true
}

// wantOne wants exactly one object of this kind, and in it these values.
func wantOne(t *testing.T, list []object, which, want object) object {
	t.Helper()
	found := pick(list, which)
	if len(found) != 1 {
		t.Fatalf("got %d objects with %v, want 1, in %v", len(found), which, list)
	}
	for k, v := range want {
		got, there := found[0][k]
		if !there && !strings.HasSuffix(k, "_hex") || fmt.Sprint(got) != fmt.Sprint(v) {
			t.Errorf("%v: got %s %v, want %v", which, k, got, v)
		}
	}
	return found[0]
}

func wantIn(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: got %q, want %q in it", what, text, w)
		}
	}
}

// fields returns the line of a table that begins with these cells.
func fields(t *testing.T, table string, cells ...string) []string {
	t.Helper()
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) >= len(cells) && slices.Equal(f[:len(cells)], cells) {
			return f
		}
	}
	t.Fatalf("no line begins with %q in\n%s", cells, table)
	return nil
}

// picture is all there is to see of a fleet's objects, but for the times of
// reading.
func picture(t *testing.T, fleet string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, path := range must(filepath.Glob(shmDir + "/orbit-" + fleet + "-*"))(t) {
		var st syscall.Stat_t
		must(0, syscall.Lstat(path, &st))(t)
		var b []byte
		if st.Mode&syscall.S_IFMT == syscall.S_IFREG { // to open a FIFO would wait for a writer
			b = must(os.ReadFile(path))(t)
		}
		all[path] = fmt.Sprintf("inode %d mode %o links %d size %d mtime %v ctime %v sum %x", st.Ino, st.Mode, st.Nlink, st.Size, st.Mtim, st.Ctim, sha256.Sum256(b))
	}
	return all
}

func wantSame(t *testing.T, after string, before, now map[string]string) {
	t.Helper()
	if maps.Equal(before, now) {
		return
	}
	for path := range before {
		if now[path] != before[path] {
			t.Errorf("after %s: %s was changed", after, path)
		}
	}
	for path := range now {
		if before[path] == "" {
			t.Errorf("after %s: %s is new", after, path)
		}
	}
}

func TestListShowsRingsAsTheyAre(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	fullFleet(t, name)
	size := must(os.Stat(segmentPath(name, 9)))(t).Size()
	list := objects(t, exitDone, "ls", name)
	if len(list) != 6 {
		t.Errorf("got %d lines, want the fleet and 5 rings", len(list))
	}
	wantOne(t, list, object{"type": "fleet"}, object{"fleet": name, "members": 1, "rings": 5, "format_version": orbit.FormatVersion, "error": nil})
	wantOne(t, list, object{"type": "ring", "kind": 9}, object{
		"fleet": name, "use": "user", "capacity": 8, "payload_limit": 1000, "segment_bytes": size,
		"head": 12, "frames_per_second": 0, "format_version": orbit.FormatVersion, "error": nil,
	})
	for kind, use := range map[uint8]string{orbit.KindCache: "cache", orbit.KindEvents: "events", orbit.KindHeartbeat: "heartbeat", orbit.KindContest: "contest"} {
		wantOne(t, list, object{"kind": kind}, object{"use": use})
	}
	table, _ := said(t, exitDone, "ls", "-over", "0", name)
	want := []string{name, "9", "user", "8", "1000", "B", "12", "KiB", "12", "-", "1", fmt.Sprint(orbit.FormatVersion)}
	if got := fields(t, table, name, "9"); !slices.Equal(got, want) {
		t.Errorf("got row %q, want %q", got, want)
	}
	if strings.Contains(table, "\x1b") {
		t.Errorf("escape sequences in plain output: %q", table)
	}
}

func TestListWithoutNamesHasTheFleetsThereAre(t *testing.T) {
	t.Parallel()
	one, two := ownFleet(t), ownFleet(t)
	joinOwn(t, one, nil)
	joinOwn(t, two, nil).Close()
	list := objects(t, exitDone, "ls")
	wantOne(t, list, object{"type": "fleet", "fleet": one}, object{"members": 1, "rings": 0})
	wantOne(t, list, object{"type": "fleet", "fleet": two}, object{"members": 0, "rings": 0})
	table, _ := said(t, exitDone, "ls", one)
	wantIn(t, "ls", table, "no rings")
}

func TestListMeasuresRates(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := joinOwn(t, name, nil)
	busy, idle := must(f.Ring(1))(t), must(f.Ring(2))(t)
	must(idle.Publish(0, 0, nil))(t)
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				busy.Publish(0, 0, nil)
			}
		}
	}()
	list := objects(t, exitDone, "ls", "-over", "300ms", name)
	close(stop)
	<-ended
	o := wantOne(t, list, object{"kind": 1}, nil)
	if rate := must(o["frames_per_second"].(json.Number).Float64())(t); rate <= 0 || rate > 1100 {
		t.Errorf("got %v frames/s of a ring that gets at most 1000, want some", rate)
	}
	wantOne(t, list, object{"kind": 2}, object{"head": 1, "frames_per_second": 0})
	wantOne(t, objects(t, exitDone, "ls", "-over", "0", name), object{"kind": 2}, object{"head": 1, "frames_per_second": nil})
}

// spoilers put something that is no sound segment under a segment's name, of
// which sound is the content.
var spoilers = []struct {
	name   string
	make   func(path string, sound []byte) error
	words  []string // of the reason
	check  string   // of the doctor's finding
	stays  bool     // whether clear leaves it
	remedy string
}{
	{"short file", func(path string, _ []byte) error { return os.WriteFile(path, []byte("hello"), 0o600) },
		[]string{"too short: 5 bytes"}, "damaged", false, "orbit clear"},
	{"foreign file", func(path string, _ []byte) error { return os.WriteFile(path, make([]byte, 5000), 0o600) },
		[]string{"not an Orbit segment"}, "damaged", false, "orbit clear"},
	{"other version", func(path string, sound []byte) error {
		sound[12] = 99 // the version is looked at before all that follows
		return os.WriteFile(path, sound, 0o600)
	}, []string{fmt.Sprint("format version 99, want ", orbit.FormatVersion)}, "version", false, "other version"},
	{"damaged header", func(path string, sound []byte) error { sound[30] ^= 4; return os.WriteFile(path, sound, 0o600) },
		[]string{"checksum"}, "damaged", false, "orbit clear"},
	{"truncated", func(path string, sound []byte) error { return os.WriteFile(path, sound[:4096], 0o600) },
		[]string{"truncated"}, "damaged", false, "orbit clear"},
	{"mode 0644", func(path string, sound []byte) error {
		return errors.Join(os.WriteFile(path, sound, 0o600), os.Chmod(path, 0o644))
	}, []string{"mode 0644, want 0600"}, "foreign", true, "by hand"},
	{"link", func(path string, _ []byte) error { return os.Symlink("/nowhere", path) },
		[]string{"symbolic link"}, "foreign", true, "by hand"},
	{"directory", func(path string, _ []byte) error { return os.Mkdir(path, 0o700) },
		[]string{"directory"}, "foreign", true, "by hand"},
	{"FIFO", func(path string, _ []byte) error { return syscall.Mkfifo(path, 0o600) },
		[]string{"FIFO"}, "foreign", true, "by hand"},
}

func TestUnsoundRingsAreListedWithTheReason(t *testing.T) {
	t.Parallel()
	for _, c := range spoilers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := ownFleet(t)
			f := joinOwn(t, name, nil)
			must(f.Ring(5))(t)
			must(f.Ring(6))(t)
			path := segmentPath(name, 5)
			sound := must(os.ReadFile(path))(t)
			must(0, os.Remove(path))(t)
			must(0, c.make(path, sound))(t)
			before := picture(t, name)

			list := objects(t, exitDone, "ls", name)
			bad := wantOne(t, list, object{"kind": 5}, object{"head": nil, "capacity": nil, "format_version": nil})
			wantIn(t, "ls -json", fmt.Sprint(bad["error"]), c.words...)
			wantOne(t, list, object{"kind": 6}, object{"head": 0, "error": nil})
			table, _ := said(t, exitDone, "ls", name)
			wantIn(t, "ls", strings.Join(fields(t, table, name, "5"), " "), c.words...)
			table, _ = said(t, exitDone, "info", name)
			wantIn(t, "info", strings.Join(fields(t, table, "5", "user"), " "), c.words...)
			_, why := said(t, exitFailed, "info", name, "-kind", "5")
			wantIn(t, "info of the ring", why, c.words...)
			said(t, exitDone, "info", name, "-kind", "6")

			finding := wantOne(t, objects(t, exitFailed, "doctor", name), object{"fleet": name, "check": c.check}, object{"status": "problem"})
			wantIn(t, "doctor finds", fmt.Sprint(finding["found"]), c.words...)
			wantIn(t, "doctor advises", fmt.Sprint(finding["remedy"]), c.remedy)
			text, _ := said(t, exitFailed, "doctor", name)
			wantIn(t, "doctor", text, "problem  ring 5", c.remedy)
			wantSame(t, "looking", before, picture(t, name))

			f.Close()
			code := exitDone
			if c.stays {
				code = exitFailed
			}
			dry, _ := said(t, code, "clear", "-dry-run", name)
			if got := strings.Contains(strings.Join(fields(t, dry, "5", "user"), " "), "stays:"); got != c.stays {
				t.Errorf("clear -dry-run says that it stays: %v, want %v\n%s", got, c.stays, dry)
			}
			if !c.stays {
				said(t, exitDone, "clear", name)
				wantGone(t, name, 0)
				return
			}
			_, why = said(t, exitFailed, "clear", name)
			wantIn(t, "clear", why, c.words...)
			left := slices.Sorted(maps.Keys(picture(t, name)))
			if !slices.Contains(left, path) || slices.Contains(left, segmentPath(name, 6)) {
				t.Errorf("clear left %v, want %s and no sound ring", left, path)
			}
		})
	}
}

func TestFleetWithAnUnsoundRosterIsListedWithTheReason(t *testing.T) {
	t.Parallel()
	for _, c := range spoilers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := ownFleet(t)
			f := joinOwn(t, name, nil)
			must(f.Ring(5))(t)
			f.Close()
			path := segmentPath(name, 0)
			sound := must(os.ReadFile(path))(t)
			must(0, os.Remove(path))(t)
			must(0, c.make(path, sound))(t)
			before := picture(t, name)

			list := objects(t, exitDone, "ls", name)
			bad := wantOne(t, list, object{"type": "fleet"}, object{"members": nil, "rings": 1, "format_version": nil})
			wantIn(t, "ls -json", fmt.Sprint(bad["error"]), c.words...)
			wantOne(t, list, object{"kind": 5}, object{"head": nil, "error": errNoRoster.Error()})
			table, _ := said(t, exitDone, "ls", name)
			wantIn(t, "ls", strings.Join(fields(t, table, name, "0", "roster"), " "), c.words...)
			_, why := said(t, exitFailed, "info", name)
			wantIn(t, "info", why, c.words...)
			if c.stays {
				_, why = said(t, exitFailed, "clear", "-dry-run", name)
				wantIn(t, "clear -dry-run", why, c.words...)
			}
			_, why = said(t, exitFailed, "clear", "-kind", "5", name)
			wantIn(t, "clear -kind", why, c.words...)
			finding := wantOne(t, objects(t, exitFailed, "doctor", name), object{"fleet": name}, object{"status": "problem", "check": c.check})
			wantIn(t, "doctor finds", fmt.Sprint(finding["found"]), c.words...)
			wantSame(t, "looking", before, picture(t, name))
		})
	}
}

func TestRingsWithoutARosterAreRemainsThatClearRemoves(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := joinOwn(t, name, nil)
	must(f.Ring(5))(t)
	f.Close()
	must(0, os.Remove(segmentPath(name, 0)))(t)
	wantIn(t, "ls -json", fmt.Sprint(wantOne(t, objects(t, exitDone, "ls", name), object{"type": "fleet"}, nil)["error"]), "no roster")
	finding := wantOne(t, objects(t, exitDone, "doctor", name), object{"fleet": name}, object{"status": "warning", "check": "remains"})
	wantIn(t, "doctor advises", fmt.Sprint(finding["remedy"]), "orbit clear "+name)
	said(t, exitDone, "clear", name)
	wantGone(t, name, 0)
}

func TestWhatIsNotThereIsExitCode4(t *testing.T) {
	t.Parallel()
	name, none := ownFleet(t), ownFleet(t)
	joinOwn(t, name, nil)
	for _, args := range [][]string{
		{"ls", none}, {"ls", "-json", none}, {"info", none}, {"info", none, "-kind", "7"}, {"clear", none}, {"clear", "-dry-run", none}, {"doctor", none},
		{"info", name, "-kind", "7"}, {"info", name, "-kind", "cache"},
	} {
		out, why := said(t, exitNo, args...)
		if out != "" || !strings.Contains(why, "does not exist") {
			t.Errorf("%q: got %q and %q, want only that it does not exist", args, out, why)
		}
	}
}

func TestWrongUsageOfLookingIsExitCode2(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ls", "a", "b"}, `want [FLEET], found ["a" "b"]`},
		{[]string{"ls", "-over", "-1s"}, "want at least 0s"},
		{[]string{"ls", "../x"}, `bad fleet name "../x"`},
		{[]string{"info"}, "want FLEET, found []"},
		{[]string{"info", "a", "b"}, `want FLEET, found ["a" "b"]`},
		{[]string{"info", "a", "-kind", "0"}, `"0" for flag -kind: want 1 to 255`},
		{[]string{"info", "a", "-fresh", "-1s"}, "want at least 0s"},
		{[]string{"info", ""}, "bad fleet name"},
		{[]string{"clear"}, "want FLEET"},
		{[]string{"clear", "a", "b"}, "want FLEET"},
		{[]string{"clear", "a", "-kind", "x"}, `"x" for flag -kind: want 1 to 255`},
		{[]string{"clear", "/"}, "bad fleet name"},
		{[]string{"doctor", "a", "b"}, `want [FLEET], found ["a" "b"]`},
		{[]string{"doctor", "a b"}, "bad fleet name"},
	} {
		_, why := said(t, exitUsage, c.args...)
		wantIn(t, fmt.Sprint(c.args), why, c.want)
	}
}

func TestLookingChangesNothing(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := fullFleet(t, name)
	looks := [][]string{
		{"ls", name}, {"ls", "-json", name}, {"info", name}, {"info", "-json", name}, {"info", name, "-kind", "9"},
		{"info", name, "-kind", "cache"}, {"info", name, "-kind", "events"}, {"info", name, "-kind", "heartbeat"}, {"info", name, "-kind", "contest"},
		{"info", "-json", name, "-kind", "contest"}, {"info", "-json", name, "-kind", "cache"}, {"doctor", name}, {"doctor", "-json", name},
	}
	before := picture(t, name)
	if len(before) != 6 {
		t.Fatalf("got %d segments, want 6", len(before))
	}
	for _, args := range looks {
		start(t, args...).finish(exitDone)
		wantSame(t, fmt.Sprint(args), before, picture(t, name))
	}
	for _, args := range [][]string{{"clear", name}, {"clear", "-dry-run", name}, {"clear", "-kind", "9", name}} {
		said(t, exitFailed, args...)
		wantSame(t, fmt.Sprint(args), before, picture(t, name))
	}
	if members := must(f.Members())(t); len(members) != 1 {
		t.Errorf("got members %v, want 1", members)
	}
	// And once nobody is in it.
	f.Close()
	before = picture(t, name)
	for _, args := range append(looks, []string{"clear", "-dry-run", name}, []string{"clear", "-dry-run", "-kind", "9", name}) {
		start(t, args...).finish(exitDone)
		wantSame(t, fmt.Sprint(args), before, picture(t, name))
	}
}

func TestLookingMapsReadOnly(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	fullFleet(t, name)
	v := must(lookAt(name))(t)
	defer v.close()
	v.read()
	maps := string(must(os.ReadFile("/proc/self/maps"))(t))
	read := 0
	for line := range strings.Lines(maps) {
		if strings.Contains(line, "orbit-"+name+"-") && strings.Contains(line, " r--s ") {
			read++
		}
	}
	if read != 6 { // beside those of the member that this process also is
		t.Errorf("got %d segments mapped read-only, want 6:\n%s", read, maps)
	}
}

func TestInfoShowsMembersAndTheirHearts(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := fullFleet(t, name)
	quiet := joinOwn(t, name, nil) // it never beats
	gone := joinOwn(t, name, nil)
	must(0, must(orbit.Heartbeats(gone))(t).Beat())(t)
	gone.Close()
	list := objects(t, exitDone, "info", "-fresh", "1h", name)
	m := wantOne(t, list, object{"type": "member", "node": f.Node()}, object{"fleet": name, "pid": os.Getpid(), "heartbeat": "fresh"})
	if since := must(time.Parse(time.RFC3339Nano, m["since"].(string)))(t); time.Since(since) < 0 || time.Since(since) > time.Hour {
		t.Errorf("got a member since %v, want just now", since)
	}
	wantOne(t, list, object{"type": "member", "node": quiet.Node()}, object{"heartbeat": "missing", "beat_age_seconds": nil})
	if n := len(pick(list, object{"type": "member"})); n != 2 {
		t.Errorf("got %d members, want 2", n)
	}
	wantOne(t, list, object{"type": "pulse", "node": gone.Node()}, object{"member": false, "heartbeat": "fresh"})
	list = objects(t, exitDone, "info", "-fresh", "0", name, "-kind", "heartbeat")
	wantOne(t, list, object{"type": "pulse", "node": f.Node()}, object{"member": true, "heartbeat": "stale"})

	text, _ := said(t, exitDone, "info", "-fresh", "1h", name)
	wantIn(t, "info", text, fmt.Sprintf("fleet %q: 2 members, 5 rings", name), fmt.Sprintf("no members any more: node %d", gone.Node()))
	row := fields(t, text, fmt.Sprint(f.Node()), fmt.Sprint(os.Getpid()))
	if !slices.Contains(row, "fresh,") {
		t.Errorf("got row %q, want a fresh heart", row)
	}
	if row := fields(t, text, fmt.Sprint(quiet.Node()), fmt.Sprint(os.Getpid())); row[len(row)-1] != "missing" {
		t.Errorf("got row %q, want that it never beat", row)
	}
	text, _ = said(t, exitDone, "info", "-fresh", "0", name)
	if row := fields(t, text, fmt.Sprint(f.Node()), fmt.Sprint(os.Getpid())); !slices.Contains(row, "stale,") {
		t.Errorf("got row %q, want a stale heart", row)
	}
}

func TestInfoCountsWhatIsInTheSlots(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	fullFleet(t, name)
	list := objects(t, exitDone, "info", name)
	want := object{"head": 12, "oldest": 4, "frames": 7, "holes": 1, "pending": 0, "lost": 0, "asleep": false, "capacity": 8, "error": nil}
	wantOne(t, list, object{"type": "ring", "kind": 9}, want)
	wantOne(t, objects(t, exitDone, "info", name, "-kind", "9"), object{"type": "ring"}, want)
	text, _ := said(t, exitDone, "info", name)
	row := fields(t, text, "9", "user", "8")
	if got, want := row[len(row)-7:], []string{"12", "4", "7", "0", "1", "0", "no"}; !slices.Equal(got, want) {
		t.Errorf("got counts %q, want %q", got, want)
	}
}

func TestInfoTellsWhetherSomebodyWaits(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := joinOwn(t, name, nil)
	ring := must(f.Ring(5))(t)
	waited := make(chan error, 1)
	go func() { waited <- ring.Tail().Wait(t.Context()) }()
	for end := time.Now().Add(20 * time.Second); !must(ring.Stats())(t).Waiting; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody waits after 20s")
		}
	}
	wantOne(t, objects(t, exitDone, "info", name), object{"kind": 5}, object{"asleep": true})
	text, _ := said(t, exitDone, "info", name, "-kind", "5")
	wantIn(t, "info", text, "maybe", "no frame")
	must(ring.Publish(0, 0, nil))(t)
	must(0, <-waited)(t)
}

func TestInfoShowsTheNewestFrameExactly(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := joinOwn(t, name, map[uint8]orbit.Geometry{5: {Capacity: 4, PayloadLimit: 5000}})
	ring := must(f.Ring(5))(t)
	long := strings.Repeat("ä", 1000)
	for _, c := range []struct {
		payload string
		shown   string // to people
		text    any
		hex     any
	}{
		{"hello", "payload  hello\n", "hello", nil},
		{"\xff\x00", "payload  0xff00\n", nil, "ff00"},
		{"clear\x1b[2J<&>", `payload  "clear\x1b[2J<&>"` + "\n", "clear\x1b[2J<&>", nil},
		{"", "0 bytes\n", "", nil},
		{"x" + long, "payload  x" + strings.Repeat("ä", 127) + "...\n", "x" + long, nil},
		{strings.Repeat("\xfe", 1000), "payload  0x" + strings.Repeat("fe", 256) + "...\n", nil, strings.Repeat("fe", 1000)},
	} {
		id := must(ring.Publish(200, math.MaxUint64, []byte(c.payload)))(t)
		wantOne(t, objects(t, exitDone, "info", name, "-kind", "5"), object{"type": "frame"}, object{
			"id": id, "node": f.Node(), "kind": 200, "version": uint64(math.MaxUint64), "payload_bytes": len(c.payload), "payload": c.text, "payload_hex": c.hex,
		})
		text, _ := said(t, exitDone, "info", name, "-kind", "5")
		wantIn(t, "info", text, id.String()+", kind 200, version 18446744073709551615", c.shown)
		if strings.Contains(text, "\x1b") {
			t.Errorf("a payload reached the terminal as it is: %q", text)
		}
	}
}

func TestInfoShowsEventsClaimsAndEntries(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := fullFleet(t, name)
	must(0, must(orbit.OpenCache(f, "\xff"))(t).Put("k", nil, 0))(t)
	list := objects(t, exitDone, "info", name)
	wantOne(t, list, object{"type": "event"}, object{"topic": "job.done", "node": f.Node(), "payload_hex": "ff07", "payload": nil, "payload_bytes": 2, "id": "220:1:1"})
	wantOne(t, list, object{"type": "cache", "prefix": "pre"}, object{"keys": 3})
	wantOne(t, list, object{"type": "cache", "prefix_hex": "ff"}, object{"prefix": nil, "keys": 1})
	desk := object{"kind": 33, "owner": "tester", "node": f.Node(), "pid": os.Getpid(), "token": 1}
	wantOne(t, list, object{"type": "holder", "label": "desk"}, desk)
	wantOne(t, list, object{"type": "holder", "label": "chair"}, object{"owner": "", "left_seconds": nil})

	wantOne(t, objects(t, exitDone, "info", name, "-kind", "events"), object{"type": "event"}, object{"topic": "job.done"})
	wantOne(t, objects(t, exitDone, "info", name, "-kind", "cache"), object{"type": "write"}, object{"op": "put", "prefix_hex": "ff", "key": "k"})
	wantOne(t, objects(t, exitDone, "info", name, "-kind", "heartbeat"), object{"type": "beat"}, object{"node": f.Node(), "counter": 0})
	claims := objects(t, exitDone, "info", name, "-kind", "contest")
	wantOne(t, claims, object{"type": "claim"}, object{"label": "chair", "change": "claimed", "id": "222:1:1", "node": f.Node()})
	if n := len(pick(claims, object{"type": "holder"})); n != 2 {
		t.Errorf("got %d holders, want 2", n)
	}

	text, _ := said(t, exitDone, "info", name)
	wantIn(t, "info", text, `4 keys: 3 of prefix "pre", 1 of prefix "\xff"`, "newest: job.done from node 1", "2 of 2048 claims held", `33 "desk"`, "until released")
	text, _ = said(t, exitDone, "info", name, "-kind", "events")
	wantIn(t, "info events", text, "220:1:1", "job.done", "0xff07")
	text, _ = said(t, exitDone, "info", name, "-kind", "cache")
	if got := [][]string{fields(t, text, "pre"), fields(t, text, "0xff")}; got[0][1] != "3" || got[1][1] != "1" {
		t.Errorf("got keys by prefix %q, want 3 and 1", got)
	}
	text, _ = said(t, exitDone, "info", name, "-kind", "222")
	wantIn(t, "info contest", text, "2 of 2048 held", "claimed", "222:1:1", "tester")
}

func TestObjectsOfATypeHaveTheSameKeysWhateverPrintsThem(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := fullFleet(t, name)
	cache := must(orbit.OpenCache(f, "p\xff"))(t)
	must(0, cache.Delete("k\xff"))(t)
	must(0, cache.Reset())(t)
	must(0, cache.Put("k\xff", []byte{0xff}, time.Hour))(t)
	bus := must(orbit.Events(f))(t)
	must(bus.Ring().Mint())(t)
	must(bus.Ring().Publish(9, 0, []byte("short")))(t)
	must(bus.Publish("t\xff", nil))(t)
	must(orbit.Claim[office](must(orbit.OpenContest(f))(t), "l\xff", "o\xff", time.Hour))(t)
	must(f.Ring(10))(t)
	must(0, os.Truncate(segmentPath(name, 10), 100))(t)
	keys := map[string][]string{}
	for _, args := range [][]string{
		{"ls", name}, {"info", name}, {"info", name, "-kind", "9"}, {"info", name, "-kind", "cache"}, {"info", name, "-kind", "events"},
		{"info", name, "-kind", "heartbeat"}, {"info", name, "-kind", "contest"}, {"who", name}, {"keys", name}, {"keys", "-values", name},
		{"get", "-prefix", "pre", name, "a"}, {"tail", name}, {"tail", "-kind", "9", name}, {"tail", "-kind", "cache", name},
		{"tail", "-kind", "heartbeat", name}, {"tail", "-kind", "contest", name},
	} {
		for _, o := range objects(t, exitDone, args...) {
			if o["fleet"] != name {
				t.Errorf("%q: got fleet %v of %v, want %q", args, o["fleet"], o, name)
			}
			has := slices.Sorted(maps.Keys(o))
			has = slices.DeleteFunc(has, func(k string) bool { return strings.HasSuffix(k, "_hex") && o[strings.TrimSuffix(k, "_hex")] == nil })
			if what := fmt.Sprint(o["type"]); keys[what] == nil {
				keys[what] = has
			} else if !slices.Equal(keys[what], has) {
				t.Errorf("%q: got keys %q of %s, want %q", args, has, what, keys[what])
			}
		}
	}
	want := []string{"beat", "cache", "claim", "entry", "event", "fleet", "frame", "holder", "member", "passed", "pulse", "ring", "trouble", "write"}
	if got := slices.Sorted(maps.Keys(keys)); !slices.Equal(got, want) {
		t.Errorf("got types %q, want %q", got, want)
	}
}

func TestInfoPassesOverFramesThatAreNoEvents(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := joinOwn(t, name, nil)
	bus := must(orbit.Events(f))(t)
	must(bus.Publish("real", nil))(t)
	must(bus.Ring().Publish(9, 0, []byte("short")))(t) // a topic of 9 bytes in 5
	must(bus.Ring().Mint())(t)
	contest := must(orbit.OpenContest(f))(t)
	must(orbit.Claim[office](contest, "desk", "", time.Hour))(t)
	must(contest.Ring().Publish(77, 0, []byte("no claim")))(t)
	wantOne(t, objects(t, exitDone, "info", name), object{"type": "event"}, object{"topic": "real"})
	wantOne(t, objects(t, exitDone, "info", name, "-kind", "events"), object{"type": "event"}, object{"topic": "real"})
	wantOne(t, objects(t, exitDone, "info", name, "-kind", "contest"), object{"type": "claim"}, object{"label": "desk"})
}

func TestRingTruncatedWhileLookedAtIsAnError(t *testing.T) {
	name := ownFleet(t)
	f := joinOwn(t, name, nil)
	must(must(f.Ring(5))(t).Publish(0, 0, nil))(t)
	v := must(lookAt(name))(t)
	defer v.close()
	must(0, os.Truncate(segmentPath(name, 5), 0))(t)
	if rates := measure([]*view{v}, 0); len(rates) != 0 || !errors.Is(v.rings[0].err, orbit.ErrDamaged) {
		t.Errorf("got rates %v, error %v, want that it is damaged", rates, v.rings[0].err)
	}
}

func TestClearRefusesWhileAMemberLivesAndNamesIt(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	c := siblingOf(t, name)
	before := len(picture(t, name))
	for _, args := range [][]string{{"clear", name}, {"clear", "-dry-run", name}, {"clear", "-kind", "7", name}, {"clear", "-kind", "7", "-dry-run", name}} {
		out, why := said(t, exitFailed, args...)
		if out != "" {
			t.Errorf("%q: got %q, want nothing done", args, out)
		}
		wantIn(t, fmt.Sprint(args), why, "in use", fmt.Sprintf("node 1 (pid %d)", c.Process.Pid))
	}
	// A stopped member is a member.
	c.Process.Signal(syscall.SIGSTOP)
	said(t, exitFailed, "clear", name)
	if n := len(picture(t, name)); n != before {
		t.Errorf("got %d segments, want %d", n, before)
	}
	c.Process.Kill()
	c.Wait()
	out, _ := said(t, exitDone, "clear", name)
	wantIn(t, "clear", out, "removed fleet", "6 segments")
	wantGone(t, name, 0)
}

func TestClearNamesAllMembers(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	a, b := joinOwn(t, name, nil), joinOwn(t, name, nil)
	_, why := said(t, exitFailed, "clear", name)
	wantIn(t, "clear", why, "2 live members", fmt.Sprintf("node %d (pid %d), node %d (pid %[2]d)", a.Node(), os.Getpid(), b.Node()))
}

func TestClearOfOneKindEmptiesItAndLeavesTheRest(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := fullFleet(t, name)
	token := must(orbit.Claim[office](must(orbit.OpenContest(f))(t), "stool", "", time.Hour))(t).Token()
	node := f.Node()
	f.Close()
	o := must(orbit.Observe(name))(t)
	defer o.Close()
	heads := map[uint8]uint64{}
	kinds := must(o.Kinds())(t)
	for _, kind := range kinds {
		heads[kind] = must(o.Ring(kind))(t).Head()
	}
	for i, kind := range kinds {
		arg := fmt.Sprint(kind)
		if kind >= 200 {
			arg = useOf(kind)
		}
		out, _ := said(t, exitDone, "clear", "-kind", arg, name)
		wantIn(t, "clear -kind", out, fmt.Sprintf("emptied ring %d of fleet %q", kind, name))
		for j, kind := range kinds {
			ring := must(o.Ring(kind))(t)
			stats := must(ring.Stats())(t)
			if empty := stats.Frames == 0; empty != (j <= i) || stats.Head != heads[kind] || stats.Waiting {
				t.Errorf("after %s: ring %d has %+v, want it empty: %v, with head %d", out, kind, stats, j <= i, heads[kind])
			}
		}
	}
	if members := must(o.Members())(t); len(members) != 0 {
		t.Errorf("got members %v, want none", members)
	}
	// What may not go back did not.
	if _, err := must(orbit.Heartbeats(o))(t).Last(node); err != nil {
		t.Errorf("the newest beat of node %d: %v", node, err)
	}
	g := must(orbit.Claim[office](must(orbit.OpenContest(joinOwn(t, name, nil)))(t), "stool", "", time.Hour))(t)
	if g.Token() <= token {
		t.Errorf("got token %d after the contest was emptied, want more than %d", g.Token(), token)
	}
}

func TestClearOfAKindThatIsNotThereMakesNone(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	joinOwn(t, name, nil).Close()
	for _, kind := range []string{"5", "cache", "201"} {
		said(t, exitNo, "clear", "-kind", kind, name)
	}
	if err := emptyRing(name, 5); !errors.Is(err, orbit.ErrNotExist) {
		t.Errorf("emptying a ring that went meanwhile: got %v, want that it does not exist", err)
	}
	if left := picture(t, name); len(left) != 1 {
		t.Errorf("got %v, want the roster alone", slices.Collect(maps.Keys(left)))
	}
}

func TestEmptyingSpeaksOfWhoJoinedMeanwhile(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	f := joinOwn(t, name, nil)
	ring := must(f.Ring(5))(t)
	must(ring.Publish(0, 0, nil))(t)
	err := emptyRing(name, 5)
	if !errors.Is(err, orbit.ErrInUse) {
		t.Fatalf("got %v, want that the fleet is in use", err)
	}
	wantIn(t, "error", err.Error(), "1 live member", fmt.Sprintf("node %d (pid %d)", f.Node(), os.Getpid()))
	if s := must(ring.Stats())(t); s.Frames != 1 {
		t.Errorf("got %d frames, want 1", s.Frames)
	}
}

func TestClearIsHonestAboutTheRosterThatIsNone(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	must(0, os.WriteFile(segmentPath(name, 0), []byte("a diary"), 0o600))(t)
	out, _ := said(t, exitDone, "clear", "-dry-run", name)
	wantIn(t, "clear -dry-run", out, "if its roster ever was one", "too short")
	said(t, exitFailed, "clear", name)
	if b := must(os.ReadFile(segmentPath(name, 0)))(t); string(b) != "a diary" {
		t.Errorf("got %q, want the diary", b)
	}
}

func TestDoctorFindsAWellFleetWell(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	fullFleet(t, name)
	list := objects(t, exitDone, "doctor", name)
	wantOne(t, list, object{"fleet": name}, object{"status": "ok", "check": "fleet", "remedy": nil})
	wantOne(t, list, object{"check": "probe"}, object{"status": "ok"})
	for _, check := range []string{"shm", "mode", "tmpfile", "fallocate", "mmap", "futex", "ofd_lock", "linkat"} {
		wantOne(t, list, object{"check": check, "fleet": nil}, object{"status": "ok"})
	}
	for _, check := range []string{"open_files", "address_space", "file_size", "pid_namespace", "time_namespace", "logout"} {
		wantOne(t, list, object{"check": check}, nil)
	}
	text, _ := said(t, exitDone, "doctor", name)
	wantIn(t, "doctor", text, fmt.Sprintf("ok       fleet %q is sound: 1 member, 5 rings", name), "no problem, ")
	if left, _ := filepath.Glob(shmDir + "/.orbit-doctor-*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestDoctorNotesAFleetThatNobodyIsIn(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	joinOwn(t, name, nil).Close()
	long := time.Now().Add(-50 * time.Hour)
	must(0, os.Chtimes(segmentPath(name, 0), long, long))(t)
	f := wantOne(t, objects(t, exitDone, "doctor", name), object{"fleet": name}, object{"status": "note", "check": "stopped"})
	wantIn(t, "doctor finds", fmt.Sprint(f["found"]), "no member", "nobody opened it to write for 2d2h")
	wantIn(t, "doctor advises", fmt.Sprint(f["remedy"]), "orbit clear "+name)
}

// writerEnv names a fleet in which this program, started anew, writes large
// frames until it is killed.
const writerEnv = "ORBIT_TEST_WRITER"

var largeFrames = map[uint8]orbit.Geometry{5: {Capacity: 2, PayloadLimit: 4 << 20}}

func init() {
	name := os.Getenv(writerEnv)
	if name == "" {
		return
	}
	f, err := orbit.Join(name, orbit.Options{Size: 1, Rings: largeFrames})
	if err != nil {
		panic(err)
	}
	ring, err := f.Ring(5)
	for err == nil {
		_, err = ring.Publish(0, 0, make([]byte, 4<<20))
	}
	panic(err)
}

func TestDoctorFindsAMemberStoppedInTheMiddleOfAWrite(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	ring := must(joinOwn(t, name, largeFrames).Ring(5))(t)
	c := exec.Command(must(os.Executable())(t))
	c.Env = append(os.Environ(), writerEnv+"="+name)
	must(0, c.Start())(t)
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	pending := func() bool { return must(ring.Stats())(t).Pending == 1 }
	for end := time.Now().Add(60 * time.Second); ; {
		if pending() {
			if halt(t, c.Process); pending() {
				break
			}
			c.Process.Signal(syscall.SIGCONT)
		}
		if time.Now().After(end) {
			t.Fatal("the writer could not be stopped in the middle of a write")
		}
		time.Sleep(100 * time.Microsecond)
	}
	found := wantOne(t, objects(t, exitDone, "doctor", name), object{"fleet": name}, object{"status": "warning", "check": "unfinished"})
	wantIn(t, "doctor finds", fmt.Sprint(found["found"]), "1 frame unfinished")
	wantOne(t, objects(t, exitDone, "info", name), object{"kind": 5}, object{"pending": 1, "lost": 0})
	c.Process.Kill()
	c.Wait()
	wantOne(t, objects(t, exitDone, "info", name), object{"kind": 5}, object{"pending": 0, "lost": 1})
	wantOne(t, objects(t, exitDone, "doctor", name), object{"fleet": name}, object{"status": "ok"})
}

// alone runs a shell script in which $orbit is the command, in a mount
// namespace of its own where /dev/shm is a tmpfs mounted with these options.
func alone(t *testing.T, code int, options, script string) (stdout, stderr string) {
	t.Helper()
	c := exec.Command("sh", "-c", `mount -t tmpfs -o "$0" tmpfs /dev/shm || exit 125; orbit=$1; `+script, options, program)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	var out, why strings.Builder
	c.Stdout, c.Stderr = &out, &why
	err := c.Run()
	if c.ProcessState == nil || c.ProcessState.ExitCode() == 125 {
		t.Skipf("no mount namespace to be had here: %v %s", err, why.String())
	}
	if got := c.ProcessState.ExitCode(); got != code {
		t.Fatalf("%s: got exit code %d, want %d\n%s%s", script, got, code, out.String(), why.String())
	}
	return out.String(), why.String()
}

func TestHostWithoutFleets(t *testing.T) {
	t.Parallel()
	out, why := alone(t, exitDone, "size=200m,mode=1777", `"$orbit" ls`)
	if out != "no fleets on this host\n" || why != "" {
		t.Errorf("got %q and %q, want one friendly line", out, why)
	}
	if out, why := alone(t, exitDone, "size=200m,mode=1777", `"$orbit" ls -json`); out != "" || why != "" {
		t.Errorf("got %q and %q, want no line", out, why)
	}
	out, _ = alone(t, exitDone, "size=200m,mode=1777", `"$orbit" doctor`)
	wantIn(t, "doctor", out, "ok       no fleets on this host", "no problem")
}

func TestDoctorOfHostsThatAreNotWell(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, options, script string
		code                  int
		words                 []string
	}{
		{"container default", "size=64m,mode=1777", "", exitDone, []string{"warning  /dev/shm has 64 MiB", "--shm-size", "emptyDir", "1 warning"}},
		{"small", "size=4m,mode=1777", "", exitDone, []string{"warning  /dev/shm has only 4 MiB", "--shm-size"}},
		{"no limit", "size=0,mode=1777", "", exitDone, []string{"no problem, 0 warnings"}},
		{"full", "size=4m,mode=1777", "dd if=/dev/zero of=/dev/shm/fill bs=4096 2>/dev/null;", exitFailed,
			[]string{"problem  /dev/shm has only 0 B free", "problem  tried in /dev/shm, does not work: reserving memory", "a fleet cannot be made", "3 problems"}},
		{"nearly full", "size=40m,mode=1777", "dd if=/dev/zero of=/dev/shm/fill bs=1M count=37 2>/dev/null;", exitDone, []string{"warning  /dev/shm has only 3 MiB free, 8 %"}},
		{"no inodes", "size=200m,nr_inodes=2,mode=1777", ": >/dev/shm/fill;", exitFailed, []string{"problem  /dev/shm has room for 0 more files"}},
		{"few inodes", "size=200m,nr_inodes=50,mode=1777", "", exitDone, []string{"warning  /dev/shm has room for only 49 more files"}},
		{"read-only", "size=200m,mode=1777,ro", "", exitFailed, []string{"problem  /dev/shm is mounted read-only", "problem  tried in /dev/shm, does not work: a file without a name", "read-only file system"}},
		{"not sticky", "size=200m,mode=0777", "", exitDone, []string{"warning  /dev/shm has mode 0777 without the sticky bit", "chmod 1777"}},
		{"for one user", "size=200m,mode=0755", "", exitDone, []string{"note     /dev/shm has mode 0755"}},
		{"no tmpfs", "size=200m,mode=1777", "mount -t ramfs -o mode=1777 ramfs /dev/shm;", exitFailed,
			[]string{"warning  /dev/shm is no tmpfs (file system type 0x858458f6)", "problem  tried in /dev/shm, does not work: reserving memory", "a fleet made for this check did not work"}},
		{"few files", "size=200m,mode=1777", "ulimit -n 30;", exitDone, []string{"warning  only 30 files may be open at once"}},
		{"small files", "size=200m,mode=1777", "ulimit -f 20480;", exitDone, []string{"warning  the size of a file is limited to 10 MiB", "LimitFSIZE="}},
		{"a damaged fleet", "size=200m,mode=1777", ": >/dev/shm/orbit-web-0-0; chmod 600 /dev/shm/*;", exitFailed, []string{`problem  fleet "web": too short`, `"orbit clear web"`, "1 problem,"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, why := alone(t, c.code, c.options, c.script+`"$orbit" doctor`)
			wantIn(t, "doctor", out, c.words...)
			if why != "" {
				t.Errorf("got %q on standard error", why)
			}
		})
	}
}

func TestDoctorWithoutSharedMemory(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, f := range append(checkShm(none), tryKernel(none)...) {
		if f.Status != problem || !strings.Contains(*f.Remedy, "mount -t tmpfs") {
			t.Errorf("got %s %s, %s, want a problem that a mount solves", f.Status, f.Found, *f.Remedy)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	must(0, os.WriteFile(file, nil, 0o600))(t)
	if f := checkShm(file); len(f) != 1 || f[0].Status != problem {
		t.Errorf("a file in its place: got %v, want a problem", f)
	}
}

func TestLimitsOfTheProcess(t *testing.T) {
	for _, c := range []struct {
		l    limits
		want []status
	}{
		{limits{1024, noLimit, noLimit}, []status{fine, fine, fine}},
		{limits{63, noLimit, noLimit}, []status{warning, fine, fine}},
		{limits{64, 1 << 20, 1 << 40}, []status{fine, warning, note}},
		{limits{64, 1 << 30, 1<<30 - 1}, []status{fine, note, warning}},
	} {
		for i, f := range checkLimits(c.l) {
			if f.Status != c.want[i] || (f.Remedy == nil) != (f.Status == fine) {
				t.Errorf("%+v: got %s %q, want %s and a remedy if it is not", c.l, f.Status, f.Found, c.want[i])
			}
		}
	}
}

func TestNamespacesOfTheProcess(t *testing.T) {
	const other = "time:[4026532100]"
	for _, c := range []struct {
		name      string
		links     map[string]string
		offsets   string
		pid, time status
		words     string
	}{
		{"the host's", map[string]string{"self/ns/pid": firstPIDNamespace, "self/ns/time": firstTimeNamespace}, "", fine, fine, "the host's"},
		{"no time namespaces", map[string]string{"self/ns/pid": firstPIDNamespace}, "", fine, fine, "the host's"},
		{"a container", map[string]string{"self/ns/pid": "pid:[4026532999]", "self/ns/time": firstTimeNamespace}, "", note, fine, "the host's"},
		{"no /proc", nil, "", note, fine, ""},
		{"an unmoved clock", map[string]string{"self/ns/time": other}, "monotonic           0         0\nboottime            0         0\n", note, fine, other},
		{"a moved clock", map[string]string{"self/ns/time": other}, "monotonic      -86400       500\nboottime            0         0\n", note, warning, "-86400 s 500 ns"},
		{"a moved clock, and another's", map[string]string{"self/ns/time": other, "1/ns/time": firstTimeNamespace}, "monotonic 5 0\n", note, warning, "5 s 0 ns"},
		{"a moved clock of all here", map[string]string{"self/ns/time": other, "1/ns/time": other}, "monotonic 5 0\n", note, note, "process 1"},
	} {
		proc := t.TempDir()
		for path, to := range c.links {
			must(0, os.MkdirAll(filepath.Dir(filepath.Join(proc, path)), 0o700))(t)
			must(0, os.Symlink(to, filepath.Join(proc, path)))(t)
		}
		must(0, os.MkdirAll(proc+"/self", 0o700))(t)
		must(0, os.WriteFile(proc+"/self/timens_offsets", []byte(c.offsets), 0o600))(t)
		found := checkNamespaces(proc)
		if found[0].Status != c.pid || found[1].Status != c.time || !strings.Contains(found[1].Found, c.words) {
			t.Errorf("%s: got %s, and %s %q, want %s, and %s with %q", c.name, found[0].Status, found[1].Status, found[1].Found, c.pid, c.time, c.words)
		}
	}
	if found := checkNamespaces("/proc"); found[0].Check != "pid_namespace" || found[1].Check != "time_namespace" {
		t.Errorf("got %v", found)
	}
}

func TestLogoutClearsSharedMemoryOrNot(t *testing.T) {
	const uid = 54321
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	booted := &fstest.MapFile{Mode: os.ModeDir}
	for _, c := range []struct {
		name  string
		files fstest.MapFS
		uid   int
		want  status
		words string
	}{
		{"no systemd", fstest.MapFS{}, uid, fine, "does not run"},
		{"no setting", fstest.MapFS{}, uid, warning, "(RemoveIPC=yes, the default)"},
		{"root", fstest.MapFS{}, 0, fine, "system user"},
		{"the last system user", fstest.MapFS{}, 999, fine, "up to 999"},
		{"the first other user", fstest.MapFS{}, 1000, warning, ""},
		{"system users of this host", fstest.MapFS{"etc/login.defs": file("#SYS_UID_MAX 1\nSYS_UID_MAX\t499 \n")}, 500, warning, ""},
		{"a comment says yes", fstest.MapFS{"etc/systemd/logind.conf": file("[Login]\n#RemoveIPC=yes\n")}, uid, warning, "the default in /etc/systemd/logind.conf"},
		{"a comment says no", fstest.MapFS{"usr/lib/systemd/logind.conf": file("[Login]\n#RemoveIPC=no\n")}, uid, fine, "the default in /usr/lib/systemd/logind.conf"},
		{"no", fstest.MapFS{"etc/systemd/logind.conf": file("[Login]\n#RemoveIPC=yes\n RemoveIPC = off\n")}, uid, fine, "in /etc/systemd/logind.conf"},
		{"the last counts", fstest.MapFS{"etc/systemd/logind.conf": file("[Login]\nRemoveIPC=no\nRemoveIPC=yes\nRemoveIPC=perhaps\n")}, uid, warning, ""},
		{"another section", fstest.MapFS{"etc/systemd/logind.conf": file("RemoveIPC=no\n[Other]\nRemoveIPC=no\n")}, uid, warning, ""},
		{"the first main file", fstest.MapFS{"etc/systemd/logind.conf": file("[Login]\n"), "usr/lib/systemd/logind.conf": file("[Login]\nRemoveIPC=no")}, uid, warning, ""},
		{"a file beside it", fstest.MapFS{"etc/systemd/logind.conf": file("[Login]\nRemoveIPC=yes\n"), "usr/lib/systemd/logind.conf.d/50-shm.conf": file("[Login]\nRemoveIPC=no\n")}, uid, fine, "50-shm.conf"},
		{"the later file beside it", fstest.MapFS{"etc/systemd/logind.conf.d/10.conf": file("[Login]\nRemoveIPC=no\n"), "run/systemd/logind.conf.d/20.conf": file("[Login]\nRemoveIPC=yes\n")}, uid, warning, "20.conf"},
		{"a file beside it that hides another", fstest.MapFS{"etc/systemd/logind.conf.d/10.conf": file("[Login]\nRemoveIPC=no\n"), "usr/lib/systemd/logind.conf.d/10.conf": file("[Login]\nRemoveIPC=yes\n")}, uid, fine, "/etc/systemd/logind.conf.d/10.conf"},
		{"a user who lingers", fstest.MapFS{"var/lib/systemd/linger/54321": file("")}, uid, fine, "lingers"},
	} {
		if c.name != "no systemd" {
			c.files["run/systemd/system"] = booted
		}
		f := checkLogout(c.files, c.uid)
		if f.Status != c.want || !strings.Contains(f.Found, c.words) {
			t.Errorf("%s: got %s %q, want %s with %q", c.name, f.Status, f.Found, c.want, c.words)
		}
		if (f.Remedy == nil) != (c.want == fine) || f.Remedy != nil && !strings.Contains(*f.Remedy, "enable-linger") {
			t.Errorf("%s: got remedy %v", c.name, f.Remedy)
		}
	}
}

func TestColorsAreForTerminalsOnly(t *testing.T) {
	t.Parallel()
	name := ownFleet(t)
	must(must(joinOwn(t, name, nil).Ring(5))(t).Publish(0, 0, nil))(t)
	must(0, os.WriteFile(segmentPath(name, 6), nil, 0o600))(t)
	for _, args := range [][]string{{"ls", name}, {"info", name}, {"doctor", name}} {
		if got := onTerminal(t, args...); !strings.Contains(got, "\x1b[31m") {
			t.Errorf("%q on a terminal: got %q, want red in it", args, got)
		}
		c := start(t, args...)
		for c.lines.Scan() {
			if strings.Contains(c.lines.Text(), "\x1b") {
				t.Errorf("%q into a pipe: got %q", args, c.lines.Text())
			}
		}
	}
}

// onTerminal runs the command with a terminal for its output.
func onTerminal(t *testing.T, args ...string) string {
	t.Helper()
	master, terminal := newTerminal(t)
	c := exec.Command(program, args...)
	c.Stdout = terminal
	c.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "NO_COLOR=") }), "TERM=xterm")
	must(0, c.Start())(t)
	terminal.Close()
	out, _ := io.ReadAll(master) // ends with an error when nobody has the terminal open
	c.Wait()
	return string(out)
}
