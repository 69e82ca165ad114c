//go:build linux

package main

// bareCopy is the floor under the floor: what it costs to copy the bytes into
// and out of the slots of one and the same memory, in turn.
var bareCopy = &peer{
	name:  "bare copy",
	class: classFloor,
	notes: []string{"copies into and out of shared slots; no order, no siblings, no safety"},
	sweep: true,
	latest: func(at place) (latest, error) {
		s, err := openSlots(at, ".copy")
		return &copier{slots: s}, err
	},
}

type copier struct {
	slots
	turn uint64
}

func (c *copier) write(value []byte) error {
	s := c.slot(c.turn) + slotHeader
	c.turn++
	copy(c.shm[s:], value)
	return nil
}

func (c *copier) read(dst []byte) ([]byte, error) {
	s := c.slot(c.turn) + slotHeader
	dst = dst[:cap(dst)]
	n := min(len(dst), c.stride-slotHeader)
	copy(dst, c.shm[s:s+n])
	return dst[:n], nil
}
