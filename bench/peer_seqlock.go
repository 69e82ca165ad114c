//go:build linux

package main

// seqlock is the floor: a ring without safety. Writers claim by a fetch-and-add
// and take no care of one that is lapped, stopped or killed: such a one tears
// a frame, or leaves a slot that nobody can explain.
var seqlock = &peer{
	name:  "unsafe seqlock",
	class: classFloor,
	notes: []string{
		"a fetch-and-add ring without safety: tears frames when lapped, is wedged by a killed writer, tells no loss, cannot wake",
	},
	scale:    true,
	sweep:    true,
	latest:   func(at place) (latest, error) { return openSeqlock(at) },
	sender:   func(at place) (sender, error) { return openSeqlock(at) },
	receiver: func(at place) (receiver, error) { return openSeqlock(at) },
}

// A slot is its sequence, which is odd once the frame of its counter is whole,
// a length, and the payload.
type seqRing struct {
	slots
	next uint64 // of the receiver
	buf  []byte
}

func openSeqlock(at place) (*seqRing, error) {
	s, err := openSlots(at, ".seqlock")
	if err != nil {
		return nil, err
	}
	return &seqRing{s, s.load(headOffset), make([]byte, at.Payload)}, nil
}

func (q *seqRing) write(value []byte) error {
	c := q.add(headOffset, 1) - 1
	s := q.slot(c)
	q.storeAt(s, c<<1)
	*q.at(s + 8) = uint64(len(value))
	copy(q.shm[s+slotHeader:s+q.stride], value)
	q.storeAt(s, c<<1|1)
	return nil
}

func (q *seqRing) send(message []byte) error { return q.write(message) }

// frame copies the frame of a counter, if it is there.
func (q *seqRing) frame(c uint64, dst []byte) ([]byte, bool) {
	s := q.slot(c)
	if q.load(s) != c<<1|1 {
		return nil, false
	}
	n := min(int(*q.at(s + 8)), cap(dst), q.stride-slotHeader)
	dst = dst[:n]
	copy(dst, q.shm[s+slotHeader:])
	return dst, q.load(s) == c<<1|1
}

func (q *seqRing) read(dst []byte) ([]byte, error) {
	for c := q.load(headOffset); c > 0; c-- {
		if value, ok := q.frame(c-1, dst); ok {
			return value, nil
		}
	}
	return nil, errMiss
}

func (q *seqRing) receive(got func(message []byte)) error {
	for range 64 {
		head := q.load(headOffset)
		if q.next == head {
			return nil
		}
		if head-q.next > uint64(q.capacity) {
			q.next = head - uint64(q.capacity)/2
		}
		message, ok := q.frame(q.next, q.buf)
		if !ok && q.load(q.slot(q.next)) <= q.next<<1 {
			return nil // it is being written
		}
		if ok {
			got(message)
		}
		q.next++
	}
	return nil
}
