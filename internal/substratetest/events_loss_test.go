//go:build linux

package substratetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// Publishers that are killed or stopped, and subscribers that are restarted.

func init() {
	proc.Helper("doomed", doomed)
	proc.Helper("reader", reader)
}

// The words of a ledger of publishers: how many events each began, and how
// many were published; how far two subscribers are; and whether all is over.
const (
	wordBegun    = 0
	wordReturned = 64
	wordPosition = 128
	wordEnd      = 130
)

// doomed publishes until it is killed, or the ledger says that all is over:
// fleet, geometry, who it is, ledger. It never lets the slowest subscriber of
// the ledger fall behind by more than half the ring.
func doomed(args []string) error {
	proc.WatchParent()
	who, _ := strconv.ParseUint(args[2], 10, 64)
	l, err := openLedger(args[3])
	if err != nil {
		return err
	}
	f, b, err := openBus(args[0], args[1])
	if err != nil {
		return err
	}
	g := b.Ring().Geometry()
	buf := make([]byte, 0, g.PayloadLimit)
	fmt.Println("ready")
	for turn := uint64(0); l[wordEnd].Load() == 0; {
		if behind := b.Ring().Head() - min(l[wordPosition].Load(), l[wordPosition+1].Load()); int64(behind) > int64(g.Capacity/2) {
			time.Sleep(20 * time.Microsecond)
			continue
		}
		l[wordBegun+who].Store(turn + 1)
		if _, err := tell(b, who, turn, buf); err != nil {
			return err
		}
		turn++
		l[wordReturned+who].Store(turn)
	}
	return f.Close()
}

// TestKilledPublishersLoseTheEventInTheMakingAndNoOther kills publishers at
// random moments, two at a time at work. Nothing is overwritten, so whatever
// was published before a kill must be heard.
func TestKilledPublishersLoseTheEventInTheMakingAndNoOther(t *testing.T) {
	const kills, geometry = 16, "64x65536"
	name := proc.Fleet(t)
	b := bus(t, name, geometry)
	l, path := newLedger(t)
	done := make(chan *listener, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i, filter := range []string{"*", "job.*"} {
		own := bus(t, name, geometry) // a member of its own
		s := listen(own, filter)
		s.Grace = patience
		go func() {
			var ev orbit.Event
			var err error
			for err == nil && ctx.Err() == nil || err == nil && s.Position().Counter < own.Ring().Head() {
				if err = s.poll(&ev); err == nil {
					l[wordPosition+i].Store(s.Position().Counter)
					time.Sleep(20 * time.Microsecond)
				}
			}
			if err != nil {
				t.Errorf("subscriber of %q: %v", filter, err)
				l[wordPosition+i].Store(1 << 62) // holds nobody back any more
			}
			done <- s
		}()
	}
	start := func(who int) *proc.Process {
		return proc.Start(t, "doomed", name, geometry, strconv.Itoa(who), path)
	}
	next := start(0)
	line(next)
	for who := range kills {
		p := next
		if next = start(who + 1); who+1 < kills {
			line(next)
		}
		want := uint64(10 + rand.IntN(100))
		eventually(t, "the publisher is at work", func() bool { return l[wordReturned+who].Load() >= want || t.Failed() })
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		if who%4 > 0 { // most are killed when they are probably at an event
			eventually(t, "the publisher is at an event", func() bool { return l[wordBegun+who].Load() > l[wordReturned+who].Load() })
		}
		kill(t, p)
	}
	kill(t, next) // the last is killed as it joins, perhaps
	cancel()
	everything, jobs := <-done, <-done
	if everything.filter != "*" {
		everything, jobs = jobs, everything
	}
	if t.Failed() {
		return
	}
	head := b.Ring().Head()
	made := uint64(0)
	for who := range uint64(kills + 1) {
		k, begun, returned := everything.turns[who], l[wordBegun+who].Load(), l[wordReturned+who].Load()
		if k < returned || k > begun {
			t.Errorf("publisher %d published %d events and began %d, heard %d", who, returned, begun, k)
		}
		made += k
	}
	// One that is killed at its event leaves a frame that is lost, or a hole if it
	// had taken its counter and no more, as does one that was late to go on: which
	// of them is the same to every subscriber.
	got, left := everything.Tally(), head-made
	if got.Delivered != made || got.Filtered+got.Overwritten > 0 || got.Lost+got.Holes != left || got.Lost > kills+1 || everything.gapped > 0 {
		t.Errorf("of %d counters: got %+v, %d left out; want %d delivered, the other %d lost or holes, at most %d lost, and none left out", head, got, everything.gapped, made, left, kills+1)
	}
	if other := jobs.Tally(); other.Gap != got.Gap || other.Delivered+other.Filtered != made {
		t.Errorf("the subscriber of jobs: got %+v, want %d delivered or filtered and %+v", other, made, got.Gap)
	}
	t.Logf("%d events, %d lost and %d holes in %d kills", made, got.Lost, got.Holes, kills)
}

// ---- A subscriber that reads as it is told ----

// reader reads one event at a time: fleet, geometry, incarnation, counter,
// filter, grace. It is told "next" to wait for one and "poll" not to.
func reader(args []string) error {
	read := proc.WatchParent()
	var at orbit.Position
	fmt.Sscan(args[2], &at.Fleet)
	fmt.Sscan(args[3], &at.Counter)
	grace, err := time.ParseDuration(args[5])
	if err != nil {
		return err
	}
	f, b, err := openBus(args[0], args[1])
	if err != nil {
		return err
	}
	s, err := b.SubscribeAt(at, filterOf(args[4])...)
	if errors.Is(err, orbit.ErrNotExist) {
		fmt.Println("no such position")
		return f.Close()
	}
	if err != nil {
		return err
	}
	s.Grace = grace
	fmt.Println("ready")
	var ev orbit.Event
	for {
		err := orbit.ErrClosed
		switch read() {
		case "next":
			err = s.Next(context.Background(), &ev)
		case "poll":
			err = s.Poll(&ev)
		case "":
			return f.Close()
		}
		fmt.Println(describe(s, &ev, err))
	}
}

// told is what a reader says of an event, or why it has none.
type told struct {
	Error    string
	Counter  uint64
	Who      uint64
	Turn     uint64
	Topic    string
	Lag      orbit.Gap
	Filtered uint64
	Position orbit.Position
}

func describe(s *orbit.Subscriber, ev *orbit.Event, err error) string {
	d := told{Position: s.Position()}
	if err == nil {
		d.Counter, d.Topic, d.Lag, d.Filtered = ev.ID.Counter(), string(ev.Topic), ev.Lag, ev.Filtered
		d.Who, d.Turn, err = readMark(ev.Payload)
	}
	if err != nil {
		d.Error = err.Error()
	}
	text, _ := json.Marshal(d)
	return string(text)
}

func startReader(t *testing.T, name, geometry string, at orbit.Position, filter string, grace time.Duration) *proc.Process {
	t.Helper()
	p := proc.Start(t, "reader", name, geometry, fmt.Sprint(at.Fleet), fmt.Sprint(at.Counter), filter, grace.String())
	if got := line(p); got != "ready" {
		t.Fatalf("the reader says %q, want ready", got)
	}
	return p
}

// hears asks a reader and fails unless it says what is wanted. Its position is
// behind the event, or as before.
func hears(t *testing.T, what string, p *proc.Process, how string, want told) {
	t.Helper()
	var got told
	if err := json.Unmarshal([]byte(ask(p, how)), &got); err != nil {
		t.Fatal(err)
	}
	want.Position.Fleet = got.Position.Fleet
	if want.Error == "" {
		want.Topic = topicOf(want.Turn)
		want.Position.Counter = want.Counter + 1
	}
	if got != want {
		t.Fatalf("%s: got %+v, want %+v", what, got, want)
	}
}

const (
	bigGeometry = "8x1048576"
	tester      = 1000 // who this process is
)

// mustTell publishes as the tester and returns the counter.
func mustTell(t *testing.T, b *orbit.EventBus, turn uint64) uint64 {
	t.Helper()
	id, err := tell(b, tester, turn, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id.Counter()
}

// halfway is a bus with a publisher that is stopped in the middle of its event
// at a counter, and two readers in front of it: one of little patience, and one
// that waits for ever for the living.
func halfway(t *testing.T) (b *orbit.EventBus, p *proc.Process, at uint64, hasty, patient *proc.Process) {
	t.Helper()
	name := proc.Fleet(t)
	b = bus(t, name, bigGeometry)
	l, path := newLedger(t)
	for i := range 2 {
		l[wordPosition+i].Store(1 << 62) // nobody is waited for
	}
	p = proc.Start(t, "doomed", name, bigGeometry, "7", path)
	line(p)
	at = catch(t, p, b.Ring())
	l[wordEnd].Store(1) // after this event
	from := orbit.Position{Fleet: b.SubscribeNow().Position().Fleet, Counter: at}
	return b, p, at, startReader(t, name, bigGeometry, from, "*", 30*time.Millisecond), startReader(t, name, bigGeometry, from, "*", patience)
}

func TestStoppedPublisherIsPassedAfterTheGraceAndComesLateForThePatient(t *testing.T) {
	b, p, at, hasty, patient := halfway(t)
	pending := told{Error: orbit.ErrPending.Error(), Position: orbit.Position{Counter: at}}
	hears(t, "the hasty one, at the unfinished event", hasty, "poll", pending)
	x := mustTell(t, b, 1)
	if x != at+1 {
		t.Fatalf("the event beside the stopped one has counter %d, want %d", x, at+1)
	}
	hears(t, "the hasty one, after its grace", hasty, "next", told{Counter: x, Who: tester, Turn: 1, Lag: orbit.Gap{Lost: 1}})
	hears(t, "the patient one, before an unfinished event", patient, "poll", pending)
	p.Continue()
	p.Finish()
	late := readTurn(t, b, at)
	hears(t, "the patient one, when the publisher went on", patient, "next", told{Counter: at, Who: 7, Turn: late})
	hears(t, "the patient one, behind the late event", patient, "next", told{Counter: x, Who: tester, Turn: 1})
	y := mustTell(t, b, 2)
	lag := orbit.Gap{Holes: y - x - 1} // the publisher published no more
	hears(t, "the hasty one, which does not go back", hasty, "next", told{Counter: y, Who: tester, Turn: 2, Lag: lag})
	hears(t, "the patient one, at the end", patient, "next", told{Counter: y, Who: tester, Turn: 2, Lag: lag})
}

// readTurn returns the turn of the event at a counter.
func readTurn(t *testing.T, b *orbit.EventBus, counter uint64) uint64 {
	t.Helper()
	f, err := b.Ring().ReadAt(counter, nil)
	if err != nil {
		t.Fatalf("the event that was resumed: %v", err)
	}
	_, turn, err := readMark(f.Payload[f.Kind:])
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

// TestStoppedPublisherThatWasLappedPublishesAgain stops a publisher for more
// than a lap: its event comes once, under a new counter, for every subscriber.
func TestStoppedPublisherThatWasLappedPublishesAgain(t *testing.T) {
	b, p, at, hasty, patient := halfway(t)
	last := uint64(0)
	for turn := range uint64(20) {
		last = mustTell(t, b, turn)
	}
	p.Continue()
	p.Finish()
	head := b.Ring().Head()
	if head != last+2 {
		t.Fatalf("the head is %d after the publisher went on, want %d", head, last+2)
	}
	again := readTurn(t, b, last+1)
	oldest := head - 8
	for _, who := range []struct {
		name string
		p    *proc.Process
	}{{"the hasty one", hasty}, {"the patient one", patient}} {
		lag, turn := orbit.Gap{Overwritten: oldest - at}, uint64(0)
		for c := oldest; c < last+1; c++ {
			f, err := b.Ring().ReadAt(c, nil)
			if errors.Is(err, orbit.ErrHole) { // left where the stopped one held its slot
				lag.Holes++
				continue
			}
			if err != nil {
				t.Fatalf("counter %d: %v", c, err)
			}
			if _, turn, err = readMark(f.Payload[f.Kind:]); err != nil {
				t.Fatal(err)
			}
			hears(t, who.name+", a lap later", who.p, "next", told{Counter: c, Who: tester, Turn: turn, Lag: lag})
			lag = orbit.Gap{}
		}
		hears(t, who.name+", at what was published again", who.p, "next", told{Counter: last + 1, Who: 7, Turn: again, Lag: lag})
	}
}

func TestKilledPublisherIsPassedAtOnceEvenByThePatient(t *testing.T) {
	b, p, at, hasty, patient := halfway(t)
	kill(t, p)
	x := mustTell(t, b, 1)
	if x != at+1 {
		t.Fatalf("the event after the kill has counter %d, want %d", x, at+1)
	}
	for _, r := range []*proc.Process{hasty, patient} {
		hears(t, "behind the event of the dead", r, "next", told{Counter: x, Who: tester, Turn: 1, Lag: orbit.Gap{Lost: 1}})
	}
}

// ---- Restarts ----

// TestRestartedSubscriberGoesOnFromItsPosition kills subscribers and starts
// others from the position saved last, when nothing, something and everything
// was overwritten meanwhile.
func TestRestartedSubscriberGoesOnFromItsPosition(t *testing.T) {
	const geometry, capacity = "16x64", 16
	for _, meanwhile := range []uint64{0, 1, capacity - 6, capacity - 5, capacity, 3*capacity + 1} {
		for _, filter := range []string{"*", "job.*"} {
			t.Run(fmt.Sprint(meanwhile, " ", filter), func(t *testing.T) {
				name := proc.Fleet(t)
				b := bus(t, name, geometry)
				from := b.SubscribeNow().Position()
				for turn := range uint64(10) {
					mustTell(t, b, turn)
				}
				first := startReader(t, name, geometry, from, filter, patience)
				saved := from
				for range 3 {
					var got told
					if err := json.Unmarshal([]byte(ask(first, "next")), &got); err != nil || got.Error != "" {
						t.Fatalf("got %+v, %v", got, err)
					}
					saved = got.Position
				}
				ask(first, "next") // read, but not saved
				kill(t, first)
				for turn := range meanwhile {
					mustTell(t, b, 10+turn)
				}
				goesOn(t, startReader(t, name, geometry, saved, filter, patience), filter, saved.Counter, 10+meanwhile, capacity)
			})
		}
	}
}

// goesOn checks all that a reader hears from a counter on, in a ring where
// turn and counter are one.
func goesOn(t *testing.T, p *proc.Process, filter string, from, head, capacity uint64) {
	t.Helper()
	want := told{Who: tester}
	if oldest := max(head, capacity) - capacity; from < oldest {
		want.Lag.Overwritten = oldest - from
		from = oldest
	}
	for c := from; c < head; c++ {
		if !selects(filter, topicOf(c)) {
			want.Filtered++
			continue
		}
		want.Counter, want.Turn = c, c
		hears(t, "after the restart", p, "poll", want)
		want = told{Who: tester}
	}
	hears(t, "at the head", p, "poll", told{Error: orbit.ErrNoFrame.Error(), Position: orbit.Position{Counter: head}})
}

func TestPositionOfAFleetThatWasRemovedIsRefused(t *testing.T) {
	const geometry = "16x64"
	name := proc.Fleet(t)
	f, b, err := openBus(name, geometry)
	if err != nil {
		t.Fatal(err)
	}
	mustTell(t, b, 0)
	saved := b.SubscribeNow().Position()
	f.Close()
	if err := orbit.Remove(name); err != nil {
		t.Fatal(err)
	}
	b = bus(t, name, geometry)
	for turn := range uint64(5) {
		mustTell(t, b, turn)
	}
	p := proc.Start(t, "reader", name, geometry, fmt.Sprint(saved.Fleet), fmt.Sprint(saved.Counter), "*", "1s")
	if got := line(p); got != "no such position" {
		t.Errorf("the reader says %q, want that there is no such position", got)
	}
	p.Finish()
}
