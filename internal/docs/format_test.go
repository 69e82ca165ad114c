//go:build linux

package docs

import (
	"encoding/binary"
	"hash/fnv"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func TestMain(m *testing.M) { proc.Main(m) }

// A place is where the document says that a field is: bytes from an offset, or
// bits of a word.
type place struct {
	offset, size int
	bits         bool
}

var (
	byteRow = regexp.MustCompile("(?m)^\\| (\\d+) \\| (\\d*) ?\\| `([^`]+)` \\|")
	bitRow  = regexp.MustCompile("(?m)^\\| (\\d+)(?:-(\\d+))? \\| `([^`]+)` \\|")
	numbers = regexp.MustCompile(`(?m)^\|\s*\d`)
)

// places reads the tables of docs/FORMAT.md.
func places(t *testing.T) map[string]place {
	text, err := os.ReadFile("../../docs/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]place{}
	add := func(name string, p place) {
		if _, twice := all[name]; twice {
			t.Errorf("two rows have the field %q", name)
		}
		all[name] = p
	}
	number := func(s []byte) int {
		n, _ := strconv.Atoi(string(s))
		return n
	}
	rows := 0
	for _, m := range byteRow.FindAllSubmatch(text, -1) {
		add(string(m[3]), place{offset: number(m[1]), size: number(m[2])})
		rows++
	}
	for _, m := range bitRow.FindAllSubmatch(text, -1) {
		last := number(m[2])
		if len(m[2]) == 0 {
			last = number(m[1])
		}
		add(string(m[3]), place{offset: number(m[1]), size: last - number(m[1]) + 1, bits: true})
		rows++
	}
	if n := len(numbers.FindAll(text, -1)); n != rows {
		t.Errorf("%d rows begin with a number, and %d of them can be read", n, rows)
	}
	return all
}

// A reader reads fields where the document says that they are, and counts off
// those it has read.
type reader struct {
	t      *testing.T
	places map[string]place
}

func (r *reader) place(field string) place {
	r.t.Helper()
	p, ok := r.places[field]
	if !ok {
		r.t.Fatalf("the document has no field %q that was not read yet", field)
	}
	delete(r.places, field)
	return p
}

// want checks a number in b, in the machine's byte order or big-endian.
func (r *reader) want(field string, b []byte, order binary.ByteOrder, want uint64) {
	r.t.Helper()
	p := r.place(field)
	var got uint64
	switch b = b[p.offset:]; p.size {
	case 1:
		got = uint64(b[0])
	case 2:
		got = uint64(order.Uint16(b))
	case 4:
		got = uint64(order.Uint32(b))
	case 8:
		got = order.Uint64(b)
	default:
		r.t.Errorf("%s: size %d", field, p.size)
	}
	if got != want {
		r.t.Errorf("%s at offset %d: got %#x, want %#x", field, p.offset, got, want)
	}
}

// bytes checks text in b.
func (r *reader) bytes(field string, b []byte, want string) {
	r.t.Helper()
	p := r.place(field)
	if got := string(b[p.offset:][:len(want)]); got != want || p.size != 0 && p.size != len(want) {
		r.t.Errorf("%s at offset %d, of size %d: got %q, want %q", field, p.offset, p.size, got, want)
	}
}

// bits checks a part of a word.
func (r *reader) bits(field string, word, want uint64) {
	r.t.Helper()
	p := r.place(field)
	if got := word >> p.offset & (1<<p.size - 1); got != want || !p.bits {
		r.t.Errorf("%s in bits %d to %d of %#x: got %d, want %d", field, p.offset, p.offset+p.size-1, word, got, want)
	}
}

type typed struct{ A, B uint64 }

func (typed) OrbitKind() uint8 { return 7 }

var native = binary.NativeEndian

func word(b []byte) uint64 { return native.Uint64(b) }

func TestFormatIsAsDocumented(t *testing.T) {
	r := &reader{t, places(t)}
	name := proc.Fleet(t)
	start := uint64(orbit.Now())
	f, err := orbit.Join(name, orbit.Options{Size: 1, Node: 500, Rings: map[uint8]orbit.Geometry{
		7: {Capacity: 8, PayloadLimit: 41}, orbit.KindContest: {Capacity: 64, PayloadLimit: 256},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		f.Close()
		if err := orbit.Remove(name); err != nil {
			t.Error(err)
		}
	}()
	segment := func(kind uint8) []byte {
		b, err := os.ReadFile(proc.Segment(name, int(kind)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	recent := func(what string, stamp uint64) {
		if stamp < start || stamp > uint64(orbit.Now()) {
			t.Errorf("%s is %d, want a time since %d", what, stamp, start)
		}
	}

	// The roster: a header without slots, and one seat taken.
	roster := segment(0)
	table := roster[word(roster[56:]):]
	seat := word(table[r.place("seat state").offset:])
	r.bits("seat taken", seat, 1)
	r.bits("seat turn", seat, 1)
	check := uint64(1<<1|1) + 1
	check *= 0x9e3779b97f4a7c15
	r.bits("seat check", seat, check&(1<<51-1))
	r.want("seat pid", table, native, uint64(os.Getpid()))
	r.want("seat node", table, native, 500)
	recent("seat since", word(table[r.place("seat since").offset:]))
	r.want("seat mark", table, native, 0)

	// A ring of a bound type, with a frame in slot 0 and a hole in slot 1.
	ring, err := orbit.RingOf[typed](f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Publish(3, 99, []byte("payload")); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Mint(); err != nil {
		t.Fatal(err)
	}
	if err := ring.Reset(); err != nil {
		t.Fatal(err)
	}
	b := segment(7)
	used := word(segment(0)[word(roster[56:])+1024*64+7*8:])
	if used != word(b[88:]) {
		t.Errorf("the roster says that the segment of kind 7 is of time %d, its header says %d", used, word(b[88:]))
	}
	sum := fnv.New64a()
	sum.Write(b[:96])
	r.bytes("magic", b, "ORBITSHM")
	r.want("mark", b, native, 0x01020304)
	r.want("version", b, native, orbit.FormatVersion)
	r.want("size", b, native, uint64(len(b)))
	r.want("capacity", b, native, 8)
	r.want("limit", b, native, 41)
	r.want("stride", b, native, 128)
	r.want("slots", b, native, 4096)
	r.want("table", b, native, 4096+8*128)
	r.want("table size", b, native, 0)
	r.want("kind", b, native, 7)
	r.want("instance", b, native, f.Incarnation())
	recent("created", word(b[r.place("created").offset:]))
	r.want("checksum", b, native, sum.Sum64())
	if print := word(b[r.place("fingerprint").offset:]); print&1 != 1 {
		t.Errorf("fingerprint: got %#x, want one with bit 0", print)
	}
	r.want("first", b, native, 2)
	r.want("head", b, native, 2)
	r.want("wake", b, native, 0)
	slot := b[4096:]
	state, meta := word(slot[r.place("state").offset:]), word(slot[r.place("meta").offset:])
	r.want("frame version", slot, native, 99)
	r.bytes("payload", slot, "payload")
	r.bits("phase", state, 1)
	r.bits("owner", state, 0)
	r.bits("counter", state, 0)
	r.bits("length", meta, uint64(len("payload")))
	r.bits("frame kind", meta, 3)
	r.bits("node", meta, 500)
	if hole := word(b[4096+128:]); hole != 1<<24 {
		t.Errorf("state of a hole: got %#x, want skipped(1)", hole)
	}
	if free := word(b[4096+2*128:]); free != (1<<40-6)<<24 {
		t.Errorf("state of a slot not used yet: got %#x, want skipped(-6)", free)
	}

	// Events.
	bus, err := orbit.Events(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Publish("topic", []byte("news")); err != nil {
		t.Fatal(err)
	}
	event := segment(orbit.KindEvents)[4096:]
	if kind := word(event[8:]) >> 40 & 255; kind != 5 || string(event[24:][:9]) != "topicnews" {
		t.Errorf("event: kind %d, payload %q", kind, event[24:][:9])
	}
	recent("event's version", word(event[16:]))

	// The cache: an add, whose key was absent below counter 1.
	cache, err := orbit.OpenCache(f, "pre")
	if err != nil {
		t.Fatal(err)
	}
	if err := cache.Put("other", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Add("key", []byte("value"), time.Hour); err != nil {
		t.Fatal(err)
	}
	c := segment(orbit.KindCache)
	add := c[4096+word(c[40:]):]
	if kind := word(add[8:]) >> 40 & 255; kind != 2 {
		t.Errorf("cache: frame kind %d, want 2 of an add", kind)
	}
	if expiry := word(add[16:]); expiry < start+uint64(time.Hour) {
		t.Errorf("cache: expires at %d, want an hour from now", expiry)
	}
	r.want("prefix length", add[24:], native, 3)
	r.want("key length", add[24:], native, 3)
	r.want("settled", add[24:], native, 1)
	r.bytes("prefix", add[24:], "pre\x00\x00\x00\x00\x00key\x00\x00\x00\x00\x00value")

	// The heartbeat.
	heart, err := orbit.Heartbeats(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := heart.Beat(); err != nil {
		t.Fatal(err)
	}
	h := segment(orbit.KindHeartbeat)
	beat := word(h[word(h[56:])+500*8:])
	recent("beat", beat)
	if kind := word(h[4096+8:]) >> 40 & 255; kind != 1 || word(h[4096+16:]) != beat {
		t.Errorf("beat: frame kind %d, version %d, want 1 and %d", kind, word(h[4096+16:]), beat)
	}

	// The contest, of 128 records and 256 entries.
	contest, err := orbit.OpenContest(f)
	if err != nil {
		t.Fatal(err)
	}
	guard, err := orbit.Claim[typed](contest, "label", "owner", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m := segment(orbit.KindContest)
	claims := m[word(m[56:]):]
	r.want("order", claims, native, 1)
	r.want("token", claims, native, guard.Token())
	at := r.place("entries").offset
	entry := uint64(0)
	for i := range 256 {
		if e := word(claims[at+i*8:]); e != 0 {
			entry = e
		}
	}
	index := entry >> 2 & (1<<14 - 1)
	r.bits("claim phase", entry, 2)
	r.bits("record", entry, index)
	r.bits("claim order", entry, 1)
	deed := word(claims[at+256*8+int(index)*8:])
	r.bits("deed taken", deed, 1)
	r.bits("deed owner", deed, 1) // seat 0, turn 1
	r.bits("deed revision", deed, 1)
	record := claims[at+256*8+128*8+int(index)*192:]
	hash := fnv.New64a()
	hash.Write([]byte("\x07label"))
	mixed := hash.Sum64()
	mixed = (mixed ^ mixed>>32) * 0xd6e8feb86659fd93
	r.want("hash", record, native, mixed^mixed>>32)
	deadline := word(record[r.place("deadline").offset:])
	if deadline < start+uint64(time.Hour) {
		t.Errorf("deadline %d, want an hour from now", deadline)
	}
	since := word(record[r.place("since").offset:])
	recent("since", since)
	r.want("fence token", record, native, guard.Token())
	r.want("subject kind", record, native, 7)
	r.want("label length", record, native, 5)
	r.want("owner length", record, native, 5)
	r.want("holder node", record, native, 500)
	r.want("holder pid", record, native, uint64(os.Getpid()))
	r.bytes("labels", record, "labelowner")
	claimed := m[4096:]
	if kind := word(claimed[8:]) >> 40 & 255; kind != 1 || word(claimed[16:]) != guard.Token() {
		t.Errorf("claim's frame: kind %d, version %d, want 1 and token %d", kind, word(claimed[16:]), guard.Token())
	}
	told := claimed[24:]
	r.want("event subject kind", told, binary.BigEndian, 7)
	r.want("event label length", told, binary.BigEndian, 5)
	r.want("event owner length", told, binary.BigEndian, 5)
	r.want("event node", told, binary.BigEndian, 500)
	r.want("event pid", told, binary.BigEndian, uint64(os.Getpid()))
	r.want("event since", told, binary.BigEndian, since)
	r.want("event deadline", told, binary.BigEndian, deadline)
	r.bytes("event labels", told, "labelowner")

	// A frame on the wire.
	id := orbit.MakeNetID64(7, 500, 1<<40-2)
	wire, err := orbit.Frame{ID: id, Kind: 3, Version: 99, Payload: []byte("payload")}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.want("wire id", wire, binary.BigEndian, 7<<56|500<<40|1<<40-2)
	r.want("wire kind", wire, binary.BigEndian, 3)
	r.want("wire version", wire, binary.BigEndian, 99)
	r.want("wire length", wire, binary.BigEndian, 7)
	r.bytes("wire payload", wire, "payload")

	for field := range r.places {
		t.Errorf("nothing checks the field %q", field)
	}
	if t.Failed() {
		t.Logf("fleet %q, node %d", name, f.Node())
	}
}
