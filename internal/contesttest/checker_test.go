package contesttest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/proc"
)

var (
	checkFor = flag.Duration("check", 3*time.Second, "how long the checker lets processes contend")
	seedFlag = flag.Uint64("seed", 0, "what the checker's random choices start from; 0 takes the time")
)

// ---------------------------------------------------------------------------
// The resource
//
// The resource is a file that all processes map. For every subject it has the
// largest token it was ever shown: what comes with a smaller one is refused,
// which is what tokens are for, and counted. And it has a log, with a span of
// time for every guard, in which the guard was valid beyond doubt.
//
// When Valid says true, the guard held at a moment during the call. And since
// false is final, between two calls that say true it held all the time: from
// the end of the first to the beginning of the last is the guard's span. (One
// call alone proves nothing about any moment that the clock could name.) The
// clock is the kernel's, read by a system call. If the spans of two guards of
// one subject overlap, both were valid at once.

const (
	subjects = 3
	contends = 8
	maxSpans = 1 << 18
)

// span is an entry of the log. Its owner fills it in this order, so that it is
// sound whenever its process is killed.
type span struct {
	token   uint64
	subject uint64
	from    int64 // end of the first call that said true, 0 before it
	to      int64 // beginning of the last call that said true, 0 before the second
}

type resource struct {
	largest [subjects]struct {
		token uint64
		_     [7]uint64
	}
	accepted uint64
	fenced   uint64 // requests refused
	lapsed   uint64 // guards whose time was over before they were released
	held     uint64 // claims that found a holder
	spans    uint64 // used of log
	log      [maxSpans]span
}

func mapResource(path string) (*resource, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int(unsafe.Sizeof(resource{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*resource)(unsafe.Pointer(unsafe.SliceData(mem))), nil
}

// use shows the resource a token, and returns whether it is let in.
func (r *resource) use(subject int, token uint64) bool {
	largest := &r.largest[subject].token
	for {
		seen := atomic.LoadUint64(largest)
		if token < seen {
			atomic.AddUint64(&r.fenced, 1)
			return false
		}
		if token == seen || atomic.CompareAndSwapUint64(largest, seen, token) {
			atomic.AddUint64(&r.accepted, 1)
			return true
		}
	}
}

// open begins the span of a guard. It returns nil if the log is full.
func (r *resource) open(subject int, token uint64) *span {
	i := atomic.AddUint64(&r.spans, 1) - 1
	if i >= maxSpans {
		return nil
	}
	s := &r.log[i]
	atomic.StoreUint64(&s.token, token)
	atomic.StoreUint64(&s.subject, uint64(subject))
	return s
}

// see extends the span by a call that said true.
func (s *span) see(before, after int64) {
	if atomic.LoadInt64(&s.from) == 0 {
		atomic.StoreInt64(&s.from, after)
	} else {
		atomic.StoreInt64(&s.to, before)
	}
}

// ---------------------------------------------------------------------------
// The contenders

func init() { proc.Helper("contend", contend) }

// contend claims subjects at random until its parent ends it, from two
// goroutines, for TTLs that are often too short.
func contend(args []string) error {
	read := proc.WatchParent()
	_, c, err := open(args[0], 0)
	if err != nil {
		return err
	}
	r, err := mapResource(args[1])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	failed := make(chan error)
	for i := range 2 {
		go func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for {
				if err := contendOnce(c, r, rng); err != nil {
					failed <- err
				}
			}
		}()
	}
	go func() { read(); failed <- nil }()
	return <-failed
}

func contendOnce(c *orbit.Contest, r *resource, rng *rand.Rand) error {
	subject := rng.IntN(subjects)
	ttl := time.Duration(rng.IntN(20000)+100) * time.Microsecond
	if rng.IntN(20) == 0 {
		ttl = time.Hour // falls with its holder only, if that is killed
	}
	owner := ""
	if rng.IntN(2) == 0 {
		owner = "again" // this process may take up its own claim
	}
	g, err := orbit.Claim[job](c, fmt.Sprint(subject), owner, ttl)
	switch {
	case errors.Is(err, orbit.ErrHeld):
		atomic.AddUint64(&r.held, 1)
		time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
		return nil
	case errors.Is(err, orbit.ErrLapsed), errors.Is(err, orbit.ErrBusy):
		return nil // stopped for too long to get a guard, or to let go of the one before
	case err != nil:
		return err
	}
	s := r.open(subject, g.Token())
	if s == nil {
		time.Sleep(time.Second)
		return nil
	}
	for range rng.IntN(20) + 1 {
		before := now()
		valid := g.Valid()
		after := now()
		if valid {
			s.see(before, after)
		}
		// Whatever happens between the answer and the use, the token decides.
		if valid && !r.use(subject, g.Token()) && g.Valid() {
			return fmt.Errorf("subject %d refused token %d, whose guard is valid", subject, g.Token())
		}
		if !valid {
			break
		}
		switch rng.IntN(8) {
		case 0:
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
		case 1:
			if err := g.Renew(time.Duration(rng.IntN(10000)+1) * time.Microsecond); err != nil && !errors.Is(err, orbit.ErrLapsed) {
				return err
			}
		}
	}
	if rng.IntN(10) == 0 {
		return nil // forgotten
	}
	if err := g.Release(); errors.Is(err, orbit.ErrLapsed) {
		atomic.AddUint64(&r.lapsed, 1)
	} else if err != nil {
		return err
	}
	return nil
}

// ---------------------------------------------------------------------------
// The checker

func TestOnlyOneGuardIsValidThroughKillsStopsAndExpiries(t *testing.T) {
	name := proc.Fleet(t)
	c := mustOpen(t, name)
	path := filepath.Join(t.TempDir(), "resource")
	r, err := mapResource(path)
	if err != nil {
		t.Fatal(err)
	}
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))

	start := func() *proc.Process {
		p := proc.Start(t, "contend", name, path, fmt.Sprint(rng.Uint64()))
		p.Line()
		return p
	}
	var contenders [contends]*proc.Process
	for i := range contenders {
		contenders[i] = start()
	}
	kills, stops := 0, 0
	var resumed sync.WaitGroup
	// On a slow machine it takes longer until they have met often enough.
	met := func() bool {
		return atomic.LoadUint64(&r.spans) > 1000 && atomic.LoadUint64(&r.held) > 0 && atomic.LoadUint64(&r.lapsed) > 0 && kills > 0 && stops > 0
	}
	for goOn := proc.Chance(*checkFor, *checkFor+30*time.Second, met); goOn(); {
		time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
		p := &contenders[rng.IntN(contends)]
		if rng.IntN(3) == 0 {
			kill(*p)
			*p = start()
			kills++
			continue
		}
		stops++
		stopped, d := *p, time.Duration(rng.IntN(60))*time.Millisecond
		stopped.Stop()
		resumed.Add(1)
		time.AfterFunc(d, func() {
			stopped.Continue()
			resumed.Done()
		})
	}
	resumed.Wait()
	for _, p := range contenders {
		kill(p)
	}

	// The dead hold nothing back: every subject and every record is free.
	for i := range subjects {
		g, err := orbit.Claim[job](c, fmt.Sprint(i), "checker", time.Hour)
		if err != nil {
			t.Errorf("claim of subject %d after all contenders died: %v", i, err)
			continue
		}
		if largest := atomic.LoadUint64(&r.largest[i].token); g.Token() <= largest {
			t.Errorf("subject %d: token %d after %d", i, g.Token(), largest)
		}
		g.Release()
	}
	takeAll(t, c, "all")

	log := r.log[:min(atomic.LoadUint64(&r.spans), maxSpans)]
	handovers := checkSpans(log, t.Errorf)
	t.Logf("%d guards, %d handovers, %d claims found a holder, %d guards lapsed, %d requests accepted, %d fenced, %d kills, %d stops",
		len(log), handovers, r.held, r.lapsed, r.accepted, r.fenced, kills, stops)
	if handovers < 100 || r.held == 0 || r.lapsed == 0 || kills == 0 || stops == 0 {
		t.Error("the contenders hardly met: this run shows nothing")
	}
}

// checkSpans checks that no two spans of a subject overlap, and that tokens
// grow from each to the next.
func checkSpans(log []span, violation func(format string, args ...any)) (handovers int) {
	var by [subjects][]span
	tokens := map[uint64]bool{}
	for _, s := range log {
		if s.token != 0 && tokens[s.token] {
			violation("token %d was given out twice", s.token)
		}
		tokens[s.token] = true
		if s.to != 0 {
			by[s.subject] = append(by[s.subject], s)
		}
	}
	for subject, spans := range by {
		slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
		for i := 1; i < len(spans); i++ {
			a, b := spans[i-1], spans[i]
			if b.from < a.to {
				violation("subject %d: the guards of tokens %d and %d were both valid for %v", subject, a.token, b.token, time.Duration(min(a.to, b.to)-b.from))
			}
			if b.token <= a.token {
				violation("subject %d: token %d after %d", subject, b.token, a.token)
			}
			handovers++
		}
	}
	return handovers
}

// TestCheckerNoticesViolations shows that the check above is one.
func TestCheckerNoticesViolations(t *testing.T) {
	tests := []struct {
		name string
		log  []span
		want bool
	}{
		{"in turn", []span{{token: 1, from: 10, to: 20}, {token: 2, from: 20, to: 30}}, true},
		{"overlap", []span{{token: 1, from: 10, to: 20}, {token: 2, from: 19, to: 30}}, false},
		{"within", []span{{token: 2, from: 12, to: 13}, {token: 1, from: 10, to: 20}}, false},
		{"token twice", []span{{token: 1, from: 10, to: 20}, {token: 1, from: 30, to: 40}}, false},
		{"token backwards", []span{{token: 2, from: 10, to: 20}, {token: 1, from: 30, to: 40}}, false},
		{"other subject", []span{{token: 2, from: 10, to: 20}, {token: 1, subject: 1, from: 10, to: 20}}, true},
		{"never seen valid", []span{{token: 2, from: 10, to: 20}, {token: 1}}, true},
		{"seen valid once", []span{{token: 2, from: 10, to: 20}, {token: 1, from: 15}}, true},
	}
	for _, tt := range tests {
		got := true
		checkSpans(tt.log, func(string, ...any) { got = false })
		if got != tt.want {
			t.Errorf("%s: passes %v, want %v", tt.name, got, tt.want)
		}
	}
}
