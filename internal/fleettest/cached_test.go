//go:build linux

package fleettest

import (
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// TestCachedValueExpiresOnEveryWayToReadIt: which way a read takes depends on
// whether the caller's buffer has room, and on what was read before.
func TestCachedValueExpiresOnEveryWayToReadIt(t *testing.T) {
	f := join(t, proc.Fleet(t), orbit.Options{Size: 1})
	c, err := orbit.OpenCache(f, "")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Hour
	c.Clock = func() time.Duration { return now }
	ways := map[string]func() (bool, error){
		"AppendGet with room":    func() (bool, error) { _, ok, err := c.AppendGet(make([]byte, 0, 64), "key"); return ok, err },
		"AppendGet without room": func() (bool, error) { _, ok, err := c.AppendGet(nil, "key"); return ok, err },
		"GetMeta":                func() (bool, error) { _, m, err := c.GetMeta(nil, "key"); return m.Hit, err },
		"Stat":                   func() (bool, error) { m, err := c.Stat("key"); return m.Hit, err },
		"All": func() (bool, error) {
			for range c.All() {
				return true, nil
			}
			return false, nil
		},
	}
	for name, read := range ways {
		if err := c.Put("key", []byte("value"), time.Second); err != nil {
			t.Fatal(err)
		}
		for _, at := range []struct {
			passed time.Duration
			want   bool
		}{{0, true}, {time.Second - 1, true}, {1, false}, {time.Hour, false}} {
			now += at.passed
			for again := range 2 {
				if got, err := read(); got != at.want || err != nil {
					t.Errorf("%s, %v later, read %d: hit %v, %v; want %v", name, at.passed, again+1, got, err, at.want)
				}
			}
		}
	}
}
