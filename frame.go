package orbit

import (
	"encoding/binary"
	"errors"
	"runtime"
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
// What a read returns beside an error is no frame, whatever is in it.
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
	return problem("malformed frame: "+part+" of "+itoa(found)+" bytes, want "+itoa(want), ErrFrame)
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
	FormatVersion = 2
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
	return h.geometry().String() + " and a table of " + itoa(h.tableLen) + " bytes"
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
		return h, foreign("too short: " + strconv.FormatInt(size, 10) + " bytes, a segment has at least " + itoa(headerSize))
	case string(b[:8]) != segmentMagic:
		return h, foreign("not an Orbit segment: it begins with " + quote(string(b[:8])))
	case o.Uint32(b[8:]) != byteOrderMark:
		return h, foreign("byte order mark 0x" + strconv.FormatUint(uint64(o.Uint32(b[8:])), 16) + ", want 0x1020304")
	case o.Uint32(b[12:]) != FormatVersion:
		return h, problem("format version "+strconv.FormatUint(uint64(o.Uint32(b[12:])), 10)+", want "+itoa(FormatVersion), ErrVersion)
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
		return h, foreign("truncated or padded: " + strconv.FormatInt(size, 10) + " bytes, its header says " + itoa(h.size))
	}
	return h, nil
}

// checksum is FNV-1a: it catches damage, not forgery. Siblings of one user
// can forge anything.
func checksum(b []byte) uint64 { return fnv(fnvBasis, b) }

const fnvBasis = 14695981039346656037

// fnv continues an FNV-1a hash with the bytes of b.
func fnv[B string | []byte](h uint64, b B) uint64 {
	for i := 0; i < len(b); i++ {
		h = (h ^ uint64(b[i])) * 1099511628211
	}
	return h
}

const (
	cacheLine   = 64
	maxCapacity = 1 << 30
	maxTable    = 16 << 20
	maxSlots    = min(1<<40, uint64(^uint(0)>>2)) // in all, in bytes
	wordSize    = int(unsafe.Sizeof(uint64(0)))
)

// roundUp rounds n up to a multiple of unit, a power of two.
func roundUp(n, unit int) int { return (n + unit - 1) &^ (unit - 1) }

// A record of the cache is a frame of the cache's ring. The frame's kind says
// what the record does, its version is when the record expires on the clock of
// [clockNow], 0 for never, and its payload is
//
//	lengths u64 | prefix | key | value
//
// Prefix and key are padded with zeros to whole words. From its low end,
// lengths is the length of the prefix, 16 bits, the length of the key, 16
// bits, and in an add the low 32 bits of the counter below which all frames
// were settled when the key was found absent.
const (
	cachePut = 1 + iota
	cacheAdd
	cacheDelete
	cacheReset // of the prefix; without a key

	cacheTexts    = wordSize // where the prefix begins in the payload
	cacheSizeMask = 1<<32 - 1
	maxCacheText  = 1<<16 - 1
)

// A CacheOp is what a frame of the cache's ring does.
type CacheOp uint8

// What a frame does to the key it names.
const (
	CachePut    CacheOp = cachePut
	CacheAdd    CacheOp = cacheAdd // counts only if the key had nothing: see [Cache]
	CacheDelete CacheOp = cacheDelete
	CacheReset  CacheOp = cacheReset // of all keys of the prefix
)

// String returns the operation in one word.
func (op CacheOp) String() string {
	switch op {
	case CachePut:
		return "put"
	case CacheAdd:
		return "add"
	case CacheDelete:
		return "delete"
	case CacheReset:
		return "reset"
	}
	return "operation " + itoa(int(op))
}

// A CacheWrite is a frame of the cache's ring as [DecodeCache] reads it. What
// a key has is for [Cache] to say: an add may not count, and a value expires.
type CacheWrite struct {
	Op     CacheOp
	Prefix []byte
	Key    []byte
	Value  []byte
	Expiry Stamp // 0 if never
}

// ErrCacheWrite matches every error of [DecodeCache].
var ErrCacheWrite = errors.New("orbit: not a write to the cache")

// DecodeCache reads a frame of the cache's ring, for tools that follow it. The
// write's bytes alias the frame's payload. It does not allocate unless it
// fails; every error matches [ErrCacheWrite].
func DecodeCache(f Frame) (CacheWrite, error) {
	rec, ok := decodeCacheRecord(f.Kind, int64(f.Version), f.Payload)
	if !ok {
		return CacheWrite{}, problem("not a write to the cache: "+CacheOp(f.Kind).String()+", "+itoa(len(f.Payload))+" bytes", ErrCacheWrite)
	}
	value := f.Payload[cacheValueAt(cacheLengths(len(rec.prefix), len(rec.key))):]
	return CacheWrite{CacheOp(rec.op), rec.prefix, rec.key, value, Stamp(rec.expiry)}, nil
}

// cacheLengths is the lengths word of a record that is not an add.
func cacheLengths(prefix, key int) uint64 { return uint64(prefix) | uint64(key)<<16 }

// cacheValueAt returns where the value begins in a payload with these lengths.
func cacheValueAt(lengths uint64) int {
	prefix, key := int(lengths&maxCacheText), int(lengths>>16&maxCacheText)
	return cacheTexts + roundUp(prefix, wordSize) + roundUp(key, wordSize)
}

// A cacheRecord is all of a record but its value. The texts alias the bytes it
// was decoded from.
type cacheRecord struct {
	op      uint8
	expiry  int64
	settled uint32
	prefix  []byte
	key     []byte
}

// decodeCacheRecord decodes the payload of a frame, which may end where the
// value begins. It accepts only what the cache writes.
func decodeCacheRecord(op uint8, expiry int64, b []byte) (rec cacheRecord, ok bool) {
	if op < cachePut || op > cacheReset || len(b) < cacheTexts {
		return rec, false
	}
	lengths := binary.NativeEndian.Uint64(b)
	if len(b) < cacheValueAt(lengths) {
		return rec, false
	}
	rec = cacheRecord{op: op, expiry: expiry, settled: uint32(lengths >> 32)}
	rec.prefix, b, ok = cutText(b[cacheTexts:], int(lengths&maxCacheText))
	if !ok {
		return rec, false
	}
	rec.key, _, ok = cutText(b, int(lengths>>16&maxCacheText))
	return rec, ok && (op != cacheReset || len(rec.key) == 0) && (op == cacheAdd || rec.settled == 0)
}

// cutText cuts a text of n bytes and its padding from b, which is long enough.
func cutText(b []byte, n int) (text, rest []byte, ok bool) {
	end := roundUp(n, wordSize)
	for _, pad := range b[n:end] {
		if pad != 0 {
			return nil, b, false
		}
	}
	return b[:n:n], b[end:], true
}

// putText writes a text at an offset of the payload of a slot that this member
// owns, and returns the offset behind its padding.
func putText(s unsafe.Pointer, at int, text string) int {
	for i := 0; i < len(text); i += wordSize {
		putWord(s, offPayload+uintptr(at+i), textWord(text, i))
	}
	return at + roundUp(len(text), wordSize)
}

// sameText tells whether the payload of a slot has the words of a text at an
// offset.
func sameText(s unsafe.Pointer, at int, text string) bool {
	if totalOrder {
		return unsafe.String((*byte)(unsafe.Add(s, offPayload+uintptr(at))), len(text)) == text
	}
	for i := 0; i < len(text); i += wordSize {
		if getWord(s, offPayload+uintptr(at+i)) != textWord(text, i) {
			return false
		}
	}
	return true
}

// textWord returns the word of a text that begins at byte i, padded with
// zeros: in memory, the bytes of the text.
func textWord(text string, i int) (w uint64) {
	if len(text)-i >= wordSize {
		return wordAt(text, i)
	}
	if !littleEndian {
		return slowWord(text[i:])
	}
	if n := len(text); n >= wordSize {
		return wordAt(text, n-wordSize) >> (8 * uint(i+wordSize-n) & 63)
	}
	for j := len(text) - 1; j >= i; j-- {
		w = w<<8 | uint64(text[j])
	}
	return w
}

// wordAt returns the word of the 8 bytes of a text from byte i.
func wordAt(text string, i int) uint64 {
	if !littleEndian {
		return slowWord(text[i : i+wordSize])
	}
	b := text[i : i+wordSize] // the compiler makes one load of it
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// slowWord is right in either byte order.
func slowWord(text string) uint64 {
	var word [wordSize]byte
	copy(word[:], text)
	return binary.NativeEndian.Uint64(word[:])
}

// littleEndian is true where the quick ways to a word are known to be right.
const littleEndian = runtime.GOARCH == "amd64" || runtime.GOARCH == "386" || runtime.GOARCH == "arm64"

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
	return "change " + itoa(int(c))
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
		return ClaimEvent{}, problem("not a claim event: "+c.String()+", "+itoa(len(f.Payload))+" bytes", ErrClaimEvent)
	}
	r.token = f.Version
	return ClaimEvent{ClaimChange(f.Kind), r.holder(clockNow())}, nil
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

// An event is one frame of the events ring. The topic and the caller's payload
// lie one after the other in the frame's payload:
//
//	frame.Kind     length of the topic, 1 to 255
//	frame.Version  time of publication, on the clock of [Stamp]
//	frame.Payload  topic | payload
//
// Nothing else is in the way of the two: they are copied straight into the
// slot, and straight out of it.

// MaxTopic is the longest topic in bytes: its length travels in one byte.
const MaxTopic = 255

// decodeEvent splits the payload of an event's frame. It fails for a frame
// that no [EventBus] published.
func decodeEvent(kind uint8, record []byte) (topic, payload []byte, ok bool) {
	n := int(kind)
	if n == 0 || n > len(record) {
		return nil, nil, false
	}
	return record[:n:n], record[n:], true
}

// A heartbeat is a word in the node's cell of the table behind the slots of
// the heartbeat ring, and for those who follow the ring also a frame:
//
//	cell           time of the newest beat, on the clock of [Stamp], 0 for none
//	frame.ID       its node is the node that beat
//	frame.Kind     1
//	frame.Version  time of the beat, on the same clock
//	frame.Payload  empty
//
// A cell is one word, so that a writer killed at any instruction leaves the
// old beat or the new one.
const (
	beatKind     = 1
	beatTableLen = maxNodes * wordSize
)
