package orbit

import (
	"encoding/binary"
	"errors"
	"strconv"
	"time"
)

// A record of the contest table says what an entry of it claims. It lies in
// words of the machine's own order:
//
//	 0  hash of the subject
//	 8  deadline, on the clock of [clockNow]
//	16  since: time of the claim, on the same clock
//	24  token, 0 until it is minted
//	32  kind 8 | label length 8 | owner length 8 | zero 8 | node 16 | zero 16
//	40  process id
//	48  label | owner
//
// Its owner may move deadline, since and token while an entry names it, each
// by one atomic store; the rest is fixed as long as one does.
const (
	// MaxLabel is the longest label of a subject, in bytes.
	MaxLabel = 96
	// MaxOwner is the longest owner label of a claim, in bytes.
	MaxOwner = 48

	recDeadline = 1 // words that change alone
	recSince    = 2
	recToken    = 3

	recordHeader = 6 * 8
	recordSize   = recordHeader + MaxLabel + MaxOwner
	recordWords  = recordSize / 8
)

// claimRecord is a record in the reader's own memory.
type claimRecord struct {
	hash     uint64
	deadline int64
	since    int64
	token    uint64
	pid      uint32
	node     uint16
	kind     uint8
	labelLen uint8
	ownerLen uint8
	text     [MaxLabel + MaxOwner]byte
}

func (r *claimRecord) label() []byte { return r.text[:r.labelLen] }
func (r *claimRecord) owner() []byte { return r.text[r.labelLen:][:r.ownerLen] }

// read takes the labels, one behind the other, out of text.
func (r *claimRecord) read(text []byte, labelLen, ownerLen uint8) bool {
	if labelLen > MaxLabel || ownerLen > MaxOwner || len(text) < int(labelLen)+int(ownerLen) {
		return false
	}
	r.labelLen, r.ownerLen = labelLen, ownerLen
	copy(r.text[:], text[:int(labelLen)+int(ownerLen)])
	return true
}

// encodeClaim writes a record without token into b, and returns the part of b
// that it takes, in whole words. The labels must keep to their limits.
func encodeClaim(b *[recordSize]byte, r *claimRecord, label, owner string) []byte {
	o := binary.NativeEndian
	o.PutUint64(b[0:], r.hash)
	o.PutUint64(b[8:], uint64(r.deadline))
	o.PutUint64(b[16:], uint64(r.since))
	o.PutUint64(b[24:], 0)
	o.PutUint64(b[32:], uint64(r.kind)|uint64(len(label))<<8|uint64(len(owner))<<16|uint64(r.node)<<32)
	o.PutUint64(b[40:], uint64(r.pid))
	n := recordHeader + copy(b[recordHeader:recordHeader+MaxLabel], label)
	n += copy(b[n:], owner)
	return b[:roundUp(n, 8)]
}

// decodeClaim reads a record. It accepts what encodeClaim writes, with any
// token.
func decodeClaim(r *claimRecord, b []byte) bool {
	if len(b) < recordSize {
		return false
	}
	o := binary.NativeEndian
	r.hash = o.Uint64(b[0:])
	r.deadline = int64(o.Uint64(b[8:]))
	r.since = int64(o.Uint64(b[16:]))
	r.token = o.Uint64(b[24:])
	about, pid := o.Uint64(b[32:]), o.Uint64(b[40:])
	r.kind = uint8(about)
	r.node = uint16(about >> 32)
	r.pid = uint32(pid)
	return r.read(b[recordHeader:], uint8(about>>8), uint8(about>>16)) && about&^0xffff_00ff_ffff == 0 && pid>>32 == 0
}

// A frame in the contest ring announces what became of a claim:
//
//	frame.Kind     change: 1 claimed, 2 renewed, 3 released, 4 fell
//	frame.Version  token of the claim
//	frame.Payload  kind 1 | label length 1 | owner length 1 | node 2 | pid 4 |
//	               since 8 | deadline 8 | label | owner
//
// All fields are big-endian.
const (
	claimEventHeader = 25
	maxClaimEvent    = claimEventHeader + MaxLabel + MaxOwner
)

// A ClaimChange is what became of a claim.
type ClaimChange uint8

const (
	Claimed  ClaimChange = 1 // a guard was handed out
	Renewed  ClaimChange = 2 // its time was set anew
	Released ClaimChange = 3 // its owner let go
	Fell     ClaimChange = 4 // its time was over, or its owner dead
)

// String returns the change in one word.
func (c ClaimChange) String() string {
	switch c {
	case Claimed:
		return "claimed"
	case Renewed:
		return "renewed"
	case Released:
		return "released"
	case Fell:
		return "fell"
	}
	return "change " + strconv.Itoa(int(c))
}

// A ClaimEvent is a frame of the contest ring as [DecodeClaim] reads it: what
// became of a claim, and whose it was. It announces; what holds at the moment
// is for [HolderOf] to say.
type ClaimEvent struct {
	Change ClaimChange
	Holder Holder
}

// ErrClaimEvent matches every error of [DecodeClaim].
var ErrClaimEvent = errors.New("orbit: not a claim event")

// DecodeClaim reads a frame of the contest ring. Every error matches
// [ErrClaimEvent]. It allocates for the labels.
func DecodeClaim(f Frame) (ClaimEvent, error) {
	var r claimRecord
	if c := ClaimChange(f.Kind); !decodeClaimEvent(&r, f.Payload) || c < Claimed || c > Fell {
		return ClaimEvent{}, &contextError{"not a claim event: " + c.String() + ", " + strconv.Itoa(len(f.Payload)) + " bytes", ErrClaimEvent}
	}
	r.token = f.Version
	return ClaimEvent{ClaimChange(f.Kind), r.holder(clockNow(), time.Now())}, nil
}

// appendClaimEvent appends the payload of a frame about a claim.
func appendClaimEvent[S string | []byte](dst []byte, r *claimRecord, label, owner S) []byte {
	o := binary.BigEndian
	dst = append(dst, r.kind, uint8(len(label)), uint8(len(owner)))
	dst = o.AppendUint16(dst, r.node)
	dst = o.AppendUint32(dst, r.pid)
	dst = o.AppendUint64(dst, uint64(r.since))
	dst = o.AppendUint64(dst, uint64(r.deadline))
	return append(append(dst, label...), owner...)
}

// decodeClaimEvent reads the payload of a frame about a claim.
func decodeClaimEvent(r *claimRecord, b []byte) bool {
	if len(b) < claimEventHeader || len(b) != claimEventHeader+int(b[1])+int(b[2]) {
		return false
	}
	o := binary.BigEndian
	r.kind = b[0]
	r.node = o.Uint16(b[3:])
	r.pid = o.Uint32(b[5:])
	r.since = int64(o.Uint64(b[9:]))
	r.deadline = int64(o.Uint64(b[17:]))
	return r.read(b[claimEventHeader:], b[1], b[2])
}
