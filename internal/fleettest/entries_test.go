//go:build linux

package fleettest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/proc"
)

// The smallest table of a contest: the segment has one slot, then the table's
// two counters, entries, deeds and records.
const (
	claimSlot    = 256
	claimEntries = 128
	claimRecords = 64
	firstEntry   = pageSize + claimSlot + 16*8
	claimSize    = (firstEntry + 8*(claimEntries+claimRecords+claimRecords*24) + pageSize - 1) &^ (pageSize - 1)
)

var smallContest = orbit.Options{Size: 2, Rings: map[uint8]orbit.Geometry{orbit.KindContest: {Capacity: 1}}}

type disputed struct{}

func (disputed) OrbitKind() uint8 { return 53 }

// besideNothing opens a segment of a kind behind which, for a megabyte and more,
// there is no memory that can be read, and returns its path.
func besideNothing(t *testing.T, kind uint8, size uintptr, opts orbit.Options, open func(f *orbit.Fleet) error) string {
	t.Helper()
	for range 20 {
		name := proc.Fleet(t)
		f := join(t, name, opts)
		fillHoles(t, size)
		if err := open(f); err != nil {
			t.Fatal(err)
		}
		path := proc.Segment(name, int(kind))
		if nothingBehind(t, path) > 1<<20 {
			return path
		}
	}
	t.Fatal("no place was found with nothing to read behind it")
	return ""
}

// fillHoles takes every hole of a size in the address space, by mappings that
// cannot be read, until the kernel has put hundreds of them in a row: the next
// one goes there too. They cost no memory, and are left.
func fillHoles(t *testing.T, size uintptr) {
	t.Helper()
	var last uintptr
	for inRow := 0; inRow < 400; inRow++ {
		hole, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
		if err != nil {
			t.Fatal(err)
		}
		at := uintptr(unsafe.Pointer(unsafe.SliceData(hole)))
		if at+size != last && last+size != at {
			inRow = 0
		}
		last = at
	}
}

// nothingBehind returns how far behind a segment's mapping the next memory is
// that can be read.
func nothingBehind(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var end uint64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatalf("/proc/self/maps: %q: %v", lines.Text(), err)
		}
		switch {
		case end == 0 && strings.HasSuffix(lines.Text(), path):
			end = to
		case end != 0 && mode[0] == 'r':
			return from - end
		}
	}
	if end == 0 {
		t.Fatalf("%s is not mapped", path)
	}
	return 1 << 40
}

// TestDamagedEntriesLeadNowhere: an entry names a record by a number that has
// room for more records than the table.
func TestDamagedEntriesLeadNowhere(t *testing.T) {
	var c *orbit.Contest
	path := besideNothing(t, orbit.KindContest, claimSize, smallContest, func(f *orbit.Fleet) (err error) {
		c, err = orbit.OpenContest(f)
		return err
	})
	for _, record := range []uint64{claimRecords, claimRecords + 1, 1<<13 - 1, 1<<14 - 1} {
		for phase := uint64(1); phase <= 3; phase++ {
			for i := range claimEntries {
				overwriteWord(t, path, firstEntry+8*i, uint64(i+1)<<16|record<<2|phase)
			}
			for i := range 20 {
				label := fmt.Sprint("subject ", i)
				if _, held, err := orbit.HolderOf[disputed](c, label); held || err != nil {
					t.Errorf("entries that name record %d: HolderOf: held %v, %v", record, held, err)
				}
				g, err := orbit.Claim[disputed](c, label, "", time.Hour)
				if err != nil {
					t.Errorf("entries that name record %d: Claim: %v", record, err)
					continue
				}
				if err := g.Release(); err != nil {
					t.Errorf("entries that name record %d: Release: %v", record, err)
				}
			}
			if list, err := c.Holders(); len(list) != 0 || err != nil {
				t.Errorf("entries that name record %d: Holders: %v, %v; want none", record, list, err)
			}
		}
	}
}

// TestHoldersListsASubjectOnce: a subject that changes hands during the walk is
// met in one entry, and then in another. Here it is in two at once, by damage,
// which looks the same.
func TestHoldersListsASubjectOnce(t *testing.T) {
	name := proc.Fleet(t)
	c, err := orbit.OpenContest(join(t, name, smallContest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := orbit.Claim[disputed](c, "label", "", time.Hour); err != nil {
		t.Fatal(err)
	}
	path := proc.Segment(name, int(orbit.KindContest))
	table, held := load(t, path)[firstEntry:], uint64(0)
	for i := range claimEntries {
		held |= binary.NativeEndian.Uint64(table[8*i:])
	}
	for _, other := range []int{0, claimEntries - 1} {
		overwriteWord(t, path, firstEntry+8*other, held)
	}
	if list, err := c.Holders(); len(list) != 1 || err != nil {
		t.Errorf("got holders %v, %v; want one", list, err)
	}
}

// TestDamagedCacheRecordLeadsNowhere: a record says how long its prefix and its
// key are, and can say more than a slot has.
func TestDamagedCacheRecordLeadsNowhere(t *testing.T) {
	const capacity, limit = 4, 104
	var c *orbit.Cache
	besideNothing(t, orbit.KindCache, 2*pageSize, one(orbit.KindCache, capacity, limit), func(f *orbit.Fleet) (err error) {
		c, err = orbit.OpenCache(f, "")
		return err
	})
	for _, lengths := range []uint64{1<<16 - 1, (1<<16 - 1) << 16, 1<<32 - 1, limit << 16} {
		for op := uint8(1); op <= 4; op++ {
			for range capacity {
				if _, err := c.Ring().Publish(op, 0, binary.NativeEndian.AppendUint64(nil, lengths)); err != nil {
					t.Fatal(err)
				}
				if v, ok, err := c.Get("key"); ok || err != nil {
					t.Errorf("record %d with lengths %#x: Get = %q, %v, %v; want a miss", op, lengths, v, ok, err)
				}
			}
		}
	}
	if err := c.Put("key", []byte("value"), 0); err != nil {
		t.Fatal(err)
	}
	if v, ok, err := c.Get("key"); string(v) != "value" || !ok || err != nil {
		t.Errorf("after damaged records: Get = %q, %v, %v; want a hit", v, ok, err)
	}
}

// TestClaimEventKeepsToItsLimits: the lengths of the labels travel in a byte
// each, and a byte has room for longer labels than there are.
func TestClaimEventKeepsToItsLimits(t *testing.T) {
	for _, c := range []struct {
		label, owner int
		sound        bool
	}{
		{0, 0, true}, {orbit.MaxLabel, orbit.MaxOwner, true},
		{orbit.MaxLabel + 1, 0, false}, {0, orbit.MaxOwner + 1, false},
		{255, 0, false}, {0, 255, false}, {255, 255, false},
	} {
		payload := make([]byte, 25+c.label+c.owner)
		payload[1], payload[2] = byte(c.label), byte(c.owner)
		e, err := orbit.DecodeClaim(orbit.Frame{Kind: uint8(orbit.Claimed), Payload: payload})
		if (err == nil) != c.sound || len(e.Holder.Label)+len(e.Holder.Owner) != 0 && !c.sound {
			t.Errorf("labels of %d and %d bytes: %+v, %v; want sound %v", c.label, c.owner, e, err, c.sound)
		}
	}
}
