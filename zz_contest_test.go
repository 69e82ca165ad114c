package orbit_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// ---------------------------------------------------------------------------
// Contest

// contestJob and contestShard are kinds of subjects.
type (
	contestJob   struct{}
	contestShard struct{}
)

func (contestJob) OrbitKind() uint8   { return 12 }
func (contestShard) OrbitKind() uint8 { return 13 }

func contestOpen(t testing.TB, f *orbit.Fleet, err error) *orbit.Contest {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	c, err := orbit.OpenContest(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func contestLocal(t testing.TB, opts orbit.Options) *orbit.Contest {
	t.Helper()
	opts.Size = 1
	f, err := orbit.Local("local", opts)
	return contestOpen(t, f, err)
}

func contestJoin(t testing.TB, name string, opts orbit.Options) *orbit.Contest {
	t.Helper()
	opts.Size = 4
	f, err := orbit.Join(name, opts)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	return contestOpen(t, f, err)
}

// contestEach runs a test over a local fleet, where both contests are the
// same, and over a shared one, where they are two members'.
func contestEach(t *testing.T, opts orbit.Options, test func(t *testing.T, a, b *orbit.Contest)) {
	t.Run("local", func(t *testing.T) {
		c := contestLocal(t, opts)
		test(t, c, c)
	})
	t.Run("shared", func(t *testing.T) {
		name := proc.Fleet(t)
		test(t, contestJoin(t, name, opts), contestJoin(t, name, opts))
	})
}

func contestClaim[T orbit.Typed](t testing.TB, c *orbit.Contest, label, owner string, ttl time.Duration) *orbit.Guard {
	t.Helper()
	g, err := orbit.Claim[T](c, label, owner, ttl)
	if err != nil {
		t.Fatalf("Claim(%q, %q) failed: %v", label, owner, err)
	}
	return g
}

// contestRefused claims in vain, and returns what the error says.
func contestRefused[T orbit.Typed](t testing.TB, c *orbit.Contest, label, owner string) orbit.Holder {
	t.Helper()
	g, err := orbit.Claim[T](c, label, owner, time.Minute)
	var held *orbit.HeldError
	if !errors.Is(err, orbit.ErrHeld) || !errors.As(err, &held) || g != nil {
		t.Fatalf("Claim(%q, %q) = %v, %v; want a HeldError", label, owner, g, err)
	}
	return held.Holder
}

func contestHolder[T orbit.Typed](t testing.TB, c *orbit.Contest, label string) (orbit.Holder, bool) {
	t.Helper()
	h, held, err := orbit.HolderOf[T](c, label)
	if err != nil {
		t.Fatalf("HolderOf(%q) failed: %v", label, err)
	}
	return h, held
}

// contestEnded waits for the end of a guard's context and checks its cause.
func contestEnded(t testing.TB, ctx context.Context, want error) {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the guard's context did not end")
	}
	if got := context.Cause(ctx); !errors.Is(got, want) {
		t.Errorf("the context's cause = %v, want %v", got, want)
	}
}

func contestGo(wg *sync.WaitGroup, f func()) {
	wg.Add(1)
	go func() {
		defer wg.Done()
		f()
	}()
}

func TestClaimOfAHeldSubjectNamesTheHolder(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		before := time.Now()
		g := contestClaim[contestJob](t, a, "nightly", "alpha", time.Minute)
		defer g.Release()
		h := contestRefused[contestJob](t, b, "nightly", "beta")
		seen, held := contestHolder[contestJob](t, b, "nightly")
		if !held || seen.Token != h.Token || seen.Owner != h.Owner {
			t.Errorf("HolderOf = %+v, %v; the error says %+v", seen, held, h)
		}
		if h.Kind != 12 || h.Label != "nightly" || h.Owner != "alpha" || h.PID != os.Getpid() || h.Node != 1 {
			t.Errorf("holder = %+v, want alpha of node 1, process %d", h, os.Getpid())
		}
		if h.Token != g.Token() || h.Token == 0 {
			t.Errorf("holder's token = %d, the guard's %d", h.Token, g.Token())
		}
		if h.Left <= 0 || h.Left > time.Minute+time.Second {
			t.Errorf("holder has %v left, want about a minute", h.Left)
		}
		if h.Since.Before(before.Add(-time.Second)) || h.Since.After(time.Now().Add(time.Second)) {
			t.Errorf("held since %v, claimed at %v", h.Since, before)
		}
		_, err := orbit.Claim[contestJob](b, "nightly", "beta", time.Minute)
		for _, part := range []string{"orbit: ring 222 of fleet", `subject 12 "nightly" is held by "alpha" of node 1`, "for another"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error %q lacks %q", err, part)
			}
		}
	})
}

func TestReleaseLetsTheNextOneIn(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		last := uint64(0)
		for i := range 100 {
			c := a
			if i%2 == 1 {
				c = b
			}
			g := contestClaim[contestJob](t, c, "x", "", time.Minute)
			if !g.Valid() || g.Token() <= last {
				t.Fatalf("guard %d: valid %v, token %d after %d", i, g.Valid(), g.Token(), last)
			}
			last = g.Token()
			for range 3 { // releasing again changes nothing
				if err := g.Release(); err != nil {
					t.Fatalf("Release: %v", err)
				}
			}
			if err := g.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			if g.Valid() || g.Left() != 0 {
				t.Fatalf("a released guard is valid: %v, has %v left", g.Valid(), g.Left())
			}
			if _, held := contestHolder[contestJob](t, a, "x"); held {
				t.Fatal("a released subject has a holder")
			}
		}
	})
}

func TestReleaseOfAnEndedGuardLeavesTheNextHolderAlone(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		old := contestClaim[contestJob](t, a, "x", "alpha", time.Millisecond)
		contestEnded(t, old.Context(), orbit.ErrLapsed)
		g := contestClaim[contestJob](t, b, "x", "beta", time.Minute)
		for range 2 {
			if err := old.Release(); !errors.Is(err, orbit.ErrLapsed) {
				t.Errorf("Release of a lapsed guard = %v, want ErrLapsed", err)
			}
		}
		if err := old.Renew(time.Minute); !errors.Is(err, orbit.ErrLapsed) {
			t.Errorf("Renew of a lapsed guard = %v, want ErrLapsed", err)
		}
		if old.Valid() || !g.Valid() {
			t.Errorf("old valid %v, new valid %v; want false, true", old.Valid(), g.Valid())
		}
		if g.Token() <= old.Token() {
			t.Errorf("token %d after %d", g.Token(), old.Token())
		}
	})
}

func TestSubjectsAreKindAndLabel(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		var guards []*orbit.Guard
		for _, label := range []string{"", "a", "b", "ab", "\x00", "\x00\x00", strings.Repeat("a", orbit.MaxLabel)} {
			guards = append(guards, contestClaim[contestJob](t, a, label, "o", time.Minute), contestClaim[contestShard](t, a, label, "o", time.Minute))
			contestRefused[contestJob](t, b, label, "other")
			contestRefused[contestShard](t, b, label, "other")
		}
		list, err := b.Holders()
		if err != nil || len(list) != len(guards) {
			t.Fatalf("Holders returned %d, %v; want %d", len(list), err, len(guards))
		}
		tokens := map[uint64]bool{}
		for _, h := range list {
			tokens[h.Token] = true
		}
		for _, g := range guards {
			if !tokens[g.Token()] {
				t.Errorf("Holders lacks the guard of token %d", g.Token())
			}
			g.Release()
		}
		if list, err := b.Holders(); err != nil || len(list) != 0 {
			t.Errorf("Holders after all were released = %v, %v", list, err)
		}
	})
}

func TestGuardEndsWithItsTTL(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		const ttl = 30 * time.Millisecond
		start := time.Now()
		g := contestClaim[contestJob](t, a, "x", "alpha", ttl)
		ctx := g.Context()
		for g.Valid() {
			if time.Since(start) < ttl/2 && ctx.Err() != nil {
				t.Fatal("the context of a valid guard ended")
			}
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(start); d < ttl {
			t.Errorf("the guard lapsed after %v of %v", d, ttl)
		}
		contestEnded(t, ctx, orbit.ErrLapsed)
		if g.Left() != 0 {
			t.Errorf("a lapsed guard has %v left", g.Left())
		}
		contestClaim[contestJob](t, b, "x", "beta", time.Minute).Release()
	})
}

func TestRenewMovesTheEndEitherWay(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		g := contestClaim[contestJob](t, a, "x", "alpha", 200*time.Millisecond)
		token, since := g.Token(), contestRefused[contestJob](t, b, "x", "").Since
		if err := g.Renew(time.Hour); err != nil {
			t.Fatal(err)
		}
		if g.Left() < 59*time.Minute {
			t.Errorf("%v left after Renew(1h)", g.Left())
		}
		time.Sleep(210 * time.Millisecond)
		h := contestRefused[contestJob](t, b, "x", "")
		if !g.Valid() || g.Context().Err() != nil {
			t.Fatal("a renewed guard lapsed at its old deadline")
		}
		if h.Token != token || h.Left < 59*time.Minute || h.Since.Sub(since).Abs() > 100*time.Millisecond {
			t.Errorf("after Renew the holder is %+v, want token %d since %v", h, token, since)
		}
		if err := g.Renew(20 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		contestEnded(t, g.Context(), orbit.ErrLapsed)
		contestClaim[contestJob](t, b, "x", "beta", time.Minute).Release()
	})
}

func TestRenewKeepsAGuardThroughManyDeadlines(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		g := contestClaim[contestJob](t, a, "x", "alpha", time.Hour)
		defer g.Release()
		var failed atomic.Int64
		var wg sync.WaitGroup
		for range 2 {
			contestGo(&wg, func() {
				for range 2000 {
					if _, err := orbit.Claim[contestJob](b, "x", "beta", time.Hour); !errors.Is(err, orbit.ErrHeld) {
						failed.Add(1)
					}
				}
			})
		}
		for range 2000 {
			if err := g.Renew(time.Hour); err != nil {
				t.Errorf("Renew: %v", err)
			}
			if !g.Valid() {
				t.Error("the guard is not valid")
			}
		}
		wg.Wait()
		if n := failed.Load(); n > 0 {
			t.Errorf("%d claims of a held subject did not fail with ErrHeld", n)
		}
	})
}

func TestOwnerTakesUpItsOwnClaim(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		old := contestClaim[contestJob](t, a, "x", "alpha", 300*time.Millisecond)
		ctx := old.Context()
		g := contestClaim[contestJob](t, a, "x", "alpha", time.Hour)
		contestEnded(t, ctx, orbit.ErrLapsed)
		if old.Valid() || !g.Valid() {
			t.Errorf("old valid %v, new valid %v; want false, true", old.Valid(), g.Valid())
		}
		if g.Token() <= old.Token() {
			t.Errorf("token %d after %d", g.Token(), old.Token())
		}
		if err := old.Release(); !errors.Is(err, orbit.ErrLapsed) {
			t.Errorf("Release of the old guard = %v, want ErrLapsed", err)
		}
		if h := contestRefused[contestJob](t, b, "x", "beta"); h.Token != g.Token() || h.Left < 59*time.Minute {
			t.Errorf("holder = %+v, want token %d for an hour", h, g.Token())
		}
		if list, _ := a.Holders(); len(list) != 1 {
			t.Errorf("%d claims stand, want 1", len(list))
		}
		if err := g.Release(); err != nil {
			t.Fatal(err)
		}
		contestClaim[contestJob](t, b, "x", "beta", time.Minute).Release()
	})
}

func TestClaimIsTakenUpByNobodyElse(t *testing.T) {
	name := proc.Fleet(t)
	a, b := contestJoin(t, name, orbit.Options{}), contestJoin(t, name, orbit.Options{})
	g := contestClaim[contestJob](t, a, "x", "alpha", time.Minute)
	contestRefused[contestJob](t, b, "x", "alpha") // the same label in another member
	contestRefused[contestJob](t, a, "x", "alph")
	nobody := contestClaim[contestJob](t, a, "y", "", time.Minute)
	contestRefused[contestJob](t, a, "y", "") // no label names nobody
	if !g.Valid() || !nobody.Valid() {
		t.Errorf("valid: %v, %v; want true, true", g.Valid(), nobody.Valid())
	}
}

func TestConcurrentClaimsOfOneOwnerLeaveOneGuard(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		for range 50 {
			var guards [4]*orbit.Guard
			var wg sync.WaitGroup
			for i := range guards {
				contestGo(&wg, func() {
					g, err := orbit.Claim[contestJob](a, "x", "alpha", time.Minute)
					if err != nil && !errors.Is(err, orbit.ErrHeld) {
						t.Error(err)
					}
					guards[i] = g
				})
			}
			wg.Wait()
			valid, last := 0, uint64(0)
			for _, g := range guards {
				if g != nil {
					last = max(last, g.Token())
				}
			}
			for _, g := range guards {
				if g == nil {
					continue
				}
				if g.Valid() {
					valid++
					if g.Token() != last {
						t.Errorf("the guard of token %d is valid, that of %d is not", g.Token(), last)
					}
				}
				g.Release()
			}
			if valid != 1 {
				t.Fatalf("%d guards are valid, want 1", valid)
			}
		}
	})
}

func TestCloseOfTheFleetReleasesItsGuards(t *testing.T) {
	name := proc.Fleet(t)
	f, err := orbit.Join(name, orbit.Options{Size: 2})
	a := contestOpen(t, f, err)
	b := contestJoin(t, name, orbit.Options{})
	var guards []*orbit.Guard
	for i := range 20 {
		guards = append(guards, contestClaim[contestJob](t, a, fmt.Sprint(i), "alpha", math.MaxInt64))
	}
	ctx := guards[0].Context()
	f.Close()
	contestEnded(t, ctx, orbit.ErrClosed)
	contestEnded(t, guards[1].Context(), orbit.ErrClosed)
	for i, g := range guards {
		if g.Valid() {
			t.Errorf("guard %d is valid", i)
		}
		if err := g.Renew(time.Minute); !errors.Is(err, orbit.ErrClosed) {
			t.Errorf("Renew = %v, want ErrClosed", err)
		}
		if err := g.Release(); err != nil {
			t.Errorf("Release = %v", err)
		}
		contestClaim[contestJob](t, b, fmt.Sprint(i), "beta", time.Minute)
	}
	if _, err := orbit.Claim[contestJob](a, "x", "alpha", time.Minute); !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("Claim = %v, want ErrClosed", err)
	}
	if _, _, err := orbit.HolderOf[contestJob](a, "0"); !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("HolderOf = %v, want ErrClosed", err)
	}
	if _, err := a.Holders(); !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("Holders = %v, want ErrClosed", err)
	}
	if err := orbit.WaitFree[contestJob](context.Background(), a, "0"); !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("WaitFree = %v, want ErrClosed", err)
	}
	if _, err := orbit.OpenContest(f); !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("OpenContest = %v, want ErrClosed", err)
	}
}

func TestCloseWhileOthersClaimLeavesNothingHeld(t *testing.T) {
	name := proc.Fleet(t)
	b := contestJoin(t, name, orbit.Options{})
	for range 30 {
		f, err := orbit.Join(name, orbit.Options{Size: 2})
		a := contestOpen(t, f, err)
		var wg sync.WaitGroup
		for i := range 4 {
			contestGo(&wg, func() {
				for n := 0; ; n++ {
					g, err := orbit.Claim[contestJob](a, fmt.Sprint(i, n%8), "", time.Hour)
					if errors.Is(err, orbit.ErrClosed) {
						return
					}
					if err != nil && !errors.Is(err, orbit.ErrHeld) {
						t.Error(err)
						return
					}
					if n%3 == 0 && g != nil {
						g.Release()
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		f.Close()
		wg.Wait()
		if list, err := b.Holders(); err != nil || len(list) != 0 {
			t.Fatalf("after Close %v are held, %v", list, err)
		}
	}
}

// contestSmall makes the smallest table: for 64 claims.
var contestSmall = orbit.Options{Rings: map[uint8]orbit.Geometry{orbit.KindContest: {Capacity: 1}}}

func TestFullTableIsAnErrorAndLosesNoClaim(t *testing.T) {
	contestEach(t, contestSmall, func(t *testing.T, a, b *orbit.Contest) {
		if a.Capacity() != 64 {
			t.Fatalf("Capacity() = %d, want 64", a.Capacity())
		}
		var guards []*orbit.Guard
		for i := range a.Capacity() {
			c := a
			if i%2 == 1 {
				c = b
			}
			guards = append(guards, contestClaim[contestJob](t, c, fmt.Sprint(i), "o", time.Hour))
		}
		for i := range 100 {
			_, err := orbit.Claim[contestJob](b, fmt.Sprint("more", i), "o", time.Hour)
			if !errors.Is(err, orbit.ErrTableFull) {
				t.Fatalf("claim beyond the capacity: %v, want ErrTableFull", err)
			}
			if i == 0 && !strings.Contains(err.Error(), "all 64 claims") {
				t.Errorf("error %q does not name the size", err)
			}
		}
		contestRefused[contestJob](t, a, "1", "other")
		for i, g := range guards {
			if !g.Valid() {
				t.Errorf("guard %d was lost", i)
			}
			if err := g.Renew(time.Hour); err != nil {
				t.Errorf("Renew in a full table: %v", err)
			}
		}
		if g := contestClaim[contestJob](t, a, "0", "o", time.Hour); !g.Valid() || guards[0].Valid() {
			t.Error("an owner cannot take up its claim in a full table")
		}
		guards[7].Release()
		contestClaim[contestJob](t, a, "more", "o", time.Hour)
	})
}

func TestChurnLosesNoClaim(t *testing.T) {
	contestEach(t, contestSmall, func(t *testing.T, a, b *orbit.Contest) {
		var guards []*orbit.Guard
		for i := range 40 {
			guards = append(guards, contestClaim[contestJob](t, a, fmt.Sprint("kept", i), "alpha", time.Hour))
		}
		for i := range 20000 {
			g, err := orbit.Claim[contestJob](b, fmt.Sprint(i), "beta", time.Hour)
			if err != nil {
				t.Fatalf("claim %d: %v", i, err)
			}
			g.Release()
		}
		for i, g := range guards {
			if !g.Valid() {
				t.Errorf("guard %d was lost", i)
			}
			if h := contestRefused[contestJob](t, b, fmt.Sprint("kept", i), "beta"); h.Token != g.Token() {
				t.Errorf("holder of %d = %+v, want token %d", i, h, g.Token())
			}
		}
	})
}

func TestForgottenGuardsDoNotFillTheTable(t *testing.T) {
	contestEach(t, contestSmall, func(t *testing.T, a, b *orbit.Contest) {
		for i := range 10 * a.Capacity() {
			label := fmt.Sprint(i)
			for {
				_, err := orbit.Claim[contestJob](a, label, "o", 5*time.Millisecond)
				if err == nil {
					break
				}
				if !errors.Is(err, orbit.ErrTableFull) {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond) // until the first are over
			}
		}
		time.Sleep(20 * time.Millisecond)
		for i := range b.Capacity() {
			contestClaim[contestJob](t, b, fmt.Sprint("new", i), "o", time.Hour)
		}
	})
}

func TestClaimChecksItsArguments(t *testing.T) {
	c := contestLocal(t, orbit.Options{})
	label, owner := strings.Repeat("l", orbit.MaxLabel), strings.Repeat("o", orbit.MaxOwner)
	g := contestClaim[contestJob](t, c, label, owner, math.MaxInt64)
	if h, _ := contestHolder[contestJob](t, c, label); h.Label != label || h.Owner != owner || h.Left < 1<<62 {
		t.Errorf("holder = %+v, want the longest labels and no end", h)
	}
	g.Release()
	tests := []struct {
		name         string
		label, owner string
		ttl          time.Duration
		want         error
		text         string
	}{
		{"long label", label + "l", "o", time.Minute, orbit.ErrTooLarge, "label of 97 bytes, limit 96"},
		{"long owner", "l", owner + "o", time.Minute, orbit.ErrTooLarge, "owner of 49 bytes, limit 48"},
		{"zero TTL", "l", "o", 0, orbit.ErrTTL, "TTL of 0s, want more than 0"},
		{"negative TTL", "l", "o", -time.Second, orbit.ErrTTL, "TTL of -1s, want more than 0"},
		{"impossible TTL", "l", "o", 1, orbit.ErrLapsed, "TTL of 1ns ended before"},
	}
	for _, tt := range tests {
		g, err := orbit.Claim[contestJob](c, tt.label, tt.owner, tt.ttl)
		if g != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, %v; want %q", tt.name, g, err, tt.text)
		}
	}
	if _, _, err := orbit.HolderOf[contestJob](c, label+"l"); !errors.Is(err, orbit.ErrTooLarge) {
		t.Errorf("HolderOf of a long label: %v, want ErrTooLarge", err)
	}
	if err := orbit.WaitFree[contestJob](context.Background(), c, label+"l"); !errors.Is(err, orbit.ErrTooLarge) {
		t.Errorf("WaitFree of a long label: %v, want ErrTooLarge", err)
	}
	g = contestClaim[contestJob](t, c, "l", "o", time.Minute)
	if err := g.Renew(0); !errors.Is(err, orbit.ErrTTL) || !g.Valid() {
		t.Errorf("Renew(0) = %v, valid %v; want ErrTTL, true", err, g.Valid())
	}
	if list, _ := c.Holders(); len(list) != 1 {
		t.Errorf("%d claims stand after the failed ones, want 1", len(list))
	}
}

type contestReserved struct{}

func (contestReserved) OrbitKind() uint8 { return 222 }

func TestClaimRefusesTypesThatNameNoSubject(t *testing.T) {
	c := contestLocal(t, orbit.Options{})
	if _, err := orbit.Claim[contestReserved](c, "x", "o", time.Minute); !errors.Is(err, orbit.ErrKind) {
		t.Errorf("reserved kind: %v, want ErrKind", err)
	}
	if _, err := orbit.Claim[*contestJob](c, "x", "o", time.Minute); !errors.Is(err, orbit.ErrType) {
		t.Errorf("pointer: %v, want ErrType", err)
	}
	if _, _, err := orbit.HolderOf[orbit.Typed](c, "x"); !errors.Is(err, orbit.ErrType) {
		t.Errorf("interface: %v, want ErrType", err)
	}
}

func TestContestIsOpenedOnce(t *testing.T) {
	f, err := orbit.Local("local", orbit.Options{Size: 1})
	a := contestOpen(t, f, err)
	if b, err := orbit.OpenContest(f); a != b || err != nil {
		t.Errorf("OpenContest again = %p, %v; want %p", b, err, a)
	}
}

func TestContestRefusesAPayloadLimitBelowItsFrames(t *testing.T) {
	f, err := orbit.Local("local", orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{orbit.KindContest: {Capacity: 8, PayloadLimit: 100}}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := orbit.OpenContest(f); !errors.Is(err, orbit.ErrGeometry) || !strings.Contains(err.Error(), "payload limit 100, want at least 169") {
		t.Errorf("OpenContest = %v, want ErrGeometry", err)
	}
}

func TestObserverSeesHoldersAndChangesNothing(t *testing.T) {
	name := proc.Fleet(t)
	f, err := orbit.Join(name, orbit.Options{Size: 1})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if _, err := orbit.OpenContest(o); !errors.Is(err, orbit.ErrNotExist) {
		t.Errorf("OpenContest before any member = %v, want ErrNotExist", err)
	}
	a, err := orbit.OpenContest(f)
	if err != nil {
		t.Fatal(err)
	}
	g := contestClaim[contestJob](t, a, "x", "alpha", time.Minute)
	b, err := orbit.OpenContest(o)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(proc.Segment(name, int(orbit.KindContest)))
	if err != nil {
		t.Fatal(err)
	}
	if h, held := contestHolder[contestJob](t, b, "x"); !held || h.Token != g.Token() {
		t.Errorf("HolderOf = %+v, %v; want token %d", h, held, g.Token())
	}
	if list, err := b.Holders(); err != nil || len(list) != 1 {
		t.Errorf("Holders = %v, %v; want one", list, err)
	}
	if _, err := orbit.Claim[contestJob](b, "y", "beta", time.Minute); !errors.Is(err, orbit.ErrReadOnly) {
		t.Errorf("Claim = %v, want ErrReadOnly", err)
	}
	after, err := os.ReadFile(proc.Segment(name, int(orbit.KindContest)))
	if err != nil || string(before) != string(after) {
		t.Errorf("the segment changed under an observer (%v)", err)
	}
	done := make(chan error, 1)
	go func() { done <- orbit.WaitFree[contestJob](context.Background(), b, "x") }()
	time.Sleep(5 * time.Millisecond)
	g.Release()
	if err := <-done; err != nil {
		t.Errorf("WaitFree = %v", err)
	}
}

func TestClaimsAndReleasesAreAnnounced(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		news := b.Ring().Oldest()
		g := contestClaim[contestJob](t, a, "x", "alpha", time.Minute)
		g.Renew(time.Hour)
		h := contestClaim[contestJob](t, a, "x", "alpha", time.Minute)
		contestRefused[contestJob](t, b, "x", "beta")
		h.Release()
		h.Release()
		g.Release()
		i := contestClaim[contestShard](t, a, "y", "gamma", time.Millisecond)
		contestEnded(t, i.Context(), orbit.ErrLapsed)
		want := []struct {
			change orbit.ClaimChange
			kind   uint8
			label  string
			owner  string
			token  uint64
		}{
			{orbit.Claimed, 12, "x", "alpha", g.Token()},
			{orbit.Renewed, 12, "x", "alpha", g.Token()},
			{orbit.Claimed, 12, "x", "alpha", h.Token()},
			{orbit.Released, 12, "x", "alpha", h.Token()},
			{orbit.Claimed, 13, "y", "gamma", i.Token()},
			{orbit.Fell, 13, "y", "gamma", i.Token()},
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		for f, err := range news.Frames(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			e, err := orbit.DecodeClaim(f)
			if err != nil {
				t.Fatal(err)
			}
			got := e.Holder
			w := want[0]
			if e.Change != w.change || got.Kind != w.kind || got.Label != w.label || got.Owner != w.owner || got.Token != w.token || got.Node != 1 || got.PID != os.Getpid() {
				t.Errorf("%v %+v; want %+v", e.Change, got, w)
			}
			if want = want[1:]; len(want) == 0 {
				break
			}
		}
		if _, _, err := news.Next(nil); !errors.Is(err, orbit.ErrNoFrame) {
			t.Errorf("there is more to hear: %v", err)
		}
	})
}

func TestDecodeClaimRefusesOtherFrames(t *testing.T) {
	for _, f := range []orbit.Frame{{}, {Kind: 1}, {Kind: 1, Payload: make([]byte, 24)}, {Kind: 5, Payload: make([]byte, 25)}, {Kind: 0, Payload: make([]byte, 25)}, {Kind: 1, Payload: make([]byte, 26)}} {
		if e, err := orbit.DecodeClaim(f); !errors.Is(err, orbit.ErrClaimEvent) {
			t.Errorf("DecodeClaim(%+v) = %+v, %v; want ErrClaimEvent", f, e, err)
		}
	}
	for change, want := range map[orbit.ClaimChange]string{orbit.Claimed: "claimed", orbit.Renewed: "renewed", orbit.Released: "released", orbit.Fell: "fell", 9: "change 9"} {
		if got := change.String(); got != want {
			t.Errorf("ClaimChange(%d) = %q, want %q", change, got, want)
		}
	}
}

func TestWaitFreeHearsTheRelease(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		if err := orbit.WaitFree[contestJob](context.Background(), b, "x"); err != nil {
			t.Fatalf("WaitFree of a free subject = %v", err)
		}
		g := contestClaim[contestJob](t, a, "x", "alpha", time.Hour)
		const waiters = 100
		done := make(chan error, waiters)
		for range waiters {
			go func() { done <- orbit.WaitFree[contestJob](context.Background(), b, "x") }()
		}
		time.Sleep(5 * time.Millisecond)
		select {
		case err := <-done:
			t.Fatalf("WaitFree of a held subject returned %v", err)
		default:
		}
		g.Release()
		for range waiters {
			if err := <-done; err != nil {
				t.Errorf("WaitFree = %v", err)
			}
		}
	})
}

func TestWaitFreeEndsWithTheTTLTheContextAndTheFleet(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		contestClaim[contestJob](t, a, "short", "alpha", 30*time.Millisecond)
		if err := orbit.WaitFree[contestJob](context.Background(), b, "short"); err != nil {
			t.Errorf("WaitFree = %v", err)
		}
		g := contestClaim[contestJob](t, a, "x", "alpha", time.Hour)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if err := orbit.WaitFree[contestJob](ctx, b, "x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitFree = %v, want DeadlineExceeded", err)
		}
		if !g.Valid() {
			t.Error("waiting ended the guard")
		}
	})
	f, err := orbit.Local("local", orbit.Options{Size: 1})
	c := contestOpen(t, f, err)
	contestClaim[contestJob](t, c, "x", "alpha", time.Hour)
	done := make(chan error, 1)
	go func() { done <- orbit.WaitFree[contestJob](context.Background(), c, "x") }()
	time.Sleep(5 * time.Millisecond)
	f.Close()
	// The guard is released first, so either may be heard.
	if err := <-done; err != nil && !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("WaitFree = %v, want nil or ErrClosed", err)
	}
}

func TestGuardsCostNoGoroutines(t *testing.T) {
	c := contestLocal(t, orbit.Options{})
	before := runtime.NumGoroutine()
	var guards []*orbit.Guard
	for i := range 1000 {
		g := contestClaim[contestJob](t, c, fmt.Sprint(i), "alpha", time.Hour)
		g.Context()
		guards = append(guards, g)
	}
	if n := runtime.NumGoroutine(); n > before+2 {
		t.Errorf("%d goroutines with 1000 guards, %d before", n, before)
	}
	for _, g := range guards {
		g.Release()
		contestEnded(t, g.Context(), context.Canceled)
	}
}

func TestManyGuardsLapseEachAtItsTime(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		var wg sync.WaitGroup
		for i := range 200 {
			ttl := time.Duration(1+(i*37)%100) * time.Millisecond
			start := time.Now()
			g := contestClaim[contestJob](t, a, fmt.Sprint(i), "alpha", ttl)
			contestGo(&wg, func() {
				contestEnded(t, g.Context(), orbit.ErrLapsed)
				if d := time.Since(start); d < ttl {
					t.Errorf("the context of a guard of %v ended after %v", ttl, d)
				}
			})
		}
		wg.Wait()
		if list, err := b.Holders(); err != nil || len(list) != 0 {
			t.Errorf("Holders = %v, %v; want none", list, err)
		}
	})
}

func TestOneGuardAmongManyGoroutines(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		var inside, won atomic.Int64
		var last atomic.Uint64
		var wg sync.WaitGroup
		for i := range 8 {
			c := a
			if i%2 == 1 {
				c = b
			}
			contestGo(&wg, func() {
				for range 1000 {
					g, err := orbit.Claim[contestJob](c, "x", "", time.Hour)
					if errors.Is(err, orbit.ErrHeld) {
						runtime.Gosched()
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d guards at once", n)
					}
					if before := last.Swap(g.Token()); before >= g.Token() {
						t.Errorf("token %d after %d", g.Token(), before)
					}
					won.Add(1)
					inside.Add(-1)
					if err := g.Release(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if won.Load() == 0 {
			t.Error("nobody ever won")
		}
	})
}

// contestPoke changes the table of the smallest contest behind its back. The
// table lies behind a page of header and one slot.
func contestPoke(t testing.TB, fleet string, change func(table []byte)) {
	t.Helper()
	f, err := os.OpenFile(proc.Segment(fleet, int(orbit.KindContest)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := make([]byte, 8*(16+128+64+64*24))
	const off = 4096 + 256
	if _, err := f.ReadAt(table, off); err != nil {
		t.Fatal(err)
	}
	change(table)
	if _, err := f.WriteAt(table, off); err != nil {
		t.Fatal(err)
	}
}

func TestOrderNumbersWrapWithoutATrace(t *testing.T) {
	name := proc.Fleet(t)
	a, b := contestJoin(t, name, contestSmall), contestJoin(t, name, contestSmall)
	for _, near := range []uint64{1 << 32, 1 << 47, 1 << 48, 0} {
		contestPoke(t, name, func(table []byte) { binary.NativeEndian.PutUint64(table, near-200) })
		var inside atomic.Int64
		var wg sync.WaitGroup
		for _, c := range []*orbit.Contest{a, b, a, b} {
			contestGo(&wg, func() {
				for range 200 {
					g, err := orbit.Claim[contestJob](c, "x", "", time.Hour)
					if errors.Is(err, orbit.ErrHeld) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d guards at once", n)
					}
					if !g.Valid() {
						t.Error("the guard is not valid")
					}
					inside.Add(-1)
					g.Release()
				}
			})
		}
		wg.Wait()
	}
}

func TestTruncatedContestIsAnError(t *testing.T) {
	name := proc.Fleet(t)
	a := contestJoin(t, name, orbit.Options{})
	g := contestClaim[contestJob](t, a, "x", "alpha", time.Hour)
	ctx := g.Context()
	if err := os.Truncate(proc.Segment(name, int(orbit.KindContest)), 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := orbit.Claim[contestJob](a, "y", "alpha", time.Hour); !errors.Is(err, orbit.ErrDamaged) {
		t.Errorf("Claim = %v, want ErrDamaged", err)
	}
	if _, _, err := orbit.HolderOf[contestJob](a, "x"); !errors.Is(err, orbit.ErrDamaged) {
		t.Errorf("HolderOf = %v, want ErrDamaged", err)
	}
	if _, err := a.Holders(); !errors.Is(err, orbit.ErrDamaged) {
		t.Errorf("Holders = %v, want ErrDamaged", err)
	}
	if g.Valid() {
		t.Error("a guard in a truncated segment is valid")
	}
	contestEnded(t, ctx, orbit.ErrLapsed)
	if err := g.Renew(time.Hour); err == nil {
		t.Error("Renew succeeded")
	}
	g.Release()
}

func ExampleContest() {
	fleet, err := orbit.Local("example", orbit.Options{Size: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer fleet.Close()
	contest, err := orbit.OpenContest(fleet)
	if err != nil {
		fmt.Println(err)
		return
	}

	// The earliest claim has it.
	guard, err := orbit.Claim[contestJob](contest, "nightly", "worker-1", time.Minute)
	fmt.Println("worker-1 holds it:", err == nil && guard.Valid())

	// The others are told whom to yield to.
	_, err = orbit.Claim[contestJob](contest, "nightly", "worker-2", time.Minute)
	var held *orbit.HeldError
	if errors.As(err, &held) {
		fmt.Println("worker-2 yields to", held.Holder.Owner)
	}

	// Work stops when the guard does not hold any more.
	ctx := guard.Context()
	guard.Release()
	<-ctx.Done()

	next, err := orbit.Claim[contestJob](contest, "nightly", "worker-2", time.Minute)
	if err == nil {
		fmt.Println("worker-2 holds it with a larger token:", next.Token() > guard.Token())
	}
	// Output:
	// worker-1 holds it: true
	// worker-2 yields to worker-1
	// worker-2 holds it with a larger token: true
}

// A holder that was stopped for longer than its TTL may wake up and write. The
// resource refuses tokens smaller than the largest it has seen.
func ExampleGuard_Token() {
	fleet, err := orbit.Local("example", orbit.Options{Size: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer fleet.Close()
	contest, err := orbit.OpenContest(fleet)
	if err != nil {
		fmt.Println(err)
		return
	}

	largest := uint64(0)
	write := func(token uint64) string {
		if token < largest {
			return "refused"
		}
		largest = token
		return "written"
	}

	slow, _ := orbit.Claim[contestShard](contest, "7", "slow", time.Millisecond)
	orbit.WaitFree[contestShard](context.Background(), contest, "7")
	quick, _ := orbit.Claim[contestShard](contest, "7", "quick", time.Minute)
	fmt.Println("quick:", write(quick.Token()))
	fmt.Println("slow:", write(slow.Token()))
	// Output:
	// quick: written
	// slow: refused
}

// Who needs the subject itself, and not only that somebody has it, waits and
// claims again.
func ExampleWaitFree() {
	fleet, err := orbit.Local("example", orbit.Options{Size: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer fleet.Close()
	contest, err := orbit.OpenContest(fleet)
	if err != nil {
		fmt.Println(err)
		return
	}
	first, _ := orbit.Claim[contestJob](contest, "nightly", "worker-1", time.Minute)
	time.AfterFunc(10*time.Millisecond, func() { first.Release() })

	ctx := context.Background()
	guard, err := orbit.Claim[contestJob](contest, "nightly", "worker-2", time.Minute)
	for errors.Is(err, orbit.ErrHeld) {
		if err = orbit.WaitFree[contestJob](ctx, contest, "nightly"); err == nil {
			guard, err = orbit.Claim[contestJob](contest, "nightly", "worker-2", time.Minute)
		}
	}
	fmt.Println(err == nil && guard.Valid())
	// Output: true
}

func BenchmarkContest(b *testing.B) {
	b.Run("atomic add", func(b *testing.B) {
		var x uint64
		for range b.N {
			atomic.AddUint64(&x, 1)
		}
	})
	for _, mode := range []string{"local", "shared"} {
		var c *orbit.Contest
		if mode == "local" {
			c = contestLocal(b, orbit.Options{})
		} else {
			c = contestJoin(b, proc.Fleet(b), orbit.Options{})
		}
		b.Run(mode+"/claim and release", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				contestClaim[contestJob](b, c, "nightly", "worker", time.Minute).Release()
			}
		})
		g := contestClaim[contestJob](b, c, "held", "worker", math.MaxInt64)
		b.Run(mode+"/valid", func(b *testing.B) {
			for range b.N {
				g.Valid()
			}
		})
		b.Run(mode+"/renew", func(b *testing.B) {
			for range b.N {
				g.Renew(time.Minute)
			}
		})
		b.Run(mode+"/yield", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				contestRefused[contestJob](b, c, "held", "other")
			}
		})
		b.Run(mode+"/holder", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				contestHolder[contestJob](b, c, "held")
			}
		})
	}
}
