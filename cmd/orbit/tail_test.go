package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"orbit"
)

// joinFleet joins a fleet of its own for a test, and removes it at the end.
func joinFleet(t *testing.T, rings map[uint8]orbit.Geometry) *orbit.Fleet {
	t.Helper()
	return rejoin(t, demoFleet(t), rings)
}

func rejoin(t *testing.T, name string, rings map[uint8]orbit.Geometry) *orbit.Fleet {
	t.Helper()
	f := must(orbit.Join(name, orbit.Options{Size: 1, Rings: rings}))(t)
	t.Cleanup(func() { disband(t, f) })
	return f
}

// disband leaves a fleet and removes it.
func disband(t *testing.T, f *orbit.Fleet) {
	t.Helper()
	f.Close()
	if err := orbit.Remove(f.Name()); err != nil && !errors.Is(err, orbit.ErrNotExist) {
		t.Errorf("remove: %v", err)
	}
}

func openBus(t *testing.T, f *orbit.Fleet) *orbit.EventBus {
	t.Helper()
	bus := must(orbit.Events(f))(t)
	return bus
}

func publish(t *testing.T, bus *orbit.EventBus, topic, payload string) {
	t.Helper()
	must(bus.Publish(topic, []byte(payload)))(t)
}

// columns returns some columns of each line, from 0.
func columns(text string, from int) (lines []string) {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); fields[0] != "--" {
			line = strings.Join(fields[min(from, len(fields)):], " ")
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got:\n%s\nwant:\n%s", g, w)
	}
}

func TestTailPrintsTheNewestEventsOldestFirst(t *testing.T) {
	f := joinFleet(t, nil)
	bus := openBus(t, f)
	var all []string
	for i := range 15 {
		topic := []string{"job.done", "job.failed", "load"}[i%3]
		publish(t, bus, topic, fmt.Sprint("number ", i))
		all = append(all, fmt.Sprintf("%s number %d", topic, i))
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, all[5:]},
		{[]string{"-n", "2"}, all[13:]},
		{[]string{"-n", "all"}, all},
		{[]string{"-n", "0"}, nil},
		{[]string{"-n", "2", "-topic", "load"}, []string{all[11], all[14]}},
		{[]string{"-n", "3", "-topic-prefix", "job."}, []string{all[10], all[12], all[13]}},
		{[]string{"-n", "3", "-topic", "job.done", "-topic", "load"}, []string{all[11], all[12], all[14]}},
		{[]string{"-n", "all", "-topic", "none"}, nil},
	} {
		said := start(t, append([]string{"tail", f.Name()}, c.args...)...).finish(exitDone)
		t.Run(strings.Join(c.args, " "), func(t *testing.T) { wantLines(t, columns(said, 3), c.want...) })
	}
	line := start(t, "tail", "-n", "1", f.Name()).finish(exitDone)
	if !regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{6}  node ` + fmt.Sprint(f.Node()) + ` +load +number 14\n$`).MatchString(line) {
		t.Errorf("got line %q", line)
	}
}

func TestTailShowsPayloadsThatAreNoText(t *testing.T) {
	f := joinFleet(t, nil)
	bus := openBus(t, f)
	publish(t, bus, "a", "\x1b[2J")
	publish(t, bus, "b\n", "\xff\x00")
	publish(t, bus, "c", "hé")
	wantLines(t, columns(start(t, "tail", f.Name()).finish(exitDone), 3), `a "\x1b[2J"`, `"b\n" 0xff00`, `c hé`)
	wantLines(t, columns(start(t, "tail", "-hex", f.Name()).finish(exitDone), 3), `a 1b5b324a`, `"b\n" ff00`, `c 68c3a9`)
	var got []string
	for line := range strings.Lines(start(t, "tail", "-json", f.Name()).finish(exitDone)) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(o["time"])); err != nil || time.Since(at) > time.Minute || time.Since(at) < 0 {
			t.Errorf("got time %v, %v", o["time"], err)
		}
		got = append(got, fmt.Sprintf("%v %v %v %q %q %v", o["type"], o["id"], o["node"], o["topic"], o["payload"], o["payload_hex"]))
	}
	wantLines(t, got,
		`event 220:1:0 1 "a" "\x1b[2J" <nil>`,
		`event 220:1:1 1 "b\n" %!q(<nil>) ff00`,
		`event 220:1:2 1 "c" "hé" <nil>`)
}

func TestTailTellsWhatWasPassedInItsPlace(t *testing.T) {
	f := joinFleet(t, map[uint8]orbit.Geometry{orbit.KindEvents: {Capacity: 16, PayloadLimit: 64}})
	bus := openBus(t, f)
	publish(t, bus, "first", "")
	for range 3 {
		must(bus.Ring().Mint())(t)
	}
	publish(t, bus, "second", "")
	if _, err := bus.Ring().Publish(0, 0, nil); err != nil { // no event
		t.Fatal(err)
	}
	publish(t, bus, "third", "")
	must(bus.Ring().Mint())(t)
	no := fmt.Sprintf("-- ring 220 of fleet %q: frame 220:1:5 is no event: topic of 0 bytes in a record of 0 --", f.Name())
	wantLines(t, columns(start(t, "tail", "-n", "all", f.Name()).finish(exitDone), 3),
		"first", "-- 3 holes --", "second", "-- 1 lost --", no, "third", "-- 1 hole --")
	// What lies before the newest that are asked for is not told.
	wantLines(t, columns(start(t, "tail", "-n", "1", f.Name()).finish(exitDone), 3),
		"third", "-- 1 hole --")
	said := start(t, "tail", "-n", "2", "-json", f.Name()).finish(exitDone)
	if want := fmt.Sprintf(`{"type":"passed","fleet":%q,"overwritten":0,"holes":0,"lost":1}`, f.Name()); strings.Count(said, want) != 1 {
		t.Errorf("got %s, want one %s", said, want)
	}
}

func TestTailAccountsForEveryEventOfAFasterPublisher(t *testing.T) {
	const events = 30_000
	f := joinFleet(t, map[uint8]orbit.Geometry{orbit.KindEvents: {Capacity: 64, PayloadLimit: 64}})
	bus := openBus(t, f)
	publish(t, bus, "first", "")
	c := start(t, "tail", "-f", "-json", "-n", "all", f.Name())
	c.until(`"topic":"first"`)
	for i := 1; i < events-1; i++ {
		publish(t, bus, "more", "")
		if i%1000 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	publish(t, bus, "last", "")
	c.until(`"topic":"last"`)
	c.Process.Signal(os.Interrupt)
	said := c.finish(exitDone)
	delivered, passed, next := 0, 0, 0
	for line := range strings.Lines(said) {
		var o struct {
			Counter                  *int
			Overwritten, Holes, Lost int
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if n := o.Overwritten + o.Holes + o.Lost; o.Counter == nil {
			passed += n
			next += n
			continue
		}
		if *o.Counter != next {
			t.Fatalf("got counter %d, want %d after what was told", *o.Counter, next)
		}
		delivered++
		next++
	}
	if delivered+passed != events {
		t.Errorf("got %d delivered and %d passed, want %d in all", delivered, passed, events)
	}
}

// Job is a subject to claim.
type Job struct{}

func (Job) OrbitKind() uint8 { return 9 }

func TestTailDecodesClaimsBeatsAndFrames(t *testing.T) {
	f := joinFleet(t, nil)
	contest := must(orbit.OpenContest(f))(t)
	guard := must(orbit.Claim[Job](contest, "nightly", "worker 1", time.Hour))(t)
	guard.Release()
	heart := must(orbit.Heartbeats(f))(t)
	must(0, heart.Beat())(t)
	cache := must(orbit.OpenCache(f, "p\xff"))(t)
	for _, err := range []error{
		cache.Put("k", []byte("v"), time.Hour), cache.Put("bin", []byte{0xff}, 0), cache.Put("past", nil, -time.Hour),
		cache.Delete("k"), cache.Reset(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(cache.Add("k", []byte("new"), 0))(t)
	must(cache.Ring().Publish(9, 77, []byte("no write")))(t)
	ring := must(f.Ring(12))(t)
	must(ring.Publish(3, 77, []byte("hello")))(t)
	until := `  until \d\d:\d\d:\d\d\.\d{3}\n`
	claim := regexp.QuoteMeta(fmt.Sprintf(`9 "nightly"  token %d  owner "worker 1"  pid %d`, guard.Token(), os.Getpid())) + until
	for kind, want := range map[string]string{
		"contest":   `^\d\d:\d\d:\d\d\.\d{6}  node 1    claimed  ` + claim + ` +node 1    released ` + claim + `$`,
		"heartbeat": `^\d\d:\d\d:\d\d\.\d{6}  node 1    beat\n$`,
		"12":        `^12:1:0 +kind 3, version 77  hello\n$`,
		"cache": `^200:1:0 +put     prefix "p\\xff"  key "k"  expires in (59m\d+s|1h0m0s)  v\n` +
			`200:1:1 +put     prefix "p\\xff"  key "bin"  expires never  0xff\n` +
			`200:1:2 +put     prefix "p\\xff"  key "past"  expired at once\n` +
			`200:1:3 +delete  prefix "p\\xff"  key "k"\n` +
			`200:1:4 +reset   prefix "p\\xff"\n` +
			`200:1:5 +add     prefix "p\\xff"  key "k"  expires never  new\n` +
			`200:1:6 +kind 9, version 77  no write\n$`,
	} {
		if said := start(t, "tail", "-kind", kind, f.Name()).finish(exitDone); !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("-kind %s: got %q, want a match of %q", kind, said, want)
		}
	}
	for kind, want := range map[string]string{
		"contest":   `"counter":0,"change":"claimed","kind":9,"label":"nightly","owner":"worker 1","node":1,"pid":`,
		"heartbeat": `"id":"221:1:0","node":1,"counter":0,"time":"`,
		"12":        `"id":"12:1:0","node":1,"counter":0,"kind":3,"version":77,"payload_bytes":5,"payload":"hello"}`,
		"cache":     `"op":"put","prefix":null,"prefix_hex":"70ff","key":"bin","value_bytes":1,"value":null,"value_hex":"ff","expires_in_seconds":null}`,
	} {
		if said := start(t, "tail", "-json", "-kind", kind, f.Name()).finish(exitDone); !strings.Contains(said, want) {
			t.Errorf("-json -kind %s: got %q, want %s in it", kind, said, want)
		}
	}
}

func TestTailFollowsThroughFleetsThatBeginAndEnd(t *testing.T) {
	name := demoFleet(t)
	c, complaint := startLoud(t, "tail", "-f", name)
	if want := fmt.Sprintf("waiting for the ring of events of fleet %q", name); !strings.Contains(complaint, want) {
		t.Errorf("got %q on standard error, want %q", complaint, want)
	}
	f := rejoin(t, name, nil)
	// It attaches to the fleet before that has the ring.
	time.Sleep(3 * existEvery)
	bus := openBus(t, f)
	publish(t, bus, "one", "")
	publish(t, bus, "two", "")
	c.until("node 1 +two")
	publish(t, bus, "three", "")
	disband(t, f)
	c.until("-- the fleet ends --")
	f = rejoin(t, name, nil)
	publish(t, openBus(t, f), "four", "")
	c.until("node 1 +four")
	// Now the next fleet begins before anybody sees that the last has ended.
	disband(t, f)
	f = rejoin(t, name, nil)
	publish(t, openBus(t, f), "five", "")
	c.until("node 1 +five")
	c.Process.Signal(os.Interrupt)
	said := columns(c.finish(exitDone), 3)
	ended := []string{"-- the fleet begins --", "one", "two", "three", "-- the fleet ends --", "-- the fleet begins --", "four", "-- the fleet begins --", "five"}
	if len(said) == len(ended)+1 { // unless it was seen to have ended
		ended = append(ended[:7], append([]string{"-- the fleet ends --"}, ended[7:]...)...)
	}
	wantLines(t, said, ended...)
}

// startLoud starts a command and waits for the first line of its standard error.
func startLoud(t *testing.T, args ...string) (c *started, complaint string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	stderr := must(cmd.StderrPipe())(t)
	c = startCmd(t, cmd)
	complaint, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil {
		t.Fatalf("%q: got %q on standard error: %v", args, complaint, err)
	}
	return c, complaint
}

func TestFollowingEndsWellOnSignals(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		f := joinFleet(t, nil)
		publish(t, openBus(t, f), "there", "")
		c := start(t, "tail", "-f", f.Name())
		c.until("there")
		c.Process.Signal(sig)
		c.finish(exitDone)
		if got := c.stderr.String(); got != "" {
			t.Errorf("%v: got %q on standard error, want nothing", sig, got)
		}
	}
}

func TestTailEndsInPeaceWhenNobodyReads(t *testing.T) {
	f := joinFleet(t, nil)
	bus := openBus(t, f)
	publish(t, bus, "there", "")
	for name, news := range map[string]bool{"while events come": true, "while nothing comes": false} {
		if !news && runtime.GOOS != "linux" {
			continue
		}
		c := exec.Command(program, "tail", "-f", f.Name())
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		c.Stdout, c.Stderr = w, &stderr
		must(0, c.Start())(t)
		w.Close()
		must(r.Read(make([]byte, 100)))(t)
		r.Close()
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		late := time.After(30 * time.Second)
	waiting:
		for {
			select {
			case err := <-ended:
				if err != nil || stderr.Len() > 0 {
					t.Errorf("%s: got %v and %q on standard error, want a quiet end", name, err, stderr.String())
				}
				break waiting
			case <-late:
				c.Process.Kill()
				t.Fatalf("%s: still runs", name)
			case <-time.After(10 * time.Millisecond):
				if news {
					publish(t, bus, "more", "")
				}
			}
		}
	}
}

func TestTailSaysWhatItCannotDo(t *testing.T) {
	f := joinFleet(t, nil)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"tail", exitUsage, "want FLEET, found"},
		{"tail a b", exitUsage, "want FLEET, found"},
		{"tail -n -1 a", exitUsage, "want a number from 0 on, or all"},
		{"tail -kind 0 a", exitUsage, `"0" for flag -kind: want 1 to 255`},
		{"tail -kind 12 -topic x a", exitUsage, "ring of kind 12 has none"},
		{"tail ../a", exitUsage, "bad fleet name"},
		{"tail -f ../a", exitUsage, "bad fleet name"},
		{"tail " + f.Name() + ".not", exitNo, `"orbit ls" lists the fleets`},
		{"tail " + f.Name(), exitNo, "ring 220 of fleet"},
	} {
		p := start(t, strings.Fields(c.args)...)
		p.finish(c.code)
		if got := p.stderr.String(); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q in it", c.args, got, c.want)
		}
	}
}
