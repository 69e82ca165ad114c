package orbit

import (
	"errors"
	"strconv"
)

// ErrID is matched, through [errors.Is], by every error from [ParseNetID64],
// [NetID64FromBytes] and [NetID64.UnmarshalText]. The error itself also says
// what was found and what was wanted.
var ErrID = errors.New("orbit: malformed id")

// NetID64 is a 64-bit identifier in three parts: an 8-bit kind (what sort of
// thing it names), a 16-bit node (who numbered it) and a 40-bit counter (which
// one it is). What a kind or node means is up to the program.
//
// NetID64 is a plain value: it can be copied, compared with ==, used as a map
// key and shared between goroutines. The zero value means "no id" and is what
// MakeNetID64(0, 0, 0) returns, so a program that hands out ids should start
// either its kinds or its counters at 1. Every uint64 is a valid NetID64;
// convert with NetID64(u) and back with [NetID64.Raw].
//
// The text form is "kind:node:counter" in decimal, as in "12:3:456", and it is
// what encoding/json writes, as a string, for both values and map keys.
// The wire form is 8 bytes, big-endian, so wire order is the order of
// [NetID64.Compare]: by kind, then node, then counter. Text does not sort that
// way.
//
// With package fmt, %v and %s print the text form, %d the raw number and %#v
// the debugging form. %x would print the text form byte by byte in hex, so
// print n.Raw() instead.
type NetID64 uint64

// Layout, most significant bit first:
//
//	 63     56 55            40 39                                     0
//	+---------+----------------+----------------------------------------+
//	|  KIND   |      NODE      |                COUNTER                 |
//	|  8 bits |    16 bits     |                40 bits                 |
//	+---------+----------------+----------------------------------------+
//	  byte 0     bytes 1 to 2                bytes 3 to 7

// CounterBits is the width of the counter of a [NetID64]: counters run from 0
// to 1<<CounterBits - 1, which is 1099511627775.
const CounterBits = 40

const (
	idNodeBits = 16
	idKindBits = 8

	idNodeShift = CounterBits
	idKindShift = CounterBits + idNodeBits

	idCounterMask = 1<<CounterBits - 1

	idWireLen    = 8
	idMaxTextLen = len("255:65535:1099511627775")
	idMaxHexLen  = 16

	// idMaxQuoted bounds how much of a bad input an error repeats. It leaves
	// room for any well-formed text and a little more, so that only input
	// that could not have been meant as an id is cut short.
	idMaxQuoted = 40
)

// What an error says was wanted.
const (
	idWantShape   = "want kind:node:counter or 0x hex"
	idWantKind    = "want kind a decimal 0 to 255"
	idWantNode    = "want node a decimal 0 to 65535"
	idWantCounter = "want counter a decimal 0 to 1099511627775"
	idWantHex     = "want 1 to 16 hex digits after 0x"
)

// MakeNetID64 returns the id with the given parts. Only the low [CounterBits]
// bits of counter are kept: a counter that has run past the limit silently
// wraps to 0, so a caller for whom that matters must check before the call.
// It cannot fail, and costs a few shifts.
func MakeNetID64(kind uint8, node uint16, counter uint64) NetID64 {
	return NetID64(kind)<<idKindShift | NetID64(node)<<idNodeShift | NetID64(counter&idCounterMask)
}

// NetID64FromBytes reads the wire form written by [NetID64.Bytes] and
// [NetID64.AppendBytes]. It needs exactly 8 bytes; any other length, longer
// included, returns the zero id and an error matching [ErrID]. Any 8 bytes are
// an id. It does not keep b, and does not allocate unless it fails.
func NetID64FromBytes(b []byte) (NetID64, error) {
	if len(b) != idWireLen {
		return 0, &idError{": " + strconv.Itoa(len(b)) + " bytes, want 8"}
	}
	return NetID64(b[0])<<56 | NetID64(b[1])<<48 | NetID64(b[2])<<40 | NetID64(b[3])<<32 |
		NetID64(b[4])<<24 | NetID64(b[5])<<16 | NetID64(b[6])<<8 | NetID64(b[7]), nil
}

// ParseNetID64 reads an id from text in one of two forms:
//
//	kind:node:counter   three decimal numbers, as String writes
//	0xHEX               the raw value, 1 to 16 hex digits of either case after 0x or 0X
//
// Decimal fields may have any number of leading zeros, as "007:01:1" has, and
// are still decimal; the value must fit its field (255, 65535 and
// 1099511627775). Nothing else is accepted: no signs, spaces, underscores,
// empty, missing or extra fields, nor anything before or after the id.
//
// On failure it returns the zero id and an error that matches [ErrID] and
// quotes s, cut short if s is long. Time is linear in len(s). It does not keep
// s, and does not allocate unless it fails.
func ParseNetID64(s string) (NetID64, error) {
	if len(s) >= 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		return parseIDHex(s)
	}
	return parseIDFields(s)
}

// MustParseNetID64 is [ParseNetID64] for ids known to be good, such as
// constants and test values. It panics with the error if s is malformed, so it
// must not be given input from outside the program.
func MustParseNetID64(s string) NetID64 {
	n, err := ParseNetID64(s)
	if err != nil {
		panic(err)
	}
	return n
}

// Kind returns the kind, the top 8 bits. It costs one shift.
func (n NetID64) Kind() uint8 { return uint8(n >> idKindShift) }

// Node returns the node, the 16 bits below the kind. It costs one shift.
func (n NetID64) Node() uint16 { return uint16(n >> idNodeShift) }

// Counter returns the counter, the low [CounterBits] bits. It costs one mask.
func (n NetID64) Counter() uint64 { return uint64(n & idCounterMask) }

// Raw returns all 64 bits as one number; NetID64(n.Raw()) == n. It is free.
func (n NetID64) Raw() uint64 { return uint64(n) }

// IsZero reports whether n is the zero value, "no id". An id with any one part
// set is not zero. It is also what the omitzero option of encoding/json asks.
func (n NetID64) IsZero() bool { return n == 0 }

// Compare returns -1, 0 or +1 as n is less than, equal to or greater than
// other by raw value, which is by kind, then node, then counter. It has the
// shape that [slices.SortFunc] wants, as NetID64.Compare, and never allocates.
func (n NetID64) Compare(other NetID64) int {
	switch {
	case n < other:
		return -1
	case n > other:
		return +1
	}
	return 0
}

// Bytes returns the wire form: 8 bytes, big-endian. It does not allocate.
func (n NetID64) Bytes() [8]byte {
	return [idWireLen]byte{
		byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32),
		byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n),
	}
}

// AppendBytes appends the wire form, 8 bytes, big-endian, to dst and returns
// the extended slice. It allocates only if dst has no room.
func (n NetID64) AppendBytes(dst []byte) []byte {
	return append(dst,
		byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32),
		byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// String returns the text form, "kind:node:counter" in decimal without leading
// zeros: 5 to 23 bytes, "0:0:0" for the zero id. [ParseNetID64] reads it back.
// It allocates the string and nothing else.
func (n NetID64) String() string {
	var buf [idMaxTextLen]byte
	return string(n.appendText(buf[:0]))
}

// GoString returns a form for debugging, which fmt prints for %#v: the text
// form and all 16 hex digits, as in
// "orbit.NetID64(12:3:456 0x0c000300000001c8)". The hex part alone can be given
// to [ParseNetID64]; the whole cannot. It allocates the string and nothing else.
func (n NetID64) GoString() string {
	const before, between, after = "orbit.NetID64(", " 0x", ")"
	var buf [len(before) + idMaxTextLen + len(between) + idMaxHexLen + len(after)]byte
	b := append(buf[:0], before...)
	b = n.appendText(b)
	b = append(b, between...)
	b = n.appendHex(b)
	b = append(b, after...)
	return string(b)
}

// AppendText implements [encoding.TextAppender]: it appends what
// [NetID64.String] returns, at most 23 bytes, to dst and returns the extended
// slice. The error is always nil. It allocates only if dst has no room.
func (n NetID64) AppendText(dst []byte) ([]byte, error) {
	return n.appendText(dst), nil
}

// MarshalText implements [encoding.TextMarshaler]: it returns what
// [NetID64.String] returns, as bytes. The error is always nil. It allocates
// the slice and nothing else; [NetID64.AppendText] can avoid even that.
func (n NetID64) MarshalText() ([]byte, error) {
	return n.appendText(make([]byte, 0, idMaxTextLen)), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]. It accepts exactly what
// [ParseNetID64] accepts, so empty text is an error and not the zero id. On
// failure the error matches [ErrID] and n is left as it was. It does not keep
// text, and does not allocate for text of ordinary length unless it fails.
func (n *NetID64) UnmarshalText(text []byte) error {
	// The parser does not keep its argument, so a short conversion stays on
	// the stack.
	id, err := ParseNetID64(string(text))
	if err != nil {
		return err
	}
	*n = id
	return nil
}

func (n NetID64) appendText(dst []byte) []byte {
	dst = strconv.AppendUint(dst, uint64(n.Kind()), 10)
	dst = append(dst, ':')
	dst = strconv.AppendUint(dst, uint64(n.Node()), 10)
	dst = append(dst, ':')
	return strconv.AppendUint(dst, n.Counter(), 10)
}

// appendHex writes all 16 digits: strconv would drop the leading zeros, and
// with them the column a reader uses to tell kind from node.
func (n NetID64) appendHex(dst []byte) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[n>>shift&0xf])
	}
	return dst
}

// parseIDHex parses s, which starts with 0x or 0X.
func parseIDHex(s string) (NetID64, error) {
	digits := s[2:]
	// The length is checked here because ParseUint lets any number of
	// leading zeros by, and more than 16 digits is more likely a mistake
	// than a padded id. With base 16 given, it takes no sign, underscore or
	// second prefix.
	if len(digits) > idMaxHexLen {
		return 0, badID(s, idWantHex)
	}
	raw, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return 0, badID(s, idWantHex)
	}
	return NetID64(raw), nil
}

// parseIDFields parses s as kind:node:counter. With base 10 given, ParseUint
// takes digits alone, and refuses what does not fit the width it is told.
func parseIDFields(s string) (NetID64, error) {
	kindText, rest, ok1 := cutIDField(s)
	nodeText, counterText, ok2 := cutIDField(rest)
	_, _, extra := cutIDField(counterText)
	if !ok1 || !ok2 || extra {
		return 0, badID(s, idWantShape)
	}
	kind, err := strconv.ParseUint(kindText, 10, idKindBits)
	if err != nil {
		return 0, badID(s, idWantKind)
	}
	node, err := strconv.ParseUint(nodeText, 10, idNodeBits)
	if err != nil {
		return 0, badID(s, idWantNode)
	}
	counter, err := strconv.ParseUint(counterText, 10, CounterBits)
	if err != nil {
		return 0, badID(s, idWantCounter)
	}
	return MakeNetID64(uint8(kind), uint16(node), counter), nil
}

// cutIDField splits s around its first colon.
func cutIDField(s string) (field, rest string, found bool) {
	for i := 0; i < len(s); i++ {
		if s[i] == ':' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// idError is an error that adds detail to ErrID. The detail is built when the
// error is, from a bounded copy, so that an error kept for long never keeps a
// large input with it.
type idError struct{ detail string }

func (e *idError) Error() string { return ErrID.Error() + e.detail }

func (e *idError) Unwrap() error { return ErrID }

// badID returns the error for text s where something else was wanted. Quoting
// keeps control characters in hostile input out of logs and terminals.
func badID(s, want string) error {
	if len(s) <= idMaxQuoted {
		return &idError{" " + strconv.Quote(s) + ": " + want}
	}
	found := strconv.Quote(s[:idMaxQuoted]) + "... (" + strconv.Itoa(len(s)) + " bytes)"
	return &idError{" " + found + ": " + want}
}
