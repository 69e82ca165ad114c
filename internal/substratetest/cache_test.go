//go:build linux

package substratetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func init() { proc.Helper("mixer", mixer) }

func openCache(name, geometry, prefix string) (*orbit.Fleet, *orbit.Cache, error) {
	f, err := orbit.Join(name, options(orbit.KindCache, geometry))
	if err != nil {
		return nil, nil, err
	}
	c, err := orbit.OpenCache(f, prefix)
	return f, c, err
}

func cache(t testing.TB, name, geometry, prefix string) *orbit.Cache {
	t.Helper()
	c, err := orbit.OpenCache(join(t, name, options(orbit.KindCache, geometry)), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ---- Values that name their key ----

// A value begins with the number of its key, and what follows is a mark.

// keyBits are the low bits of a mark's maker that say of which key a value is.
const keyBits = 16

func value(buf []byte, key, who, turn uint64, n int) []byte {
	return mark(buf[:0], who<<keyBits|key, turn, n)
}

// checkValue returns who wrote a value of a key, and in which turn.
func checkValue(p []byte, key uint64) (who, turn uint64, err error) {
	maker, turn, err := readMark(p)
	if err == nil && maker&(1<<keyBits-1) != key {
		err = fmt.Errorf("key %d has a value of key %d", key, maker&(1<<keyBits-1))
	}
	return maker >> keyBits, turn, err
}

// ---- A member that does everything at once ----

// A mix is what a member does with keys that all write, and with keys of its
// own, and what it knows of them.
type mix struct {
	who    uint64
	turn   uint64
	shared *orbit.Cache
	own    *orbit.Cache
	buf    []byte
	slots  uint64
	room   int
	epoch  map[uint64]uint64              // of each shared key, the newest seen
	latest map[uint64]map[uint64]uint64   // of each shared key, the newest turn seen by its writer
	mine   [4]struct{ turn, from uint64 } // of each own key, the turn put last, 0 for none, and the head before that
	counts struct{ hits, gone, added uint64 }
}

const (
	sharedKeys = 12
	ownKeys    = 4
	// ahead is how far beyond the head writers may have marked slots: those of
	// one burst each, or of as many frames as there are writers.
	ahead = 64
)

// mixer mixes until it is told to end: fleet, geometry, who it is. It says so
// if anything is not as it must be.
func mixer(args []string) error {
	told := untilTold(proc.WatchParent())
	who, _ := strconv.ParseUint(args[2], 10, 64)
	f, shared, err := openCache(args[0], args[1], "shared")
	if err != nil {
		return err
	}
	own, err := orbit.OpenCache(f, "own "+args[2])
	if err != nil {
		return err
	}
	g := shared.Ring().Geometry()
	m := &mix{who: who, shared: shared, own: own, slots: uint64(g.Capacity), room: g.PayloadLimit - 64}
	m.epoch, m.latest = map[uint64]uint64{}, map[uint64]map[uint64]uint64{}
	fmt.Println("ready")
	for !told() {
		if err := unlessBusy(m.step()); err != nil {
			fmt.Println(err)
			return err
		}
	}
	fmt.Println("sound", m.turn, m.counts.hits, m.counts.gone, m.counts.added)
	return f.Close()
}

// unlessBusy passes over that others hold all slots, or are too many to add
// beside.
func unlessBusy(err error) error {
	if errors.Is(err, orbit.ErrBusy) {
		return nil
	}
	return err
}

func (m *mix) step() error {
	m.turn++
	key := rand.Uint64N(sharedKeys)
	n := 16 + rand.IntN(m.room-16)
	m.buf = value(m.buf, key, m.who, m.turn, n)
	var err error
	switch name := strconv.FormatUint(key, 10); rand.IntN(20) {
	case 0:
		err = m.shared.Delete(name)
	case 1:
		_, err = m.shared.Add(name, m.buf, 0)
	case 2:
		err = m.shared.Put(name, m.buf, time.Millisecond)
	case 3:
		if rand.IntN(50) == 0 {
			err = m.shared.Reset()
		}
	case 4, 5, 6, 7, 8:
		err = m.shared.Put(name, m.buf, 0)
	case 9, 10, 11, 12:
		err = m.writeOwn(rand.Uint64N(ownKeys))
	default:
		err = m.readShared(key, name)
	}
	if err != nil {
		return err
	}
	return m.readOwn(rand.Uint64N(ownKeys))
}

// readShared reads a key that all write: it has a whole value of its own, from
// no frame older than one seen before, and of no writer an older one.
func (m *mix) readShared(key uint64, name string) error {
	got, meta, err := m.shared.GetMeta(m.buf[:0], name)
	m.buf = got
	if err != nil || !meta.Hit {
		return err
	}
	m.counts.hits++
	who, turn, err := checkValue(got, key)
	if err != nil {
		return err
	}
	if m.latest[key] == nil {
		m.latest[key] = map[uint64]uint64{}
	}
	if meta.Epoch < m.epoch[key] || turn < m.latest[key][who] {
		return fmt.Errorf("key %d went back to turn %d of %d at epoch %d, after turn %d and epoch %d", key, turn, who, meta.Epoch, m.latest[key][who], m.epoch[key])
	}
	m.epoch[key], m.latest[key][who] = meta.Epoch, turn
	return nil
}

// writeOwn changes a key that nobody else writes.
func (m *mix) writeOwn(key uint64) (err error) {
	mine, name := &m.mine[key], strconv.FormatUint(key, 10)
	m.buf = value(m.buf, key, m.who, m.turn, 16+rand.IntN(m.room-16))
	head := m.own.Ring().Head()
	switch rand.IntN(8) {
	case 0:
		if err = m.own.Delete(name); err == nil {
			mine.turn = 0
		}
	case 1:
		if err = m.own.Reset(); err == nil {
			for i := range m.mine {
				m.mine[i].turn = 0
			}
		}
	case 2:
		err = m.addOwn(key, name, head)
	default:
		if err = m.own.Put(name, m.buf, 0); err == nil {
			mine.turn, mine.from = m.turn, head
		}
	}
	return err
}

// addOwn adds a key of its own, which must succeed if it has nothing.
func (m *mix) addOwn(key uint64, name string, head uint64) error {
	mine := &m.mine[key]
	added, err := m.own.Add(name, m.buf, 0)
	switch {
	case err != nil:
		return err
	case added && mine.turn != 0 && !m.lapped(mine.from):
		return fmt.Errorf("own key %d was added over the value of turn %d", key, mine.turn)
	case !added && mine.turn == 0:
		return fmt.Errorf("own key %d has nothing and cannot be added", key)
	case added:
		m.counts.added++
		// It may be pushed out as many frames earlier as lie between the look
		// and the frame.
		mine.turn, mine.from = m.turn, head-min(head, 256)
	}
	return nil
}

// lapped tells whether a frame published after the head was at a counter may
// be overwritten by now.
func (m *mix) lapped(from uint64) bool {
	return m.own.Ring().Head()+ahead >= from+m.slots
}

// readOwn reads a key that nobody else writes: it has what was put last,
// unless the ring was lapped since.
func (m *mix) readOwn(key uint64) error {
	mine := m.mine[key]
	got, meta, err := m.own.GetMeta(m.buf[:0], strconv.FormatUint(key, 10))
	m.buf = got
	switch {
	case err != nil:
		return err
	case !meta.Hit && mine.turn != 0 && !m.lapped(mine.from):
		return fmt.Errorf("own key %d lost the value of turn %d: %+v, put at %d or later, head %d", key, mine.turn, meta, mine.from, m.own.Ring().Head())
	case !meta.Hit:
		m.counts.gone++
		return nil
	}
	m.counts.hits++
	who, turn, err := checkValue(got, key)
	if err == nil && (who != m.who || turn != mine.turn) {
		err = fmt.Errorf("own key %d has turn %d of %d, want turn %d of %d", key, turn, who, mine.turn, m.who)
	}
	return err
}

// ---- Tests ----

// TestCacheMembersReadWholeValuesAndTheirOwnWrites has processes do everything
// to shared keys and to keys of their own, while some of them are stopped and
// killed, in rings from a tiny one to one that is hardly ever lapped.
func TestCacheMembersReadWholeValuesAndTheirOwnWrites(t *testing.T) {
	for _, geometry := range []string{"8x128", "64x8192", "default"} {
		t.Run(geometry, func(t *testing.T) {
			name := proc.Fleet(t)
			cache(t, name, geometry, "shared")
			next := 0
			start := func() *proc.Process {
				next++
				p := proc.Start(t, "mixer", name, geometry, strconv.Itoa(next))
				if got := line(p); got != "ready" {
					t.Fatalf("a mixer says %q, want ready", got)
				}
				return p
			}
			var procs []*proc.Process
			for range 4 {
				procs = append(procs, start())
			}
			stopped := map[int]bool{}
			for range 30 {
				time.Sleep(time.Duration(rand.IntN(10_000)) * time.Microsecond)
				i := 1 + rand.IntN(len(procs)-1) // one is left in peace
				switch p := procs[i]; {
				case stopped[i]:
					p.Continue()
					stopped[i] = false
				case rand.IntN(3) == 0:
					kill(t, p)
					procs[i] = start()
				default:
					stop(t, p)
					stopped[i] = true
				}
			}
			for _, p := range procs {
				p.Continue()
				p.Say("end")
			}
			for _, p := range procs {
				var turns, hits, gone, added uint64
				if said := line(p); !strings.HasPrefix(said, "sound ") {
					t.Fatalf("a mixer found: %s", said)
				} else if fmt.Sscanf(said, "sound %d %d %d %d", &turns, &hits, &gone, &added); turns > 1000 && hits == 0 {
					t.Errorf("in %d turns no key ever had a value", turns)
				}
				p.Finish()
			}
		})
	}
}
