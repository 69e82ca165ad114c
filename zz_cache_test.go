package orbit_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"orbit"
)

// ---------------------------------------------------------------------------
// Cache

func cacheShape(capacity, limit int) orbit.Options {
	return orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{orbit.KindCache: {Capacity: capacity, PayloadLimit: limit}}}
}

func openCache(t testing.TB, f *orbit.Fleet, prefix string) *orbit.Cache {
	t.Helper()
	c, err := orbit.OpenCache(f, prefix)
	if err != nil {
		t.Fatalf("open cache %q: %v", prefix, err)
	}
	return c
}

func cachePut(t testing.TB, c *orbit.Cache, key, value string, ttl time.Duration) {
	t.Helper()
	if err := c.Put(key, []byte(value), ttl); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

func cacheDelete(t testing.TB, c *orbit.Cache, key string) {
	t.Helper()
	if err := c.Delete(key); err != nil {
		t.Fatalf("delete %q: %v", key, err)
	}
}

func cacheReset(t testing.TB, c *orbit.Cache) {
	t.Helper()
	if err := c.Reset(); err != nil {
		t.Fatalf("reset %q: %v", c.Prefix(), err)
	}
}

// wantAdded adds a value and checks whether that was the first.
func wantAdded(t testing.TB, c *orbit.Cache, key, value string, ttl time.Duration, want bool) {
	t.Helper()
	if got, err := c.Add(key, []byte(value), ttl); got != want || err != nil {
		t.Fatalf("add %q: got %v, error %v, want %v", key, got, err, want)
	}
}

// wantCached checks what a key has; "-" stands for nothing.
func wantCached(t testing.TB, c *orbit.Cache, key, want string) {
	t.Helper()
	value, ok, err := c.Get(key)
	got := string(value)
	if !ok {
		got = "-"
	}
	if err != nil || got != want {
		t.Fatalf("cache %q, key %q: got %q, error %v, want %q", c.Prefix(), key, got, err, want)
	}
}

func cacheMeta(t testing.TB, c *orbit.Cache, key string) orbit.CacheMeta {
	t.Helper()
	m, err := c.Stat(key)
	if err != nil {
		t.Fatalf("stat %q: %v", key, err)
	}
	return m
}

func cacheStats(t testing.TB, c *orbit.Cache) orbit.CacheStats {
	t.Helper()
	s, err := c.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cacheKeys(c *orbit.Cache) (keys []string) {
	for key := range c.All() {
		keys = append(keys, key)
	}
	return keys
}

func TestCacheKeepsTheNewest(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c, other := openCache(t, f, "users"), openCache(t, f, "users")
		wantCached(t, c, "ada", "-")
		cachePut(t, c, "ada", "1", 0)
		wantCached(t, c, "ada", "1")
		wantCached(t, other, "ada", "1")
		cachePut(t, other, "ada", "2", 0)
		wantCached(t, c, "ada", "2")
		cacheDelete(t, c, "ada")
		wantCached(t, other, "ada", "-")
		cachePut(t, c, "ada", "3", 0)
		wantCached(t, other, "ada", "3")
		wantCached(t, openCache(t, f, "users"), "ada", "3")
	})
}

func TestCacheTakesAnyBytes(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "\x00\xff")
		keys := []string{"", "\x00", "\x00\x00", "a", "a\x00", "ä\xff\xfe"}
		for n := range 40 {
			keys = append(keys, strings.Repeat("k", n+2))
		}
		for i, key := range keys {
			cachePut(t, c, key, strings.Repeat("v", i), 0)
		}
		for i, key := range keys {
			wantCached(t, c, key, strings.Repeat("v", i))
		}
	})
}

func TestCacheAppendsToTheCallersBuffer(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "")
		cachePut(t, c, "key", "value", 0)
		for _, room := range []int{0, 4, 5, 100} {
			dst := append(make([]byte, 0, 3+room), "old"...)
			got, ok, err := c.AppendGet(dst, "key")
			if string(got) != "oldvalue" || !ok || err != nil {
				t.Errorf("room for %d: got %q, %v, %v, want oldvalue", room, got, ok, err)
			}
			if moved := &got[0] != &dst[0]; moved != (room < 5) {
				t.Errorf("room for %d: moved to another array %v, want %v", room, moved, room < 5)
			}
			if got, ok, err = c.AppendGet(dst, "none"); string(got) != "old" || ok || err != nil {
				t.Errorf("room for %d, no such key: got %q, %v, %v, want old", room, got, ok, err)
			}
		}
	})
}

func TestCachePrefixesAreByteIdentity(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		names := [][2]string{{"", "abc"}, {"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"a\x00", "bc"}, {"a", "\x00bc"}, {"A", "bc"}}
		var caches []*orbit.Cache
		for _, n := range names {
			caches = append(caches, openCache(t, f, n[0]))
		}
		for i, n := range names {
			cachePut(t, caches[i], n[1], strconv.Itoa(i), 0)
		}
		for i, n := range names {
			wantCached(t, caches[i], n[1], strconv.Itoa(i))
			wantCached(t, openCache(t, f, n[0]), n[1], strconv.Itoa(i))
		}
		cacheReset(t, caches[1])
		for i, n := range names {
			want := strconv.Itoa(i)
			if n[0] == "a" {
				want = "-"
			}
			wantCached(t, caches[i], n[1], want)
		}
	})
}

func TestCacheResetShadowsWhatCameBefore(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		cachePut(t, c, "a", "1", 0)
		cachePut(t, c, "b", "1", 0)
		wantCached(t, c, "a", "1")
		cacheReset(t, c)
		wantCached(t, c, "a", "-")
		cachePut(t, c, "b", "2", 0)
		wantCached(t, c, "a", "-")
		wantCached(t, c, "b", "2")
		if m := cacheMeta(t, c, "a"); m.Hit || m.Epoch != 2 {
			t.Errorf("after the reset at 2: got %+v, want a miss decided at 2", m)
		}
		if m := cacheMeta(t, c, "never"); m.Hit || m.Epoch != 2 {
			t.Errorf("after the reset at 2, a key that never was: got %+v, want a miss decided at 2", m)
		}
	})
}

// cacheClock is a clock that moves when a test says so.
type cacheClock struct{ now atomic.Int64 }

func (k *cacheClock) read() time.Duration     { return time.Duration(k.now.Load()) }
func (k *cacheClock) advance(d time.Duration) { k.now.Add(int64(d)) }
func (k *cacheClock) wind(caches ...*orbit.Cache) {
	for _, c := range caches {
		c.Clock = k.read
	}
}

func TestCacheValuesExpire(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c, other := openCache(t, f, "p"), openCache(t, f, "p")
		var clock cacheClock
		clock.wind(c, other)
		cachePut(t, c, "a", "old", 0)
		cachePut(t, c, "a", "new", time.Second)
		wantCached(t, other, "a", "new")
		clock.advance(time.Second - 1)
		wantCached(t, c, "a", "new")
		clock.advance(1)
		// It has expired at the very moment, and still hides the older value.
		wantCached(t, c, "a", "-")
		wantCached(t, other, "a", "-")
		wantCached(t, openCacheAt(t, f, "p", &clock), "a", "-")
		if m := cacheMeta(t, c, "a"); m.Epoch != 1 || m.Expiry.IsZero() || m.Evicted {
			t.Errorf("expired at 1: got %+v, want a miss decided at 1, with its expiry", m)
		}
		cachePut(t, c, "a", "again", 0)
		wantCached(t, other, "a", "again")
	})
}

func openCacheAt(t testing.TB, f *orbit.Fleet, prefix string, clock *cacheClock) *orbit.Cache {
	c := openCache(t, f, prefix)
	clock.wind(c)
	return c
}

func TestCacheTimeToLiveAtItsLimits(t *testing.T) {
	f := local(t, orbit.Options{})
	for _, now := range []int64{math.MinInt64, -5, 0, 5, math.MaxInt64} {
		c := openCache(t, f, "p")
		var clock cacheClock
		clock.now.Store(now)
		clock.wind(c)
		for ttl, want := range map[time.Duration]string{
			0: "v", 1: "v", 5: "v", math.MaxInt64: "v", -1: "-", -5: "-", math.MinInt64 + 5: "-",
		} {
			if now == math.MaxInt64 && ttl > 0 || now == math.MinInt64 && ttl < 0 {
				continue // the clock has no such moment
			}
			cachePut(t, c, "k", "v", ttl)
			if value, ok, _ := c.Get("k"); ok != (want == "v") {
				t.Errorf("ttl %d at %d: got %q, %v, want %q", ttl, now, value, ok, want)
			}
		}
	}
}

func TestCacheExpiryIsATimeOfTheMonotonicClock(t *testing.T) {
	c := openCache(t, local(t, orbit.Options{}), "p")
	cachePut(t, c, "a", "1", time.Hour)
	_, m, err := c.GetMeta(nil, "a")
	if err != nil || !m.Hit {
		t.Fatalf("got %+v, %v, want a hit", m, err)
	}
	if left := time.Until(m.Expiry); left > time.Hour || left < time.Hour-time.Minute {
		t.Errorf("put for an hour: got %v left", left)
	}
	if !strings.Contains(m.Expiry.String(), "m=") {
		t.Errorf("expiry %v carries no monotonic reading, which a step of the wall clock would show", m.Expiry)
	}
	cachePut(t, c, "b", "1", 0)
	if m := cacheMeta(t, c, "b"); !m.Expiry.IsZero() {
		t.Errorf("put for ever: got expiry %v, want none", m.Expiry)
	}
}

func TestCacheEpochIsTheFrameThatDecided(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		var clock cacheClock
		clock.wind(c)
		check := func(key string, hit bool, epoch uint64) {
			t.Helper()
			if m := cacheMeta(t, c, key); m.Hit != hit || m.Epoch != epoch {
				t.Errorf("key %q: got %+v, want hit %v decided at %d", key, m, hit, epoch)
			}
		}
		check("a", false, 0)
		cachePut(t, c, "b", "0", 0)
		cachePut(t, c, "a", "1", 0)
		check("a", true, 1)
		cachePut(t, c, "b", "2", 0)
		check("a", true, 1)
		check("b", true, 2)
		cacheDelete(t, c, "b")
		check("b", false, 3)
		cachePut(t, c, "b", "4", -1)
		check("b", false, 4)
		wantAdded(t, c, "b", "5", 0, true)
		check("b", true, 5)
		cacheReset(t, c)
		check("a", false, 6)
		check("c", false, 6)
	})
}

func TestCacheRefusesWhatDoesNotFit(t *testing.T) {
	eachFleet(t, cacheShape(16, 100), func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "users")
		// 100 bytes less the lengths, 8, and the prefix, padded to 8.
		const room = 84
		for _, tt := range []struct {
			key, value int
			fits       bool
		}{
			{0, room, true}, {0, room + 1, false}, {1, room - 8, true}, {1, room - 7, false},
			{8, room - 8, true}, {9, room - 8, false}, {9, room - 16, true}, {80, 4, true}, {80, 5, false},
			{81, 0, false}, {84, 0, false}, {1000, 0, false}, {1 << 20, 1 << 20, false},
		} {
			key, value := strings.Repeat("k", tt.key), make([]byte, tt.value)
			_, addErr := c.Add("x"+key, value, 0)
			for what, err := range map[string]error{"put": c.Put(key, value, 0), "add": addErr} {
				if what == "add" && (tt.fits || tt.key%8 == 0) {
					continue
				}
				if (err == nil) != tt.fits || err != nil && !errors.Is(err, orbit.ErrTooLarge) {
					t.Errorf("%s of key %d, value %d: got %v, want fits %v", what, tt.key, tt.value, err, tt.fits)
				}
				want := fmt.Sprintf("key of %d bytes and value of %d bytes, limit %d ", tt.key, tt.value, room)
				if what == "put" && err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("got error %v, want it to say %q", err, want)
				}
			}
			if tt.fits {
				wantCached(t, c, key, string(value))
			} else if _, ok, err := c.Get(key); ok && tt.value == 0 || err != nil {
				t.Errorf("get of a key of %d bytes: got %v, %v, want a miss", tt.key, ok, err)
			}
		}
		for n, fits := range map[int]bool{0: true, 88: true, 92: false, 93: false, 1 << 17: false} {
			_, err := orbit.OpenCache(f, strings.Repeat("p", n))
			if (err == nil) != fits || err != nil && !errors.Is(err, orbit.ErrTooLarge) {
				t.Errorf("prefix of %d bytes: got %v, want fits %v", n, err, fits)
			}
		}
	})
}

func TestCacheInALargeRingLimitsKeysToWhatTheirLengthCanSay(t *testing.T) {
	f := local(t, cacheShape(2, 1<<18))
	c := openCache(t, f, "p")
	long := strings.Repeat("k", 1<<16-1)
	cachePut(t, c, long, "v", 0)
	wantCached(t, c, long, "v")
	err := c.Put(long+"k", nil, 0)
	if !errors.Is(err, orbit.ErrTooLarge) || !strings.Contains(err.Error(), "65535 for the key") {
		t.Errorf("got %v, want an error that names the limit of 65535", err)
	}
	wantCached(t, c, long+"k", "-")
	value := strings.Repeat("v", 1<<17)
	cachePut(t, c, "large", value, 0)
	wantCached(t, c, "large", value)
}

func TestCacheOfAnObserverIsReadOnly(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	_, err = orbit.OpenCache(o, "p")
	wantErr(t, "observe a cache that is not there", err, orbit.ErrNotExist)
	c := openCache(t, f, "p")
	seen := openCache(t, o, "p")
	cachePut(t, c, "a", "1", 0)
	wantCached(t, seen, "a", "1")
	wantAdded(t, c, "b", "2", 0, true)
	wantCached(t, seen, "b", "2")
	head := c.Ring().Head()
	wantErr(t, "put", seen.Put("a", nil, 0), orbit.ErrReadOnly)
	wantErr(t, "delete", seen.Delete("a"), orbit.ErrReadOnly)
	wantErr(t, "reset", seen.Reset(), orbit.ErrReadOnly)
	_, err = seen.Add("c", nil, 0)
	wantErr(t, "add", err, orbit.ErrReadOnly)
	if got := c.Ring().Head(); got != head {
		t.Errorf("the observer moved the head from %d to %d", head, got)
	}
	if got := cacheKeys(seen); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("keys: got %q, want a and b", got)
	}
}

func TestCacheAfterClose(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		cachePut(t, c, "a", "1", 0)
		wantCached(t, c, "a", "1")
		f.Close()
		_, openErr := orbit.OpenCache(f, "p")
		_, ok, getErr := c.AppendGet(make([]byte, 0, 64), "a")
		_, m, metaErr := c.GetMeta(nil, "a")
		_, statErr := c.Stat("a")
		_, statsErr := c.Stats()
		_, addErr := c.Add("b", nil, 0)
		for what, err := range map[string]error{
			"open": openErr, "get": getErr, "get meta": metaErr, "stat": statErr, "stats": statsErr, "add": addErr,
			"put": c.Put("a", nil, 0), "delete": c.Delete("a"), "reset": c.Reset(),
		} {
			if !errors.Is(err, orbit.ErrClosed) {
				t.Errorf("%s: got %v, want ErrClosed", what, err)
			}
		}
		if ok || m.Hit || cacheKeys(c) != nil {
			t.Errorf("a closed cache gave a value")
		}
	})
}

func TestCacheAllHasTheLiveKeysInOrder(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c, other := openCache(t, f, "p"), openCache(t, f, "q")
		var clock cacheClock
		clock.wind(c)
		for i, key := range []string{"a", "b", "c", "d", "e", "a"} {
			cachePut(t, c, key, key+strconv.Itoa(i), 0)
			cachePut(t, other, "x"+key, "", 0)
		}
		cacheDelete(t, c, "b")
		cachePut(t, c, "e", "short", 1)
		wantAdded(t, c, "b2", "added", 0, true)
		clock.advance(1)
		var got []string
		for key, value := range c.All() {
			got = append(got, key+"="+string(value))
			switch key {
			case "c":
				cacheDelete(t, c, "d") // before its turn
				cachePut(t, c, "a", "newer", 0)
			}
		}
		if want := []string{"c=c2", "a=newer", "b2=added"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for range c.All() {
			break
		}
	})
}

func TestCacheCountsHitsMissesAndEntries(t *testing.T) {
	eachFleet(t, cacheShape(8, 64), func(t *testing.T, f *orbit.Fleet) {
		c, other := openCache(t, f, "p"), openCache(t, f, "q")
		buf := make([]byte, 0, 64)
		for i := range 5 {
			cachePut(t, c, strconv.Itoa(i), "v", 0)
		}
		for range 3 {
			for i := range 7 {
				c.AppendGet(buf, strconv.Itoa(i))
			}
			c.GetMeta(buf, "0")
			c.GetMeta(buf, "7")
			c.Stat("0") // counts as neither
		}
		cachePut(t, other, "x", "v", 0)
		if got, want := cacheStats(t, c), (orbit.CacheStats{Hits: 18, Misses: 9, Entries: 5}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got, want := cacheStats(t, other), (orbit.CacheStats{Entries: 1}); got != want {
			t.Errorf("other prefix: got %+v, want %+v", got, want)
		}
	})
}

func TestCacheTellsWhatTheRingPushedOut(t *testing.T) {
	eachFleet(t, cacheShape(8, 64), func(t *testing.T, f *orbit.Fleet) {
		c, filler := openCache(t, f, "p"), openCache(t, f, "q")
		var clock cacheClock
		clock.wind(c)
		cachePut(t, c, "live", "v", 0)
		cachePut(t, c, "brief", "v", 5)
		cachePut(t, c, "gone", "v", 0)
		cacheDelete(t, c, "gone")
		wantAdded(t, c, "added", "v", 0, true)
		wantCached(t, c, "live", "v")
		clock.advance(5)
		fill := func(n int) {
			for range n {
				cachePut(t, filler, "x", "", 0)
			}
		}
		check := func(key string, evicted bool, epoch uint64) {
			t.Helper()
			if m := cacheMeta(t, c, key); m.Hit || m.Evicted != evicted || m.Epoch != epoch {
				t.Errorf("key %q: got %+v, want a miss, evicted %v, at %d", key, m, evicted, epoch)
			}
		}
		fill(3)
		wantCached(t, c, "live", "v")
		fill(1)
		check("live", true, 0)
		wantCached(t, c, "added", "v")
		fill(4)
		check("live", true, 0)
		check("brief", false, 0)
		check("gone", false, 0)
		check("added", true, 4)
		check("never", false, 0)
		if s := cacheStats(t, c); s.Evictions != 2 || s.Entries != 0 {
			t.Errorf("got %+v, want 2 evictions and no entries", s)
		}
		cachePut(t, c, "added", "w", 0)
		wantCached(t, c, "added", "w")
		fill(2)
		check("live", true, 0) // one lap ago
		fill(1)
		check("live", false, 0) // and now forgotten
		cachePut(t, c, "live", "v", 0)
		wantCached(t, c, "live", "v")
		fill(8)
		check("live", true, 17)
		cacheReset(t, c)
		check("live", false, 26) // the reset has the last word
		fill(8)
		check("live", false, 0)
	})
}

func TestCacheResetOfItsRingIsNoEviction(t *testing.T) {
	eachFleet(t, cacheShape(8, 64), func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		for i := range 6 {
			cachePut(t, c, strconv.Itoa(i), "v", 0)
		}
		wantCached(t, c, "3", "v")
		if err := c.Ring().Reset(); err != nil {
			t.Fatal(err)
		}
		if m := cacheMeta(t, c, "3"); m.Hit || m.Evicted {
			t.Errorf("after the reset: got %+v, want a plain miss", m)
		}
		wantCached(t, c, "4", "-")
		if s := cacheStats(t, c); s.Evictions != 0 || s.Entries != 0 {
			t.Errorf("got %+v, want no evictions and no entries", s)
		}
		cachePut(t, c, "3", "w", 0)
		wantCached(t, c, "3", "w")
	})
}

func TestCacheAddsOnlyWhatIsAbsent(t *testing.T) {
	eachFleet(t, cacheShape(8, 64), func(t *testing.T, f *orbit.Fleet) {
		c, other := openCache(t, f, "p"), openCache(t, f, "p")
		var clock cacheClock
		clock.wind(c, other)
		wantAdded(t, c, "a", "1", 0, true)
		wantAdded(t, other, "a", "2", 0, false)
		wantAdded(t, c, "a", "2", 0, false)
		wantCached(t, other, "a", "1")
		cacheDelete(t, other, "a")
		wantAdded(t, c, "a", "3", 10, true)
		wantAdded(t, other, "a", "4", 0, false)
		clock.advance(10)
		wantAdded(t, other, "a", "5", 0, true)
		wantCached(t, c, "a", "5")
		cacheReset(t, c)
		wantAdded(t, c, "a", "6", 0, true)
		cachePut(t, other, "a", "7", 0)
		wantAdded(t, c, "a", "8", 0, false)
		wantCached(t, c, "a", "7")
		for range 8 {
			cachePut(t, c, "x", "", 0)
		}
		wantAdded(t, other, "a", "9", 0, true) // the ring forgot
		wantCached(t, c, "a", "9")
	})
}

func TestCacheAddHasOneWinner(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		const adders, keys = 8, 200
		var wins [keys]atomic.Int32
		var winner [keys]atomic.Int32
		var wg sync.WaitGroup
		for id := range int32(adders) {
			c := openCache(t, f, "p")
			spawn(&wg, func() {
				for k := range keys {
					key := strconv.Itoa(k)
					won, err := c.Add(key, []byte(strconv.Itoa(int(id))), 0)
					if err != nil {
						t.Error(err)
						return
					}
					if won {
						wins[k].Add(1)
						winner[k].Store(id)
					}
					if _, ok, err := c.Get(key); !ok || err != nil {
						t.Errorf("key %s after an add: got %v, %v, want a value", key, ok, err)
					}
				}
			})
		}
		wg.Wait()
		c := openCache(t, f, "p")
		for k := range keys {
			if n := wins[k].Load(); n != 1 {
				t.Errorf("key %d: %d adders won, want 1", k, n)
			}
			wantCached(t, c, strconv.Itoa(k), strconv.Itoa(int(winner[k].Load())))
		}
	})
}

// TestCacheHandleServesManyGoroutines has goroutines that share a handle write
// keys of their own and one they share: each reads at once what it wrote.
func TestCacheHandleServesManyGoroutines(t *testing.T) {
	eachFleet(t, cacheShape(8192, 128), func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		var wg sync.WaitGroup
		for g := range 8 {
			spawn(&wg, func() {
				own, buf := "own"+strconv.Itoa(g), make([]byte, 0, 64)
				var last uint64
				for i := range 400 {
					value := selfVerifying(uint64(g)<<32|uint64(i), 40)
					if err := errors.Join(c.Put(own, value, 0), c.Put("shared", value, time.Hour)); err != nil {
						t.Error(err)
						return
					}
					got, ok, err := c.AppendGet(buf, own)
					if !ok || err != nil || !bytes.Equal(got, value) {
						t.Errorf("goroutine %d, put %d: got %x, %v, %v", g, i, got, ok, err)
						return
					}
					got, m, err := c.GetMeta(buf, "shared")
					if _, whole := verify(got); !m.Hit || err != nil || !whole || m.Epoch < last {
						t.Errorf("shared key: got %x, %+v, %v, after epoch %d", got, m, err, last)
						return
					}
					last = m.Epoch
				}
			})
		}
		wg.Wait()
		if got, want := cacheStats(t, c), (orbit.CacheStats{Hits: 8 * 400 * 2, Entries: 9}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestCacheReadsAndWritesWithoutAllocating(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "users")
		value, buf := make([]byte, 64), make([]byte, 0, 64)
		cachePut(t, c, "ada", string(value), time.Hour)
		for name, op := range map[string]func(){
			"hit":            func() { c.AppendGet(buf, "ada") },
			"miss":           func() { c.AppendGet(buf, "nobody") },
			"meta":           func() { c.GetMeta(buf, "ada") },
			"stat":           func() { c.Stat("ada") },
			"put":            func() { c.Put("ada", value, time.Hour) },
			"put and hit":    func() { c.Put("ada", value, 0); c.AppendGet(buf, "ada") },
			"delete and add": func() { c.Delete("x"); c.Add("x", value, 0) },
			"reset":          func() { c.Reset(); c.AppendGet(buf, "ada") },
		} {
			if n := testing.AllocsPerRun(100, op); n != 0 {
				t.Errorf("%s: got %v allocations, want 0", name, n)
			}
		}
	})
}

func TestCacheOfATruncatedSegmentIsDamaged(t *testing.T) {
	name := fleetName(t)
	c := openCache(t, join(t, name, orbit.Options{}), "p")
	cachePut(t, c, "a", "1", 0)
	wantCached(t, c, "a", "1")
	if err := os.Truncate(cacheSegmentPath(t, name), 0); err != nil {
		t.Fatal(err)
	}
	_, _, getErr := c.AppendGet(make([]byte, 0, 64), "a")
	_, statErr := c.Stat("a")
	_, statsErr := c.Stats()
	_, addErr := c.Add("b", nil, 0)
	for what, err := range map[string]error{"get": getErr, "stat": statErr, "stats": statsErr, "add": addErr, "put": c.Put("a", nil, 0)} {
		if !errors.Is(err, orbit.ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", what, err)
		}
	}
	if keys := cacheKeys(c); keys != nil {
		t.Errorf("keys: got %q, want none", keys)
	}
}

// ---- The cache against its definition ----

func cacheSegmentPath(t testing.TB, fleet string) string {
	path := fmt.Sprintf("/dev/shm/orbit-%s-%d-%d", fleet, orbit.KindCache, os.Geteuid())
	if _, err := os.Stat(path); err != nil {
		t.Skip("this test edits segments where Linux keeps them: ", err)
	}
	return path
}

// A cacheSegment is the segment of a fleet's cache, mapped by the test, which
// plays siblings that are stopped in the middle of a write.
type cacheSegment struct {
	t        testing.TB
	mem      []byte
	capacity uint64
	stride   uint64
}

const (
	segFirst = 192
	segHead  = 256
	segSlots = 4096

	slotSkipped = 0
	slotDone    = 1
	slotWriting = 2
	slotBusy    = 3
)

func mapCacheSegment(t testing.TB, fleet string) *cacheSegment {
	file, err := os.OpenFile(cacheSegmentPath(t, fleet), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	mem, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(mem) })
	word := func(off int) uint64 { return binary.NativeEndian.Uint64(mem[off:]) }
	return &cacheSegment{t: t, mem: mem, capacity: word(24), stride: word(40)}
}

func (s *cacheSegment) word(off uint64) *uint64 { return (*uint64)(unsafe.Pointer(&s.mem[off])) }
func (s *cacheSegment) head() uint64            { return atomic.LoadUint64(s.word(segHead)) }

func (s *cacheSegment) state(c uint64) *uint64 {
	return s.word(segSlots + c%s.capacity*s.stride)
}

// preset makes an empty ring begin at counter next.
func (s *cacheSegment) preset(next uint64) {
	for c := next - s.capacity; c != next; c++ {
		atomic.StoreUint64(s.state(c), c<<24|slotSkipped)
	}
	atomic.StoreUint64(s.word(segFirst), next)
	atomic.StoreUint64(s.word(segHead), next)
}

// cacheFrame is a record of the cache, and how a frame holds it.
type cacheFrame struct {
	op      uint8
	prefix  string
	key     string
	value   string
	expiry  int64
	settled uint32
}

const (
	opPut    = 1
	opAdd    = 2
	opDelete = 3
	opReset  = 4
)

func (f *cacheFrame) payload() []byte {
	pad := func(s string) string { return s + strings.Repeat("\x00", -len(s)&7) }
	lengths := uint64(len(f.prefix)) | uint64(len(f.key))<<16 | uint64(f.settled)<<32
	b := binary.NativeEndian.AppendUint64(nil, lengths)
	return append(b, pad(f.prefix)+pad(f.key)+f.value...)
}

// refCacheFrame decodes a frame, slowly. It is not ok if no cache wrote it.
func refCacheFrame(kind uint8, version uint64, payload []byte) (f cacheFrame, ok bool) {
	if len(payload) < 8 {
		return f, false
	}
	lengths := binary.NativeEndian.Uint64(payload)
	f = cacheFrame{op: kind, expiry: int64(version), settled: uint32(lengths >> 32)}
	n, k := int(lengths&0xffff), int(lengths>>16&0xffff)
	rest := payload[8:]
	if len(rest) < (n+7)/8*8+(k+7)/8*8 {
		return f, false
	}
	f.prefix, rest = string(rest[:n]), rest[(n+7)/8*8:]
	f.key, rest = string(rest[:k]), rest[(k+7)/8*8:]
	f.value = string(rest)
	ok = kind >= opPut && kind <= opReset && bytes.Equal(f.payload(), payload) &&
		(kind != opReset || f.key == "") && (kind == opAdd || f.settled == 0)
	return f, ok
}

// claim takes the next slot for a member, as a writer does before it writes.
// It is false if another member holds the slot.
func (s *cacheSegment) claim(owner uint64) (c uint64, ok bool) {
	c = s.head()
	st := atomic.LoadUint64(s.state(c))
	if st&2 != 0 {
		return 0, false
	}
	atomic.StoreUint64(s.state(c), c<<24|owner<<2|slotWriting)
	atomic.StoreUint64(s.word(segHead), c+1)
	return c, true
}

// fill writes a frame into a slot.
func (s *cacheSegment) fill(c uint64, f cacheFrame) {
	s.fillRaw(c, f.op, uint64(f.expiry), f.payload(), len(f.payload()))
}

func (s *cacheSegment) fillRaw(c uint64, kind uint8, version uint64, payload []byte, length int) {
	slot := segSlots + c%s.capacity*s.stride
	*s.word(slot + 8) = 99<<48 | uint64(kind)<<40 | uint64(uint32(length))
	*s.word(slot + 16) = version
	copy(s.mem[slot+24:slot+s.stride], payload)
}

// commit ends what claim began, and tells whether the frame is readable. If
// others voided or lapped it, the slot is let go.
func (s *cacheSegment) commit(c, owner uint64) bool {
	if atomic.CompareAndSwapUint64(s.state(c), c<<24|owner<<2|slotWriting, c<<24|slotDone) {
		return true
	}
	for {
		st := atomic.LoadUint64(s.state(c))
		if st&2 == 0 || st>>2&(1<<22-1) != owner || atomic.CompareAndSwapUint64(s.state(c), st, st>>24<<24|slotSkipped) {
			return false
		}
	}
}

// cacheOwner returns what names a member in state words: seat and turn.
func cacheOwner(t testing.TB, fleet string, node uint16) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/dev/shm/orbit-%s-0-%d", fleet, os.Geteuid()))
	if err != nil {
		t.Skip("this test reads the roster where Linux keeps it: ", err)
	}
	table := binary.NativeEndian.Uint64(b[56:])
	for seat := range uint64(orbit.MaxMembers) {
		at := table + 64*seat
		if st := binary.NativeEndian.Uint64(b[at:]); st&1 != 0 && binary.NativeEndian.Uint64(b[at+16:]) == uint64(node) {
			return seat<<12 | st>>1
		}
	}
	t.Fatalf("node %d has no seat", node)
	return 0
}

// refAnswer is what the definition of the cache says about a key.
type refAnswer struct {
	hit   bool
	epoch uint64
	value string
}

// refCache walks a ring backwards, as the definition of the cache does.
func refCache(r *orbit.Ring, now int64, prefix, key string) refAnswer {
	head, capacity := r.Head(), uint64(r.Geometry().Capacity)
	for c := head - 1; c != head-capacity-1; c-- {
		f, status := refFrameAt(r, c)
		switch {
		case errors.Is(status, orbit.ErrOverwritten):
			return refAnswer{}
		case status != nil || f.prefix != prefix:
		case f.op == opReset:
			return refAnswer{epoch: c}
		case f.key != key:
		case f.op == opDelete:
			return refAnswer{epoch: c}
		case f.op == opAdd && !refCounts(r, c, f):
		case f.expiry != 0 && now >= f.expiry:
			return refAnswer{epoch: c}
		default:
			return refAnswer{true, c, f.value}
		}
	}
	return refAnswer{}
}

// refCounts tells whether the add f at counter c counts.
func refCounts(r *orbit.Ring, c uint64, f cacheFrame) bool {
	window := uint64(uint32(c) - f.settled)
	if window > 256 || window > uint64(r.Geometry().Capacity/2) {
		return false
	}
	for q := c - 1; q != c-window-1; q-- {
		g, status := refFrameAt(r, q)
		switch {
		case errors.Is(status, orbit.ErrPending), errors.Is(status, orbit.ErrOverwritten):
			return false
		case status != nil || g.prefix != f.prefix:
		case g.op == opReset || g.op == opDelete && g.key == f.key:
			return true
		case g.key == f.key:
			return false
		}
	}
	return true
}

// errNoRecord is a frame that no cache wrote.
var errNoRecord = errors.New("not a record")

func refFrameAt(r *orbit.Ring, c uint64) (cacheFrame, error) {
	f, err := r.ReadAt(c, nil)
	if err != nil {
		return cacheFrame{}, err
	}
	rec, ok := refCacheFrame(f.Kind, f.Version, f.Payload)
	if !ok {
		return rec, errNoRecord
	}
	return rec, nil
}

// A cacheHistory makes a history of a cache, one random step after another,
// with siblings that stop in the middle of a write, go on or die, and compares
// what handles say with the walk.
type cacheHistory struct {
	t       testing.TB
	name    string
	rng     *rand.Rand
	seg     *cacheSegment
	ring    *orbit.Ring // an observer's
	clock   cacheClock
	writers []*orbit.Cache // that make the history
	readers []*orbit.Cache // that are compared with it
	keys    []string

	sibling *orbit.Fleet
	owner   uint64
	stopped []uint64 // counters of frames the sibling did not finish
	serial  int
	did     []string
}

var historyPrefixes = []string{"", "a", "ab"}

func newCacheHistory(t testing.TB, rng *rand.Rand, capacity int, next uint64) *cacheHistory {
	h := &cacheHistory{t: t, name: fleetName(t), rng: rng, keys: []string{"", "a", "b", "bc", "a long key of 24 letters"}}
	f := join(t, h.name, cacheShape(capacity, 96))
	openCache(t, f, "") // creates the ring
	h.seg = mapCacheSegment(t, h.name)
	h.seg.preset(next)
	o, err := orbit.Observe(h.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	if h.ring, err = o.Ring(orbit.KindCache); err != nil {
		t.Fatal(err)
	}
	h.clock.now.Store(1000)
	for _, p := range historyPrefixes {
		h.writers = append(h.writers, openCacheAt(t, f, p, &h.clock))
		h.readers = append(h.readers, openCacheAt(t, f, p, &h.clock), openCacheAt(t, o, p, &h.clock))
	}
	h.replaceSibling()
	return h
}

func (h *cacheHistory) logf(format string, args ...any) {
	h.did = append(h.did, fmt.Sprintf(format, args...))
	if len(h.did) > 40 {
		h.did = h.did[1:]
	}
}

func (h *cacheHistory) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s\nafter\n  %s", fmt.Sprintf(format, args...), strings.Join(h.did, "\n  "))
}

func (h *cacheHistory) pick(list []string) string { return list[h.rng.IntN(len(list))] }

// replaceSibling lets the sibling die, if there is one, and brings up another.
func (h *cacheHistory) replaceSibling() {
	if h.sibling != nil {
		h.sibling.Close()
	}
	f, err := orbit.Join(h.name, orbit.Options{Size: 1})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { f.Close() })
	h.sibling, h.owner, h.stopped = f, cacheOwner(h.t, h.name, f.Node()), nil
}

// ttl returns a time to live, often none.
func (h *cacheHistory) ttl() time.Duration {
	return time.Duration([]int{0, 0, 0, 1, 3, 20, -1}[h.rng.IntN(7)])
}

func (h *cacheHistory) value() string {
	h.serial++
	return strings.Repeat("v", h.rng.IntN(9)) + strconv.Itoa(h.serial)
}

// step does one thing at random.
func (h *cacheHistory) step() {
	c, key, value := h.writers[h.rng.IntN(len(h.writers))], h.pick(h.keys), h.value()
	var err error
	switch n := h.rng.IntN(20); {
	case n < 5:
		ttl := h.ttl()
		h.logf("put %q %q = %q for %d at %d", c.Prefix(), key, value, ttl, h.seg.head())
		err = c.Put(key, []byte(value), ttl)
	case n < 8:
		h.add(c, key, value)
	case n < 10:
		h.logf("delete %q %q at %d", c.Prefix(), key, h.seg.head())
		err = c.Delete(key)
	case n < 11 && h.rng.IntN(3) == 0:
		h.logf("reset %q at %d", c.Prefix(), h.seg.head())
		err = c.Reset()
	case n < 11:
		h.logf("the clock moves on")
		h.clock.advance(time.Duration(h.rng.IntN(5)))
	case n < 12 && h.rng.IntN(20) == 0:
		h.logf("the ring is reset at %d", h.seg.head())
		atomic.StoreUint64(h.seg.word(segFirst), h.seg.head())
	case n < 12 && h.rng.IntN(5) == 0:
		h.logf("the sibling dies, %d unfinished", len(h.stopped))
		h.replaceSibling()
	case n < 16:
		h.begin(c.Prefix(), key, value)
	default:
		h.finish()
	}
	if err != nil {
		h.fatalf("%v", err)
	}
}

func (h *cacheHistory) add(c *orbit.Cache, key, value string) {
	before := refCache(h.ring, int64(h.clock.read()), c.Prefix(), key)
	ttl := h.ttl()
	added, err := c.Add(key, []byte(value), ttl)
	h.logf("add %q %q = %q for %d: %v, head %d", c.Prefix(), key, value, ttl, added, h.seg.head())
	after := refCache(h.ring, int64(h.clock.read()), c.Prefix(), key)
	switch {
	case err != nil || added && before.hit:
		h.fatalf("add: got %v, %v with the key found to be %+v", added, err, before)
	case added && ttl >= 0 && (!after.hit || after.value != value):
		h.fatalf("after the add that won: got %+v, want %q", after, value)
	case !added && (!after.hit || after.value == value):
		// It may be an older add that was open before.
		h.fatalf("after the add that lost: got %+v, want another value", after)
	}
}

// begin lets the sibling claim a slot, fill it at once or when it finishes,
// and stop.
func (h *cacheHistory) begin(prefix, key, value string) {
	if uint64(len(h.stopped))*2 >= h.seg.capacity {
		return
	}
	f := cacheFrame{op: uint8(1 + h.rng.IntN(4)), prefix: prefix, key: key, value: value}
	if ttl := h.ttl(); ttl != 0 {
		f.expiry = int64(h.clock.read() + ttl)
	}
	head := h.seg.head()
	switch f.op {
	case opAdd:
		f.settled = uint32(head) - uint32(h.rng.IntN(4))
		if h.rng.IntN(8) == 0 {
			f.settled = uint32(head) - h.rng.Uint32N(400)
		}
	case opReset:
		f.key, f.value = "", ""
	case opDelete:
		f.value = ""
	}
	if n, ok := h.seg.claim(h.owner); ok {
		h.logf("the sibling begins %+v at %d", f, n)
		h.seg.fill(n, f)
		h.stopped = append(h.stopped, n)
		if h.rng.IntN(4) == 0 {
			h.finish()
		}
	}
}

// finish lets the sibling go on with one of its frames.
func (h *cacheHistory) finish() {
	if len(h.stopped) == 0 {
		return
	}
	i := h.rng.IntN(len(h.stopped))
	n := h.stopped[i]
	h.stopped = slices.Delete(h.stopped, i, i+1)
	h.logf("the sibling finishes %d: %v", n, h.seg.commit(n, h.owner))
}

// check compares readers with the walk: all of them, or some.
func (h *cacheHistory) check(all bool) {
	h.t.Helper()
	now := int64(h.clock.read())
	for _, c := range h.readers {
		if !all && h.rng.IntN(3) > 0 {
			continue
		}
		live := 0
		for _, key := range h.keys {
			want := refCache(h.ring, now, c.Prefix(), key)
			got, m, err := c.GetMeta(make([]byte, 0, h.rng.IntN(20)), key)
			if m.Evicted {
				m.Epoch = 0
			}
			if err != nil || (refAnswer{m.Hit, m.Epoch, string(got)}) != want {
				h.fatalf("prefix %q key %q at head %d: got %q, %+v, error %v, want %+v", c.Prefix(), key, h.ring.Head(), got, m, err, want)
			}
			if want.hit {
				live++
			}
			got, ok, err := c.AppendGet(make([]byte, 0, 32), key)
			if err != nil || ok != want.hit || string(got) != want.value {
				h.fatalf("prefix %q key %q: got %q, %v, error %v, want %+v", c.Prefix(), key, got, ok, err, want)
			}
		}
		if s := cacheStats(h.t, c); s.Entries != live {
			h.fatalf("prefix %q: got %d entries, want %d", c.Prefix(), s.Entries, live)
		}
		if keys := cacheKeys(c); len(keys) != live {
			h.fatalf("prefix %q: got keys %q, want %d", c.Prefix(), keys, live)
		}
	}
}

// TestCacheIsTheWalk holds the index to the definition through random
// histories, in small and large rings, and where counters wrap.
func TestCacheIsTheWalk(t *testing.T) {
	steps := 1500
	if testing.Short() {
		steps = 200
	}
	for i, next := range []uint64{0, 1<<32 - 50, 1<<40 - 50, math.MaxUint64 - 50, 1<<40 - 2, 12345} {
		for _, capacity := range []int{2, 4, 8, 16, 64, 512} {
			t.Run(fmt.Sprintf("%d slots from %d", capacity, next), func(t *testing.T) {
				h := newCacheHistory(t, rand.New(rand.NewPCG(uint64(i), uint64(capacity))), capacity, next)
				for s := range steps {
					h.step()
					h.check(s%16 == 0)
				}
			})
		}
	}
}

// ---- Stopped and dead siblings ----

// A siblingRig is a fleet's cache with a sibling whose writes the test begins
// and finishes.
type siblingRig struct {
	*cacheSegment
	fleet   *orbit.Fleet
	cache   *orbit.Cache
	sibling *orbit.Fleet
	owner   uint64
}

func newSiblingRig(t testing.TB, capacity int) siblingRig {
	name := fleetName(t)
	f := join(t, name, cacheShape(capacity, 96))
	c := openCache(t, f, "p")
	sibling := join(t, name, orbit.Options{})
	return siblingRig{mapCacheSegment(t, name), f, c, sibling, cacheOwner(t, name, sibling.Node())}
}

// begin has the sibling write all of a frame but its commit.
func (s *siblingRig) begin(f cacheFrame) uint64 {
	s.t.Helper()
	n, ok := s.claim(s.owner)
	if !ok {
		s.t.Fatalf("slot of counter %d is held", s.head())
	}
	s.fill(n, f)
	return n
}

func (s *siblingRig) finish(n uint64) bool { return s.commit(n, s.owner) }

func TestCacheReadsItsOwnWritesBehindAStoppedSibling(t *testing.T) {
	rig := newSiblingRig(t, 16)
	c := rig.cache
	cachePut(t, c, "mine", "0", 0)
	cachePut(t, c, "theirs", "old", 0)
	n := rig.begin(cacheFrame{op: opPut, prefix: "p", key: "theirs", value: "new"})
	for i := range 100 {
		cachePut(t, c, "mine", strconv.Itoa(i), 0)
		wantCached(t, c, "mine", strconv.Itoa(i))
	}
	_ = n
	if rig.finish(n) {
		t.Error("a frame lapped six times was committed")
	}
	wantCached(t, c, "theirs", "-")
	wantCached(t, c, "mine", "99")
}

func TestCacheTakesALateFrameForWhatItsCounterSays(t *testing.T) {
	rig := newSiblingRig(t, 16)
	c := rig.cache
	put := func(key string) cacheFrame { return cacheFrame{op: opPut, prefix: "p", key: key, value: "late"} }
	first, second := rig.begin(put("a")), rig.begin(put("b"))
	cachePut(t, c, "a", "newer", 0)
	wantCached(t, c, "a", "newer")
	wantCached(t, c, "b", "-")
	head := rig.head()
	rig.finish(first)
	wantCached(t, c, "a", "newer") // late, and older
	rig.finish(second)
	wantCached(t, c, "b", "late")
	if got := rig.head(); got != head {
		t.Fatalf("the head moved from %d to %d", head, got)
	}
	third := rig.begin(cacheFrame{op: opReset, prefix: "p"})
	cachePut(t, c, "c", "after", 0)
	wantCached(t, c, "b", "late")
	rig.finish(third)
	wantCached(t, c, "a", "-")
	wantCached(t, c, "b", "-")
	wantCached(t, c, "c", "after")
}

func TestCachePassesTheFrameOfADeadSibling(t *testing.T) {
	rig := newSiblingRig(t, 16)
	c := rig.cache
	cachePut(t, c, "a", "1", 0)
	rig.begin(cacheFrame{op: opPut, prefix: "p", key: "a", value: "2"})
	wantCached(t, c, "a", "1")
	rig.sibling.Close()
	wantCached(t, c, "a", "1")
	wantAdded(t, c, "b", "1", 0, true)
	for i := range 40 {
		cachePut(t, c, "a", strconv.Itoa(i), 0)
		wantCached(t, c, "a", strconv.Itoa(i))
	}
}

// TestCacheAddVoidsAnUnfinishedWrite shows what lets an add return at once:
// the frame of a stopped sibling that might have come before it becomes a
// hole, and its commit fails.
func TestCacheAddVoidsAnUnfinishedWrite(t *testing.T) {
	for _, op := range []uint8{opPut, opAdd} {
		rig := newSiblingRig(t, 16)
		c := rig.cache
		n := rig.begin(cacheFrame{op: op, prefix: "p", key: "a", value: "theirs", settled: uint32(rig.head())})
		wantAdded(t, c, "a", "mine", 0, true)
		if _, err := c.Ring().ReadAt(n, nil); !errors.Is(err, orbit.ErrHole) {
			t.Errorf("the unfinished frame: got %v, want a hole", err)
		}
		if st := atomic.LoadUint64(rig.state(n)); st != n<<24|rig.owner<<2|slotBusy {
			t.Errorf("its slot: got state %#x, want it still to be its owner's", st)
		}
		if rig.finish(n) {
			t.Error("the voided frame was committed")
		}
		wantCached(t, c, "a", "mine")
		if st := atomic.LoadUint64(rig.state(n)); st != n<<24|slotSkipped {
			t.Errorf("its slot: got state %#x, want it let go", st)
		}
	}
}

// TestCacheAddIsOpenWhileAnEarlierFrameMayDecide plays two siblings that add a
// key at once: one stops before its commit, and the other between its commit
// and its second look.
func TestCacheAddIsOpenWhileAnEarlierFrameMayDecide(t *testing.T) {
	for _, tt := range []struct {
		name        string
		finish, die bool
		want        string
	}{
		{"the earlier one commits and wins", true, false, "earlier"},
		{"the earlier one dies and the later wins", false, true, "later"},
		{"a third adder voids the earlier, so that the later wins", false, false, "later"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rig := newSiblingRig(t, 16)
			c := rig.cache
			settled := uint32(rig.head())
			earlier := rig.begin(cacheFrame{op: opAdd, prefix: "p", key: "a", value: "earlier", settled: settled})
			later := rig.begin(cacheFrame{op: opAdd, prefix: "p", key: "a", value: "later", settled: settled})
			rig.finish(later)
			wantCached(t, c, "a", "-") // neither has won
			switch {
			case tt.finish:
				rig.finish(earlier)
			case tt.die:
				rig.sibling.Close()
			default:
				wantAdded(t, c, "a", "third", 0, false)
			}
			wantCached(t, c, "a", tt.want)
		})
	}
}

// TestCacheAddThatLostNeverComesBack pushes the winner out of the ring first.
func TestCacheAddThatLostNeverComesBack(t *testing.T) {
	rig := newSiblingRig(t, 16)
	c := rig.cache
	settled := uint32(rig.head())
	for _, value := range []string{"first", "second", "third"} {
		n := rig.begin(cacheFrame{op: opAdd, prefix: "p", key: "a", value: value, settled: settled})
		rig.finish(n)
	}
	for range 13 {
		wantCached(t, c, "a", "first")
		cachePut(t, c, "x", "", 0)
	}
	wantCached(t, c, "a", "first")
	for range 20 {
		cachePut(t, c, "x", "", 0)
		wantCached(t, c, "a", "-")
		wantCached(t, openCache(t, rig.fleet, "p"), "a", "-")
	}
}

// TestCacheOutlivesAStoppedWriteInATinyRing laps a stopped sibling in rings of
// very few slots.
func TestCacheOutlivesAStoppedWriteInATinyRing(t *testing.T) {
	rig := newSiblingRig(t, 2)
	n := rig.begin(cacheFrame{op: opPut, prefix: "p", key: "a", value: "theirs"})
	for i := range 10 {
		cachePut(t, rig.cache, "a", strconv.Itoa(i), 0)
		wantCached(t, rig.cache, "a", strconv.Itoa(i))
	}
	if rig.finish(n) {
		t.Error("a lapped frame was committed")
	}
	wantCached(t, rig.cache, "a", "9")
}

func TestCacheInARingOfOneSlot(t *testing.T) {
	eachFleet(t, cacheShape(1, 64), func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		for i := range 5 {
			key := strconv.Itoa(i % 2)
			wantAdded(t, c, key, strconv.Itoa(i), 0, true)
			wantAdded(t, c, key, "no", 0, false)
			wantCached(t, c, key, strconv.Itoa(i))
		}
		if s := cacheStats(t, c); s.Evictions != 4 || s.Entries != 1 {
			t.Errorf("got %+v, want 4 evictions and 1 entry", s)
		}
	})
}

// ---- Examples and benchmarks ----

func ExampleCache() {
	fleet, err := orbit.Local("web", orbit.Options{Size: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer fleet.Close()
	sessions, err := orbit.OpenCache(fleet, "session:")
	if err != nil {
		fmt.Println(err)
		return
	}
	sessions.Put("41", []byte("ada"), 30*time.Minute)
	sessions.Put("42", []byte("bob"), 30*time.Minute)
	sessions.Delete("42")
	for _, id := range []string{"41", "42"} {
		user, ok, err := sessions.Get(id)
		fmt.Printf("%s: %q %v %v\n", id, user, ok, err)
	}
	for id, user := range sessions.All() {
		fmt.Printf("%s is %s\n", id, user)
	}
	stats, _ := sessions.Stats()
	fmt.Printf("%d hit, %d miss, %d entry\n", stats.Hits, stats.Misses, stats.Entries)
	// Output:
	// 41: "ada" true <nil>
	// 42: "" false <nil>
	// 41 is ada
	// 1 hit, 1 miss, 1 entry
}

// Of all the processes that find a report missing, one makes it.
func ExampleCache_Add() {
	fleet, _ := orbit.Local("web", orbit.Options{Size: 1})
	defer fleet.Close()
	reports, _ := orbit.OpenCache(fleet, "report:")
	for range 2 {
		mine, err := reports.Add("daily", []byte("in the making"), time.Minute)
		fmt.Println(mine, err)
	}
	// Output:
	// true <nil>
	// false <nil>
}

// A caller that keeps what it made of a value asks only for the epoch.
func ExampleCache_Stat() {
	fleet, _ := orbit.Local("web", orbit.Options{Size: 1})
	defer fleet.Close()
	configs, _ := orbit.OpenCache(fleet, "config:")

	type parsed struct {
		epoch uint64
		words []string
	}
	kept := map[string]parsed{}
	words := func(key string) []string {
		now, err := configs.Stat(key)
		if p, ok := kept[key]; ok && err == nil && now.Hit && p.epoch == now.Epoch {
			return p.words
		}
		text, meta, err := configs.GetMeta(nil, key)
		if err != nil || !meta.Hit {
			return nil
		}
		fmt.Println("parsing", string(text))
		kept[key] = parsed{meta.Epoch, strings.Fields(string(text))}
		return kept[key].words
	}
	configs.Put("hosts", []byte("a b c"), 0)
	fmt.Println(len(words("hosts")), len(words("hosts")))
	configs.Put("hosts", []byte("a b c d"), 0)
	fmt.Println(len(words("hosts")), len(words("hosts")))
	// Output:
	// parsing a b c
	// 3 3
	// parsing a b c d
	// 4 4
}

// BenchmarkCache measures reads with the ring unchanged, writes, and a read
// after every write, beside one atomic add.
func BenchmarkCache(b *testing.B) {
	open := map[string]func(b *testing.B) *orbit.Fleet{
		"local":            func(b *testing.B) *orbit.Fleet { return local(b, orbit.Options{}) },
		"shared":           func(b *testing.B) *orbit.Fleet { return join(b, fleetName(b), orbit.Options{}) },
		"shared unguarded": func(b *testing.B) *orbit.Fleet { return join(b, fleetName(b), orbit.Options{NoFaultGuard: true}) },
	}
	for _, name := range []string{"local", "shared", "shared unguarded"} {
		b.Run(name, func(b *testing.B) {
			f := open[name](b)
			c := openCache(b, f, "users:")
			value, buf := make([]byte, 64), make([]byte, 0, 64)
			cachePut(b, c, "ada.lovelace", string(value), 0)
			cachePut(b, c, "for an hour", string(value), time.Hour)
			run := func(name string, op func()) {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						op()
					}
				})
			}
			var word atomic.Uint64
			run("atomic add", func() { word.Add(1) })
			run("hit", func() { c.AppendGet(buf, "ada.lovelace") })
			run("hit that expires", func() { c.AppendGet(buf, "for an hour") })
			run("miss", func() { c.AppendGet(buf, "charles.babbage") })
			run("stat", func() { c.Stat("ada.lovelace") })
			b.Run("hit, parallel", func(b *testing.B) {
				b.RunParallel(func(pb *testing.PB) {
					buf := make([]byte, 0, 64)
					for pb.Next() {
						c.AppendGet(buf, "ada.lovelace")
					}
				})
			})
			w := openCache(b, f, "users:")
			run("put", func() { w.Put("ada.lovelace", value, 0) })
			run("put and hit", func() { c.Put("ada.lovelace", value, 0); c.AppendGet(buf, "ada.lovelace") })
			run("delete and add", func() { c.Delete("ada.lovelace"); c.Add("ada.lovelace", value, 0) })
		})
	}
}
