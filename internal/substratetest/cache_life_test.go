//go:build linux

package substratetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// How values come from one process to another, and how they go.

func init() {
	proc.Helper("keeper", keeper)
	proc.Helper("churner", churner)
	proc.Helper("clockwatcher", clockwatcher)
}

// said is what a keeper says of a key.
type said struct {
	orbit.CacheMeta
	Who, Turn uint64
	Added     bool
	Head      uint64
	Error     string
}

// keeper does as it is told, one thing after the other: fleet, geometry, who
// it is. Keys are numbers:
//
//	put key turn ttl   add key turn ttl   delete key   reset   get key   fill n
func keeper(args []string) error {
	read := proc.WatchParent()
	who, _ := strconv.ParseUint(args[2], 10, 64)
	f, c, err := openCache(args[0], args[1], "kept")
	if err != nil {
		return err
	}
	other, err := orbit.OpenCache(f, "other")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var buf []byte
	for {
		var key, turn uint64
		words := strings.Fields(read())
		if len(words) == 0 {
			return f.Close()
		}
		numbers := []*uint64{&key, &turn}
		for i, w := range words[1:min(len(words), 3)] {
			*numbers[i], _ = strconv.ParseUint(w, 10, 64)
		}
		ttl := time.Duration(0)
		if len(words) > 3 {
			ttl, _ = time.ParseDuration(words[3])
		}
		var s said
		var err error
		name := strconv.FormatUint(key, 10)
		switch words[0] {
		case "put":
			err = c.Put(name, value(nil, key, who, turn, 64), ttl)
		case "add":
			s.Added, err = c.Add(name, value(nil, key, who, turn, 64), ttl)
		case "delete":
			err = c.Delete(name)
		case "reset":
			err = c.Reset()
		case "fill": // with frames of other keys, of another prefix
			for i := uint64(0); i < key && err == nil; i++ {
				err = other.Put("x", nil, 0)
			}
		case "get":
			if buf, s.CacheMeta, err = c.GetMeta(buf[:0], name); s.Hit && err == nil {
				s.Who, s.Turn, err = checkValue(buf, key)
			}
		}
		if err != nil {
			s.Error = err.Error()
		}
		s.Head = c.Ring().Head()
		text, _ := json.Marshal(s)
		fmt.Println(string(text))
	}
}

type keeperProcess struct {
	t *testing.T
	*proc.Process
}

func startKeeper(t *testing.T, name, geometry string, who int) keeperProcess {
	t.Helper()
	p := proc.Start(t, "keeper", name, geometry, strconv.Itoa(who))
	if got := line(p); got != "ready" {
		t.Fatalf("a keeper says %q, want ready", got)
	}
	return keeperProcess{t, p}
}

func (k keeperProcess) do(format string, args ...any) (s said) {
	k.t.Helper()
	line := fmt.Sprintf(format, args...)
	if err := json.Unmarshal([]byte(ask(k.Process, line)), &s); err != nil || s.Error != "" {
		k.t.Fatalf("%s: %v %s", line, err, s.Error)
	}
	return s
}

// churner puts values of many sizes under keys of its own as fast as it can,
// until it is told to end: fleet, geometry, largest size.
func churner(args []string) error {
	told := untilTold(proc.WatchParent())
	size, _ := strconv.Atoi(args[2])
	f, c, err := openCache(args[0], args[1], "churn")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for i := uint64(0); !told(); i++ {
		key := i % 64
		if err := c.Put(strconv.FormatUint(key, 10), value(nil, key, 1, i, size-int(i%8)), 0); unlessBusy(err) != nil {
			return err
		}
	}
	return f.Close()
}

// TestWhatAProcessWasToldOfIsThere hands puts over from one process to another
// through pipes: who was told that turn 5 was put sees turn 5 or a later one,
// while others write, and while one is stopped in the middle of its write.
func TestWhatAProcessWasToldOfIsThere(t *testing.T) {
	const geometry, slots = "64x131072", 64
	name := proc.Fleet(t)
	r := cache(t, name, geometry, "").Ring()
	noise := proc.Start(t, "churner", name, geometry, "131000")
	line(noise)
	a, b := startKeeper(t, name, geometry, 1), startKeeper(t, name, geometry, 2)
	seen, lapped := 0, 0
	exchange := func(turn int, ttl string) {
		t.Helper()
		for _, to := range [][2]keeperProcess{{a, b}, {b, a}} {
			before := r.Head()
			to[0].do("put 5 %d %s", turn, ttl)
			got := to[1].do("get 5")
			switch {
			case got.Hit && got.Turn == uint64(turn):
				seen++
			case !got.Hit && got.Head+ahead >= before+slots:
				lapped++
			default:
				t.Fatalf("after it was told of turn %d, a process sees %+v; the head was %d", turn, got, before)
			}
		}
	}
	turn := 0
	// A process that writes flat out laps such a ring between any two lines;
	// while it is stopped, nothing does.
	for range 6 {
		catch(t, noise, r)
		for range 15 {
			turn++
			exchange(turn, []string{"0s", "1h"}[turn%2])
		}
		a.do("delete 5")
		if got := b.do("get 5"); got.Hit {
			t.Fatalf("after it was told of a delete, a process sees %+v", got)
		}
		b.do("put 6 %d", turn)
		b.do("reset")
		if got := a.do("get 6"); got.Hit {
			t.Fatalf("after it was told of a reset, a process sees %+v", got)
		}
		noise.Continue()
		turn++
		exchange(turn, "0s")
	}
	noise.Say("end")
	noise.Finish()
	if seen < 6*15*2 {
		t.Errorf("%d values were seen, and %d were pushed out, of %d", seen, lapped, 2*turn)
	}
}

// TestEvictionIsToldToOtherProcesses has one process write and another look.
func TestEvictionIsToldToOtherProcesses(t *testing.T) {
	const geometry, slots = "32x128", 32
	name := proc.Fleet(t)
	writer, filler, look := startKeeper(t, name, geometry, 1), startKeeper(t, name, geometry, 2), startKeeper(t, name, geometry, 3)
	want := func(what string, key int, want said) {
		t.Helper()
		got := look.do("get %d", key)
		got.Head, got.Expiry = 0, 0
		if got != want {
			t.Fatalf("%s: got %+v, want %+v", what, got, want)
		}
	}
	for round := range uint64(3) {
		epoch := writer.do("put 1 %d", round).Head - 1
		hit := said{CacheMeta: orbit.CacheMeta{Hit: true, Epoch: epoch}, Who: 1, Turn: round}
		want("at once", 1, hit)
		filler.do("fill %d", slots-1)
		want("as long as the ring holds it", 1, hit)
		filler.do("fill 1")
		evicted := said{CacheMeta: orbit.CacheMeta{Evicted: true, Epoch: epoch}}
		want("when the ring has pushed it out", 1, evicted)
		filler.do("fill %d", slots-1)
		want("within one more lap", 1, evicted)
		filler.do("fill 2")
		want("after one more lap", 1, said{})
	}
	// What was deleted or has expired, or was reset, is not evicted.
	writer.do("put 1 0")
	gone := said{CacheMeta: orbit.CacheMeta{Epoch: writer.do("delete 1").Head - 1}}
	want("deleted", 1, gone)
	filler.do("fill %d", slots)
	want("deleted, and pushed out", 1, said{})
	expired := said{CacheMeta: orbit.CacheMeta{Epoch: writer.do("put 2 0 1ns").Head - 1}}
	eventually(t, "the value has expired", func() bool { return !look.do("get 2").Hit })
	want("expired", 2, expired)
	filler.do("fill %d", slots)
	want("expired, and pushed out", 2, said{})
	writer.do("put 3 0")
	want("to be reset", 3, said{CacheMeta: orbit.CacheMeta{Hit: true, Epoch: look.do("get 3").Epoch}, Who: 1})
	reset := said{CacheMeta: orbit.CacheMeta{Epoch: writer.do("reset").Head - 1}}
	want("reset", 3, reset)
	filler.do("fill %d", slots)
	want("reset, and pushed out", 3, said{})
}

// TestIterationWhileOthersWrite has a process walk over all keys while others
// put and delete: what nobody touches is there every time, in the order in
// which it was written, every key is there once, and has a value of its own.
func TestIterationWhileOthersWrite(t *testing.T) {
	const geometry, still = "8192x128", 200
	name := proc.Fleet(t)
	c := cache(t, name, geometry, "kept")
	for i := range uint64(still) {
		key := 1000 + i
		if err := c.Put(strconv.FormatUint(key, 10), value(nil, key, tester, i, 64), 0); err != nil {
			t.Fatal(err)
		}
	}
	writers := []keeperProcess{startKeeper(t, name, geometry, 1), startKeeper(t, name, geometry, 2)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 1500 { // less than a lap in all
			for _, w := range writers {
				switch i % 4 {
				case 0, 1:
					w.Say(fmt.Sprintf("put %d %d", i%97, i))
				case 2:
					w.Say(fmt.Sprintf("add %d %d", i%89, i))
				case 3:
					w.Say(fmt.Sprintf("delete %d", i%83))
				}
			}
			for _, w := range writers {
				w.Stdout.Scan()
			}
		}
	}()
	rounds, moving := 0, 0
	for end := false; !end || moving == 0; rounds++ {
		time.Sleep(50 * time.Microsecond)
		select {
		case <-done:
			end = true
		default:
		}
		var keys []uint64
		for name, got := range c.All() {
			key, err := strconv.ParseUint(name, 10, 64)
			if err != nil {
				t.Fatalf("a key is %q, want a number", name)
			}
			if _, _, err := checkValue(got, key); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
		order := slices.DeleteFunc(slices.Clone(keys), func(k uint64) bool { return k < 1000 })
		if len(order) != still || !slices.IsSorted(order) {
			t.Fatalf("round %d: %d of the keys that nobody touched, want %d in the order in which they were written: %v", rounds, len(order), still, order)
		}
		moving = max(moving, len(keys)-still)
		slices.Sort(keys)
		if once := len(slices.Compact(slices.Clone(keys))); once != len(keys) {
			t.Fatalf("round %d: %d keys, of which %d are different", rounds, len(keys), once)
		}
		if end && moving == 0 {
			t.Fatal("no key that the writers wrote was ever seen")
		}
	}
	if head := c.Ring().Head(); head > 8192 {
		t.Fatalf("the writers lapped the ring: head %d", head)
	}
	t.Logf("%d rounds, at most %d keys of the writers", rounds, moving)
}

// ---- Expiry ----

// watched is what a process saw of a value that expires, on the clock that all
// share and on the kernel's own.
type watched struct {
	Expiry    orbit.Stamp
	LastHit   int64 // before the last read that found it
	FirstMiss int64 // after the first that did not
	Error     string
}

// look reads the key once.
func (w *watched) look(c *orbit.Cache) error {
	before, kernel := orbit.Now(), monotonic()
	_, meta, err := c.GetMeta(nil, "1")
	after := orbit.Now()
	switch {
	case err != nil || meta.Expiry == 0: // not there yet
		return err
	case w.Expiry != 0 && w.Expiry != meta.Expiry:
		return fmt.Errorf("the expiry moved from %d to %d", w.Expiry, meta.Expiry)
	case meta.Hit && before >= meta.Expiry:
		return fmt.Errorf("a hit that began at %d, expired at %d", before, meta.Expiry)
	case !meta.Hit && (after < meta.Expiry || meta.Evicted):
		return fmt.Errorf("a miss that ended at %d: %+v", after, meta)
	case meta.Hit:
		w.LastHit = kernel
	default:
		w.FirstMiss = monotonic()
	}
	w.Expiry = meta.Expiry
	return nil
}

// clockwatcher reads a key without a pause until its value has expired, and
// says what it saw. Then it adds the key when it is told to, and says whether
// it did: fleet, geometry.
func clockwatcher(args []string) error {
	read := proc.WatchParent()
	f, c, err := openCache(args[0], args[1], "kept")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var w watched
	for w.FirstMiss == 0 && w.Error == "" {
		if err := w.look(c); err != nil {
			w.Error = err.Error()
		}
		time.Sleep(10 * time.Microsecond)
	}
	text, _ := json.Marshal(w)
	fmt.Println(string(text))
	read()
	added, err := c.Add("1", value(nil, 1, 1, 1, 64), 0)
	if err != nil {
		return err
	}
	fmt.Println(added)
	return f.Close()
}

// TestAllProcessesSeeAValueExpireAtOneMoment has processes look at a value
// that expires, and then all add it anew: one of them does.
func TestAllProcessesSeeAValueExpireAtOneMoment(t *testing.T) {
	const geometry, watchers, ttl = "1024x128", 4, 400 * time.Millisecond
	name := proc.Fleet(t)
	c := cache(t, name, geometry, "kept")
	var procs []*proc.Process
	for range watchers {
		procs = append(procs, proc.Start(t, "clockwatcher", name, geometry))
	}
	for _, p := range procs {
		line(p)
	}
	before := orbit.Now()
	if err := c.Put("1", value(nil, 1, tester, 0, 64), ttl); err != nil {
		t.Fatal(err)
	}
	after := orbit.Now()
	var lastHit, firstMiss int64
	for _, p := range procs {
		var w watched
		if err := json.Unmarshal([]byte(line(p)), &w); err != nil {
			t.Fatal(err)
		}
		if w.Error != "" {
			t.Error(w.Error)
		}
		if put := w.Expiry - orbit.Stamp(ttl); put < before || put > after {
			t.Errorf("a process saw the expiry at %d, want %v after the put between %d and %d", w.Expiry, ttl, before, after)
		}
		lastHit = max(lastHit, w.LastHit)
		if firstMiss == 0 || w.FirstMiss < firstMiss {
			firstMiss = w.FirstMiss
		}
	}
	if over := time.Duration(lastHit - firstMiss); over > clockSkew {
		t.Errorf("a process still found the value %v after another did not any more", over)
	}
	for _, p := range procs {
		p.Say("add")
	}
	added := 0
	for _, p := range procs {
		if line(p) == "true" {
			added++
		}
		p.Finish()
	}
	if added != 1 {
		t.Errorf("%d processes added the key when it had expired, want 1", added)
	}
}
