//go:build linux

package substratetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func init() {
	proc.Helper("publisher", publisher)
	proc.Helper("subscriber", subscriber)
}

// topics are what events are about, by their publisher's turn.
var topics = []string{"job.start", "job.done", "load", "job.done.late", "jobs"}

func topicOf(turn uint64) string { return topics[turn%uint64(len(topics))] }

// selects tells whether a filter, as helpers are told it, lets a topic through.
func selects(filter, topic string) bool {
	prefix, any := strings.CutSuffix(filter, "*")
	return any && strings.HasPrefix(topic, prefix) || topic == filter
}

func filterOf(filter string) []orbit.Filter {
	prefix, any := strings.CutSuffix(filter, "*")
	switch {
	case filter == "*":
		return nil
	case any:
		return []orbit.Filter{orbit.TopicPrefix(prefix)}
	}
	return []orbit.Filter{orbit.Topic(filter)}
}

func openBus(name, geometry string) (*orbit.Fleet, *orbit.EventBus, error) {
	f, err := orbit.Join(name, options(orbit.KindEvents, geometry))
	if err != nil {
		return nil, nil, err
	}
	b, err := orbit.Events(f)
	return f, b, err
}

func bus(t testing.TB, name, geometry string) *orbit.EventBus {
	t.Helper()
	b, err := orbit.Events(join(t, name, options(orbit.KindEvents, geometry)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tell publishes the event that who publishes in a turn, as long as can be for
// even turns.
func tell(b *orbit.EventBus, who, turn uint64, buf []byte) (orbit.NetID64, error) {
	topic := topicOf(turn)
	n := b.Ring().Geometry().PayloadLimit - len(topic)
	if turn%2 == 1 {
		n = 16 + int(turn*7)%(n-15)
	}
	return b.Publish(topic, mark(buf[:0], who, turn, n))
}

// publisher publishes as fast as it can: fleet, geometry, who it is, and how
// many events, 0 until it is told to end. It prints how many there were.
func publisher(args []string) error {
	told := untilTold(proc.WatchParent())
	who, _ := strconv.ParseUint(args[2], 10, 64)
	most, _ := strconv.ParseUint(args[3], 10, 64)
	f, b, err := openBus(args[0], args[1])
	if err != nil {
		return err
	}
	buf := make([]byte, 0, b.Ring().Geometry().PayloadLimit)
	turn := uint64(0)
	for !told() && (most == 0 || turn < most) {
		_, err := tell(b, who, turn, buf)
		switch {
		case err == nil:
			turn++
		case !errors.Is(err, orbit.ErrBusy): // as it can be in a ring of very few slots
			return err
		}
	}
	fmt.Println(turn)
	return f.Close()
}

// ---- A subscriber whose accounts are checked at every step ----

type listener struct {
	*orbit.Subscriber
	ring   *orbit.Ring
	filter string
	start  uint64
	next   uint64            // the counter behind the last event
	turns  map[uint64]uint64 // the turn behind the last one heard of each publisher
	sum    orbit.EventTally  // what the events said, added up
	gapped uint64            // turns that were left out
}

func listen(b *orbit.EventBus, filter string) *listener {
	s := b.SubscribeOldest(filterOf(filter)...)
	at := s.Position().Counter
	return &listener{Subscriber: s, ring: b.Ring(), filter: filter, start: at, next: at, turns: map[uint64]uint64{}}
}

// hear checks an event against all that the bus promises of it.
func (l *listener) hear(ev *orbit.Event) error {
	c, passed := ev.ID.Counter(), ev.Lag.Total()+ev.Filtered
	if c-l.next != passed {
		return fmt.Errorf("event %d comes after %d, with a lag of %+v and %d filtered", c, l.next, ev.Lag, ev.Filtered)
	}
	l.next = c + 1
	l.sum.Delivered++
	l.sum.Filtered += ev.Filtered
	l.sum.Overwritten += ev.Lag.Overwritten
	l.sum.Holes += ev.Lag.Holes
	l.sum.Lost += ev.Lag.Lost
	who, turn, err := readMark(ev.Payload)
	switch topic := string(ev.Topic); {
	case err != nil:
		return fmt.Errorf("event %d: %w", c, err)
	case topic != topicOf(turn):
		return fmt.Errorf("event %d: topic %q in turn %d, want %q", c, topic, turn, topicOf(turn))
	case !selects(l.filter, topic):
		return fmt.Errorf("event %d: topic %q passed the filter %q", c, topic, l.filter)
	case turn < l.turns[who]:
		return fmt.Errorf("event %d: turn %d of %d after turn %d", c, turn, who, l.turns[who]-1)
	}
	l.gapped += turn - l.turns[who]
	l.turns[who] = turn + 1
	return nil
}

// balance checks the tally against the way gone and against the events.
func (l *listener) balance() error {
	t, at := l.Tally(), l.Position().Counter
	if t.Delivered+t.Filtered+t.Total() != at-l.start {
		return fmt.Errorf("%+v from %d to %d", t, l.start, at)
	}
	ahead := t.Filtered - l.sum.Filtered + t.Overwritten - l.sum.Overwritten + t.Holes - l.sum.Holes + t.Lost - l.sum.Lost
	if t.Delivered != l.sum.Delivered || ahead != at-l.next {
		return fmt.Errorf("tally %+v at %d, but %+v by the events, the last one before %d", t, at, l.sum, l.next)
	}
	return nil
}

// heard is what a subscriber reports at its end.
type heard struct {
	orbit.EventTally
	Start, End uint64
	Gapped     uint64
	Turns      map[uint64]uint64
}

func (l *listener) report() {
	text, _ := json.Marshal(heard{l.Tally(), l.start, l.Position().Counter, l.gapped, l.turns})
	fmt.Println(string(text))
}

// poll hears what is ready, an event at a time.
func (l *listener) poll(ev *orbit.Event) error {
	for {
		if err := l.Poll(ev); err != nil {
			return errors.Join(unlessNoFrame(err), l.balance())
		}
		if err := errors.Join(l.hear(ev), l.balance()); err != nil {
			return err
		}
	}
}

func unlessNoFrame(err error) error {
	if errors.Is(err, orbit.ErrNoFrame) {
		return nil
	}
	return err
}

// sleepIn waits a little, and the first time until the ring has been lapped.
func (l *listener) sleepIn(ctx context.Context) {
	time.Sleep(2 * time.Millisecond)
	for l.Tally().Overwritten == 0 && ctx.Err() == nil && l.ring.Head()-l.Position().Counter <= uint64(l.ring.Geometry().Capacity) {
		time.Sleep(time.Millisecond)
	}
}

// follow hears events in one of several manners until the context ends.
func (l *listener) follow(ctx context.Context, manner string, heard func(n uint64)) error {
	var ev orbit.Event
	batch := make([]orbit.Event, 7)
	for ctx.Err() == nil {
		var err error
		switch manner {
		case "poll", "slow":
			if err = l.poll(&ev); err == nil {
				time.Sleep(50 * time.Microsecond)
			}
			if manner == "slow" {
				l.sleepIn(ctx)
			}
		case "batch":
			var n int
			n, err = l.PollBatch(batch)
			for i := range n {
				err = errors.Join(err, l.hear(&batch[i]))
			}
			err = unlessNoFrame(errors.Join(err, l.balance()))
		case "next":
			if err = l.Next(ctx, &ev); err == nil {
				err = errors.Join(l.hear(&ev), l.balance())
			}
		case "range":
			for e, end := range l.Events(ctx) {
				if err = end; err == nil {
					err = errors.Join(l.hear(&e), l.balance())
				}
				if heard(l.sum.Delivered); err != nil {
					break
				}
			}
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		heard(l.sum.Delivered)
	}
	return nil
}

// subscriber follows the bus from its oldest event: fleet, geometry, filter,
// manner, and how many events are enough. It prints a line when it is ready
// and one when it has enough, and goes on until it is told a counter, up to
// which it reads before it reports.
func subscriber(args []string) error {
	read := proc.WatchParent()
	enough, _ := strconv.ParseUint(args[4], 10, 64)
	if args[3] == "slow" {
		enough /= 10
	}
	f, b, err := openBus(args[0], args[1])
	if err != nil {
		return err
	}
	l := listen(b, args[2])
	l.Grace = patience
	fmt.Println("ready")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var end uint64
	go func() {
		fmt.Sscan(read(), &end)
		cancel()
	}()
	err = l.follow(ctx, args[3], func(n uint64) {
		if n >= enough && enough > 0 {
			fmt.Println("enough")
			enough = 0
		}
	})
	var ev orbit.Event
	for err == nil && l.Position().Counter < end {
		if err = l.poll(&ev); err == nil {
			time.Sleep(100 * time.Microsecond)
		}
	}
	if err != nil {
		return fmt.Errorf("%s of %q: %w", args[3], args[2], err)
	}
	l.report()
	return f.Close()
}

// ---- Tests ----

// audience is subscriber processes that hear the same events.
type audience struct {
	t       *testing.T
	filters []string
	procs   []*proc.Process
}

// seat starts a subscriber for each filter and manner, given as "filter
// manner".
func seat(t *testing.T, name, geometry string, enough int, seats ...string) *audience {
	t.Helper()
	a := &audience{t: t}
	for _, s := range seats {
		filter, manner, _ := strings.Cut(s, " ")
		a.filters = append(a.filters, filter)
		a.procs = append(a.procs, proc.Start(t, "subscriber", name, geometry, filter, manner, strconv.Itoa(enough)))
	}
	a.wait("ready")
	return a
}

func (a *audience) wait(word string) {
	a.t.Helper()
	for _, p := range a.procs {
		if got := line(p); got != word {
			a.t.Fatalf("a subscriber says %q, want %q", got, word)
		}
	}
}

// end lets all read up to the head and returns what they report, which
// accounts for every counter.
func (a *audience) end(head uint64) []heard {
	a.t.Helper()
	reports := make([]heard, len(a.procs))
	for _, p := range a.procs {
		p.Say(fmt.Sprint(head))
	}
	for i, p := range a.procs {
		r := &reports[i]
		if err := json.Unmarshal([]byte(line(p)), r); err != nil {
			a.t.Fatal(err)
		}
		p.Finish()
		if r.End != head || r.Delivered+r.Filtered+r.Total() != head-r.Start {
			a.t.Errorf("subscriber of %q: %+v from %d to %d, head %d", a.filters[i], r.EventTally, r.Start, r.End, head)
		}
	}
	return reports
}

func startPublishers(t *testing.T, n int, name, geometry string, most int) (procs []*proc.Process) {
	t.Helper()
	for who := range n {
		procs = append(procs, proc.Start(t, "publisher", name, geometry, strconv.Itoa(who), strconv.Itoa(most)))
	}
	return procs
}

// counts reads how many events each publisher published.
func counts(t *testing.T, procs []*proc.Process) (each []uint64, sum uint64) {
	t.Helper()
	for _, p := range procs {
		n, err := strconv.ParseUint(line(p), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		p.Finish()
		each, sum = append(each, n), sum+n
	}
	return each, sum
}

var manners = []string{"* poll", "* range", "job.done batch", "job.* next", "load slow"}

// TestSubscribersAccountForEveryCounter has publishers that are faster than
// their subscribers, in rings that are lapped all the time.
func TestSubscribersAccountForEveryCounter(t *testing.T) {
	for _, geometry := range []string{"2x32", "8x64", "default"} {
		t.Run(geometry, func(t *testing.T) {
			name := proc.Fleet(t)
			b := bus(t, name, geometry)
			audience := seat(t, name, geometry, 500, manners...)
			publishers := startPublishers(t, 3, name, geometry, 0)
			audience.wait("enough")
			for _, p := range publishers {
				p.Say("end")
			}
			each, sum := counts(t, publishers)
			head := b.Ring().Head()
			reports := audience.end(head)
			for i, r := range reports {
				where := fmt.Sprintf("subscriber %q", manners[i])
				// Every frame was finished: what is none was passed by its maker.
				if r.Lost != 0 || r.Holes > head-sum {
					t.Errorf("%s: %+v; want none lost and at most %d holes", where, r.EventTally, head-sum)
				}
				for who, turn := range r.Turns {
					if turn > each[who] {
						t.Errorf("%s heard turn %d of publisher %d, which made %d", where, turn-1, who, each[who])
					}
				}
				if r.Filtered == 0 && r.Gapped > r.Overwritten {
					t.Errorf("%s missed %d events, and says that %d were overwritten", where, r.Gapped, r.Overwritten)
				}
			}
			if slow := reports[len(reports)-1]; slow.Overwritten == 0 {
				t.Errorf("the slow subscriber was never lapped: %+v", slow.EventTally)
			}
			t.Logf("%d events, %d counters, first %+v, last %+v", sum, head, reports[0].EventTally, reports[len(reports)-1].EventTally)
		})
	}
}

// TestEveryEventReachesEverySubscriber has a ring that holds them all: every
// subscriber hears each event its filter selects, and nothing is missing.
func TestEveryEventReachesEverySubscriber(t *testing.T) {
	const each, publishers, geometry = 8000, 4, "65536x64"
	name := proc.Fleet(t)
	b := bus(t, name, geometry)
	audience := seat(t, name, geometry, 0, manners...)
	_, sum := counts(t, startPublishers(t, publishers, name, geometry, each))
	head := b.Ring().Head()
	for i, r := range audience.end(head) {
		want := orbit.EventTally{Gap: orbit.Gap{Holes: head - sum}}
		for turn := range uint64(each) {
			if selects(audience.filters[i], topicOf(turn)) {
				want.Delivered += publishers
			} else {
				want.Filtered += publishers
			}
		}
		if r.EventTally != want {
			t.Errorf("subscriber %q: got %+v, want %+v", manners[i], r.EventTally, want)
		}
	}
}
