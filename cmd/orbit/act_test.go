//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
	"unsafe"

	"orbit"
)

// actFleet returns the name of a fleet that is removed when the test ends, by
// when nobody may be in it any more.
func actFleet(t *testing.T) string {
	t.Helper()
	fleet := demoFleet(t)
	t.Cleanup(func() {
		if err := orbit.Remove(fleet); err != nil && !errors.Is(err, orbit.ErrNotExist) {
			t.Errorf("cannot remove: %v", err)
		}
		wantGone(t, fleet, 0)
	})
	return fleet
}

// outcome is what a command did that ended.
type outcome struct {
	code           int
	stdout, stderr string
}

// orbitCmd runs the program to its end, in a session of its own: no terminal of
// whoever runs the tests has a part in it.
func orbitCmd(t *testing.T, stdin io.Reader, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := exec.Command(program, args...)
	c.Stdin, c.Stdout, c.Stderr = stdin, &stdout, &stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err := c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// want fails unless the command ended with a code, and said something that
// matches on the side that the code tells.
func (o outcome) want(t *testing.T, code int, pattern string) outcome {
	t.Helper()
	said := o.stdout
	if code != exitDone {
		said = o.stderr
	}
	if o.code != code || !regexp.MustCompile(pattern).MatchString(said) {
		t.Fatalf("got %+v, want exit code %d and a match of %q", o, code, pattern)
	}
	return o
}

// A running command can be told things on standard input.
type running struct {
	*started
	in io.WriteCloser
}

// begin starts the program, in a session of its own like orbitCmd.
func begin(t *testing.T, args ...string) *running {
	t.Helper()
	return beginCmd(t, exec.Command(program, args...))
}

func beginCmd(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	cmd.WaitDelay = 10 * time.Second // if a command survives that should not
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	c := &running{}
	if cmd.Stdin == nil {
		c.in = must(cmd.StdinPipe())(t)
	}
	c.started = startCmd(t, cmd)
	return c
}

// drain reads standard output to its end, which comes when nobody has it open
// any more.
func (c *running) drain() {
	c.t.Helper()
	end := make(chan struct{})
	go func() {
		defer close(end)
		for c.lines.Scan() {
		}
	}()
	select {
	case <-end:
	case <-time.After(30 * time.Second):
		c.t.Fatal("a process still has standard output open after 30 s")
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

var allBytes = func() string {
	var b []byte
	for i := range 256 {
		b = append(b, byte(i))
	}
	return string(b)
}()

func TestGetPrintsByteForByteWhatWasPut(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	orbitCmd(t, nil, "put", "-create", fleet, "first", "x").want(t, exitDone, "^$")
	for name, value := range map[string]string{
		"empty": "", "one byte": "\x00", "text": "héllo", "line": "line\n", "CRLF": "\r\n\r\n", "all bytes": allBytes,
	} {
		for how, stdin := range map[string]io.Reader{
			"at once":      strings.NewReader(value),
			"byte by byte": iotest.OneByteReader(strings.NewReader(value)),
		} {
			orbitCmd(t, stdin, "put", fleet, name, "-").want(t, exitDone, "^$")
			if got := orbitCmd(t, nil, "get", fleet, name); got.code != exitDone || got.stdout != value {
				t.Errorf("%s, %s: got %+v, want %q", name, how, got, value)
			}
		}
		if strings.Contains(value, "\x00") {
			continue // no argument has a NUL
		}
		orbitCmd(t, nil, "put", fleet, "argument", value).want(t, exitDone, "^$")
		if got := orbitCmd(t, nil, "get", fleet, "argument"); got.stdout != value {
			t.Errorf("%s as argument: got %q, want %q", name, got.stdout, value)
		}
	}
	orbitCmd(t, nil, "put", fleet, "", "of the empty key").want(t, exitDone, "")
	orbitCmd(t, nil, "get", fleet, "").want(t, exitDone, "^of the empty key$")
	orbitCmd(t, nil, "put", fleet, "--", "-k", "-v").want(t, exitDone, "")
	orbitCmd(t, nil, "get", fleet, "--", "-k").want(t, exitDone, "^-v$")
}

func TestGetAddsANewlineOnlyOnATerminal(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	orbitCmd(t, nil, "put", "-create", fleet, "k", "v").want(t, exitDone, "")
	master, slave := newTerminal(t)
	cmd := exec.Command(program, "get", fleet, "k")
	cmd.Stdout = slave
	must(0, cmd.Run())(t)
	slave.Close()
	screen := make([]byte, 16)
	if n, err := master.Read(screen); string(screen[:n]) != "v\r\n" {
		t.Errorf("got %q, %v on the terminal, want the value and a new line", screen[:n], err)
	}
}

func TestPrefixesAreKeySpaces(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	for _, prefix := range []string{"", "a", "ab"} {
		orbitCmd(t, nil, "put", "-create", "-prefix", prefix, fleet, "k", "of "+prefix).want(t, exitDone, "")
	}
	orbitCmd(t, nil, "del", "-all", "-prefix", "a", fleet).want(t, exitDone, "^$")
	orbitCmd(t, nil, "get", "-prefix", "a", fleet, "k").want(t, exitNo, `"k" has no value`)
	orbitCmd(t, nil, "get", "-prefix", "ab", fleet, "k").want(t, exitDone, "^of ab$")
	orbitCmd(t, nil, "get", fleet, "k").want(t, exitDone, "^of $")
}

func TestMissSaysWhy(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, map[uint8]orbit.Geometry{orbit.KindCache: {Capacity: 4, PayloadLimit: 64}})
	fleet := f.Name()
	miss := func(key, why string) {
		t.Helper()
		got := orbitCmd(t, nil, "get", fleet, key).want(t, exitNo, regexp.QuoteMeta(why))
		if got.stdout != "" {
			t.Errorf("key %q: got %q on standard output, want nothing", key, got.stdout)
		}
	}
	miss("k", "the fleet has no cache yet")
	cache := must(orbit.OpenCache(f, ""))(t)
	miss("k", "nothing was ever written about it")
	orbitCmd(t, nil, "del", fleet, "k").want(t, exitDone, "")
	miss("k", "node 65535 deleted it")
	orbitCmd(t, nil, "put", fleet, "other", "v").want(t, exitDone, "")
	orbitCmd(t, nil, "put", "-ttl", "1ms", fleet, "short", "v").want(t, exitDone, "")
	orbitCmd(t, nil, "put", "-ttl", "1h", fleet, "long", "v").want(t, exitDone, "")
	time.Sleep(2 * time.Millisecond)
	miss("short", "it expired ")
	orbitCmd(t, nil, "get", fleet, "long").want(t, exitDone, "^v$")
	orbitCmd(t, nil, "del", fleet, "long", "never there").want(t, exitDone, "")
	miss("long", "node 65535 deleted it")
	must(0, cache.Reset())(t)
	miss("long", fmt.Sprintf("node %d reset all keys of the prefix", f.Node()))
	miss("never there", fmt.Sprintf("node %d reset all keys of the prefix", f.Node()))
	for range 4 {
		must(0, cache.Put("churn", nil, 0))(t)
	}
	miss("long", "nothing about it is among the newest 4 writes")
	must(0, cache.Ring().Reset())(t)
	miss("churn", "nothing about it is among the newest 0 writes")
}

func TestOfManyAddsOneWins(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	var adders []*started
	for i := range 8 {
		adders = append(adders, start(t, "put", "-create", "-add", fleet, "k", strconv.Itoa(i)))
	}
	var winners []int
	for i, c := range adders {
		c.Wait()
		switch code := c.ProcessState.ExitCode(); {
		case code == exitDone:
			winners = append(winners, i)
		case code != exitNo || !strings.Contains(c.stderr.String(), `"k" has a value already`):
			t.Errorf("adder %d: got exit code %d and %q, want %d and that the key has a value", i, code, c.stderr.String(), exitNo)
		}
	}
	if len(winners) != 1 {
		t.Fatalf("got winners %v, want one", winners)
	}
	orbitCmd(t, nil, "get", fleet, "k").want(t, exitDone, fmt.Sprintf("^%d$", winners[0]))
}

func TestKeysListsWhatHasAValue(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, nil)
	fleet := f.Name()
	orbitCmd(t, nil, "keys", fleet).want(t, exitDone, "^$")
	cache := must(orbit.OpenCache(f, "p"))(t)
	cache.Put("gone", []byte("x"), 0)
	cache.Put("mine\xff", []byte{0xfe, 0}, 0)
	cache.Delete("gone")
	orbitCmd(t, nil, "put", "-prefix", "p", "-ttl", "1h", fleet, "theirs", "a\x1bb").want(t, exitDone, "")
	orbitCmd(t, nil, "put", fleet, "of another prefix", "x").want(t, exitDone, "")

	type listed struct {
		Key, Prefix, Value string
		KeyHex             string   `json:"key_hex"`
		ValueHex           string   `json:"value_hex"`
		Size               int      `json:"value_bytes"`
		Expires            *float64 `json:"expires_in_seconds"`
		Node               uint16
		Counter            uint64
	}
	var got []listed
	d := json.NewDecoder(strings.NewReader(orbitCmd(t, nil, "keys", "-json", "-values", "-prefix", "p", fleet).want(t, exitDone, "").stdout))
	for d.More() {
		var l listed
		must(0, d.Decode(&l))(t)
		got = append(got, l)
	}
	if len(got) != 2 {
		t.Fatalf("got %v, want two keys", got)
	}
	if e := got[1].Expires; got[0].Expires != nil || e == nil || *e < 3000 || *e > 3600 {
		t.Errorf("got expiry %v and %v, want never and within an hour", got[0].Expires, e)
	}
	got[1].Expires = nil
	want := []listed{
		{KeyHex: "6d696e65ff", Prefix: "p", ValueHex: "fe00", Size: 2, Node: f.Node(), Counter: 1},
		{Key: "theirs", Prefix: "p", Value: "a\x1bb", Size: 3, Node: topNode, Counter: 3},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}

	for _, want := range []string{
		`^PREFIX +KEY +SIZE +EXPIRES +NODE\n""`,
		fmt.Sprintf(`(?m)^"" +of another prefix +1 B +never +%d$`, topNode),
		fmt.Sprintf(`(?m)^p +0x6d696e65ff +2 B +never +%d$`, f.Node()),
	} {
		orbitCmd(t, nil, "keys", fleet).want(t, exitDone, want)
	}
	orbitCmd(t, nil, "keys", "-json", fleet).want(t, exitDone, `(?s)"prefix":"".*"prefix":"p".*"prefix":"p"`)
	orbitCmd(t, nil, "keys", "-prefix", "", fleet).want(t, exitDone, `^KEY .*\nof another prefix .*\n$`)
	orbitCmd(t, nil, "keys", "-prefix", "none", fleet).want(t, exitDone, `^$`)

	table := orbitCmd(t, nil, "keys", "-values", "-prefix", "p", fleet).want(t, exitDone, "").stdout
	for _, want := range []string{
		`(?m)^KEY +SIZE +EXPIRES +NODE +VALUE$`,
		fmt.Sprintf(`(?m)^0x6d696e65ff +2 B +never +%d +0xfe00$`, f.Node()),
		`(?m)^theirs +3 B +in (59m|1h).* +65535 +"a\\x1bb"$`,
	} {
		if !regexp.MustCompile(want).MatchString(table) {
			t.Errorf("no match of %q in\n%s", want, table)
		}
	}
	orbitCmd(t, nil, "get", "-meta", "-prefix", "p", fleet, "theirs").want(t, exitDone, `(?s)^size +3 B\nexpires +in .*\nnode +65535\ncounter +3\n$`)
	orbitCmd(t, nil, "get", "-json", "-prefix", "p", fleet, "theirs").want(t, exitDone, `^\{"type":"entry","fleet":"[^"]+","prefix":"p","key":"theirs","value_bytes":3,"value":"a\\u001bb","expires_in_seconds":3\d+\.\d+,"node":65535,"counter":3\}\n$`)
	orbitCmd(t, nil, "get", "-json", "-meta", "-prefix", "p", fleet, "theirs").want(t, exitDone, `"value_bytes":3,"value":null,"expires_in_seconds"`)
}

func TestCacheTruncatedWhileLookedAtIsAnError(t *testing.T) {
	f := joinFleet(t, nil)
	must(0, must(orbit.OpenCache(f, "p"))(t).Put("k", nil, 0))(t)
	o := must(orbit.Observe(f.Name()))(t)
	defer o.Close()
	ring := must(o.Ring(orbit.KindCache))(t)
	if prefixes := must(prefixesOf(ring))(t); !slices.Equal(prefixes, []string{"p"}) {
		t.Errorf("got prefixes %q, want p", prefixes)
	}
	must(0, os.Truncate(segmentPath(f.Name(), orbit.KindCache), 0))(t)
	if prefixes, err := prefixesOf(ring); !errors.Is(err, orbit.ErrDamaged) {
		t.Errorf("got prefixes %q, %v, want that the ring is damaged", prefixes, err)
	}
}

func TestPubPublishesWhatItIsGiven(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, nil)
	bus := must(orbit.Events(f))(t)
	sub := bus.SubscribeNow()
	for _, c := range []struct {
		stdin string
		args  []string
		want  []string
	}{
		{"", []string{"t", "argument"}, []string{"argument"}},
		{"", []string{"t"}, []string{""}},
		{"a\nb\n\x00", []string{"t", "-"}, []string{"a\nb\n\x00"}},
		{"a\n\nb", []string{"-lines", "t"}, []string{"a", "", "b"}},
		{"a\nb\n", []string{"t", "-", "-lines"}, []string{"a", "b"}},
		{"", []string{"t", "-lines"}, nil},
	} {
		orbitCmd(t, strings.NewReader(c.stdin), append([]string{"pub", f.Name()}, c.args...)...).want(t, exitDone, "^$")
		var got []string
		var ev orbit.Event
		for sub.Poll(&ev) == nil {
			if string(ev.Topic) != "t" || ev.ID.Node() != topNode || ev.Lag.Total() != 0 {
				t.Errorf("%q: got topic %q, node %d, lag %v", c.args, ev.Topic, ev.ID.Node(), ev.Lag)
			}
			got = append(got, string(ev.Payload))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.args, got, c.want)
		}
	}
	got := orbitCmd(t, strings.NewReader("good\n"+strings.Repeat("x", 600)+"\nnever read\n"), "pub", "-lines", f.Name(), "t")
	got.want(t, exitFailed, `line 2: .* 601 bytes, limit 512`)
	var ev orbit.Event
	if err := sub.Poll(&ev); err != nil || string(ev.Payload) != "good" {
		t.Errorf("got %q, %v, want the line before the one that failed", ev.Payload, err)
	}
	if err := sub.Poll(&ev); !errors.Is(err, orbit.ErrNoFrame) {
		t.Errorf("got %q, %v, want nothing more", ev.Payload, err)
	}
}

func TestPubSendsEachLineAsSoonAsItIsRead(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, nil)
	bus := must(orbit.Events(f))(t)
	sub := bus.SubscribeNow()
	c := begin(t, "pub", "-lines", f.Name(), "t")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var ev orbit.Event
	for _, line := range []string{"one", "two"} {
		fmt.Fprintln(c.in, line)
		if err := sub.Next(ctx, &ev); err != nil || string(ev.Payload) != line {
			t.Fatalf("got %q, %v, want %q while standard input is open", ev.Payload, err, line)
		}
	}
	c.in.Close()
	c.finish(exitDone)
}

func TestWritersTakeRingsAsTheyAre(t *testing.T) {
	t.Parallel()
	rings := map[uint8]orbit.Geometry{
		orbit.KindCache:   {Capacity: 8, PayloadLimit: 48},
		orbit.KindEvents:  {Capacity: 16, PayloadLimit: 20},
		orbit.KindContest: {Capacity: 32, PayloadLimit: 512},
	}
	f := joinFleet(t, rings)
	for _, open := range []func() error{
		func() error { _, err := orbit.OpenCache(f, ""); return err },
		func() error { _, err := orbit.Events(f); return err },
		func() error { _, err := orbit.OpenContest(f); return err },
	} {
		must(0, open())(t)
	}
	fleet := f.Name()
	orbitCmd(t, nil, "put", fleet, "k", "v").want(t, exitDone, "")
	orbitCmd(t, nil, "put", "-add", fleet, "k2", "v").want(t, exitDone, "")
	orbitCmd(t, nil, "get", fleet, "k").want(t, exitDone, "^v$")
	orbitCmd(t, nil, "del", fleet, "k").want(t, exitDone, "")
	orbitCmd(t, nil, "pub", fleet, "t", "payload").want(t, exitDone, "")
	orbitCmd(t, nil, "run", fleet, "s", "--", "echo", "ran").want(t, exitDone, "^ran\n$")
	orbitCmd(t, nil, "put", fleet, "key", strings.Repeat("x", 100)).want(t, exitFailed, "key of 3 bytes and value of 100 bytes, limit 40 for both")
	orbitCmd(t, nil, "pub", fleet, "topic", strings.Repeat("x", 100)).want(t, exitFailed, "topic of 5 and payload of 100 bytes, event of 105 bytes, limit 20")
	view := must(orbit.Observe(fleet))(t)
	defer view.Close()
	for kind, want := range rings {
		if r, err := view.Ring(kind); err != nil || r.Geometry() != want {
			t.Errorf("ring %d: got %v, %v, want %v", kind, r.Geometry(), err, want)
		}
	}
}

func TestWriterTakesTheRingThatASiblingMakesAtTheSameTime(t *testing.T) {
	t.Parallel()
	want := orbit.Geometry{Capacity: 8, PayloadLimit: 64}
	f := joinFleet(t, map[uint8]orbit.Geometry{orbit.KindCache: want})
	// The rehearsal comes between the look at the fleet and the visit.
	siblingIsFirst := func(*orbit.Fleet) error { _, err := orbit.OpenCache(f, ""); return err }
	visits := 0
	err := visit{f.Name(), orbit.KindCache, false, siblingIsFirst}.do(func(f *orbit.Fleet) error {
		visits++
		cache, err := orbit.OpenCache(f, "")
		if err == nil && cache.Ring().Geometry() != want {
			t.Errorf("got geometry %v, want %v", cache.Ring().Geometry(), want)
		}
		return err
	})
	if err != nil || visits != 2 {
		t.Errorf("got %v after %d visits, want none after 2", err, visits)
	}
}

func TestWhatMustFailMakesNothing(t *testing.T) {
	t.Parallel()
	const fleet = "FLEET"
	long := strings.Repeat("x", 2000)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"put", "-create", fleet, "k", long}, exitFailed, "value of 2000 bytes, limit 1016"},
		{[]string{"put", "-create", "-add", fleet, "k", long}, exitFailed, "value of 2000 bytes, limit 1016"},
		{[]string{"pub", "-create", fleet, "t", long}, exitFailed, "payload of 2000 bytes, event of 2001 bytes, limit 512"},
		{[]string{"pub", "-create", "-lines", fleet, long}, exitFailed, "topic of 2000 bytes, limit 255"},
		{[]string{"run", "-create", fleet, long, "--", "true"}, exitFailed, "label of 2000 bytes, limit 96"},
		{[]string{"run", "-create", "-owner", long, fleet, "s", "--", "true"}, exitFailed, "owner of 2000 bytes, limit 48"},
		{[]string{"run", "-create", fleet, "s", "--", "no such command"}, exitNotFound, "not found"},
	} {
		name := demoFleet(t)
		args := slices.Clone(c.args)
		args[slices.Index(args, fleet)] = name
		orbitCmd(t, nil, args...).want(t, c.code, c.want)
		wantGone(t, name, 0)
	}
}

func TestNoFleetIsAnAnswerAndStaysThatWay(t *testing.T) {
	t.Parallel()
	fleet := demoFleet(t)
	for _, args := range [][]string{
		{"get", fleet, "k"}, {"keys", fleet}, {"who", fleet},
		{"put", fleet, "k", "v"}, {"put", "-add", fleet, "k", "v"}, {"del", fleet, "k"}, {"del", "-all", fleet},
		{"pub", fleet, "t"}, {"pub", "-lines", fleet, "t"}, {"run", fleet, "s", "--", "true"},
	} {
		orbitCmd(t, nil, args...).want(t, exitNo, fmt.Sprintf(`fleet "%s": does not exist`, fleet))
		wantGone(t, fleet, 0)
	}
}

func TestReadersAndDeletesMakeNoRings(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, nil)
	for _, args := range [][]string{
		{"keys", f.Name()}, {"who", f.Name()}, {"who", "-json", f.Name()}, {"del", f.Name(), "k"}, {"del", "-all", f.Name()},
	} {
		orbitCmd(t, nil, args...).want(t, exitDone, "^$")
	}
	orbitCmd(t, nil, "get", f.Name(), "k").want(t, exitNo, "no cache")
	if kinds, err := f.Kinds(); err != nil || len(kinds) != 0 {
		t.Errorf("got rings %v, %v, want none", kinds, err)
	}
}

func TestWritersLeaveSmallNodeIDsToOthers(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, nil)
	c := begin(t, "run", f.Name(), "s", "--", "cat")
	fmt.Fprintln(c.in, "ready")
	c.until("ready")
	orbitCmd(t, nil, "put", f.Name(), "k", "v").want(t, exitDone, "")
	orbitCmd(t, nil, "get", "-meta", f.Name(), "k").want(t, exitDone, "node +65534")
	c.in.Close()
	c.finish(exitDone)
	if m, err := f.Members(); err != nil || len(m) != 1 {
		t.Errorf("got members %v, %v, want this one", m, err)
	}
}

// ---- Run ----

func TestRunLetsOneCommandRunAtATime(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	dir := t.TempDir()
	// The directory can be made by one at a time, the list is in order.
	const script = `mkdir "$0/lock" || exit 99; echo $ORBIT_TOKEN >>"$0/tokens"; sleep 0.05; rmdir "$0/lock"`
	var contenders []*running
	for range 6 {
		contenders = append(contenders, begin(t, "run", "-create", fleet, "s", "--", "sh", "-c", script, dir))
	}
	for _, c := range contenders {
		c.finish(exitDone)
	}
	text := must(os.ReadFile(filepath.Join(dir, "tokens")))(t)
	var tokens []int
	for _, s := range strings.Fields(string(text)) {
		n := must(strconv.Atoi(s))(t)
		tokens = append(tokens, n)
	}
	if len(tokens) != 6 || !slices.IsSorted(tokens) || len(slices.Compact(tokens)) != 6 {
		t.Errorf("got tokens %v in the order of the commands, want 6 that grow", tokens)
	}
}

// holding begins a command that holds a subject until its standard input ends.
func holding(t *testing.T, fleet, subject string, flags ...string) *running {
	t.Helper()
	c := begin(t, slices.Concat([]string{"run"}, flags, []string{fleet, subject, "--", "cat"})...)
	fmt.Fprintln(c.in, "holding")
	c.until("^holding$")
	return c
}

func TestRunSaysWhoHasTheSubject(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, nil)
	c := holding(t, f.Name(), "s", "-owner", "somebody")
	held := `subject 199 "s" is held by "somebody" of node 65535, process ` + strconv.Itoa(c.Process.Pid)
	for _, try := range []struct {
		flags []string
		code  int
	}{
		{[]string{"-nowait"}, exitNo},
		{[]string{"-wait", "0"}, exitNo},
		{[]string{"-wait", "50ms"}, exitNo},
		{[]string{"-nowait", "-busy-exit", "77"}, 77},
	} {
		got := orbitCmd(t, nil, slices.Concat([]string{"run"}, try.flags, []string{f.Name(), "s", "--", "echo", "ran"})...)
		if got.code != try.code || got.stdout != "" || !strings.Contains(got.stderr, held) {
			t.Errorf("%q: got %+v, want exit code %d and %q", try.flags, got, try.code, held)
		}
	}
	orbitCmd(t, nil, "run", "-nowait", "-busy-exit", "0", f.Name(), "s", "--", "echo", "ran").want(t, exitDone, "^$")
	orbitCmd(t, nil, "run", "-nowait", f.Name(), "another", "--", "echo", "ran").want(t, exitDone, "^ran\n$")
	orbitCmd(t, nil, "run", "-nowait", "-kind", "198", f.Name(), "s", "--", "echo", "ran").want(t, exitDone, "^ran\n$")
}

func TestRunWaitsUntilTheSubjectIsFree(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, nil)
	c := holding(t, f.Name(), "s")
	waiter := begin(t, "run", f.Name(), "s", "--", "echo", "ran")
	quitter := begin(t, "run", "-wait", "1h", f.Name(), "s", "--", "echo", "ran")
	eventually(t, "all are members", func() bool { m, err := f.Members(); return err == nil && len(m) == 4 })
	quitter.Process.Signal(syscall.SIGTERM)
	if quitter.Wait(); quitter.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("got %v for a signal while it waited", quitter.ProcessState)
	}
	c.in.Close()
	c.finish(exitDone)
	if said := waiter.finish(exitDone); said != "ran\n" {
		t.Errorf("got %q", said)
	}
}

func TestRunContendsWithClaimsOfGoTypes(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, nil)
	contest := must(orbit.OpenContest(f))(t)
	guard := must(orbit.Claim[Scheduler](contest, "label", "the test", math.MaxInt64))(t)
	kind := strconv.Itoa(int(Scheduler{}.OrbitKind()))
	orbitCmd(t, nil, "run", "-nowait", "-kind", kind, f.Name(), "label", "--", "true").want(t, exitNo, `held by "the test"`)
	must(0, guard.Release())(t)
	c := holding(t, f.Name(), "label", "-kind", kind)
	var held *orbit.HeldError
	if _, err := orbit.Claim[Scheduler](contest, "label", "", time.Hour); !errors.As(err, &held) || held.Holder.PID != c.Process.Pid || held.Holder.Owner != "cat" {
		t.Errorf("got %v, want it held by cat in process %d", err, c.Process.Pid)
	}
}

func TestRunRenewsItsClaim(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, nil)
	contest := must(orbit.OpenContest(f))(t)
	news := contest.Ring().Oldest()
	c := holding(t, f.Name(), "s", "-ttl", "3s")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var changes []orbit.ClaimChange
	for len(changes) < 5 { // four renewals, at a third of the TTL each
		for frame, err := range news.Frames(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			event, err := orbit.DecodeClaim(frame)
			if err != nil || event.Holder.Token != 1 {
				t.Fatalf("got %v, %v, want token 1", event, err)
			}
			changes = append(changes, event.Change)
			break
		}
	}
	want := []orbit.ClaimChange{orbit.Claimed, orbit.Renewed, orbit.Renewed, orbit.Renewed, orbit.Renewed}
	if !slices.Equal(changes, want) {
		t.Errorf("got %v, want %v", changes, want)
	}
	c.in.Close()
	c.finish(exitDone)
	orbitCmd(t, nil, "who", f.Name()).want(t, exitDone, "^$")
}

func TestRunExitsAsItsCommandDoes(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	plain := filepath.Join(t.TempDir(), "plain")
	must(0, os.WriteFile(plain, nil, 0o600))(t)
	for _, c := range []struct {
		command []string
		code    int
		stderr  string
	}{
		{[]string{"true"}, 0, "^$"},
		{[]string{"false"}, 1, "^$"},
		{[]string{"sh", "-c", "echo trouble >&2; exit 99"}, 99, "^trouble\n$"},
		{[]string{"sh", "-c", "exit 255"}, 255, "^$"},
		{[]string{"sh", "-c", "kill -KILL $$"}, 128 + 9, "^$"},
		{[]string{"sh", "-c", "kill -USR1 $$"}, 128 + int(syscall.SIGUSR1), "^$"},
		{[]string{"no such command"}, exitNotFound, "not found"},
		{[]string{"/no/such/command"}, exitNotFound, "no such file"},
		{[]string{plain}, exitCannotRun, "permission denied"},
	} {
		got := orbitCmd(t, nil, append([]string{"run", "-nowait", "-create", fleet, "s", "--"}, c.command...)...)
		if got.code != c.code || !regexp.MustCompile(c.stderr).MatchString(got.stderr) {
			t.Errorf("%q: got %+v, want exit code %d and a match of %q", c.command, got, c.code, c.stderr)
		}
	}
}

func TestRunPassesSignalsOn(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	for _, s := range []struct {
		name string
		syscall.Signal
	}{
		{"INT", syscall.SIGINT}, {"TERM", syscall.SIGTERM}, {"HUP", syscall.SIGHUP},
		{"QUIT", syscall.SIGQUIT}, {"USR1", syscall.SIGUSR1}, {"USR2", syscall.SIGUSR2},
	} {
		caught := begin(t, "run", "-create", fleet, "caught "+s.name, "--", "sh", "-c",
			`trap "echo got; exit 42" $0; echo ready; while :; do sleep 0.02; done`, s.name)
		deadly := begin(t, "run", "-create", fleet, "deadly "+s.name, "--", "sh", "-c", `ulimit -c 0; echo ready; exec sleep 1000`)
		for _, c := range []*running{caught, deadly} {
			c.until("ready")
			c.Process.Signal(s.Signal)
		}
		if said := caught.finish(42); !strings.HasSuffix(said, "got\n") {
			t.Errorf("%s: got %q", s.name, said)
		}
		deadly.finish(exitSignal + int(s.Signal))
	}
	orbitCmd(t, nil, "who", fleet).want(t, exitDone, "^$")
}

func TestRunLeavesIgnoredSignalsIgnored(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	for _, ignored := range []string{"HUP", "HUP INT"} {
		c := beginCmd(t, exec.Command("sh", "-c", `trap "" $0; exec "$@"`, ignored, program, "run", "-create", fleet, "s", "--",
			"sh", "-c", `for s in $0; do kill -$s $$ $PPID; done; echo alive`, ignored))
		if said := c.finish(exitDone); said != "alive\n" {
			t.Errorf("%s ignored: got %q", ignored, said)
		}
	}
}

// newTerminal returns both ends of a new terminal.
func newTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master = must(os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0))(t)
	t.Cleanup(func() { master.Close() })
	var unlock, number int32
	must(0, ioctl(master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock)))(t)
	must(0, ioctl(master, syscall.TIOCGPTN, unsafe.Pointer(&number)))(t)
	slave = must(os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0))(t)
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func TestInterruptTypedAtTheTerminalReachesTheCommandOnce(t *testing.T) {
	t.Parallel()
	master, slave := newTerminal(t)
	cmd := exec.Command(program, "run", "-create", actFleet(t), "s", "--", "sh", "-c",
		`trap 'n=$((n+1)); echo interrupted' INT; trap 'echo counted $n; exit 0' USR1; echo ready; while :; do sleep 0.02; done`)
	cmd.Stdin = slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	c := beginCmd(t, cmd)
	c.until("ready")
	master.Write([]byte{3}) // Ctrl-C
	c.until("interrupted")
	c.Process.Signal(syscall.SIGUSR1) // comes after what came of the interrupt
	if n := c.until(`counted (\d+)`); n != "1" {
		t.Errorf("the command was interrupted %s times, want once", n)
	}
	c.finish(exitDone)
}

func TestCommandKnowsItsClaimAndHoldsNothingOfTheFleet(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	orbitCmd(t, nil, "run", "-create", fleet, "before", "--", "true").want(t, exitDone, "")
	orbitCmd(t, nil, "run", fleet, "a label", "--", "sh", "-c", "env | grep ^ORBIT_ | sort").want(t, exitDone,
		fmt.Sprintf("^ORBIT_FLEET=%s\nORBIT_SUBJECT=a label\nORBIT_TOKEN=2\n$", regexp.QuoteMeta(fleet)))
	got := orbitCmd(t, nil, "run", fleet, "s", "--", "sh", "-c", "ls -l /proc/self/fd; cat /proc/self/maps").want(t, exitDone, "").stdout
	if strings.Contains(got, "orbit-") || !strings.Contains(got, " 0 -> ") {
		t.Errorf("got descriptors and mappings\n%s\nwant some, none of them of the fleet", got)
	}
}

// nobodyHolds tells whether all subjects of a fleet are free.
func nobodyHolds(t *testing.T, fleet string) bool {
	f := must(orbit.Observe(fleet))(t)
	defer f.Close()
	contest := must(orbit.OpenContest(f))(t)
	holders := must(contest.Holders())(t)
	return len(holders) == 0
}

// lapse stops a command until its claim has lapsed.
func lapse(t *testing.T, c *running, fleet string) {
	t.Helper()
	c.Process.Signal(syscall.SIGSTOP)
	eventually(t, "the claim has lapsed", func() bool { return nobodyHolds(t, fleet) })
	orbitCmd(t, nil, "run", "-nowait", fleet, "s", "--", "echo", "next").want(t, exitDone, "^next\n$")
}

func TestRunThatLostItsClaimEndsTheCommand(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	c := begin(t, "run", "-create", "-ttl", "1s", "-kill-after", "1h", fleet, "s", "--", "sh", "-c",
		`trap "echo terminated; exit 0" TERM; echo ready; while :; do sleep 0.02; done`)
	c.until("ready")
	lapse(t, c, fleet)
	c.Process.Signal(syscall.SIGCONT)
	if said := c.finish(exitLost); !strings.HasSuffix(said, "terminated\n") {
		t.Errorf("got %q, want the command ended by SIGTERM", said)
	}
	if got := c.stderr.String(); !strings.Contains(got, "the claim is lost") {
		t.Errorf("got %q on standard error", got)
	}
}

func TestRunThatLostItsClaimKillsAllThatTheCommandStarted(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	// Each of the three has standard output open, and ignores SIGTERM.
	c := begin(t, "run", "-create", "-ttl", "1s", "-kill-after", "100ms", fleet, "s", "--", "sh", "-c",
		`trap "" TERM; sh -c "setsid sleep 1000; :" & echo ready; sleep 1000; :`)
	c.until("ready")
	lapse(t, c, fleet)
	c.Process.Signal(syscall.SIGCONT)
	c.drain()
	c.finish(exitLost)
}

func TestRunSaysIfItsClaimWasLostBeforeTheCommandEnded(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	c := begin(t, "run", "-create", "-ttl", "1s", fleet, "s", "--", "sh", "-c", "echo $$; exec cat")
	pid := c.until(`^\d+$`)
	lapse(t, c, fleet)
	c.in.Close()
	eventually(t, "the command has ended", func() bool {
		s, ok := readStat("/proc/" + pid + "/stat")
		return !ok || s.state == 'Z'
	})
	c.Process.Signal(syscall.SIGCONT)
	c.finish(exitLost)
	if got := c.stderr.String(); !regexp.MustCompile("the claim (is|was) lost").MatchString(got) {
		t.Errorf("got %q on standard error", got)
	}
}

func TestRunEndsTheCommandIfTheContestIsDamaged(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	c := holding(t, fleet, "s", "-create", "-ttl", "6s")
	must(0, os.Truncate(fmt.Sprintf("/dev/shm/orbit-%s-%d-%d", fleet, orbit.KindContest, os.Geteuid()), 0))(t)
	c.finish(exitLost)
	if got := c.stderr.String(); !strings.Contains(got, "truncated while in use") {
		t.Errorf("got %q on standard error", got)
	}
}

func TestKilledRunTakesItsCommandAlongAndFreesTheSubject(t *testing.T) {
	t.Parallel()
	fleet := actFleet(t)
	c := begin(t, "run", "-create", "-ttl", "1h", fleet, "s", "--", "sh", "-c", "echo ready; exec sleep 1000")
	c.until("ready")
	c.Process.Kill()
	c.drain()
	c.Process.Wait()
	orbitCmd(t, nil, "run", "-nowait", fleet, "s", "--", "echo", "free").want(t, exitDone, "^free\n$")
}

// ---- Who ----

func TestWhoListsHolders(t *testing.T) {
	t.Parallel()
	f := joinFleet(t, nil)
	contest := must(orbit.OpenContest(f))(t)
	orbitCmd(t, nil, "who", f.Name()).want(t, exitDone, "^$")
	must(orbit.Claim[Scheduler](contest, "l\xff", "the test", math.MaxInt64))(t)
	c := holding(t, f.Name(), "s", "-owner", "me", "-ttl", "1h")
	table := orbitCmd(t, nil, "who", f.Name()).want(t, exitDone, "").stdout
	list := orbitCmd(t, nil, "who", "-json", f.Name()).want(t, exitDone, "").stdout
	for text, patterns := range map[string][]string{
		table: {
			`^SUBJECT +OWNER +NODE +PID +TOKEN +HELD FOR +LEFT\n`,
			fmt.Sprintf(`(?m)^8 "l\\xff" +the test +%d +%d +1 +\S+ +until released$`, f.Node(), os.Getpid()),
			fmt.Sprintf(`(?m)^199 "s" +me +65535 +%d +2 +\S+ +(59m\d+s|1h0m0s)$`, c.Process.Pid),
		},
		list: {
			fmt.Sprintf(`(?m)^\{"type":"holder","fleet":"[^"]+","kind":8,"label":null,"label_hex":"6cff","owner":"the test","node":%d,"pid":%d,"token":1,"since":"[^"]+","left_seconds":null\}$`, f.Node(), os.Getpid()),
			fmt.Sprintf(`(?m)^\{"type":"holder","fleet":"[^"]+","kind":199,"label":"s","owner":"me","node":65535,"pid":%d,"token":2,"since":"[^"]+","left_seconds":3\d+(\.\d+)?\}$`, c.Process.Pid),
		},
	} {
		for _, want := range patterns {
			if !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("no match of %q in\n%s", want, text)
			}
		}
	}
}

func TestWrongUsageOfActionsSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"get", "web"}, "want FLEET KEY, found"},
		{[]string{"put", "web", "k"}, "want FLEET KEY VALUE|-, found"},
		{[]string{"put", "web", "k", "v", "-ttl", "-1s"}, "for flag -ttl: want at least 0s"},
		{[]string{"del", "web"}, "or -all and FLEET"},
		{[]string{"del", "-all", "web", "k"}, "or -all and FLEET"},
		{[]string{"keys"}, "want FLEET"},
		{[]string{"pub", "web"}, "want FLEET TOPIC"},
		{[]string{"pub", "-lines", "web", "t", "payload"}, "-lines reads standard input"},
		{[]string{"who"}, "want FLEET"},
		{[]string{"run", "web", "s"}, "want FLEET SUBJECT -- COMMAND"},
		{[]string{"run", "-kind", "200", "web", "s", "true"}, `"200" for flag -kind: want 1 to 199`},
		{[]string{"run", "-kind", "contest", "web", "s", "true"}, "want 1 to 199"},
		{[]string{"run", "-ttl", "1ms", "web", "s", "true"}, "for flag -ttl: want at least 100ms"},
		{[]string{"run", "-wait", "-1s", "web", "s", "true"}, "want at least 0s"},
		{[]string{"run", "-kill-after", "-1s", "web", "s", "true"}, "for flag -kill-after: want at least 0s"},
		{[]string{"run", "-busy-exit", "256", "web", "s", "--", "true"}, "-busy-exit 256: want 0 to 255"},
		{[]string{"run", "web", "s", "echo", "-nowait"}, `found no "--" in front of "echo"`},
		{[]string{"run", "web", "s", "echo", "a", "--", "b"}, `found no "--" in front of "echo"`},
		{[]string{"run", "web", "--", "echo"}, "want FLEET SUBJECT -- COMMAND"},
	} {
		orbitCmd(t, nil, c.args...).want(t, exitUsage, regexp.QuoteMeta(c.want))
	}
}
