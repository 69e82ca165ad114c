//go:build linux

package substratetest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// Many processes add the same keys at once.

func init() { proc.Helper("adder", adder) }

// What a ledger has about a key that an adder is at or was.
const (
	notAdded = iota
	arrived
	adding
	addWon
	addLost
)

// The words of a ledger of adders: whether they may begin, whether they are to
// stop after the key they are at, and one for each key of each adder.
const (
	wordBegin = 0
	wordHalt  = 1
	wordAdds  = 8
)

// adder adds keys one after the other, each once, and puts down in the ledger
// what became of it: fleet, geometry, who it is, how many adders there are, how
// many keys, size of a value, ledger. Then it waits until it is told to end.
func adder(args []string) error {
	read := proc.WatchParent()
	who, _ := strconv.ParseUint(args[2], 10, 64)
	adders, _ := strconv.Atoi(args[3])
	keys, _ := strconv.Atoi(args[4])
	size, _ := strconv.Atoi(args[5])
	l, err := openLedger(args[6])
	if err != nil {
		return err
	}
	f, c, err := openCache(args[0], args[1], "add")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for l[wordBegin].Load() == 0 {
		time.Sleep(100 * time.Microsecond)
	}
	var buf []byte
	for k := 0; k < keys && l[wordHalt].Load() == 0; k++ {
		word := &l[wordAdds+int(who)*keys+k]
		buf = value(buf, uint64(k), who, 0, size)
		word.Store(arrived)
		if adders > 1 {
			meet(l, adders, keys, k)
		}
		word.Store(adding)
		won, err := c.Add(strconv.Itoa(k), buf, 0)
		if err != nil {
			return err
		}
		if won {
			word.Store(addWon)
		} else {
			word.Store(addLost)
		}
	}
	read()
	return f.Close()
}

// meet waits a moment for another adder to come to the same key, so that two
// are at it at once.
func meet(l ledger, adders, keys, k int) {
	for end := time.Now().Add(50 * time.Microsecond); time.Now().Before(end); {
		here := 0
		for who := range adders {
			if l[wordAdds+who*keys+k].Load() != notAdded {
				here++
			}
		}
		if here > 1 {
			return
		}
	}
}

func startAdder(t *testing.T, name, geometry string, who, adders, keys, size int, path string) *proc.Process {
	t.Helper()
	p := proc.Start(t, "adder", name, geometry, strconv.Itoa(who), strconv.Itoa(adders), strconv.Itoa(keys), strconv.Itoa(size), path)
	if got := line(p); got != "ready" {
		t.Fatalf("an adder says %q, want ready", got)
	}
	return p
}

// TestEachKeyIsAddedOnce has eight processes add the same keys in the same
// order, in a ring that holds all they write. Some are stopped on the way,
// until the others are through, and some are killed.
func TestEachKeyIsAddedOnce(t *testing.T) {
	const adders, keys, geometry = 8, 400, "32768x128"
	for _, c := range []struct{ killed, stopped int }{{0, 0}, {3, 0}, {0, 3}, {2, 2}} {
		t.Run(fmt.Sprintf("%d killed, %d stopped", c.killed, c.stopped), func(t *testing.T) {
			name := proc.Fleet(t)
			look := cache(t, name, geometry, "add")
			l, path := newLedger(t)
			var procs []*proc.Process
			for who := range adders {
				procs = append(procs, startAdder(t, name, geometry, who, adders, keys, 64, path))
			}
			result := func(who, key int) uint64 { return l[wordAdds+who*keys+key].Load() }
			l[wordBegin].Store(1)
			for who := range c.killed + c.stopped {
				at := rand.IntN(keys / 2)
				eventually(t, "an adder is under way", func() bool { return result(who, at) != notAdded })
				if who < c.killed {
					procs[who].Kill()
				} else {
					stop(t, procs[who])
				}
			}
			for _, p := range procs {
				p.Say("end")
			}
			for _, p := range procs[c.killed+c.stopped:] {
				p.Finish()
			}
			for _, p := range procs[c.killed : c.killed+c.stopped] {
				p.Continue()
			}
			for _, p := range procs[c.killed : c.killed+c.stopped] {
				p.Finish()
			}
			for k := range keys {
				got, ok, err := look.Get(strconv.Itoa(k))
				if err != nil || !ok {
					t.Fatalf("key %d: %v, %v, want the value that was added", k, ok, err)
				}
				winner, _, err := checkValue(got, uint64(k))
				if err != nil {
					t.Fatal(err)
				}
				for who := range adders {
					// Who was killed in the middle was not told what became of it.
					r, dead := result(who, k), who < c.killed
					if won := who == int(winner); won && r != addWon && (!dead || r != adding) || !won && r == addWon {
						t.Errorf("key %d has the value of adder %d; adder %d was told %d", k, winner, who, r)
					}
				}
			}
		})
	}
}

// caughtAdder is an adder that is stopped in the middle of the frame of an add,
// the last one it makes. It returns the key as well.
func caughtAdder(t *testing.T) (c *orbit.Cache, p *proc.Process, key int, outcome func() uint64) {
	t.Helper()
	const geometry, keys, size = "16x1048576", ledgerWords - wordAdds, 1 << 19
	name := proc.Fleet(t)
	c = cache(t, name, geometry, "add")
	l, path := newLedger(t)
	p = startAdder(t, name, geometry, 0, 1, keys, size, path)
	l[wordBegin].Store(1)
	catch(t, p, c.Ring())
	l[wordHalt].Store(1)
	for key < keys && l[wordAdds+key].Load() != adding {
		key++
	}
	if key == keys {
		t.Fatal("the adder is stopped in the middle of a frame, but at no key")
	}
	return c, p, key, l[wordAdds+key].Load
}

func wantValue(t *testing.T, c *orbit.Cache, key, who int) {
	t.Helper()
	got, ok, err := c.Get(strconv.Itoa(key))
	if err != nil || !ok {
		t.Fatalf("key %d: %v, %v, want the value of %d", key, ok, err, who)
	}
	if writer, _, err := checkValue(got, uint64(key)); err != nil || int(writer) != who {
		t.Fatalf("key %d has the value of %d, %v, want that of %d", key, writer, err, who)
	}
}

func wantNothing(t *testing.T, c *orbit.Cache, key int) {
	t.Helper()
	if _, ok, err := c.Get(strconv.Itoa(key)); ok || err != nil {
		t.Fatalf("key %d: %v, %v, want nothing", key, ok, err)
	}
}

// TestAddOfAStoppedProcessIsVoidOrCountsOnce stops adders in the middle of an
// add, and adds the key itself or does not.
func TestAddOfAStoppedProcessIsVoidOrCountsOnce(t *testing.T) {
	for _, tt := range []struct {
		name        string
		rival, dies bool
		want        uint64 // what the stopped one is told in the end
	}{
		{"somebody else adds, it goes on", true, false, addLost},
		{"nobody adds, it goes on", false, false, addWon},
		{"somebody else adds, it dies", true, true, 0},
		{"nobody adds, it dies", false, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, p, key, outcome := caughtAdder(t)
			wantNothing(t, c, key)
			if tt.rival {
				mine, head := value(nil, uint64(key), tester, 0, 64), c.Ring().Head()
				if added, err := c.Add(strconv.Itoa(key), mine, 0); err != nil || !added {
					t.Fatalf("add beside one that is stopped in it: %v, %v, want true", added, err)
				}
				if frames := c.Ring().Head() - head; frames != 1 {
					t.Errorf("the add beside one that is stopped took %d frames, want 1", frames)
				}
				wantValue(t, c, key, tester)
			}
			if tt.dies {
				kill(t, p)
				settled(t, c, key, tt.rival)
				return
			}
			p.Continue()
			eventually(t, "the stopped adder knows what became of its add", func() bool { return outcome() != adding })
			if got := outcome(); got != tt.want {
				t.Errorf("the stopped adder was told %d, want %d", got, tt.want)
			}
			if tt.rival {
				wantValue(t, c, key, tester)
			} else {
				wantValue(t, c, key, 0)
			}
		})
	}
}

// settled checks that the half-done add of a dead process counts for nothing.
func settled(t *testing.T, c *orbit.Cache, key int, taken bool) {
	t.Helper()
	if taken {
		wantValue(t, c, key, tester)
		return
	}
	wantNothing(t, c, key)
	if added, err := c.Add(strconv.Itoa(key), value(nil, uint64(key), tester, 1, 64), 0); err != nil || !added {
		t.Fatalf("add after one that died in it: %v, %v, want true", added, err)
	}
	wantValue(t, c, key, tester)
}
