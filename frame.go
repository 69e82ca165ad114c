package orbit

import (
	"encoding/binary"
	"errors"
	"strconv"
	"unsafe"
)

// This file is the only one that knows bytes: of a frame on the wire, of a
// segment's header, and of the records that the substrates put into payloads.
// Every decoder takes a []byte, allocates nothing and never panics.

// A Frame is one entry of a ring.
//
// ID names it: the kind of its ring, the node that wrote it, and its counter.
// Kind is the message class inside the ring and Version is the writer's to
// define; Orbit carries both and reads neither. Payload is the caller's bytes:
// a read appends them to the caller's buffer and Payload is the appended part.
type Frame struct {
	ID      NetID64
	Kind    uint8
	Version uint64
	Payload []byte
}

// MaxPayload is the largest payload limit a ring may declare, in bytes.
const MaxPayload = 64 << 20

// ErrFrame matches every error of [DecodeFrame].
var ErrFrame = errors.New("orbit: malformed frame")

// frameHeaderSize is the length of a frame's byte form before its payload:
//
//	id 8 | kind 1 | version 8 | length 4 | payload
//
// All fields are big-endian, so that encoded frames sort by id.
const frameHeaderSize = 8 + 1 + 8 + 4

// AppendBinary appends the byte form of f to dst. The form is 21 bytes longer
// than the payload. It fails only for a payload above [MaxPayload], and then
// returns dst unchanged. It allocates only if dst is too short.
func (f Frame) AppendBinary(dst []byte) ([]byte, error) {
	if len(f.Payload) > MaxPayload {
		return dst, sizeError("payload", len(f.Payload), MaxPayload)
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.ID))
	dst = append(dst, f.Kind)
	dst = binary.BigEndian.AppendUint64(dst, f.Version)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(f.Payload)))
	return append(dst, f.Payload...), nil
}

// DecodeFrame reads one frame from the front of b and returns what follows it.
// The payload aliases b. It never panics and does not allocate unless it
// fails; every error matches [ErrFrame].
func DecodeFrame(b []byte) (f Frame, rest []byte, err error) {
	if len(b) < frameHeaderSize {
		return Frame{}, b, frameError("header", len(b), frameHeaderSize)
	}
	n := binary.BigEndian.Uint32(b[17:])
	body := b[frameHeaderSize:]
	if n > MaxPayload {
		return Frame{}, b, frameError("length field", int(n), MaxPayload)
	}
	if uint64(n) > uint64(len(body)) {
		return Frame{}, b, frameError("payload", len(body), int(n))
	}
	f = Frame{
		ID:      NetID64(binary.BigEndian.Uint64(b)),
		Kind:    b[8],
		Version: binary.BigEndian.Uint64(b[9:]),
		Payload: body[:n:n],
	}
	return f, body[n:], nil
}

func frameError(part string, found, want int) error {
	return &contextError{"malformed frame: " + part + " of " + strconv.Itoa(found) + " bytes, want " + strconv.Itoa(want), ErrFrame}
}

// A segment begins with one page of header. Words that change are alone on
// their cache lines, so that a writer who raises the head does not take from
// every reader the line that holds the geometry.
//
//	  0  magic "ORBITSHM"          fixed once created
//	  8  byte order mark, u32
//	 12  format version, u32
//	 16  size of the segment in bytes
//	 24  capacity in slots
//	 32  payload limit in bytes
//	 40  distance between slots in bytes
//	 48  offset of slot 0
//	 56  offset of the table
//	 64  size of the table in bytes
//	 72  kind
//	 80  instance: which incarnation of the fleet this belongs to
//	 88  time of creation, on the clock of [clockNow]
//	 96  checksum of bytes 0 to 96
//	128  fingerprint of the bound type, 0 while none is bound
//	192  first: the oldest counter that counts (raised by Reset)
//	256  head: the next counter
//	320  wake: low bit "somebody waits", the rest a sequence number, u32
//
// All words are in the byte order of the machine: a segment never leaves it.
const (
	headerSize = 4096

	offChecksum    = 96
	offFingerprint = 128
	offFirst       = 192
	offHead        = 256
	offWake        = 320

	segmentMagic  = "ORBITSHM"
	byteOrderMark = 0x01020304

	// FormatVersion is the version of the segment layout this package reads
	// and writes. A segment of another version is refused.
	FormatVersion = 1
)

// segmentHeader is the validated, private copy of a segment's fixed header.
// Nothing reads a size or an offset from shared memory after validation.
type segmentHeader struct {
	kind     uint8
	capacity int
	limit    int
	stride   int
	slots    int
	table    int
	tableLen int
	size     int
	instance uint64
	created  int64
}

// layout computes the one valid header for a kind of this geometry.
func layout(kind uint8, g Geometry, tableLen int) segmentHeader {
	h := segmentHeader{
		kind:     kind,
		capacity: g.Capacity,
		limit:    g.PayloadLimit,
		stride:   roundUp(slotHeaderSize+g.PayloadLimit, cacheLine),
		slots:    headerSize,
		tableLen: tableLen,
	}
	h.table = h.slots + h.capacity*h.stride
	h.size = roundUp(h.table+tableLen, headerSize)
	return h
}

func (h *segmentHeader) geometry() Geometry { return Geometry{h.capacity, h.limit} }

func (h *segmentHeader) describe() string {
	if h.tableLen == 0 {
		return h.geometry().String()
	}
	return h.geometry().String() + " and a table of " + strconv.Itoa(h.tableLen) + " bytes"
}

// encode writes the fixed part of the header into the first bytes of b.
func (h *segmentHeader) encode(b []byte) {
	o := binary.NativeEndian
	copy(b, segmentMagic)
	o.PutUint32(b[8:], byteOrderMark)
	o.PutUint32(b[12:], FormatVersion)
	for i, v := range [...]int{h.size, h.capacity, h.limit, h.stride, h.slots, h.table, h.tableLen, int(h.kind)} {
		o.PutUint64(b[16+8*i:], uint64(v))
	}
	o.PutUint64(b[80:], h.instance)
	o.PutUint64(b[88:], uint64(h.created))
	o.PutUint64(b[offChecksum:], checksum(b[:offChecksum]))
}

// decodeHeader validates the header of a segment of size bytes. It accepts
// exactly what encode writes for some kind and geometry.
func decodeHeader(b []byte, size int64) (h segmentHeader, err error) {
	o := binary.NativeEndian
	switch {
	case len(b) < headerSize:
		return h, foreign("too short: " + strconv.FormatInt(size, 10) + " bytes, a segment has at least " + strconv.Itoa(headerSize))
	case string(b[:8]) != segmentMagic:
		return h, foreign("not an Orbit segment: it begins with " + strconv.QuoteToASCII(string(b[:8])))
	case o.Uint32(b[8:]) != byteOrderMark:
		return h, foreign("byte order mark 0x" + strconv.FormatUint(uint64(o.Uint32(b[8:])), 16) + ", want 0x1020304")
	case o.Uint32(b[12:]) != FormatVersion:
		return h, &contextError{"format version " + strconv.FormatUint(uint64(o.Uint32(b[12:])), 10) + ", want " + strconv.Itoa(FormatVersion), ErrVersion}
	case o.Uint64(b[offChecksum:]) != checksum(b[:offChecksum]):
		return h, foreign("header damaged: its checksum does not match")
	}
	var w [8]uint64
	for i := range w {
		w[i] = o.Uint64(b[16+8*i:])
	}
	g, table, kind := Geometry{int(w[1]), int(w[2])}, int(w[6]), w[7]
	if w[1] > maxCapacity || w[2] > MaxPayload || w[6] > maxTable || kind > 255 || !g.valid(uint8(kind)) {
		return h, foreign("impossible geometry: capacity " + strconv.FormatUint(w[1], 10) + ", payload limit " + strconv.FormatUint(w[2], 10))
	}
	h = layout(uint8(kind), g, table)
	h.instance = o.Uint64(b[80:])
	h.created = int64(o.Uint64(b[88:]))
	if w[0] != uint64(h.size) || w[3] != uint64(h.stride) || w[4] != uint64(h.slots) || w[5] != uint64(h.table) {
		return h, foreign("header contradicts its own geometry")
	}
	if size != int64(h.size) {
		return h, foreign("truncated or padded: " + strconv.FormatInt(size, 10) + " bytes, its header says " + strconv.Itoa(h.size))
	}
	return h, nil
}

// checksum is FNV-1a: it catches damage, not forgery. Siblings of one user
// can forge anything.
func checksum(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

const (
	cacheLine   = 64
	maxCapacity = 1 << 30
	maxTable    = 16 << 20
	maxSegment  = 1 << 40
	wordSize    = int(unsafe.Sizeof(uint64(0)))
)

// roundUp rounds n up to a multiple of unit, a power of two.
func roundUp(n, unit int) int { return (n + unit - 1) &^ (unit - 1) }
