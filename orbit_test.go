// Tests of package orbit, written against its exported names alone, one
// section for each of its types. Where a result can be worked out a second
// way, a slow and plainly right version of it stands next to the tests (the
// names start with ref) and is shared with the fuzz tests in fuzz_test.go.

package orbit_test

import (
	"bytes"
	"context"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"orbit"
)

// ---------------------------------------------------------------------------
// NetID64

const maxCounter = 1<<orbit.CounterBits - 1

var (
	_ fmt.Stringer             = orbit.NetID64(0)
	_ fmt.GoStringer           = orbit.NetID64(0)
	_ encoding.TextAppender    = orbit.NetID64(0)
	_ encoding.TextMarshaler   = orbit.NetID64(0)
	_ encoding.TextUnmarshaler = (*orbit.NetID64)(nil)
)

var (
	refDecimal = regexp.MustCompile(`\A[0-9]+\z`)
	refHex     = regexp.MustCompile(`\A0[xX][0-9a-fA-F]{1,16}\z`)
)

// refParseNetID64 reads the two text forms with regular expressions and whole
// numbers of any size, and adds the fields up by their place values.
func refParseNetID64(s string) (raw uint64, ok bool) {
	if refHex.MatchString(s) {
		v, ok := new(big.Int).SetString(s[2:], 16)
		return v.Uint64(), ok
	}
	fields := strings.Split(s, ":")
	if len(fields) != 3 {
		return 0, false
	}
	sizes := []*big.Int{big.NewInt(1 << 8), big.NewInt(1 << 16), big.NewInt(1 << 40)}
	sum := new(big.Int)
	for i, field := range fields {
		if !refDecimal.MatchString(field) {
			return 0, false
		}
		v, ok := new(big.Int).SetString(field, 10)
		if !ok || v.Cmp(sizes[i]) >= 0 {
			return 0, false
		}
		sum.Mul(sum, sizes[i]).Add(sum, v)
	}
	return sum.Uint64(), true
}

// refNetID64Text is the text form by way of fmt and plain arithmetic.
func refNetID64Text(raw uint64) string {
	return fmt.Sprintf("%d:%d:%d", raw/(1<<56), raw/(1<<40)%(1<<16), raw%(1<<40))
}

// netIDTexts holds well-formed and malformed texts, each named by what sets it
// apart. The fuzz test starts from them as well.
var netIDTexts = []struct {
	name string
	text string
	want uint64
	ok   bool
}{
	{"zero", "0:0:0", 0, true},
	{"ordinary", "12:3:456", 0x0c000300000001c8, true},
	{"every field at its limit", "255:65535:1099511627775", math.MaxUint64, true},
	{"kind alone", "1:0:0", 1 << 56, true},
	{"node alone", "0:1:0", 1 << 40, true},
	{"counter alone", "0:0:1", 1, true},
	{"leading zeros", "007:01:0000000000000000000000000009", 0x0700010000000009, true},
	{"leading zeros are not octal", "010:010:010", 0x0a000a000000000a, true},
	{"many leading zeros", strings.Repeat("0", 1000) + "1:2:3", 0x0100020000000003, true},

	{"hex of one digit", "0x1", 1, true},
	{"hex zero", "0x0", 0, true},
	{"hex of 16 digits", "0x0c000300000001c8", 0x0c000300000001c8, true},
	{"hex with capital X", "0XFF", 0xff, true},
	{"hex of mixed case", "0xdeadBEEF", 0xdeadbeef, true},
	{"hex all ones", "0xffffffffffffffff", math.MaxUint64, true},

	{"empty", "", 0, false},
	{"space alone", " ", 0, false},
	{"one number", "12", 0, false},
	{"two fields", "1:2", 0, false},
	{"four fields", "1:2:3:4", 0, false},
	{"trailing colon", "1:2:3:", 0, false},
	{"leading colon", ":1:2:3", 0, false},
	{"colons alone", "::", 0, false},
	{"one colon", ":", 0, false},
	{"empty kind", ":2:3", 0, false},
	{"empty node", "1::3", 0, false},
	{"empty counter", "1:2:", 0, false},
	{"kind too large", "256:0:0", 0, false},
	{"node too large", "0:65536:0", 0, false},
	{"counter too large", "0:0:1099511627776", 0, false},
	{"kind past 64 bits", "18446744073709551617:0:0", 0, false},
	{"counter past 64 bits", "0:0:18446744073709551617", 0, false},
	{"counter far past 64 bits", "0:0:" + strings.Repeat("9", 5000), 0, false},
	{"plus sign", "+1:2:3", 0, false},
	{"minus sign", "1:-2:3", 0, false},
	{"minus zero", "0:0:-0", 0, false},
	{"leading space", " 1:2:3", 0, false},
	{"inner space", "1: 2:3", 0, false},
	{"trailing newline", "1:2:3\n", 0, false},
	{"trailing NUL", "1:2:3\x00", 0, false},
	{"underscore", "1:2:1_000", 0, false},
	{"trailing letter", "1:2:3x", 0, false},
	{"decimal point", "1:2:3.0", 0, false},
	{"exponent", "1:2:3e1", 0, false},
	{"hex in a field", "0x1:2:3", 0, false},
	{"hex in a later field", "1:0x2:3", 0, false},
	{"letters in a field", "1:2:ff", 0, false},
	{"other separator", "1-2-3", 0, false},
	{"digits of another script", "1:2:\u0663", 0, false},
	{"wide colon", "1\uff1a2\uff1a3", 0, false},
	{"invalid UTF-8", "\xff:\xfe:\xfd", 0, false},

	{"hex without digits", "0x", 0, false},
	{"hex of 17 digits", "0x1ffffffffffffffff", 0, false},
	{"hex of 17 digits that would fit", "0x00000000000000001", 0, false},
	{"hex with underscore", "0x_1", 0, false},
	{"hex with sign", "0x+1", 0, false},
	{"sign before hex", "-0x1", 0, false},
	{"hex with a second prefix", "0x0x1", 0, false},
	{"hex with a bad digit", "0xfg", 0, false},
	{"hex with trailing space", "0x1 ", 0, false},
	{"hex digits without prefix", "c8", 0, false},
	{"prefix without zero", "x1", 0, false},
	{"octal prefix", "0o17", 0, false},
	{"binary prefix", "0b1", 0, false},
	{"debugging form", "orbit.NetID64(12:3:456 0x0c000300000001c8)", 0, false},
}

// sampleNetIDs returns ids at every edge of the layout and some at random.
func sampleNetIDs() []orbit.NetID64 {
	ids := []orbit.NetID64{0, math.MaxUint64}
	for bit := range 64 {
		ids = append(ids, 1<<bit, 1<<bit-1, ^orbit.NetID64(1<<bit))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		// Shifting gives numbers of every length and not just long ones.
		ids = append(ids, orbit.NetID64(rng.Uint64()>>rng.UintN(64)))
	}
	return ids
}

func TestNetID64ZeroValueIsNoID(t *testing.T) {
	var n orbit.NetID64
	if !n.IsZero() || n != orbit.MakeNetID64(0, 0, 0) {
		t.Errorf("the zero value is not MakeNetID64(0, 0, 0): %v", n)
	}
	if got := n.String(); got != "0:0:0" {
		t.Errorf("String() = %q, want 0:0:0", got)
	}
	for _, n := range []orbit.NetID64{
		orbit.MakeNetID64(1, 0, 0), orbit.MakeNetID64(0, 1, 0), orbit.MakeNetID64(0, 0, 1),
	} {
		if n.IsZero() {
			t.Errorf("%v.IsZero() = true", n)
		}
	}
}

func TestNetID64PartsLandInTheirBits(t *testing.T) {
	tests := []struct {
		name    string
		kind    uint8
		node    uint16
		counter uint64
		want    uint64
	}{
		{"nothing set", 0, 0, 0, 0},
		{"kind fills the top byte", 0xff, 0, 0, 0xff00_0000_0000_0000},
		{"node fills the next two", 0, 0xffff, 0, 0x00ff_ff00_0000_0000},
		{"counter fills the last five", 0, 0, maxCounter, 0x0000_00ff_ffff_ffff},
		{"all parts together", 0x12, 0x3456, 0x789abcdef0, 0x1234_5678_9abc_def0},
		{"everything set", 0xff, 0xffff, maxCounter, math.MaxUint64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := orbit.MakeNetID64(tt.kind, tt.node, tt.counter)
			if n.Raw() != tt.want {
				t.Fatalf("raw = %#016x, want %#016x", n.Raw(), tt.want)
			}
			if n.Kind() != tt.kind || n.Node() != tt.node || n.Counter() != tt.counter {
				t.Errorf("parts = %d, %d, %d, want %d, %d, %d",
					n.Kind(), n.Node(), n.Counter(), tt.kind, tt.node, tt.counter)
			}
		})
	}
}

func TestNetID64CounterWrapsWithoutTouchingOtherParts(t *testing.T) {
	tests := []struct{ counter, want uint64 }{
		{maxCounter, maxCounter},
		{maxCounter + 1, 0},
		{maxCounter + 8, 7},
		{math.MaxUint64, maxCounter},
		{1 << 63, 0},
	}
	for _, tt := range tests {
		n := orbit.MakeNetID64(5, 6, tt.counter)
		if n.Kind() != 5 || n.Node() != 6 || n.Counter() != tt.want {
			t.Errorf("counter %#x gave %v, want 5:6:%d", tt.counter, n, tt.want)
		}
	}
}

func TestNetID64PartsRebuildTheID(t *testing.T) {
	for _, n := range sampleNetIDs() {
		if got := orbit.MakeNetID64(n.Kind(), n.Node(), n.Counter()); got != n {
			t.Errorf("parts of %#v rebuilt %#v", n, got)
		}
		if got := orbit.NetID64(n.Raw()); got != n {
			t.Errorf("raw value of %#v rebuilt %#v", n, got)
		}
	}
}

func TestParseNetID64(t *testing.T) {
	for _, tt := range netIDTexts {
		t.Run(tt.name, func(t *testing.T) {
			got, err := orbit.ParseNetID64(tt.text)
			if (err == nil) != tt.ok || got.Raw() != tt.want {
				t.Errorf("ParseNetID64(%.60q) = %#v, %v; want %#016x, ok %v",
					tt.text, got, err, tt.want, tt.ok)
			}
			if err != nil && !errors.Is(err, orbit.ErrID) {
				t.Errorf("error %v does not match ErrID", err)
			}
			if raw, ok := refParseNetID64(tt.text); raw != tt.want || ok != tt.ok {
				t.Errorf("the reference disagrees: %#016x, %v", raw, ok)
			}
		})
	}
}

// TestParseNetID64AgreesWithReference tries every short text over an alphabet
// that reaches every rule of the grammar.
func TestParseNetID64AgreesWithReference(t *testing.T) {
	const alphabet = "019:xXaF+_ "
	longest := 5
	if testing.Short() {
		longest = 4
	}
	var try func(prefix string)
	try = func(prefix string) {
		got, err := orbit.ParseNetID64(prefix)
		raw, ok := refParseNetID64(prefix)
		if got.Raw() != raw || (err == nil) != ok {
			t.Errorf("ParseNetID64(%q) = %#v, %v; reference %#x, %v", prefix, got, err, raw, ok)
		}
		if len(prefix) == longest {
			return
		}
		for _, c := range alphabet {
			try(prefix + string(c))
		}
	}
	try("")
}

func TestParseNetID64ErrorSaysWhatWasFound(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"wrong shape", "1:2", `orbit: malformed id "1:2": want kind:node:counter or 0x hex`},
		{"empty", "", `orbit: malformed id "": want kind:node:counter or 0x hex`},
		{"kind", "256:2:3", `orbit: malformed id "256:2:3": want kind a decimal 0 to 255`},
		{"node", "1:x:3", `orbit: malformed id "1:x:3": want node a decimal 0 to 65535`},
		{"counter", "1:2:", `orbit: malformed id "1:2:": want counter a decimal 0 to 1099511627775`},
		{"hex", "0x", `orbit: malformed id "0x": want 1 to 16 hex digits after 0x`},
		{"control characters are escaped", "\x1b[2J\n", `orbit: malformed id "\x1b[2J\n": want kind:node:counter or 0x hex`},
		{"40 bytes are quoted whole", strings.Repeat("a", 40),
			`orbit: malformed id "` + strings.Repeat("a", 40) + `": want kind:node:counter or 0x hex`},
		{"longer is cut short", strings.Repeat("a", 41),
			`orbit: malformed id "` + strings.Repeat("a", 40) + `"... (41 bytes): want kind:node:counter or 0x hex`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := orbit.ParseNetID64(tt.text)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// longestNetIDError is more than any error text may come to: 40 quoted bytes
// at 4 characters each and some fixed words.
const longestNetIDError = 300

func TestParseNetID64ErrorStaysShort(t *testing.T) {
	for _, unit := range []string{"a", "\x00", "\xff", "\u0001", "\U0010ffff", "1:", "9", "\""} {
		for _, prefix := range []string{"", "0x", "1:", "1:2:"} {
			_, err := orbit.ParseNetID64(prefix + strings.Repeat(unit, 1<<20))
			if err == nil {
				t.Fatalf("%q and much %q: no error", prefix, unit)
			}
			if n := len(err.Error()); n > longestNetIDError {
				t.Errorf("%q and much %q: error of %d bytes", prefix, unit, n)
			}
		}
	}
}

func TestMustParseNetID64(t *testing.T) {
	if got, want := orbit.MustParseNetID64("12:3:456"), orbit.MakeNetID64(12, 3, 456); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	defer func() {
		err, _ := recover().(error)
		if !errors.Is(err, orbit.ErrID) {
			t.Errorf("panic value %v does not match ErrID", err)
		}
	}()
	orbit.MustParseNetID64("12:3")
	t.Error("no panic for malformed text")
}

func TestNetID64TextFormsAgreeAndRoundTrip(t *testing.T) {
	for _, n := range sampleNetIDs() {
		want := refNetID64Text(n.Raw())
		if got := n.String(); got != want {
			t.Fatalf("String() of %#016x = %q, want %q", n.Raw(), got, want)
		}
		if got, err := n.AppendText([]byte("id=")); err != nil || string(got) != "id="+want {
			t.Errorf("AppendText = %q, %v, want %q after id=", got, err, want)
		}
		text, err := n.MarshalText()
		if err != nil || string(text) != want {
			t.Errorf("MarshalText = %q, %v, want %q", text, err, want)
		}
		back := ^n
		if err := back.UnmarshalText(text); err != nil || back != n {
			t.Errorf("UnmarshalText(%q) gave %v, %v", text, back, err)
		}
		for _, form := range []string{"%d:%d:%d", "%03d:%05d:%013d"} {
			text := fmt.Sprintf(form, n.Kind(), n.Node(), n.Counter())
			if got, err := orbit.ParseNetID64(text); err != nil || got != n {
				t.Errorf("ParseNetID64(%q) = %v, %v", text, got, err)
			}
		}
		for _, form := range []string{"0x%x", "0X%X", "0x%016x"} {
			text := fmt.Sprintf(form, n.Raw())
			if got, err := orbit.ParseNetID64(text); err != nil || got != n {
				t.Errorf("ParseNetID64(%q) = %v, %v", text, got, err)
			}
		}
	}
}

func TestNetID64UnmarshalTextLeavesReceiverOnError(t *testing.T) {
	for _, text := range []string{"", "1:2", "256:0:0", "0xg"} {
		n := orbit.MakeNetID64(7, 8, 9)
		err := n.UnmarshalText([]byte(text))
		if !errors.Is(err, orbit.ErrID) {
			t.Errorf("UnmarshalText(%q) = %v, want an error matching ErrID", text, err)
		}
		if n != orbit.MakeNetID64(7, 8, 9) {
			t.Errorf("UnmarshalText(%q) failed and yet changed the id to %v", text, n)
		}
	}
}

func TestNetID64FmtVerbs(t *testing.T) {
	n := orbit.MakeNetID64(12, 3, 456)
	tests := []struct{ verb, want string }{
		{"%v", "12:3:456"},
		{"%s", "12:3:456"},
		{"%d", "864694426990019016"},
		{"%#v", "orbit.NetID64(12:3:456 0x0c000300000001c8)"},
	}
	for _, tt := range tests {
		if got := fmt.Sprintf(tt.verb, n); got != tt.want {
			t.Errorf("%s printed %q, want %q", tt.verb, got, tt.want)
		}
	}
}

func TestNetID64GoStringShowsAllHexDigits(t *testing.T) {
	for _, n := range sampleNetIDs() {
		want := fmt.Sprintf("orbit.NetID64(%s 0x%016x)", refNetID64Text(n.Raw()), n.Raw())
		if got := n.GoString(); got != want {
			t.Errorf("GoString() = %q, want %q", got, want)
		}
	}
}

func TestNetID64BytesAreBigEndianAndRoundTrip(t *testing.T) {
	for _, n := range sampleNetIDs() {
		want := binary.BigEndian.AppendUint64(nil, n.Raw())
		wire := n.Bytes()
		if !bytes.Equal(wire[:], want) {
			t.Fatalf("Bytes() of %#v = %x, want %x", n, wire, want)
		}
		if got := n.AppendBytes([]byte{0xaa}); !bytes.Equal(got, append([]byte{0xaa}, want...)) {
			t.Errorf("AppendBytes of %#v after aa = %x", n, got)
		}
		if got, err := orbit.NetID64FromBytes(wire[:]); err != nil || got != n {
			t.Errorf("NetID64FromBytes(%x) = %#v, %v", wire, got, err)
		}
	}
}

func TestNetID64FromBytesNeedsExactlyEight(t *testing.T) {
	for size := range 20 {
		n, err := orbit.NetID64FromBytes(bytes.Repeat([]byte{0xff}, size))
		if size == 8 {
			if err != nil || n != math.MaxUint64 {
				t.Errorf("8 bytes: %#v, %v", n, err)
			}
			continue
		}
		if n != 0 || !errors.Is(err, orbit.ErrID) {
			t.Errorf("%d bytes: %#v, %v; want the zero id and ErrID", size, n, err)
		}
		if want := fmt.Sprintf("orbit: malformed id: %d bytes, want 8", size); err != nil && err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
	if _, err := orbit.NetID64FromBytes(nil); !errors.Is(err, orbit.ErrID) {
		t.Errorf("nil: error %v, want one matching ErrID", err)
	}
}

func TestNetID64ComparesByKindThenNodeThenCounter(t *testing.T) {
	ascending := []orbit.NetID64{
		orbit.MakeNetID64(0, 0, 0),
		orbit.MakeNetID64(0, 0, 9),
		orbit.MakeNetID64(0, 0, 10),
		orbit.MakeNetID64(0, 0, maxCounter),
		orbit.MakeNetID64(0, 1, 0),
		orbit.MakeNetID64(0, math.MaxUint16, maxCounter),
		orbit.MakeNetID64(1, 0, 0),
		orbit.MakeNetID64(127, math.MaxUint16, maxCounter),
		orbit.MakeNetID64(128, 0, 0), // the top bit is not a sign
		orbit.MakeNetID64(255, math.MaxUint16, maxCounter),
	}
	for i, a := range ascending {
		for j, b := range ascending {
			want := min(max(i-j, -1), 1)
			if got := a.Compare(b); got != want {
				t.Errorf("%v.Compare(%v) = %d, want %d", a, b, got, want)
			}
			aw, bw := a.Bytes(), b.Bytes()
			if got := bytes.Compare(aw[:], bw[:]); got != want {
				t.Errorf("wire forms of %v and %v compare %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestNetID64CompareSortsIDs(t *testing.T) {
	ids := sampleNetIDs()
	slices.SortFunc(ids, orbit.NetID64.Compare)
	for i := 1; i < len(ids); i++ {
		if ids[i-1].Raw() > ids[i].Raw() {
			t.Fatalf("%#v sorted before %#v", ids[i-1], ids[i])
		}
	}
}

func TestNetID64InJSON(t *testing.T) {
	type record struct {
		ID       orbit.NetID64            `json:"id"`
		Parent   orbit.NetID64            `json:"parent,omitzero"`
		Pointer  *orbit.NetID64           `json:"pointer"`
		Children []orbit.NetID64          `json:"children"`
		Names    map[orbit.NetID64]string `json:"names"`
	}
	id := orbit.MakeNetID64(1, 2, 3)
	in := record{
		ID:       id,
		Pointer:  &id,
		Children: []orbit.NetID64{0, math.MaxUint64},
		Names:    map[orbit.NetID64]string{id: "a", orbit.MakeNetID64(255, 0, 1): "b"},
	}
	const want = `{"id":"1:2:3","pointer":"1:2:3",` +
		`"children":["0:0:0","255:65535:1099511627775"],"names":{"1:2:3":"a","255:0:1":"b"}}`
	text, err := json.Marshal(in)
	if err != nil || string(text) != want {
		t.Fatalf("Marshal gave\n%s, %v; want\n%s", text, err, want)
	}
	var out record
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(out)
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("after a round trip\n%s, %v; want\n%s", again, err, text)
	}
}

func TestNetID64InJSONRejectsMalformed(t *testing.T) {
	var n orbit.NetID64
	var m map[orbit.NetID64]int
	if err := json.Unmarshal([]byte(`"1:2"`), &n); !errors.Is(err, orbit.ErrID) {
		t.Errorf("bad string: %v, want an error matching ErrID", err)
	}
	if err := json.Unmarshal([]byte(`{"1:2:":1}`), &m); !errors.Is(err, orbit.ErrID) {
		t.Errorf("bad key: %v, want an error matching ErrID", err)
	}
	if err := json.Unmarshal([]byte(`123`), &n); err == nil {
		t.Error("a JSON number was taken as an id")
	}
}

// Results go to package variables so that the compiler cannot drop the work.
var (
	sinkID    orbit.NetID64
	sinkBytes []byte
	sinkWire  [8]byte
	sinkText  string
	sinkInt   int
)

func TestNetID64Allocations(t *testing.T) {
	n := orbit.MustParseNetID64("255:65535:1099511627775")
	text := []byte(n.String())
	wire := n.AppendBytes(nil)
	buf := make([]byte, 0, 64)
	tests := []struct {
		name string
		want float64
		run  func()
	}{
		{"AppendText with room", 0, func() { sinkBytes, _ = n.AppendText(buf) }},
		{"AppendBytes with room", 0, func() { sinkBytes = n.AppendBytes(buf) }},
		{"Bytes", 0, func() { sinkWire = n.Bytes() }},
		{"NetID64FromBytes", 0, func() { sinkID, _ = orbit.NetID64FromBytes(wire) }},
		{"ParseNetID64 of fields", 0, func() { sinkID, _ = orbit.ParseNetID64("255:65535:1099511627775") }},
		{"ParseNetID64 of hex", 0, func() { sinkID, _ = orbit.ParseNetID64("0xffffffffffffffff") }},
		{"MustParseNetID64", 0, func() { sinkID = orbit.MustParseNetID64("1:2:3") }},
		{"UnmarshalText", 0, func() { _ = sinkID.UnmarshalText(text) }},
		{"Compare", 0, func() { sinkInt = n.Compare(sinkID) }},
		{"String", 1, func() { sinkText = n.String() }},
		{"GoString", 1, func() { sinkText = n.GoString() }},
		{"MarshalText", 1, func() { sinkBytes, _ = n.MarshalText() }},
	}
	for _, tt := range tests {
		if got := testing.AllocsPerRun(100, tt.run); got != tt.want {
			t.Errorf("%s: %v allocations, want %v", tt.name, got, tt.want)
		}
	}
}

// TestNetID64HotMethodsInline asks the compiler, because a call where a shift
// would do is a slowdown that no other test would notice.
func TestNetID64HotMethodsInline(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go tool on PATH")
	}
	out, err := exec.Command(goTool, "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, name := range []string{
		"MakeNetID64", "NetID64.Kind", "NetID64.Node", "NetID64.Counter", "NetID64.Raw",
	} {
		line := regexp.MustCompile(`(?m): can inline ` + regexp.QuoteMeta(name) + `\r?$`)
		if !line.Match(out) {
			t.Errorf("the compiler does not inline %s", name)
		}
	}
}

func ExampleNetID64() {
	const player = 12 // a kind of this program's own choosing

	id := orbit.MakeNetID64(player, 3, 456)
	fmt.Println(id)
	fmt.Println(id.Kind(), id.Node(), id.Counter())
	fmt.Printf("%x\n", id.Bytes())
	fmt.Printf("%#v\n", id)

	var none orbit.NetID64
	fmt.Println(none, none.IsZero())
	// Output:
	// 12:3:456
	// 12 3 456
	// 0c000300000001c8
	// orbit.NetID64(12:3:456 0x0c000300000001c8)
	// 0:0:0 true
}

func ExampleParseNetID64() {
	for _, text := range []string{"12:3:456", "0x0c000300000001c8", "1:2", "256:0:1"} {
		id, err := orbit.ParseNetID64(text)
		if errors.Is(err, orbit.ErrID) {
			fmt.Println(err)
			continue
		}
		fmt.Println(id)
	}
	// Output:
	// 12:3:456
	// 12:3:456
	// orbit: malformed id "1:2": want kind:node:counter or 0x hex
	// orbit: malformed id "256:0:1": want kind a decimal 0 to 255
}

func BenchmarkNetID64Make(b *testing.B) {
	var counter uint64
	for b.Loop() {
		counter++
		sinkID = orbit.MakeNetID64(12, 3, counter)
	}
}

func BenchmarkNetID64AppendText(b *testing.B) {
	n := orbit.MustParseNetID64("12:345:678901234")
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		sinkBytes, _ = n.AppendText(buf)
	}
}

func BenchmarkNetID64AppendBytes(b *testing.B) {
	n := orbit.MustParseNetID64("12:345:678901234")
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		sinkBytes = n.AppendBytes(buf)
	}
}

func BenchmarkNetID64FromBytes(b *testing.B) {
	wire := orbit.MustParseNetID64("12:345:678901234").AppendBytes(nil)
	b.ReportAllocs()
	for b.Loop() {
		sinkID, _ = orbit.NetID64FromBytes(wire)
	}
}

func BenchmarkNetID64String(b *testing.B) {
	n := orbit.MustParseNetID64("12:345:678901234")
	b.ReportAllocs()
	for b.Loop() {
		sinkText = n.String()
	}
}

func BenchmarkParseNetID64(b *testing.B) {
	for _, bm := range []struct{ name, text string }{
		{"fields", "12:345:678901234"},
		{"hex", "0x0c01590028774df2"},
		{"malformed", "12:345"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sinkID, _ = orbit.ParseNetID64(bm.text)
			}
		})
	}
}

// ---------------------------------------------------------------------------
// Fleets, rings, cursors and typed values

var fleetSerial atomic.Int64

// fleetName returns a name that no other test uses, and removes what the fleet
// leaves in shared memory when the test ends, however it ends.
func fleetName(t testing.TB) string {
	name := fmt.Sprintf("t%d.%d", os.Getpid(), fleetSerial.Add(1))
	t.Cleanup(func() {
		left, _ := filepath.Glob("/dev/shm/orbit-" + name + "-*")
		for _, path := range left {
			os.Remove(path)
		}
	})
	return name
}

// join joins a shared fleet, and leaves it when the test ends.
func join(t testing.TB, name string, opts orbit.Options) *orbit.Fleet {
	t.Helper()
	opts.Size = max(opts.Size, 1)
	f, err := orbit.Join(name, opts)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func local(t testing.TB, opts orbit.Options) *orbit.Fleet {
	t.Helper()
	opts.Size = max(opts.Size, 1)
	f, err := orbit.Local("local", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// eachFleet runs a test over a process-local fleet and a shared one: the code
// is the same, and so must be what it does.
func eachFleet(t *testing.T, opts orbit.Options, run func(t *testing.T, f *orbit.Fleet)) {
	t.Run("local", func(t *testing.T) { run(t, local(t, opts)) })
	t.Run("shared", func(t *testing.T) { run(t, join(t, fleetName(t), opts)) })
}

const testKind = 9

// ringOf returns the ring of testKind.
func ringOf(t testing.TB, f *orbit.Fleet) *orbit.Ring {
	t.Helper()
	r, err := f.Ring(testKind)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func shape(capacity, limit int) orbit.Options {
	return orbit.Options{Rings: map[uint8]orbit.Geometry{testKind: {Capacity: capacity, PayloadLimit: limit}}}
}

func publish(t testing.TB, r *orbit.Ring, payload string) orbit.NetID64 {
	t.Helper()
	id, err := r.Publish(1, 2, []byte(payload))
	if err != nil {
		t.Fatalf("publish %q: %v", payload, err)
	}
	return id
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

func TestFleetNameMustBeHarmless(t *testing.T) {
	for _, name := range []string{"", "-a", ".a", "_a", "a/b", "../a", "a b", "a\x00", "ä", strings.Repeat("a", 65), "a\n"} {
		_, err := orbit.Join(name, orbit.Options{Size: 1})
		wantErr(t, fmt.Sprintf("join %q", name), err, orbit.ErrName)
		wantErr(t, fmt.Sprintf("remove %q", name), orbit.Remove(name), orbit.ErrName)
		_, err = orbit.Observe(name)
		wantErr(t, fmt.Sprintf("observe %q", name), err, orbit.ErrName)
	}
	for _, name := range []string{"a", "0", "web-1.x_Y", strings.Repeat("a", 64)} {
		f, err := orbit.Local(name, orbit.Options{Size: 1})
		if err != nil || f.Name() != name {
			t.Errorf("local %q: got name %q, error %v", name, f.Name(), err)
		}
	}
}

func TestFleetNeedsAnExpectedSize(t *testing.T) {
	for _, size := range []int{0, -1, orbit.MaxMembers + 1} {
		_, err := orbit.Local("x", orbit.Options{Size: size})
		wantErr(t, fmt.Sprint("size ", size), err, orbit.ErrSize)
	}
}

func TestFleetRefusesImpossibleGeometry(t *testing.T) {
	for _, g := range []orbit.Geometry{{Capacity: 3}, {Capacity: -4}, {Capacity: -1 << 31}, {Capacity: 8, PayloadLimit: -1}, {Capacity: 8, PayloadLimit: orbit.MaxPayload + 1}, {Capacity: 1 << 30, PayloadLimit: orbit.MaxPayload}} {
		_, err := orbit.Local("x", orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{5: g}})
		wantErr(t, fmt.Sprint("geometry ", g), err, orbit.ErrGeometry)
		if !strings.Contains(err.Error(), "from 1 to 2^30 slots of 0 to 67108864 bytes") || !strings.Contains(err.Error(), " bytes in all") {
			t.Errorf("got %q, want every limit named: each of these breaks another", err)
		}
	}
}

func TestReservedKindsAreRefused(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		for _, kind := range []uint8{0, 200, 220, 221, 222, 255} {
			_, err := f.Ring(kind)
			wantErr(t, fmt.Sprint("ring ", kind), err, orbit.ErrKind)
		}
		_, err := orbit.Bind[reservedType](f)
		wantErr(t, "bind", err, orbit.ErrKind)
	})
}

type reservedType struct{ N uint64 }

func (reservedType) OrbitKind() uint8 { return 220 }

func TestMembersGetDistinctNodes(t *testing.T) {
	name := fleetName(t)
	a := join(t, name, orbit.Options{Node: 2})
	seen := map[uint16]bool{a.Node(): true}
	for range 5 {
		f := join(t, name, orbit.Options{})
		if f.Node() == 0 || seen[f.Node()] {
			t.Fatalf("got node %d, want one not in %v", f.Node(), seen)
		}
		seen[f.Node()] = true
	}
	_, err := orbit.Join(name, orbit.Options{Size: 1, Node: 2})
	wantErr(t, "join as node 2", err, orbit.ErrNode)
	members, err := a.Members()
	if err != nil || len(members) != len(seen) {
		t.Fatalf("got members %v, error %v, want %d of them", members, err, len(seen))
	}
	for _, m := range members {
		if !seen[m.Node] || m.PID != os.Getpid() || m.Since.Age() > time.Minute || m.Since.Age() < 0 {
			t.Errorf("got member %+v, want a node of %v in process %d, joined just now", m, seen, os.Getpid())
		}
	}
	a.Close()
	if b := join(t, name, orbit.Options{Node: 2}); b.Node() != 2 {
		t.Errorf("after node 2 left: got node %d, want 2", b.Node())
	}
}

func TestSiblingsMustAgreeOnGeometry(t *testing.T) {
	name := fleetName(t)
	ringOf(t, join(t, name, shape(8, 64)))
	_, err := join(t, name, shape(16, 64)).Ring(testKind)
	wantErr(t, "other capacity", err, orbit.ErrGeometry)
	for _, side := range []string{"8 slots", "16 slots", name, "ring 9"} {
		if !strings.Contains(err.Error(), side) {
			t.Errorf("got %q, want it to name %q", err, side)
		}
	}
	_, err = join(t, name, shape(8, 65)).Ring(testKind)
	wantErr(t, "other payload limit", err, orbit.ErrGeometry)
}

func TestEmptyRingHasNoFrame(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		_, err := r.Newest(nil)
		wantErr(t, "newest", err, orbit.ErrNoFrame)
		_, err = r.ReadAt(0, nil)
		wantErr(t, "read at 0", err, orbit.ErrUnpublished)
		_, _, err = r.Oldest().Next(nil)
		wantErr(t, "next", err, orbit.ErrNoFrame)
		if s, err := r.Stats(); err != nil || s != (orbit.RingStats{}) {
			t.Errorf("got stats %+v, error %v, want none", s, err)
		}
	})
}

func TestPublishedFrameIsReadBackWhole(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 9, 63, 64, 65, 255, 256, 4096, 1 << 20} {
		eachFleet(t, shape(4, size), func(t *testing.T, f *orbit.Fleet) {
			r := ringOf(t, f)
			payload := make([]byte, size)
			for i := range payload {
				payload[i] = byte(i*7 + size)
			}
			for lap := range 9 {
				id, err := r.Publish(byte(lap), uint64(lap)<<40, payload)
				if err != nil {
					t.Fatal(err)
				}
				want := orbit.Frame{ID: orbit.MakeNetID64(testKind, f.Node(), uint64(lap)), Kind: byte(lap), Version: uint64(lap) << 40, Payload: payload}
				byID, err1 := r.Read(id, nil)
				newest, err2 := r.Newest([]byte("before"))
				at, err3 := r.ReadAt(uint64(lap), nil)
				for i, got := range []orbit.Frame{byID, newest, at} {
					if got.ID != want.ID || got.Kind != want.Kind || got.Version != want.Version || !bytes.Equal(got.Payload, payload) {
						t.Fatalf("%d bytes, lap %d, way %d: got %v kind %d version %d and %d bytes, errors %v %v %v", size, lap, i, got.ID, got.Kind, got.Version, len(got.Payload), err1, err2, err3)
					}
				}
			}
		})
	}
}

func TestReadAppendsToTheCallersBuffer(t *testing.T) {
	r := ringOf(t, local(t, orbit.Options{}))
	publish(t, r, "hello")
	buf := append(make([]byte, 0, 64), "xy"...)
	f, err := r.Newest(buf)
	if err != nil || string(f.Payload) != "hello" || &f.Payload[0] != &buf[:3][2] {
		t.Fatalf("got %q, error %v, want hello appended in place", f.Payload, err)
	}
	if string(buf[:7]) != "xyhello" {
		t.Errorf("got buffer %q, want xyhello", buf[:7])
	}
}

func TestPayloadAboveTheLimitIsRefused(t *testing.T) {
	eachFleet(t, shape(2, 10), func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		_, err := r.Publish(0, 0, make([]byte, 11))
		wantErr(t, "11 bytes", err, orbit.ErrTooLarge)
		if !strings.Contains(err.Error(), "11 bytes, limit 10") {
			t.Errorf("got %q, want found and wanted size", err)
		}
		n, err := r.PublishBatch([]orbit.Frame{{Payload: make([]byte, 3)}, {Payload: make([]byte, 11)}})
		wantErr(t, "batch", err, orbit.ErrTooLarge)
		if n != 0 || r.Head() != 0 {
			t.Errorf("got %d published, head %d, want none", n, r.Head())
		}
	})
}

func TestWhatBecameOfACounterIsToldApart(t *testing.T) {
	eachFleet(t, shape(4, 8), func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		first := publish(t, r, "0")
		hole, err := r.Mint()
		if err != nil {
			t.Fatal(err)
		}
		last := publish(t, r, "2")
		_, err = r.Read(hole, nil)
		wantErr(t, "minted id", err, orbit.ErrHole)
		_, err = r.Read(orbit.MakeNetID64(testKind, f.Node()+1, 2), nil)
		wantErr(t, "another node's id", err, orbit.ErrHole)
		_, err = r.Read(orbit.MakeNetID64(testKind+1, f.Node(), 2), nil)
		wantErr(t, "another ring's id", err, orbit.ErrKind)
		_, err = r.ReadAt(3, nil)
		wantErr(t, "next counter", err, orbit.ErrUnpublished)
		if f, err := r.Read(last, nil); err != nil || string(f.Payload) != "2" {
			t.Errorf("got %q, %v", f.Payload, err)
		}
		for range 2 {
			publish(t, r, "x")
		}
		_, err = r.Read(first, nil)
		wantErr(t, "lapped id", err, orbit.ErrOverwritten)
		wantErr(t, "lapped id", err, orbit.ErrNoFrame)
		if s, err := r.Stats(); err != nil || s.Head != 5 || s.Oldest != 1 || s.Frames != 3 || s.Holes != 1 {
			t.Errorf("got stats %+v, error %v, want head 5, oldest 1, 3 frames, 1 hole", s, err)
		}
	})
}

func TestBatchIsPublishedInOrderWithConsecutiveIDs(t *testing.T) {
	for _, capacity := range []int{1, 2, 8, 512} {
		eachFleet(t, shape(capacity, 8), func(t *testing.T, f *orbit.Fleet) {
			r := ringOf(t, f)
			frames := make([]orbit.Frame, 100)
			for i := range frames {
				frames[i] = orbit.Frame{Kind: 3, Version: uint64(i), Payload: []byte{byte(i)}}
			}
			if n, err := r.PublishBatch(frames); n != len(frames) || err != nil {
				t.Fatalf("got %d published, error %v", n, err)
			}
			for i, b := range frames {
				if b.ID.Counter() != uint64(i) {
					t.Fatalf("frame %d got id %v", i, b.ID)
				}
				got, err := r.Read(b.ID, nil)
				if i < len(frames)-capacity {
					wantErr(t, "lapped", err, orbit.ErrOverwritten)
				} else if err != nil || got.Version != uint64(i) || got.Kind != 3 || got.Payload[0] != byte(i) {
					t.Fatalf("frame %d: got %+v, error %v", i, got, err)
				}
			}
		})
	}
}

func TestResetHidesWhatWasPublishedBefore(t *testing.T) {
	eachFleet(t, shape(8, 8), func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		c := r.Oldest()
		old := publish(t, r, "a")
		publish(t, r, "b")
		if err := r.Reset(); err != nil {
			t.Fatal(err)
		}
		_, err := r.Newest(nil)
		wantErr(t, "newest", err, orbit.ErrNoFrame)
		_, err = r.Read(old, nil)
		wantErr(t, "read", err, orbit.ErrOverwritten)
		publish(t, r, "c")
		got, gap, err := c.Next(nil)
		if err != nil || string(got.Payload) != "c" || gap != (orbit.Gap{Overwritten: 2}) {
			t.Errorf("got %q, gap %+v, error %v, want c after 2 overwritten", got.Payload, gap, err)
		}
	})
}

func TestCursorReportsOverwrittenWindow(t *testing.T) {
	// Capacity 4, ten frames:   0 1 2 3 4 5 [6 7 8 9]
	// the cursor stands at 0    ^ overwritten  ^ held
	eachFleet(t, shape(4, 8), func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		c := r.Oldest()
		for i := range 10 {
			publish(t, r, fmt.Sprint(i))
		}
		for i := 6; i < 10; i++ {
			got, gap, err := c.Next(nil)
			want := orbit.Gap{}
			if i == 6 {
				want.Overwritten = 6
			}
			if err != nil || string(got.Payload) != fmt.Sprint(i) || gap != want {
				t.Fatalf("got %q, gap %+v, error %v, want %d after %+v", got.Payload, gap, err, i, want)
			}
		}
		_, gap, err := c.Next(nil)
		wantErr(t, "at the head", err, orbit.ErrNoFrame)
		if tally := c.Tally(); gap.Total() != 0 || tally.Delivered != 4 || tally.Overwritten != 6 || c.Position() != 10 {
			t.Errorf("got tally %+v at %d, want 4 delivered and 6 overwritten at 10", tally, c.Position())
		}
	})
}

func TestCursorPassesHolesAndSaysSo(t *testing.T) {
	eachFleet(t, shape(8, 8), func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		c := r.Oldest()
		publish(t, r, "0")
		r.Mint()
		r.Mint()
		publish(t, r, "3")
		frames := make([]orbit.Frame, 8)
		n, gap, err := c.Poll(frames)
		if n != 1 || gap.Total() != 0 || err != nil || string(frames[0].Payload) != "0" {
			t.Fatalf("got %d frames, gap %+v, error %v, want the batch to end before the gap", n, gap, err)
		}
		n, gap, err = c.Poll(frames)
		if n != 1 || gap != (orbit.Gap{Holes: 2}) || err != nil || string(frames[0].Payload) != "3" {
			t.Fatalf("got %d frames, gap %+v, error %v, want frame 3 after 2 holes", n, gap, err)
		}
		r.Mint()
		n, gap, err = c.Poll(frames)
		if n != 0 || gap != (orbit.Gap{Holes: 1}) || !errors.Is(err, orbit.ErrNoFrame) {
			t.Fatalf("got %d frames, gap %+v, error %v, want a hole and no frame", n, gap, err)
		}
	})
}

func TestPollFillsNoMoreThanItIsGiven(t *testing.T) {
	r := ringOf(t, local(t, shape(64, 8)))
	for i := range 50 {
		publish(t, r, fmt.Sprint(i))
	}
	c, next := r.Oldest(), 0
	frames := make([]orbit.Frame, 7)
	for {
		n, _, err := c.Poll(frames)
		if err != nil {
			break
		}
		for _, f := range frames[:n] {
			if string(f.Payload) != fmt.Sprint(next) {
				t.Fatalf("got %q, want %d", f.Payload, next)
			}
			next++
		}
	}
	if next != 50 {
		t.Errorf("got %d frames, want 50", next)
	}
}

func TestCursorResumesFromASavedPosition(t *testing.T) {
	r := ringOf(t, local(t, shape(8, 8)))
	publish(t, r, "a")
	c := r.Oldest()
	c.Next(nil)
	saved := c.Position()
	publish(t, r, "b")
	if got, gap, err := r.At(saved).Next(nil); err != nil || string(got.Payload) != "b" || gap.Total() != 0 {
		t.Errorf("got %q, gap %+v, error %v, want b", got.Payload, gap, err)
	}
	if _, _, err := r.Tail().Next(nil); !errors.Is(err, orbit.ErrNoFrame) {
		t.Errorf("tail: got error %v, want none to read", err)
	}
}

// TestConcurrentCursorsAccountForEveryCounter has writers lap readers as fast
// as they can, over rings down to one slot.
func TestConcurrentCursorsAccountForEveryCounter(t *testing.T) {
	for _, capacity := range []int{1, 2, 4, 64} {
		eachFleet(t, shape(capacity, 64), func(t *testing.T, f *orbit.Fleet) {
			r := ringOf(t, f)
			const writers, readers, each = 4, 3, 3000
			var writing, reading sync.WaitGroup
			done := make(chan struct{})
			for w := range writers {
				spawn(&writing, func() {
					for i := range each {
						p := selfVerifying(uint64(w)<<32|uint64(i), 8+(i%8)*7)
						_, err := r.Publish(0, 0, p)
						for errors.Is(err, orbit.ErrBusy) { // the slots are few, and so are processors
							_, err = r.Publish(0, 0, p)
						}
						if err != nil {
							t.Errorf("publish: %v", err)
						}
					}
				})
			}
			for range readers {
				c := r.Oldest()
				start := c.Position()
				spawn(&reading, func() {
					var buf []byte
					last := map[uint64]uint64{}
					for end := false; ; {
						got, _, err := c.Next(buf)
						if err != nil {
							if !errors.Is(err, orbit.ErrNoFrame) {
								t.Errorf("next: %v", err)
								return
							}
							if end {
								break
							}
							select {
							case <-done:
								end = true // and once more, for the last frames
							default:
								runtime.Gosched()
							}
							continue
						}
						buf = got.Payload[:0]
						tag, ok := verify(got.Payload)
						if !ok {
							t.Errorf("torn frame %v: %x", got.ID, got.Payload)
							return
						}
						if w, i := tag>>32, tag&0xffffffff+1; last[w] >= i {
							t.Errorf("writer %d: frame %d after %d", w, i, last[w])
							return
						} else {
							last[w] = i
						}
					}
					if tally := c.Tally(); tally.Delivered+tally.Total() != c.Position()-start || c.Position() != r.Head() {
						t.Errorf("got tally %+v at %d, head %d: does not add up from %d", tally, c.Position(), r.Head(), start)
					}
				})
			}
			writing.Wait()
			close(done)
			reading.Wait()
			if r.Head() < writers*each {
				t.Errorf("got head %d, want at least %d", r.Head(), writers*each)
			}
		})
	}
}

// TestBatchesReportWhatTheyPass: the gaps that calls return add up to the tally,
// also if the reader is lapped in the middle of a batch.
func TestBatchesReportWhatTheyPass(t *testing.T) {
	for _, capacity := range []int{1, 8, 64} {
		eachFleet(t, shape(capacity, 64), func(t *testing.T, f *orbit.Fleet) {
			r := ringOf(t, f)
			const each = 100_000
			done := make(chan struct{})
			go func() {
				defer close(done)
				p := make([]byte, 64)
				for range each {
					if _, err := r.Publish(0, 0, p); err != nil {
						t.Errorf("publish: %v", err)
					}
				}
			}()
			c := r.Oldest()
			start := c.Position()
			var told orbit.Gap
			var delivered uint64
			frames := make([]orbit.Frame, 32)
			for end := false; ; {
				n, gap, err := c.Poll(frames)
				delivered += uint64(n)
				told.Overwritten += gap.Overwritten
				told.Holes += gap.Holes
				told.Lost += gap.Lost
				if n > 0 {
					continue
				}
				if !errors.Is(err, orbit.ErrNoFrame) {
					t.Fatalf("poll: %v", err)
				}
				if end {
					break
				}
				select {
				case <-done:
					end = true // and once more, for the last frames
				default:
				}
			}
			if want := c.Tally(); told != want.Gap || delivered != want.Delivered || delivered+told.Total() != c.Position()-start {
				t.Errorf("told of %d frames and %+v, from %d to %d; the tally is %+v", delivered, told, start, c.Position(), want)
			}
		})
	}
}

// selfVerifying returns a payload of n bytes, at least 8, whose every byte
// follows from the tag in front.
func selfVerifying(tag uint64, n int) []byte {
	p := binary.LittleEndian.AppendUint64(nil, tag)
	for x := tag; len(p) < n; {
		x = x*6364136223846793005 + 1442695040888963407
		p = append(p, byte(x>>56))
	}
	return p
}

func verify(p []byte) (tag uint64, ok bool) {
	if len(p) < 8 {
		return 0, false
	}
	tag = binary.LittleEndian.Uint64(p)
	return tag, bytes.Equal(p, selfVerifying(tag, len(p)))
}

// awaitFrame waits for the next frame. A wait can end at a hole, too: a publisher
// that loses the processor before it marks its slot takes another counter.
func awaitFrame(t testing.TB, c *orbit.Cursor) (orbit.Frame, error) {
	for {
		if err := c.Wait(t.Context()); err != nil {
			return orbit.Frame{}, err
		}
		f, gap, err := c.Next(nil)
		passed := gap.Total() > 0 || err == orbit.ErrPending // it did not wake for nothing
		if !passed || !errors.Is(err, orbit.ErrNoFrame) {
			return f, err
		}
	}
}

func TestWaitReturnsWhenAFrameArrives(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		c := r.Tail()
		got := make(chan string)
		go func() {
			f, err := awaitFrame(t, c)
			got <- fmt.Sprint(string(f.Payload), err)
		}()
		time.Sleep(20 * time.Millisecond)
		publish(t, r, "news")
		if s := <-got; s != "news<nil>" {
			t.Errorf("got %s", s)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		wantErr(t, "wait", ringOf(t, f).Tail().Wait(ctx), context.Canceled)
	})
}

func TestWaitEndsWhenTheFleetCloses(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		time.AfterFunc(10*time.Millisecond, func() { f.Close() })
		wantErr(t, "wait", ringOf(t, f).Tail().Wait(t.Context()), orbit.ErrClosed)
	})
}

func TestGeometryOfAKindThatNobodyCanHaveIsRefused(t *testing.T) {
	for kind := range 256 {
		_, err := orbit.Local("local", orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{uint8(kind): {Capacity: 8, PayloadLimit: 512}}})
		var want error
		switch uint8(kind) {
		case orbit.KindCache, orbit.KindEvents, orbit.KindHeartbeat, orbit.KindContest:
		default:
			if kind == 0 || kind >= 200 {
				want = orbit.ErrKind
			}
		}
		wantErr(t, fmt.Sprint("kind ", kind), err, want)
	}
}

// A nil context never ends, wherever one is taken.
func TestNilContextNeverEnds(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		var forever context.Context
		r := ringOf(t, f)
		bus := events(t, f)
		contest := contestOpen(t, f)
		guard := contestClaim[contestJob](t, contest, "x", "alpha", time.Hour)
		heart := heartbeats(t, f)

		var waiting sync.WaitGroup
		wait := func(what string, want error, forNews func() error) {
			for range 3 { // one sleeps for the others
				spawn(&waiting, func() {
					if err := forNews(); !errors.Is(err, want) {
						t.Errorf("%s: got %v, want %v", what, err, want)
					}
				})
			}
		}
		wait("Wait", nil, func() error { return r.Tail().Wait(forever) })
		wait("Frames", nil, func() (err error) {
			for _, err = range r.Tail().Frames(forever) {
				break
			}
			return err
		})
		wait("Next", nil, func() error { return bus.SubscribeNow().Next(forever, new(orbit.Event)) })
		wait("Events", nil, func() (err error) {
			for _, err = range bus.SubscribeNow().Events(forever) {
				break
			}
			return err
		})
		wait("WaitFree", nil, func() error { return orbit.WaitFree[contestJob](forever, contest, "x") })
		time.Sleep(50 * time.Millisecond)
		publish(t, r, "news")
		if _, err := bus.Publish("topic", []byte("news")); err != nil {
			t.Fatal(err)
		}
		guard.Release()
		waiting.Wait()

		wait("Wait in a closed fleet", orbit.ErrClosed, func() error { return r.Tail().Wait(forever) })
		wait("Keep", orbit.ErrClosed, func() error { return heart.Keep(forever, time.Millisecond) })
		time.Sleep(20 * time.Millisecond)
		f.Close()
		waiting.Wait()
	})
}

func TestWaitReportsHoles(t *testing.T) {
	r := ringOf(t, local(t, orbit.Options{}))
	c := r.Tail()
	time.AfterFunc(10*time.Millisecond, func() { r.Mint(); publish(t, r, "x") })
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestThousandWaitersCostOneThread(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		before := threads(t)
		var woken, started sync.WaitGroup
		for range 1000 {
			started.Add(1)
			spawn(&woken, func() {
				c := r.Tail()
				started.Done()
				if err := c.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		started.Wait()
		time.Sleep(50 * time.Millisecond)
		if now := threads(t); now > before+8+runtime.GOMAXPROCS(0) {
			t.Errorf("got %d threads for 1000 waiters, %d before", now, before)
		}
		publish(t, r, "x")
		woken.Wait()
	})
}

func threads(t testing.TB) int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip(err)
	}
	return len(tasks)
}

func TestFramesStreamsUntilTheContextEnds(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for i := range 100 {
				publish(t, r, fmt.Sprint(i))
			}
		}()
		next := 0
		var last error
		for f, err := range r.At(0).Frames(ctx) {
			if last = err; err != nil {
				continue
			}
			if string(f.Payload) != fmt.Sprint(next) {
				t.Fatalf("got %q, want %d", f.Payload, next)
			}
			if next++; next == 100 {
				cancel()
			}
		}
		if next != 100 || !errors.Is(last, context.Canceled) {
			t.Errorf("got %d frames and error %v, want 100 and the context's", next, last)
		}
	})
}

func TestClosedFleetSaysSo(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		o, err := orbit.Bind[point](f)
		if err != nil {
			t.Fatal(err)
		}
		id := publish(t, r, "x")
		c := r.Oldest()
		for range 2 {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		_, errs := 0, map[string]error{}
		_, errs["publish"] = r.Publish(0, 0, nil)
		_, errs["batch"] = r.PublishBatch(make([]orbit.Frame, 2))
		_, errs["mint"] = r.Mint()
		errs["reset"] = r.Reset()
		_, errs["newest"] = r.Newest(nil)
		_, errs["read"] = r.Read(id, nil)
		_, errs["stats"] = r.Stats()
		_, _, errs["next"] = c.Next(nil)
		_, _, errs["poll"] = c.Poll(make([]orbit.Frame, 1))
		errs["wait"] = c.Wait(t.Context())
		_, errs["store"] = o.Store(point{})
		_, _, errs["load"] = o.Load()
		_, errs["load id"] = o.LoadID(orbit.MakeNetID64(point{}.OrbitKind(), 1, 0))
		_, errs["ring"] = f.Ring(testKind)
		_, errs["bind"] = orbit.Bind[point](f)
		_, errs["members"] = f.Members()
		_, errs["kinds"] = f.Kinds()
		for what, err := range errs {
			if !errors.Is(err, orbit.ErrClosed) {
				t.Errorf("%s: got %v, want %v", what, err, orbit.ErrClosed)
			}
		}
	})
}

func TestCloseIsSafeWhileOthersUseTheFleet(t *testing.T) {
	for range 20 {
		eachFleet(t, shape(4, 4096), func(t *testing.T, f *orbit.Fleet) {
			r := ringOf(t, f)
			o, err := orbit.Bind[point](f)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			until := func(op func() error) {
				spawn(&wg, func() {
					for {
						if err := op(); errors.Is(err, orbit.ErrClosed) {
							return
						} else if err != nil && !errors.Is(err, orbit.ErrNoFrame) && !errors.Is(err, orbit.ErrBusy) {
							t.Errorf("got %v", err)
							return
						}
					}
				})
			}
			tag := uint64(0)
			until(func() error { tag++; _, err := r.Publish(0, 0, selfVerifying(tag, 3000)); return err })
			until(func() error { _, err := o.Store(point{1, 1}); return err })
			until(func() error {
				f, err := r.Newest(nil)
				if _, ok := verify(f.Payload); err == nil && !ok {
					t.Errorf("torn frame of %d bytes while closing", len(f.Payload))
				}
				return err
			})
			until(func() error {
				p, _, err := o.Load()
				if err == nil && p != (point{1, 1}) {
					t.Errorf("torn value %v while closing", p)
				}
				return err
			})
			c := r.Oldest()
			until(func() error { return c.Wait(t.Context()) })
			time.Sleep(time.Millisecond)
			f.Close()
			wg.Wait()
		})
	}
}

func TestObserverReadsAndCannotWrite(t *testing.T) {
	name := fleetName(t)
	_, err := orbit.Observe(name)
	if !errors.Is(err, errors.ErrUnsupported) {
		wantErr(t, "observe nothing", err, orbit.ErrNotExist)
	}
	f := join(t, name, shape(8, 32))
	r := ringOf(t, f)
	id := publish(t, r, "seen")
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	seen := ringOf(t, o)
	if got, err := seen.Read(id, nil); err != nil || string(got.Payload) != "seen" {
		t.Errorf("got %q, error %v", got.Payload, err)
	}
	if g := seen.Geometry(); g != (orbit.Geometry{Capacity: 8, PayloadLimit: 32}) {
		t.Errorf("got geometry %v", g)
	}
	if _, err := orbit.Heartbeats(f); err != nil {
		t.Fatal(err)
	}
	h, err := orbit.Heartbeats(o)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := h.Snapshot(time.Second); err != nil || len(all) != 0 || o.Size() != 0 {
		t.Errorf("got pulses %v, error %v, size %d: an observer was not told whom to expect", all, err, o.Size())
	}
	_, err = seen.Publish(0, 0, nil)
	wantErr(t, "publish", err, orbit.ErrReadOnly)
	_, err = seen.Mint()
	wantErr(t, "mint", err, orbit.ErrReadOnly)
	wantErr(t, "reset", seen.Reset(), orbit.ErrReadOnly)
	_, err = seen.PublishBatch(make([]orbit.Frame, 1))
	wantErr(t, "batch", err, orbit.ErrReadOnly)
	_, err = o.Ring(testKind + 1)
	wantErr(t, "ring nobody made", err, orbit.ErrNotExist)
	if m, err := o.Members(); err != nil || len(m) != 1 || m[0].Node != f.Node() {
		t.Errorf("got members %v, error %v, want node %d alone", m, err, f.Node())
	}
	if k, err := o.Kinds(); err != nil || !slices.Equal(k, []uint8{testKind, orbit.KindHeartbeat}) {
		t.Errorf("got kinds %v, error %v", k, err)
	}
	c := seen.Tail()
	time.AfterFunc(10*time.Millisecond, func() { publish(t, r, "later") })
	if got, err := awaitFrame(t, c); err != nil || string(got.Payload) != "later" {
		t.Errorf("got %q, error %v", got.Payload, err)
	}
}

// TestObserverGetsNoMoreThanThereIs: an observer takes the geometry it finds,
// and must not read beyond it.
func TestObserverGetsNoMoreThanThereIs(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{Rings: map[uint8]orbit.Geometry{point{}.OrbitKind(): {Capacity: 1, PayloadLimit: 8}}})
	if _, err := f.Ring(point{}.OrbitKind()); err != nil {
		t.Fatal(err)
	}
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	_, err = o.Ring(0)
	wantErr(t, "the roster for a ring", err, orbit.ErrKind)
	_, err = orbit.Bind[point](o)
	wantErr(t, "a type of 16 bytes on slots of 8", err, orbit.ErrTooLarge)
}

func TestRemoveIsRefusedWhileAMemberLives(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	r := ringOf(t, f)
	err := orbit.Remove(name)
	wantErr(t, "remove", err, orbit.ErrInUse)
	if want := fmt.Sprintf("process %d", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want it to name %q", err, want)
	}
	publish(t, r, "still here")
	f.Close()
	if err := orbit.Remove(name); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "remove again", orbit.Remove(name), orbit.ErrNotExist)
	left, _ := filepath.Glob("/dev/shm/orbit-" + name + "-*")
	if len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestFleetsAreListed(t *testing.T) {
	a, b := fleetName(t), fleetName(t)+"-7"
	join(t, a, orbit.Options{})
	join(t, b, orbit.Options{})
	t.Cleanup(func() { orbit.Remove(b) })
	fleets, err := orbit.Fleets()
	if err != nil || !slices.Contains(fleets, a) || !slices.Contains(fleets, b) {
		t.Errorf("got %v, error %v, want %q and %q among them", fleets, err, a, b)
	}
}

// ---- Typed values ----

type point struct{ X, Y uint64 }

func (point) OrbitKind() uint8 { return 30 }

type padded struct {
	A uint8
	B uint64
	C uint16
	D [3]struct {
		E uint32
		F uint8
	}
}

func (padded) OrbitKind() uint8 { return 31 }

type rival struct{ X, Y uint64 }

func (rival) OrbitKind() uint8 { return point{}.OrbitKind() }

type shaped struct{ N uint32 }

func (shaped) OrbitKind() uint8 { return 32 }
func (shaped) OrbitGeometry() orbit.Geometry {
	return orbit.Geometry{Capacity: 4}
}

func TestOrbitalStoresAndLoads(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		o, err := orbit.Bind[point](f)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = o.Load()
		wantErr(t, "load before a store", err, orbit.ErrNoFrame)
		first, err := o.Store(point{1, 2})
		if err != nil {
			t.Fatal(err)
		}
		second, _ := o.Store(point{3, 4})
		if v, id, err := o.Load(); err != nil || v != (point{3, 4}) || id != second {
			t.Errorf("got %v %v, error %v, want {3 4} %v", v, id, err, second)
		}
		if v, err := o.LoadID(first); err != nil || v != (point{1, 2}) {
			t.Errorf("got %v, error %v, want {1 2}", v, err)
		}
		recent := maps.Collect(o.Recent())
		if len(recent) != 2 || recent[first] != (point{1, 2}) || recent[second] != (point{3, 4}) {
			t.Errorf("got recent %v", recent)
		}
		if v, id, err := o.LoadNode(f.Node()); err != nil || id != second || v.X != 3 {
			t.Errorf("got %v %v, error %v", v, id, err)
		}
		_, _, err = o.LoadNode(f.Node() + 1)
		wantErr(t, "load of a silent node", err, orbit.ErrNoFrame)
		if g := o.Ring().Geometry(); g != (orbit.Geometry{Capacity: 1024, PayloadLimit: 16}) {
			t.Errorf("got geometry %v", g)
		}
	})
}

// TestNoValueIsTheZeroValue: who takes a value without a look at the error must
// not get one that was never stored, or is another's.
// TestLoadNodeFindsWhoStoresAllTheTime: at every moment the ring has a value of
// the node, though each that the walk comes to may just be gone.
func TestLoadNodeFindsWhoStoresAllTheTime(t *testing.T) {
	f := local(t, orbit.Options{Rings: map[uint8]orbit.Geometry{30: {Capacity: 4}}})
	o, err := orbit.Bind[point](f)
	if err != nil {
		t.Fatal(err)
	}
	o.Store(point{})
	var over atomic.Bool
	var storing sync.WaitGroup
	spawn(&storing, func() {
		for n := uint64(1); !over.Load(); n++ {
			o.Store(point{n, n})
		}
	})
	last := uint64(0)
	for range 200_000 {
		v, _, err := o.LoadNode(f.Node())
		if err != nil || v.X != v.Y || v.X < last {
			t.Errorf("load after %d: %v, error %v", last, v, err)
			break
		}
		last = v.X
	}
	over.Store(true)
	storing.Wait()
	_, _, err = o.LoadNode(f.Node() + 1)
	wantErr(t, "load of a silent node", err, orbit.ErrNoFrame)
}

func TestNoValueIsTheZeroValue(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		o, err := orbit.Bind[point](f)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, v point, err, want error) {
			t.Helper()
			if !errors.Is(err, want) || v != (point{}) {
				t.Errorf("%s: got %v, error %v, want no value and %v", what, v, err, want)
			}
		}
		id, err := o.Store(point{1, 2})
		if err != nil {
			t.Fatal(err)
		}
		v, err := o.LoadID(orbit.MakeNetID64(id.Kind(), id.Node()+1, id.Counter()))
		check("load of an id that never was", v, err, orbit.ErrHole)
		short := publish(t, o.Ring(), "short")
		v, _, err = o.Load()
		check("load of another length", v, err, orbit.ErrDamaged)
		v, err = o.LoadID(short)
		check("load of an id of another length", v, err, orbit.ErrDamaged)
		if _, err := o.Store(point{3, 4}); err != nil {
			t.Fatal(err)
		}
		f.Close()
		v, _, err = o.Load()
		check("load after close", v, err, orbit.ErrClosed)
	})
}

func TestTypeDeclaresItsGeometry(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		o, err := orbit.Bind[shaped](f)
		if err != nil || o.Ring().Geometry() != (orbit.Geometry{Capacity: 4, PayloadLimit: 4}) {
			t.Fatalf("got %v, error %v, want 4 slots of 4 bytes", o.Ring().Geometry(), err)
		}
	})
	f := local(t, orbit.Options{Rings: map[uint8]orbit.Geometry{32: {Capacity: 16}}})
	if o, err := orbit.Bind[shaped](f); err != nil || o.Ring().Geometry().Capacity != 16 {
		t.Errorf("error %v, want the options to go before the type", err)
	}
}

func TestTwoTypesOnOneKindCollide(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	if _, err := orbit.Bind[point](f); err != nil {
		t.Fatal(err)
	}
	_, err := orbit.Bind[rival](f)
	wantErr(t, "same process", err, orbit.ErrType)
	if !strings.Contains(err.Error(), "point") || !strings.Contains(err.Error(), "rival") {
		t.Errorf("got %q, want both types named", err)
	}
	_, err = orbit.RingOf[rival](f)
	wantErr(t, "ring of the other", err, orbit.ErrType)
	_, err = orbit.Bind[rival](join(t, name, orbit.Options{}))
	wantErr(t, "sibling", err, orbit.ErrType)
	if _, err := orbit.Bind[point](join(t, name, orbit.Options{})); err != nil {
		t.Errorf("sibling with the same type: %v", err)
	}
}

func TestPointersCannotBeShared(t *testing.T) {
	f := local(t, orbit.Options{})
	check := func(err error, field string) {
		t.Helper()
		wantErr(t, field, err, orbit.ErrType)
		if !strings.Contains(err.Error(), field) {
			t.Errorf("got %q, want it to name %q", err, field)
		}
	}
	_, err := orbit.Bind[withString](f)
	check(err, "field Inner.Name is a string")
	_, err = orbit.Bind[withSlice](f)
	check(err, "field Items[0].P is a ptr")
	_, err = orbit.Bind[pointerType](f)
	check(err, "is a map")
	_, err = orbit.Bind[*point](f)
	check(err, "is a ptr")
	_, err = orbit.Bind[orbit.Typed](f)
	check(err, "is a interface")
	// What a load puts into a blank field the collector follows all the same.
	_, err = orbit.Bind[withBlank](f)
	check(err, "field Inner._ is a ptr")
	if _, err := orbit.Bind[notComparable](f); err != nil {
		t.Errorf("a blank field without size: %v", err)
	}
}

type withString struct {
	N     int32
	Inner struct{ Name string }
}

func (withString) OrbitKind() uint8 { return 40 }

type withSlice struct{ Items [2]struct{ P *int } }

func (withSlice) OrbitKind() uint8 { return 41 }

type withBlank struct {
	Inner struct {
		A int8
		_ *int
	}
}

func (withBlank) OrbitKind() uint8 { return 43 }

type notComparable struct {
	N int64
	_ [0]func()
}

func (notComparable) OrbitKind() uint8 { return 44 }

type pointerType map[int]int

func (pointerType) OrbitKind() uint8 { return 42 }

func TestPaddingDoesNotLeakMemory(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		o, err := orbit.Bind[padded](f)
		if err != nil {
			t.Fatal(err)
		}
		var want padded
		want.A, want.B, want.C = 0xaa, 0xbbbbbbbbbbbbbbbb, 0xcccc
		for i := range want.D {
			want.D[i].E, want.D[i].F = 0xeeeeeeee, 0xff
		}
		for range 10 {
			if _, err := o.Store(dirty(want)); err != nil {
				t.Fatal(err)
			}
			got, _, err := o.Load()
			if err != nil || got != want {
				t.Fatalf("got %+v, error %v, want %+v", got, err, want)
			}
			raw, err := o.Ring().Newest(nil)
			if err != nil || bytes.IndexByte(raw.Payload, 0x55) >= 0 {
				t.Fatalf("error %v: padding leaked into %x", err, raw.Payload)
			}
		}
	})
}

// TestBindLooksAtOneElementForAll: the cost of a type is that of its fields,
// wherever its padding lies, and not that of all elements of its arrays.
func TestBindLooksAtOneElementForAll(t *testing.T) {
	f := local(t, orbit.Options{})
	if n := testing.AllocsPerRun(1, func() { orbit.Bind[longTail](f) }); n > 1000 {
		t.Errorf("Bind of a type with an array of %d bytes allocated %v times", len(longTail{}.Tail), n)
	}
}

type longTail struct {
	A    uint8
	B    uint64
	Tail [1 << 16]uint8
}

func (longTail) OrbitKind() uint8              { return 45 }
func (longTail) OrbitGeometry() orbit.Geometry { return orbit.Geometry{Capacity: 1} }

// dirty returns v with every byte of its padding set to 0x55.
func dirty(v padded) padded {
	var d padded
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&d)), unsafe.Sizeof(d))
	for i := range raw {
		raw[i] = 0x55
	}
	d.A, d.B, d.C = v.A, v.B, v.C
	for i := range d.D {
		d.D[i].E, d.D[i].F = v.D[i].E, v.D[i].F
	}
	return d
}

// ---- Allocations ----

func TestHotPathsDoNotAllocate(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		r := ringOf(t, f)
		o, err := orbit.Bind[point](f)
		if err != nil {
			t.Fatal(err)
		}
		payload, buf := make([]byte, 64), make([]byte, 0, 256)
		batch := make([]orbit.Frame, 16)
		for i := range batch {
			batch[i].Payload = make([]byte, 64)
		}
		id := publish(t, r, "x")
		c := r.Oldest()
		for what, op := range map[string]func(){
			"publish": func() { id, _ = r.Publish(1, 2, payload) },
			"batch":   func() { r.PublishBatch(batch) },
			"newest":  func() { r.Newest(buf) },
			"read":    func() { r.Read(id, buf) },
			"read at": func() { r.ReadAt(id.Counter(), buf) },
			"mint":    func() { r.Mint() },
			"next":    func() { c.Next(buf) },
			"poll":    func() { c.Poll(batch) },
			"stats":   func() { r.Stats() },
			"store":   func() { o.Store(point{1, 2}) },
			"load":    func() { o.Load() },
			"load id": func() { o.LoadID(orbit.MakeNetID64(30, f.Node(), 0)) },
		} {
			if n := testing.AllocsPerRun(200, op); n != 0 {
				t.Errorf("%s: got %v allocations, want none", what, n)
			}
		}
	})
}

// ---- Frames ----

func TestFrameRoundTrip(t *testing.T) {
	in := orbit.Frame{ID: orbit.MakeNetID64(1, 2, 3), Kind: 4, Version: 5, Payload: []byte("six")}
	b, err := in.AppendBinary([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, "rest"...)
	out, rest, err := orbit.DecodeFrame(b[1:])
	if err != nil || out.ID != in.ID || out.Kind != 4 || out.Version != 5 || string(out.Payload) != "six" || string(rest) != "rest" {
		t.Errorf("got %+v, rest %q, error %v", out, rest, err)
	}
	for n := range len(b) - 1 - len("rest") {
		_, rest, err := orbit.DecodeFrame(b[1 : 1+n])
		if !errors.Is(err, orbit.ErrFrame) || len(rest) != n {
			t.Errorf("first %d bytes: got error %v", n, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { orbit.DecodeFrame(b[1:]) }); n != 0 {
		t.Errorf("decode: got %v allocations", n)
	}
	_, err = orbit.Frame{Payload: make([]byte, orbit.MaxPayload+1)}.AppendBinary(nil)
	wantErr(t, "long payload", err, orbit.ErrTooLarge)
}

// ---- Examples ----

// Load is what each worker says of itself.
type Load struct {
	CPU      float64
	Requests uint64
}

// OrbitKind names the ring of loads.
func (Load) OrbitKind() uint8 { return 12 }

// A process joins a fleet and shares a small value. Local stands in for Join
// here; the code is the same.
func Example() {
	fleet, err := orbit.Local("web", orbit.Options{Size: 4})
	if err != nil {
		panic(err)
	}
	defer fleet.Close()
	load, err := orbit.Bind[Load](fleet)
	if err != nil {
		panic(err)
	}
	load.Store(Load{CPU: 0.25, Requests: 100})
	load.Store(Load{CPU: 0.75, Requests: 180})
	newest, id, err := load.Load()
	fmt.Println(newest, id, err)
	// Output: {0.75 180} 12:1:1 <nil>
}

// A cursor reads every frame once and says what it could not see.
func ExampleCursor() {
	fleet, _ := orbit.Local("web", orbit.Options{
		Size:  1,
		Rings: map[uint8]orbit.Geometry{7: {Capacity: 4, PayloadLimit: 16}},
	})
	defer fleet.Close()
	ring, _ := fleet.Ring(7)
	cursor := ring.Oldest()
	for i := range 6 {
		ring.Publish(0, 0, fmt.Appendf(nil, "frame %d", i))
	}
	for {
		f, gap, err := cursor.Next(nil)
		if errors.Is(err, orbit.ErrNoFrame) {
			break
		}
		fmt.Printf("%s (missed %d)\n", f.Payload, gap.Total())
	}
	// Output:
	// frame 2 (missed 2)
	// frame 3 (missed 0)
	// frame 4 (missed 0)
	// frame 5 (missed 0)
}

func ExampleRing_Newest() {
	fleet, _ := orbit.Local("web", orbit.Options{Size: 1})
	defer fleet.Close()
	ring, _ := fleet.Ring(7)
	ring.Publish(1, 0, []byte("hello"))
	buf := make([]byte, 0, 256) // reads append to it and do not allocate
	f, err := ring.Newest(buf)
	fmt.Println(f.ID, string(f.Payload), err)
	// Output: 7:1:0 hello <nil>
}

func ExampleObserve() {
	_, err := orbit.Observe("nobody-here")
	fmt.Println(errors.Is(err, orbit.ErrNotExist) || errors.Is(err, errors.ErrUnsupported))
	// Output: true
}

// ---- Benchmarks ----

// BenchmarkAdd is the yardstick: one uncontended atomic add.
func BenchmarkAdd(b *testing.B) {
	var n atomic.Uint64
	for b.Loop() {
		n.Add(1)
	}
}

// benchFleets runs a benchmark over process-local memory, shared memory, and
// shared memory without the fault guard.
func benchFleets(b *testing.B, run func(b *testing.B, f *orbit.Fleet)) {
	b.Run("local", func(b *testing.B) { run(b, local(b, orbit.Options{})) })
	b.Run("shared", func(b *testing.B) { run(b, join(b, fleetName(b), orbit.Options{})) })
	b.Run("unguarded", func(b *testing.B) { run(b, join(b, fleetName(b), orbit.Options{NoFaultGuard: true})) })
}

func BenchmarkPublish64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		r, p := ringOf(b, f), make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			r.Publish(1, 2, p)
		}
	})
}

func BenchmarkPublishBatch64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		r, batch := ringOf(b, f), make([]orbit.Frame, 64)
		for i := range batch {
			batch[i].Payload = make([]byte, 64)
		}
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			if n%64 == 0 {
				r.PublishBatch(batch)
			}
		}
	})
}

func BenchmarkNewest64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		r, buf := ringOf(b, f), make([]byte, 0, 64)
		r.Publish(1, 2, make([]byte, 64))
		// Loop keeps results alive by a copy, which for a frame costs as much as
		// the read: the copy waits for the stores of its parts.
		read := func() int {
			f, _ := r.Newest(buf)
			return len(f.Payload)
		}
		b.ReportAllocs()
		for b.Loop() {
			read()
		}
	})
}

func BenchmarkPoll64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		r, p := ringOf(b, f), make([]byte, 64)
		for range r.Geometry().Capacity {
			r.Publish(1, 2, p)
		}
		c, frames, left := r.Oldest(), make([]orbit.Frame, 64), 0
		b.ReportAllocs()
		for b.Loop() {
			if left == 0 {
				if left, _, _ = c.Poll(frames); left == 0 {
					c = r.Oldest()
				}
			} else {
				left--
			}
		}
	})
}

func BenchmarkStore16(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		o, _ := orbit.Bind[point](f)
		b.ReportAllocs()
		for b.Loop() {
			o.Store(point{1, 2})
		}
	})
}

func BenchmarkLoad16(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		o, _ := orbit.Bind[point](f)
		o.Store(point{1, 2})
		b.ReportAllocs()
		for b.Loop() {
			o.Load()
		}
	})
}

func BenchmarkJoinClose(b *testing.B) {
	name := fleetName(b)
	join(b, name, orbit.Options{})
	for b.Loop() {
		f, err := orbit.Join(name, orbit.Options{Size: 1})
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

// spawn runs f in a goroutine of the group.
func spawn(wg *sync.WaitGroup, f func()) {
	wg.Add(1)
	go func() {
		defer wg.Done()
		f()
	}()
}

// segmentPath returns the path of a fleet's segment of a kind.
func segmentPath(fleet string, kind int) string {
	return fmt.Sprintf("/dev/shm/orbit-%s-%d-%d", fleet, kind, os.Geteuid())
}

// ---------------------------------------------------------------------------
// Cache

func cacheShape(capacity, limit int) orbit.Options {
	return orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{orbit.KindCache: {Capacity: capacity, PayloadLimit: limit}}}
}

func openCache(t testing.TB, f *orbit.Fleet, prefix string) *orbit.Cache {
	t.Helper()
	c, err := orbit.OpenCache(f, prefix)
	if err != nil {
		t.Fatalf("open cache %q: %v", prefix, err)
	}
	return c
}

func cachePut(t testing.TB, c *orbit.Cache, key, value string, ttl time.Duration) {
	t.Helper()
	if err := c.Put(key, []byte(value), ttl); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

func cacheDelete(t testing.TB, c *orbit.Cache, key string) {
	t.Helper()
	if err := c.Delete(key); err != nil {
		t.Fatalf("delete %q: %v", key, err)
	}
}

func cacheReset(t testing.TB, c *orbit.Cache) {
	t.Helper()
	if err := c.Reset(); err != nil {
		t.Fatalf("reset %q: %v", c.Prefix(), err)
	}
}

// wantAdded adds a value and checks whether that was the first.
func wantAdded(t testing.TB, c *orbit.Cache, key, value string, ttl time.Duration, want bool) {
	t.Helper()
	if got, err := c.Add(key, []byte(value), ttl); got != want || err != nil {
		t.Fatalf("add %q: got %v, error %v, want %v", key, got, err, want)
	}
}

// wantCached checks what a key has; "-" stands for nothing.
func wantCached(t testing.TB, c *orbit.Cache, key, want string) {
	t.Helper()
	value, ok, err := c.Get(key)
	got := string(value)
	if !ok {
		got = "-"
	}
	if err != nil || got != want {
		t.Fatalf("cache %q, key %q: got %q, error %v, want %q", c.Prefix(), key, got, err, want)
	}
}

func cacheMeta(t testing.TB, c *orbit.Cache, key string) orbit.CacheMeta {
	t.Helper()
	m, err := c.Stat(key)
	if err != nil {
		t.Fatalf("stat %q: %v", key, err)
	}
	return m
}

func cacheStats(t testing.TB, c *orbit.Cache) orbit.CacheStats {
	t.Helper()
	s, err := c.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cacheKeys(c *orbit.Cache) (keys []string) {
	for key := range c.All() {
		keys = append(keys, key)
	}
	return keys
}

func TestCacheKeepsTheNewest(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c, other := openCache(t, f, "users"), openCache(t, f, "users")
		wantCached(t, c, "ada", "-")
		cachePut(t, c, "ada", "1", 0)
		wantCached(t, c, "ada", "1")
		wantCached(t, other, "ada", "1")
		cachePut(t, other, "ada", "2", 0)
		wantCached(t, c, "ada", "2")
		cacheDelete(t, c, "ada")
		wantCached(t, other, "ada", "-")
		cachePut(t, c, "ada", "3", 0)
		wantCached(t, other, "ada", "3")
		wantCached(t, openCache(t, f, "users"), "ada", "3")
	})
}

func TestCacheTakesAnyBytes(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "\x00\xff")
		keys := []string{"", "\x00", "\x00\x00", "a", "a\x00", "ä\xff\xfe"}
		for n := range 40 {
			keys = append(keys, strings.Repeat("k", n+2))
		}
		for i, key := range keys {
			cachePut(t, c, key, strings.Repeat("v", i), 0)
		}
		for i, key := range keys {
			wantCached(t, c, key, strings.Repeat("v", i))
		}
	})
}

func TestCacheAppendsToTheCallersBuffer(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "")
		cachePut(t, c, "key", "value", 0)
		for _, room := range []int{0, 4, 5, 100} {
			dst := append(make([]byte, 0, 3+room), "old"...)
			got, ok, err := c.AppendGet(dst, "key")
			if string(got) != "oldvalue" || !ok || err != nil {
				t.Errorf("room for %d: got %q, %v, %v, want oldvalue", room, got, ok, err)
			}
			if moved := &got[0] != &dst[0]; moved != (room < 5) {
				t.Errorf("room for %d: moved to another array %v, want %v", room, moved, room < 5)
			}
			if got, ok, err = c.AppendGet(dst, "none"); string(got) != "old" || ok || err != nil {
				t.Errorf("room for %d, no such key: got %q, %v, %v, want old", room, got, ok, err)
			}
		}
	})
}

func TestCachePrefixesAreByteIdentity(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		names := [][2]string{{"", "abc"}, {"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"a\x00", "bc"}, {"a", "\x00bc"}, {"A", "bc"}}
		var caches []*orbit.Cache
		for _, n := range names {
			caches = append(caches, openCache(t, f, n[0]))
		}
		for i, n := range names {
			cachePut(t, caches[i], n[1], strconv.Itoa(i), 0)
		}
		for i, n := range names {
			wantCached(t, caches[i], n[1], strconv.Itoa(i))
			wantCached(t, openCache(t, f, n[0]), n[1], strconv.Itoa(i))
		}
		cacheReset(t, caches[1])
		for i, n := range names {
			want := strconv.Itoa(i)
			if n[0] == "a" {
				want = "-"
			}
			wantCached(t, caches[i], n[1], want)
		}
	})
}

func TestCacheResetShadowsWhatCameBefore(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		cachePut(t, c, "a", "1", 0)
		cachePut(t, c, "b", "1", 0)
		wantCached(t, c, "a", "1")
		cacheReset(t, c)
		wantCached(t, c, "a", "-")
		cachePut(t, c, "b", "2", 0)
		wantCached(t, c, "a", "-")
		wantCached(t, c, "b", "2")
		if m := cacheMeta(t, c, "a"); m.Hit || m.Epoch != 2 {
			t.Errorf("after the reset at 2: got %+v, want a miss decided at 2", m)
		}
		if m := cacheMeta(t, c, "never"); m.Hit || m.Epoch != 2 {
			t.Errorf("after the reset at 2, a key that never was: got %+v, want a miss decided at 2", m)
		}
	})
}

// cacheClock is a clock that moves when a test says so.
type cacheClock struct{ now atomic.Int64 }

func (k *cacheClock) read() time.Duration     { return time.Duration(k.now.Load()) }
func (k *cacheClock) advance(d time.Duration) { k.now.Add(int64(d)) }
func (k *cacheClock) wind(caches ...*orbit.Cache) {
	for _, c := range caches {
		c.Clock = k.read
	}
}

func TestCacheValuesExpire(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c, other := openCache(t, f, "p"), openCache(t, f, "p")
		var clock cacheClock
		clock.wind(c, other)
		cachePut(t, c, "a", "old", 0)
		cachePut(t, c, "a", "new", time.Second)
		wantCached(t, other, "a", "new")
		clock.advance(time.Second - 1)
		wantCached(t, c, "a", "new")
		clock.advance(1)
		// It has expired at the very moment, and still hides the older value.
		wantCached(t, c, "a", "-")
		wantCached(t, other, "a", "-")
		wantCached(t, openCacheAt(t, f, "p", &clock), "a", "-")
		if m := cacheMeta(t, c, "a"); m.Epoch != 1 || m.Expiry == 0 || m.Evicted {
			t.Errorf("expired at 1: got %+v, want a miss decided at 1, with its expiry", m)
		}
		cachePut(t, c, "a", "again", 0)
		wantCached(t, other, "a", "again")
	})
}

func openCacheAt(t testing.TB, f *orbit.Fleet, prefix string, clock *cacheClock) *orbit.Cache {
	c := openCache(t, f, prefix)
	clock.wind(c)
	return c
}

func TestCacheTimeToLiveAtItsLimits(t *testing.T) {
	f := local(t, orbit.Options{})
	for _, now := range []int64{math.MinInt64, -5, 0, 5, math.MaxInt64} {
		c := openCache(t, f, "p")
		var clock cacheClock
		clock.now.Store(now)
		clock.wind(c)
		for ttl, want := range map[time.Duration]string{
			0: "v", 1: "v", 5: "v", math.MaxInt64: "v", -1: "-", -5: "-", math.MinInt64 + 5: "-",
		} {
			if now == math.MaxInt64 && ttl > 0 || now == math.MinInt64 && ttl < 0 {
				continue // the clock has no such moment
			}
			cachePut(t, c, "k", "v", ttl)
			if value, ok, _ := c.Get("k"); ok != (want == "v") {
				t.Errorf("ttl %d at %d: got %q, %v, want %q", ttl, now, value, ok, want)
			}
		}
	}
}

func TestCacheWritesCanBeFollowed(t *testing.T) {
	c := openCache(t, local(t, orbit.Options{}), "pre")
	before := orbit.Now()
	cachePut(t, c, "key", "value", time.Hour)
	if _, err := c.Add("", nil, 0); err != nil {
		t.Fatal(err)
	}
	cacheDelete(t, c, "a longer key")
	cacheReset(t, c)
	want := []string{"put pre key value true", "add pre   false", "delete pre a longer key  false", "reset pre   false"}
	for i := range want {
		f, err := c.Ring().ReadAt(uint64(i), nil)
		if err != nil {
			t.Fatal(err)
		}
		w, err := orbit.DecodeCache(f)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%v %s %s %s %v", w.Op, w.Prefix, w.Key, w.Value, w.Expiry > before)
		if got != want[i] {
			t.Errorf("frame %d: got %q, want %q", i, got, want[i])
		}
		f.Payload = f.Payload[:4]
		_, err = orbit.DecodeCache(f)
		wantErr(t, "a frame cut short", err, orbit.ErrCacheWrite)
	}
	_, err := orbit.DecodeCache(orbit.Frame{Kind: 9})
	wantErr(t, "a frame of another kind", err, orbit.ErrCacheWrite)
}

func TestCacheExpiryIsOnTheClockThatDoesNotStep(t *testing.T) {
	c := openCache(t, local(t, orbit.Options{}), "p")
	cachePut(t, c, "a", "1", time.Hour)
	_, m, err := c.GetMeta(nil, "a")
	if err != nil || !m.Hit {
		t.Fatalf("got %+v, %v, want a hit", m, err)
	}
	if left := -m.Expiry.Age(); left > time.Hour || left < time.Hour-time.Minute {
		t.Errorf("put for an hour: got %v left", left)
	}
	cachePut(t, c, "b", "1", 0)
	if m := cacheMeta(t, c, "b"); m.Expiry != 0 {
		t.Errorf("put for ever: got expiry %v, want none", m.Expiry)
	}
}

func TestCacheEpochIsTheFrameThatDecided(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		var clock cacheClock
		clock.wind(c)
		check := func(key string, hit bool, epoch uint64) {
			t.Helper()
			if m := cacheMeta(t, c, key); m.Hit != hit || m.Epoch != epoch {
				t.Errorf("key %q: got %+v, want hit %v decided at %d", key, m, hit, epoch)
			}
		}
		check("a", false, 0)
		cachePut(t, c, "b", "0", 0)
		cachePut(t, c, "a", "1", 0)
		check("a", true, 1)
		cachePut(t, c, "b", "2", 0)
		check("a", true, 1)
		check("b", true, 2)
		cacheDelete(t, c, "b")
		check("b", false, 3)
		cachePut(t, c, "b", "4", -1)
		check("b", false, 4)
		wantAdded(t, c, "b", "5", 0, true)
		check("b", true, 5)
		cacheReset(t, c)
		check("a", false, 6)
		check("c", false, 6)
	})
}

func TestCacheRefusesWhatDoesNotFit(t *testing.T) {
	eachFleet(t, cacheShape(16, 100), func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "users")
		// 100 bytes less the lengths, 8, and the prefix, padded to 8.
		const room = 84
		for _, tt := range []struct {
			key, value int
			fits       bool
		}{
			{0, room, true}, {0, room + 1, false}, {1, room - 8, true}, {1, room - 7, false},
			{8, room - 8, true}, {9, room - 8, false}, {9, room - 16, true}, {80, 4, true}, {80, 5, false},
			{81, 0, false}, {84, 0, false}, {1000, 0, false}, {1 << 20, 1 << 20, false},
		} {
			key, value := strings.Repeat("k", tt.key), make([]byte, tt.value)
			_, addErr := c.Add("x"+key, value, 0)
			for what, err := range map[string]error{"put": c.Put(key, value, 0), "add": addErr} {
				if what == "add" && (tt.fits || tt.key%8 == 0) {
					continue
				}
				if (err == nil) != tt.fits || err != nil && !errors.Is(err, orbit.ErrTooLarge) {
					t.Errorf("%s of key %d, value %d: got %v, want fits %v", what, tt.key, tt.value, err, tt.fits)
				}
				want := fmt.Sprintf("key of %d bytes and value of %d bytes, limit %d ", tt.key, tt.value, room)
				if what == "put" && err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("got error %v, want it to say %q", err, want)
				}
			}
			if tt.fits {
				wantCached(t, c, key, string(value))
			} else if _, ok, err := c.Get(key); ok && tt.value == 0 || err != nil {
				t.Errorf("get of a key of %d bytes: got %v, %v, want a miss", tt.key, ok, err)
			}
		}
		for n, fits := range map[int]bool{0: true, 88: true, 92: false, 93: false, 1 << 17: false} {
			_, err := orbit.OpenCache(f, strings.Repeat("p", n))
			if (err == nil) != fits || err != nil && !errors.Is(err, orbit.ErrTooLarge) {
				t.Errorf("prefix of %d bytes: got %v, want fits %v", n, err, fits)
			}
		}
	})
	for limit, fits := range map[int]bool{0: false, 7: false, 8: true} {
		_, err := orbit.OpenCache(local(t, cacheShape(16, limit)), "")
		want := fmt.Sprintf("payload limit %d, want at least 8", limit)
		if (err == nil) != fits || err != nil && (!errors.Is(err, orbit.ErrGeometry) || !strings.Contains(err.Error(), want)) {
			t.Errorf("slots of %d bytes: got %v, want fits %v", limit, err, fits)
		}
	}
}

func TestCacheInALargeRingLimitsKeysToWhatTheirLengthCanSay(t *testing.T) {
	f := local(t, cacheShape(2, 1<<18))
	c := openCache(t, f, "p")
	long := strings.Repeat("k", 1<<16-1)
	cachePut(t, c, long, "v", 0)
	wantCached(t, c, long, "v")
	err := c.Put(long+"k", nil, 0)
	if !errors.Is(err, orbit.ErrTooLarge) || !strings.Contains(err.Error(), "65535 for the key") {
		t.Errorf("got %v, want an error that names the limit of 65535", err)
	}
	wantCached(t, c, long+"k", "-")
	value := strings.Repeat("v", 1<<17)
	cachePut(t, c, "large", value, 0)
	wantCached(t, c, "large", value)
}

func TestCacheOfAnObserverIsReadOnly(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	_, err = orbit.OpenCache(o, "p")
	wantErr(t, "observe a cache that is not there", err, orbit.ErrNotExist)
	c := openCache(t, f, "p")
	seen := openCache(t, o, "p")
	cachePut(t, c, "a", "1", 0)
	wantCached(t, seen, "a", "1")
	wantAdded(t, c, "b", "2", 0, true)
	wantCached(t, seen, "b", "2")
	head := c.Ring().Head()
	wantErr(t, "put", seen.Put("a", nil, 0), orbit.ErrReadOnly)
	wantErr(t, "delete", seen.Delete("a"), orbit.ErrReadOnly)
	wantErr(t, "reset", seen.Reset(), orbit.ErrReadOnly)
	_, err = seen.Add("c", nil, 0)
	wantErr(t, "add", err, orbit.ErrReadOnly)
	if got := c.Ring().Head(); got != head {
		t.Errorf("the observer moved the head from %d to %d", head, got)
	}
	if got := cacheKeys(seen); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("keys: got %q, want a and b", got)
	}
}

func TestCacheAfterClose(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		cachePut(t, c, "a", "1", 0)
		wantCached(t, c, "a", "1")
		f.Close()
		_, openErr := orbit.OpenCache(f, "p")
		_, ok, getErr := c.AppendGet(make([]byte, 0, 64), "a")
		_, m, metaErr := c.GetMeta(nil, "a")
		_, statErr := c.Stat("a")
		_, statsErr := c.Stats()
		_, addErr := c.Add("b", nil, 0)
		for what, err := range map[string]error{
			"open": openErr, "get": getErr, "get meta": metaErr, "stat": statErr, "stats": statsErr, "add": addErr,
			"put": c.Put("a", nil, 0), "delete": c.Delete("a"), "reset": c.Reset(),
		} {
			if !errors.Is(err, orbit.ErrClosed) {
				t.Errorf("%s: got %v, want ErrClosed", what, err)
			}
		}
		if ok || m.Hit || cacheKeys(c) != nil {
			t.Errorf("a closed cache gave a value")
		}
	})
}

func TestCacheAllHasTheLiveKeysInOrder(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c, other := openCache(t, f, "p"), openCache(t, f, "q")
		var clock cacheClock
		clock.wind(c)
		for i, key := range []string{"a", "b", "c", "d", "e", "a"} {
			cachePut(t, c, key, key+strconv.Itoa(i), 0)
			cachePut(t, other, "x"+key, "", 0)
		}
		cacheDelete(t, c, "b")
		cachePut(t, c, "e", "short", 1)
		wantAdded(t, c, "b2", "added", 0, true)
		clock.advance(1)
		var got []string
		for key, value := range c.All() {
			got = append(got, key+"="+string(value))
			switch key {
			case "c":
				cacheDelete(t, c, "d") // before its turn
				cachePut(t, c, "a", "newer", 0)
			}
		}
		if want := []string{"c=c2", "a=newer", "b2=added"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for range c.All() {
			break
		}
	})
}

func TestCacheCountsHitsMissesAndEntries(t *testing.T) {
	eachFleet(t, cacheShape(8, 64), func(t *testing.T, f *orbit.Fleet) {
		c, other := openCache(t, f, "p"), openCache(t, f, "q")
		buf := make([]byte, 0, 64)
		for i := range 5 {
			cachePut(t, c, strconv.Itoa(i), "v", 0)
		}
		for range 3 {
			for i := range 7 {
				c.AppendGet(buf, strconv.Itoa(i))
			}
			c.GetMeta(buf, "0")
			c.GetMeta(buf, "7")
			c.Stat("0") // counts as neither
		}
		cachePut(t, other, "x", "v", 0)
		if got, want := cacheStats(t, c), (orbit.CacheStats{Hits: 18, Misses: 9, Entries: 5}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got, want := cacheStats(t, other), (orbit.CacheStats{Entries: 1}); got != want {
			t.Errorf("other prefix: got %+v, want %+v", got, want)
		}
	})
}

func TestCacheTellsWhatTheRingPushedOut(t *testing.T) {
	eachFleet(t, cacheShape(8, 64), func(t *testing.T, f *orbit.Fleet) {
		c, filler := openCache(t, f, "p"), openCache(t, f, "q")
		var clock cacheClock
		clock.wind(c)
		cachePut(t, c, "live", "v", 0)
		cachePut(t, c, "brief", "v", 5)
		cachePut(t, c, "gone", "v", 0)
		cacheDelete(t, c, "gone")
		wantAdded(t, c, "added", "v", 0, true)
		wantCached(t, c, "live", "v")
		clock.advance(5)
		fill := func(n int) {
			for range n {
				cachePut(t, filler, "x", "", 0)
			}
		}
		check := func(key string, evicted bool, epoch uint64) {
			t.Helper()
			if m := cacheMeta(t, c, key); m.Hit || m.Evicted != evicted || m.Epoch != epoch {
				t.Errorf("key %q: got %+v, want a miss, evicted %v, at %d", key, m, evicted, epoch)
			}
		}
		fill(3)
		wantCached(t, c, "live", "v")
		fill(1)
		check("live", true, 0)
		wantCached(t, c, "added", "v")
		fill(4)
		check("live", true, 0)
		check("brief", false, 0)
		check("gone", false, 0)
		check("added", true, 4)
		check("never", false, 0)
		if s := cacheStats(t, c); s.Evictions != 2 || s.Entries != 0 {
			t.Errorf("got %+v, want 2 evictions and no entries", s)
		}
		cachePut(t, c, "added", "w", 0)
		wantCached(t, c, "added", "w")
		fill(2)
		check("live", true, 0) // one lap ago
		fill(1)
		check("live", false, 0) // and now forgotten
		cachePut(t, c, "live", "v", 0)
		wantCached(t, c, "live", "v")
		fill(8)
		check("live", true, 17)
		cacheReset(t, c)
		check("live", false, 26) // the reset has the last word
		fill(8)
		check("live", false, 0)
	})
}

func TestCacheResetOfItsRingIsNoEviction(t *testing.T) {
	eachFleet(t, cacheShape(8, 64), func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		for i := range 6 {
			cachePut(t, c, strconv.Itoa(i), "v", 0)
		}
		wantCached(t, c, "3", "v")
		if err := c.Ring().Reset(); err != nil {
			t.Fatal(err)
		}
		if m := cacheMeta(t, c, "3"); m.Hit || m.Evicted {
			t.Errorf("after the reset: got %+v, want a plain miss", m)
		}
		wantCached(t, c, "4", "-")
		if s := cacheStats(t, c); s.Evictions != 0 || s.Entries != 0 {
			t.Errorf("got %+v, want no evictions and no entries", s)
		}
		cachePut(t, c, "3", "w", 0)
		wantCached(t, c, "3", "w")
	})
}

func TestCacheAddsOnlyWhatIsAbsent(t *testing.T) {
	eachFleet(t, cacheShape(8, 64), func(t *testing.T, f *orbit.Fleet) {
		c, other := openCache(t, f, "p"), openCache(t, f, "p")
		var clock cacheClock
		clock.wind(c, other)
		wantAdded(t, c, "a", "1", 0, true)
		wantAdded(t, other, "a", "2", 0, false)
		wantAdded(t, c, "a", "2", 0, false)
		wantCached(t, other, "a", "1")
		cacheDelete(t, other, "a")
		wantAdded(t, c, "a", "3", 10, true)
		wantAdded(t, other, "a", "4", 0, false)
		clock.advance(10)
		wantAdded(t, other, "a", "5", 0, true)
		wantCached(t, c, "a", "5")
		cacheReset(t, c)
		wantAdded(t, c, "a", "6", 0, true)
		cachePut(t, other, "a", "7", 0)
		wantAdded(t, c, "a", "8", 0, false)
		wantCached(t, c, "a", "7")
		for range 8 {
			cachePut(t, c, "x", "", 0)
		}
		wantAdded(t, other, "a", "9", 0, true) // the ring forgot
		wantCached(t, c, "a", "9")
	})
}

func TestCacheAddHasOneWinner(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		const adders, keys = 8, 200
		var wins [keys]atomic.Int32
		var winner [keys]atomic.Int32
		var wg sync.WaitGroup
		for id := range int32(adders) {
			c := openCache(t, f, "p")
			spawn(&wg, func() {
				for k := range keys {
					key := strconv.Itoa(k)
					won, err := c.Add(key, []byte(strconv.Itoa(int(id))), 0)
					if err != nil {
						t.Error(err)
						return
					}
					if won {
						wins[k].Add(1)
						winner[k].Store(id)
					}
					if _, ok, err := c.Get(key); !ok || err != nil {
						t.Errorf("key %s after an add: got %v, %v, want a value", key, ok, err)
					}
				}
			})
		}
		wg.Wait()
		c := openCache(t, f, "p")
		for k := range keys {
			if n := wins[k].Load(); n != 1 {
				t.Errorf("key %d: %d adders won, want 1", k, n)
			}
			wantCached(t, c, strconv.Itoa(k), strconv.Itoa(int(winner[k].Load())))
		}
	})
}

// TestCacheHandleServesManyGoroutines has goroutines that share a handle write
// keys of their own and one they share: each reads at once what it wrote.
func TestCacheHandleServesManyGoroutines(t *testing.T) {
	eachFleet(t, cacheShape(8192, 128), func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		var wg sync.WaitGroup
		for g := range 8 {
			spawn(&wg, func() {
				own, buf := "own"+strconv.Itoa(g), make([]byte, 0, 64)
				var last uint64
				for i := range 400 {
					value := selfVerifying(uint64(g)<<32|uint64(i), 40)
					if err := errors.Join(c.Put(own, value, 0), c.Put("shared", value, time.Hour)); err != nil {
						t.Error(err)
						return
					}
					got, ok, err := c.AppendGet(buf, own)
					if !ok || err != nil || !bytes.Equal(got, value) {
						t.Errorf("goroutine %d, put %d: got %x, %v, %v", g, i, got, ok, err)
						return
					}
					got, m, err := c.GetMeta(buf, "shared")
					if _, whole := verify(got); !m.Hit || err != nil || !whole || m.Epoch < last {
						t.Errorf("shared key: got %x, %+v, %v, after epoch %d", got, m, err, last)
						return
					}
					last = m.Epoch
				}
			})
		}
		wg.Wait()
		if got, want := cacheStats(t, c), (orbit.CacheStats{Hits: 8 * 400 * 2, Entries: 9}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestCacheReadsAndWritesWithoutAllocating(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "users")
		value, buf := make([]byte, 64), make([]byte, 0, 64)
		cachePut(t, c, "ada", string(value), time.Hour)
		for name, op := range map[string]func(){
			"hit":            func() { c.AppendGet(buf, "ada") },
			"miss":           func() { c.AppendGet(buf, "nobody") },
			"meta":           func() { c.GetMeta(buf, "ada") },
			"stat":           func() { c.Stat("ada") },
			"put":            func() { c.Put("ada", value, time.Hour) },
			"put and hit":    func() { c.Put("ada", value, 0); c.AppendGet(buf, "ada") },
			"delete and add": func() { c.Delete("x"); c.Add("x", value, 0) },
			"reset":          func() { c.Reset(); c.AppendGet(buf, "ada") },
		} {
			if n := testing.AllocsPerRun(100, op); n != 0 {
				t.Errorf("%s: got %v allocations, want 0", name, n)
			}
		}
	})
}

func TestCacheOfATruncatedSegmentIsDamaged(t *testing.T) {
	name := fleetName(t)
	c := openCache(t, join(t, name, orbit.Options{}), "p")
	cachePut(t, c, "a", "1", 0)
	wantCached(t, c, "a", "1")
	if err := os.Truncate(cacheSegmentPath(t, name), 0); err != nil {
		t.Fatal(err)
	}
	_, _, getErr := c.AppendGet(make([]byte, 0, 64), "a")
	_, statErr := c.Stat("a")
	_, statsErr := c.Stats()
	_, addErr := c.Add("b", nil, 0)
	for what, err := range map[string]error{"get": getErr, "stat": statErr, "stats": statsErr, "add": addErr, "put": c.Put("a", nil, 0)} {
		if !errors.Is(err, orbit.ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", what, err)
		}
	}
	if keys := cacheKeys(c); keys != nil {
		t.Errorf("keys: got %q, want none", keys)
	}
}

// TestPrintingTheRingOfATruncatedSegment reads no shared memory: who prints one
// to say what failed is not killed by it, nor gets a dump of it.
func TestPrintingTheRingOfATruncatedSegment(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	c := openCache(t, f, "p")
	handles := []any{f, c.Ring(), c.Ring().Tail()}
	if err := os.Truncate(cacheSegmentPath(t, name), 0); err != nil {
		t.Fatal(err)
	}
	_ = fmt.Sprint(c) // its index is not of the segment
	for _, handle := range handles {
		if text := fmt.Sprintf("%v %+v", handle, handle); len(text) > 10_000 {
			t.Errorf("%T prints as %d bytes", handle, len(text))
		}
	}
}

// ---- The cache against its definition ----

func cacheSegmentPath(t testing.TB, fleet string) string {
	path := segmentPath(fleet, int(orbit.KindCache))
	if _, err := os.Stat(path); err != nil {
		t.Skip("this test edits segments where Linux keeps them: ", err)
	}
	return path
}

// A cacheSegment is the segment of a fleet's cache in the hands of the test, which
// plays siblings that are stopped in the middle of a write.
type cacheSegment struct {
	t        testing.TB
	file     *os.File
	capacity uint64
	stride   uint64
}

const (
	segFirst = 192
	segHead  = 256
	segSlots = 4096

	slotSkipped = 0
	slotDone    = 1
	slotWriting = 2
	slotBusy    = 3
)

func mapCacheSegment(t testing.TB, fleet string) *cacheSegment {
	file, err := os.OpenFile(cacheSegmentPath(t, fleet), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	s := &cacheSegment{t: t, file: file}
	s.capacity, s.stride = s.word(24).load(), s.word(40).load()
	return s
}

// segWord is a word of a segment. Nobody else writes while it is changed.
type segWord struct {
	s   *cacheSegment
	off uint64
}

func (w segWord) load() uint64 {
	var b [8]byte
	if _, err := w.s.file.ReadAt(b[:], int64(w.off)); err != nil {
		w.s.t.Fatal(err)
	}
	return binary.NativeEndian.Uint64(b[:])
}

func (w segWord) store(v uint64) {
	w.s.write(w.off, binary.NativeEndian.AppendUint64(nil, v))
}

func (w segWord) swap(old, v uint64) bool {
	if w.load() != old {
		return false
	}
	w.store(v)
	return true
}

func (s *cacheSegment) write(off uint64, b []byte) {
	if _, err := s.file.WriteAt(b, int64(off)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *cacheSegment) word(off uint64) segWord { return segWord{s, off} }
func (s *cacheSegment) head() uint64            { return s.word(segHead).load() }

func (s *cacheSegment) state(c uint64) segWord {
	return s.word(segSlots + c%s.capacity*s.stride)
}

// preset makes an empty ring begin at counter next.
func (s *cacheSegment) preset(next uint64) {
	for c := next - s.capacity; c != next; c++ {
		s.state(c).store(c<<24 | slotSkipped)
	}
	s.word(segFirst).store(next)
	s.word(segHead).store(next)
}

// cacheFrame is a record of the cache, and how a frame holds it.
type cacheFrame struct {
	op      uint8
	prefix  string
	key     string
	value   string
	expiry  int64
	settled uint32
}

const (
	opPut    = 1
	opAdd    = 2
	opDelete = 3
	opReset  = 4
)

func (f *cacheFrame) payload() []byte {
	pad := func(s string) string { return s + strings.Repeat("\x00", -len(s)&7) }
	lengths := uint64(len(f.prefix)) | uint64(len(f.key))<<16 | uint64(f.settled)<<32
	b := binary.NativeEndian.AppendUint64(nil, lengths)
	return append(b, pad(f.prefix)+pad(f.key)+f.value...)
}

// refCacheFrame decodes a frame, slowly. It is not ok if no cache wrote it.
func refCacheFrame(kind uint8, version uint64, payload []byte) (f cacheFrame, ok bool) {
	if len(payload) < 8 {
		return f, false
	}
	lengths := binary.NativeEndian.Uint64(payload)
	f = cacheFrame{op: kind, expiry: int64(version), settled: uint32(lengths >> 32)}
	n, k := int(lengths&0xffff), int(lengths>>16&0xffff)
	rest := payload[8:]
	if len(rest) < (n+7)/8*8+(k+7)/8*8 {
		return f, false
	}
	f.prefix, rest = string(rest[:n]), rest[(n+7)/8*8:]
	f.key, rest = string(rest[:k]), rest[(k+7)/8*8:]
	f.value = string(rest)
	ok = kind >= opPut && kind <= opReset && bytes.Equal(f.payload(), payload) &&
		(kind != opReset || f.key == "") && (kind == opAdd || f.settled == 0)
	return f, ok
}

// claim takes the next slot for a member, as a writer does before it writes.
// It is false if another member holds the slot.
func (s *cacheSegment) claim(owner uint64) (c uint64, ok bool) {
	if s.state(s.head()).load()&2 != 0 {
		return 0, false
	}
	c = s.take()
	return c, s.mark(c, owner)
}

// take takes the next counter. Until its slot is marked, which may be never,
// that names an older one.
func (s *cacheSegment) take() uint64 {
	c := s.head()
	s.word(segHead).store(c + 1)
	return c
}

// mark marks the slot of a counter that was taken, unless it comes too late or
// somebody holds the slot.
func (s *cacheSegment) mark(c, owner uint64) bool {
	st := s.state(c).load()
	return int64(st-c<<24)>>24 < 0 && st&2 == 0 && s.state(c).swap(st, c<<24|owner<<2|slotWriting)
}

// fill writes a frame into a slot.
func (s *cacheSegment) fill(c uint64, f cacheFrame) {
	s.fillRaw(c, f.op, uint64(f.expiry), f.payload(), len(f.payload()))
}

func (s *cacheSegment) fillRaw(c uint64, kind uint8, version uint64, payload []byte, length int) {
	slot := segSlots + c%s.capacity*s.stride
	s.word(slot + 8).store(99<<48 | uint64(kind)<<40 | uint64(uint32(length)))
	s.word(slot + 16).store(version)
	s.write(slot+24, payload[:min(uint64(len(payload)), s.stride-24)])
}

// commit ends what claim began, and tells whether the frame is readable. If
// others voided or lapped it, the slot is let go.
func (s *cacheSegment) commit(c, owner uint64) bool {
	if s.state(c).swap(c<<24|owner<<2|slotWriting, c<<24|slotDone) {
		return true
	}
	for {
		st := s.state(c).load()
		if st&2 == 0 || st>>2&(1<<22-1) != owner || s.state(c).swap(st, st>>24<<24|slotSkipped) {
			return false
		}
	}
}

// cacheOwner returns what names a member in state words: seat and turn.
func cacheOwner(t testing.TB, fleet string, node uint16) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/dev/shm/orbit-%s-0-%d", fleet, os.Geteuid()))
	if err != nil {
		t.Skip("this test reads the roster where Linux keeps it: ", err)
	}
	table := binary.NativeEndian.Uint64(b[56:])
	for seat := range uint64(orbit.MaxMembers) {
		at := table + 64*seat
		if st := binary.NativeEndian.Uint64(b[at:]); st&1 != 0 && binary.NativeEndian.Uint64(b[at+16:]) == uint64(node) {
			return seat<<12 | st>>1&(1<<12-1)
		}
	}
	t.Fatalf("node %d has no seat", node)
	return 0
}

// refAnswer is what the definition of the cache says about a key.
type refAnswer struct {
	hit   bool
	epoch uint64
	value string
}

// refCache walks a ring backwards, as the definition of the cache does.
func refCache(r *orbit.Ring, now int64, prefix, key string) refAnswer {
	head, capacity := r.Head(), uint64(r.Geometry().Capacity)
	for c := head - 1; c != head-capacity-1; c-- {
		f, status := refFrameAt(r, c)
		switch {
		case errors.Is(status, orbit.ErrOverwritten):
			return refAnswer{}
		case status != nil || f.prefix != prefix:
		case f.op == opReset:
			return refAnswer{epoch: c}
		case f.key != key:
		case f.op == opDelete:
			return refAnswer{epoch: c}
		case f.op == opAdd && !refCounts(r, c, f):
		case f.expiry != 0 && now >= f.expiry:
			return refAnswer{epoch: c}
		default:
			return refAnswer{true, c, f.value}
		}
	}
	return refAnswer{}
}

// refCounts tells whether the add f at counter c counts.
func refCounts(r *orbit.Ring, c uint64, f cacheFrame) bool {
	window := uint64(uint32(c) - f.settled)
	if window > 256 || window > uint64(r.Geometry().Capacity/2) {
		return false
	}
	for q := c - 1; q != c-window-1; q-- {
		g, status := refFrameAt(r, q)
		switch {
		case errors.Is(status, orbit.ErrPending), errors.Is(status, orbit.ErrOverwritten):
			return false
		case status != nil || g.prefix != f.prefix:
		case g.op == opReset || g.op == opDelete && g.key == f.key:
			return true
		case g.key == f.key:
			return false
		}
	}
	return true
}

// errNoRecord is a frame that no cache wrote.
var errNoRecord = errors.New("not a record")

func refFrameAt(r *orbit.Ring, c uint64) (cacheFrame, error) {
	f, err := r.ReadAt(c, nil)
	if err != nil {
		return cacheFrame{}, err
	}
	rec, ok := refCacheFrame(f.Kind, f.Version, f.Payload)
	if !ok {
		return rec, errNoRecord
	}
	return rec, nil
}

// A cacheHistory makes a history of a cache, one random step after another,
// with siblings that stop in the middle of a write, go on or die, and compares
// what handles say with the walk.
type cacheHistory struct {
	t       testing.TB
	name    string
	rng     *rand.Rand
	seg     *cacheSegment
	ring    *orbit.Ring // an observer's
	clock   cacheClock
	writers []*orbit.Cache // that make the history
	readers []*orbit.Cache // that are compared with it
	keys    []string

	sibling *orbit.Fleet
	owner   uint64
	stopped []uint64     // counters of frames the sibling did not finish
	taken   []takenFrame // and of frames for which it marked no slot yet
	serial  int
	did     []string
}

// takenFrame is a counter and what is to be written there.
type takenFrame struct {
	counter uint64
	frame   cacheFrame
}

var historyPrefixes = []string{"", "a", "ab"}

func newCacheHistory(t testing.TB, rng *rand.Rand, capacity int, next uint64) *cacheHistory {
	h := &cacheHistory{t: t, name: fleetName(t), rng: rng, keys: []string{"", "a", "b", "bc", "a long key of 24 letters"}}
	f := join(t, h.name, cacheShape(capacity, 96))
	openCache(t, f, "") // creates the ring
	h.seg = mapCacheSegment(t, h.name)
	h.seg.preset(next)
	o, err := orbit.Observe(h.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	if h.ring, err = o.Ring(orbit.KindCache); err != nil {
		t.Fatal(err)
	}
	h.clock.now.Store(1000)
	for _, p := range historyPrefixes {
		h.writers = append(h.writers, openCacheAt(t, f, p, &h.clock))
		h.readers = append(h.readers, openCacheAt(t, f, p, &h.clock), openCacheAt(t, o, p, &h.clock))
	}
	h.replaceSibling()
	return h
}

func (h *cacheHistory) logf(format string, args ...any) {
	h.did = append(h.did, fmt.Sprintf(format, args...))
	if len(h.did) > 40 {
		h.did = h.did[1:]
	}
}

func (h *cacheHistory) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s\nafter\n  %s", fmt.Sprintf(format, args...), strings.Join(h.did, "\n  "))
}

func (h *cacheHistory) pick(list []string) string { return list[h.rng.IntN(len(list))] }

// replaceSibling lets the sibling die, if there is one, and brings up another.
func (h *cacheHistory) replaceSibling() {
	if h.sibling != nil {
		h.sibling.Close()
	}
	f, err := orbit.Join(h.name, orbit.Options{Size: 1})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { f.Close() })
	h.sibling, h.owner, h.stopped = f, cacheOwner(h.t, h.name, f.Node()), nil
	h.taken = nil
}

// ttl returns a time to live, often none.
func (h *cacheHistory) ttl() time.Duration {
	return time.Duration([]int{0, 0, 0, 1, 3, 20, -1}[h.rng.IntN(7)])
}

func (h *cacheHistory) value() string {
	h.serial++
	return strings.Repeat("v", h.rng.IntN(9)) + strconv.Itoa(h.serial)
}

// step does one thing at random.
func (h *cacheHistory) step() {
	c, key, value := h.writers[h.rng.IntN(len(h.writers))], h.pick(h.keys), h.value()
	var err error
	switch n := h.rng.IntN(20); {
	case n < 5:
		ttl := h.ttl()
		h.logf("put %q %q = %q for %d at %d", c.Prefix(), key, value, ttl, h.seg.head())
		err = c.Put(key, []byte(value), ttl)
	case n < 8:
		h.add(c, key, value)
	case n < 10:
		h.logf("delete %q %q at %d", c.Prefix(), key, h.seg.head())
		err = c.Delete(key)
	case n < 11 && h.rng.IntN(3) == 0:
		h.logf("reset %q at %d", c.Prefix(), h.seg.head())
		err = c.Reset()
	case n < 11:
		h.logf("the clock moves on")
		h.clock.advance(time.Duration(h.rng.IntN(5)))
	case n < 12 && h.rng.IntN(20) == 0:
		h.logf("the ring is reset at %d", h.seg.head())
		h.seg.word(segFirst).store(h.seg.head())
	case n < 12 && h.rng.IntN(5) == 0:
		h.logf("the sibling dies, %d unfinished, %d not marked", len(h.stopped), len(h.taken))
		h.replaceSibling()
	case n < 16:
		h.begin(c.Prefix(), key, value)
	case n < 18:
		h.resume()
		fallthrough
	default:
		h.finish()
	}
	if err != nil {
		h.fatalf("%v", err)
	}
}

func (h *cacheHistory) add(c *orbit.Cache, key, value string) {
	before := refCache(h.ring, int64(h.clock.read()), c.Prefix(), key)
	open := h.open()
	ttl := h.ttl()
	added, err := c.Add(key, []byte(value), ttl)
	h.logf("add %q %q = %q for %d: %v, head %d", c.Prefix(), key, value, ttl, added, h.seg.head())
	after := refCache(h.ring, int64(h.clock.read()), c.Prefix(), key)
	switch {
	case err != nil || added && before.hit && !open:
		h.fatalf("add: got %v, %v with the key found to be %+v", added, err, before)
	case added && ttl >= 0 && (!after.hit || after.value != value):
		h.fatalf("after the add that won: got %+v, want %q", after, value)
	case !added && (!after.hit || after.value == value):
		// It may be an older add that was open before.
		h.fatalf("after the add that lost: got %+v, want another value", after)
	}
}

// open tells whether there is a counter for which a frame may still come.
func (h *cacheHistory) open() bool {
	for c := h.ring.Head() - h.seg.capacity; c != h.ring.Head(); c++ {
		if _, err := h.ring.ReadAt(c, nil); err == orbit.ErrPending {
			return true
		}
	}
	return false
}

// begin lets the sibling take a counter, mark its slot and fill it, and stop
// after that or before it marked the slot.
func (h *cacheHistory) begin(prefix, key, value string) {
	if uint64(len(h.stopped)+len(h.taken))*2 >= h.seg.capacity {
		return
	}
	f := cacheFrame{op: uint8(1 + h.rng.IntN(4)), prefix: prefix, key: key, value: value}
	if ttl := h.ttl(); ttl != 0 {
		f.expiry = int64(h.clock.read() + ttl)
	}
	head := h.seg.head()
	switch f.op {
	case opAdd:
		f.settled = uint32(head) - uint32(h.rng.IntN(4))
		if h.rng.IntN(8) == 0 {
			f.settled = uint32(head) - h.rng.Uint32N(400)
		}
	case opReset:
		f.key, f.value = "", ""
	case opDelete:
		f.value = ""
	}
	if h.rng.IntN(3) == 0 {
		n := h.seg.take()
		h.logf("the sibling takes %d for %+v", n, f)
		h.taken = append(h.taken, takenFrame{n, f})
		return
	}
	if n, ok := h.seg.claim(h.owner); ok {
		h.logf("the sibling begins %+v at %d", f, n)
		h.seg.fill(n, f)
		h.stopped = append(h.stopped, n)
		if h.rng.IntN(4) == 0 {
			h.finish()
		}
	}
}

// resume lets the sibling mark the slot of one of the counters that it took, if
// it is not too late, and fill it.
func (h *cacheHistory) resume() {
	if len(h.taken) == 0 {
		return
	}
	i := h.rng.IntN(len(h.taken))
	n, f := h.taken[i].counter, h.taken[i].frame
	h.taken = slices.Delete(h.taken, i, i+1)
	ok := h.seg.mark(n, h.owner)
	h.logf("the sibling marks %d: %v", n, ok)
	if ok {
		h.seg.fill(n, f)
		h.stopped = append(h.stopped, n)
	}
}

// finish lets the sibling go on with one of its frames.
func (h *cacheHistory) finish() {
	if len(h.stopped) == 0 {
		return
	}
	i := h.rng.IntN(len(h.stopped))
	n := h.stopped[i]
	h.stopped = slices.Delete(h.stopped, i, i+1)
	h.logf("the sibling finishes %d: %v", n, h.seg.commit(n, h.owner))
}

// check compares readers with the walk: all of them, or some.
func (h *cacheHistory) check(all bool) {
	h.t.Helper()
	now := int64(h.clock.read())
	for _, c := range h.readers {
		if !all && h.rng.IntN(3) > 0 {
			continue
		}
		live := 0
		for _, key := range h.keys {
			want := refCache(h.ring, now, c.Prefix(), key)
			got, m, err := c.GetMeta(make([]byte, 0, h.rng.IntN(20)), key)
			if m.Evicted {
				m.Epoch = 0
			}
			if err != nil || (refAnswer{m.Hit, m.Epoch, string(got)}) != want {
				h.fatalf("prefix %q key %q at head %d: got %q, %+v, error %v, want %+v", c.Prefix(), key, h.ring.Head(), got, m, err, want)
			}
			if want.hit {
				live++
			}
			got, ok, err := c.AppendGet(make([]byte, 0, 32), key)
			if err != nil || ok != want.hit || string(got) != want.value {
				h.fatalf("prefix %q key %q: got %q, %v, error %v, want %+v", c.Prefix(), key, got, ok, err, want)
			}
		}
		if s := cacheStats(h.t, c); s.Entries != live {
			h.fatalf("prefix %q: got %d entries, want %d", c.Prefix(), s.Entries, live)
		}
		if keys := cacheKeys(c); len(keys) != live {
			h.fatalf("prefix %q: got keys %q, want %d", c.Prefix(), keys, live)
		}
	}
}

// TestCacheIsTheWalk holds the index to the definition through random
// histories, in small and large rings, and where counters wrap.
func TestCacheIsTheWalk(t *testing.T) {
	steps := 500
	if testing.Short() {
		steps = 100
	}
	for i, next := range []uint64{0, 1<<32 - 50, 1<<40 - 50, math.MaxUint64 - 50, 1<<40 - 2, 12345, 1<<63 - 50} {
		for _, capacity := range []int{2, 4, 8, 16, 64, 512} {
			t.Run(fmt.Sprintf("%d slots from %d", capacity, next), func(t *testing.T) {
				h := newCacheHistory(t, rand.New(rand.NewPCG(uint64(i), uint64(capacity))), capacity, next)
				for s := range steps {
					h.step()
					h.check(s%16 == 0)
				}
			})
		}
	}
}

// TestCacheAnswersForAMomentOfTheLook lets the history go on in the middle of a
// look, where a handle reads its clock. The answer must be that of the walk at
// some moment of the look, or a value that came during it.
func TestCacheAnswersForAMomentOfTheLook(t *testing.T) {
	looks := 3000
	if testing.Short() {
		looks = 600
	}
	for i, next := range []uint64{0, 1<<40 - 50, 1<<63 - 50} {
		for _, capacity := range []int{2, 4, 8, 16} {
			t.Run(fmt.Sprintf("%d slots from %d", capacity, next), func(t *testing.T) {
				h := newCacheHistory(t, rand.New(rand.NewPCG(uint64(i), uint64(capacity))), capacity, next)
				for range looks {
					for range h.rng.IntN(8) {
						h.step()
					}
					h.interruptedLook()
				}
			})
		}
	}
}

// interruptedLook looks a key up, and has the history go on when the handle reads
// the time.
func (h *cacheHistory) interruptedLook() {
	h.t.Helper()
	c := h.readers[h.rng.IntN(len(h.readers))]
	key := h.pick(h.keys)
	first := refCache(h.ring, int64(h.clock.read()), c.Prefix(), key)
	seen := h.records()
	allowed := map[refAnswer]bool{h.what(first): true}
	c.Clock = func() time.Duration {
		now := h.clock.read()
		h.clock.wind(c)
		h.logf("-- in the middle of the look")
		for range h.rng.IntN(2 * int(h.seg.capacity)) {
			h.step()
			allowed[h.what(refCache(h.ring, int64(h.clock.read()), c.Prefix(), key))] = true
			for n, f := range h.records() {
				if _, old := seen[n]; !old || f.op == opAdd {
					h.allow(allowed, c.Prefix(), key, n, f, first)
				}
			}
		}
		h.logf("-- the look goes on")
		return max(now, h.clock.read())
	}
	var got refAnswer
	value, m, err := c.GetMeta(nil, key)
	h.clock.wind(c)
	if m.Hit {
		got = refAnswer{true, m.Epoch, string(value)}
	}
	if err != nil || !allowed[got] {
		h.fatalf("prefix %q key %q: got %+v, %+v, error %v, want one of %v", c.Prefix(), key, got, m, err, allowed)
	}
}

// what is an answer without the frame that decided a miss.
func (h *cacheHistory) what(a refAnswer) refAnswer {
	if !a.hit {
		return refAnswer{}
	}
	return a
}

// allow allows for what a frame says of a key that was finished during a look, or
// an add that was decided during it, if it has a later counter than what decided
// when the look began: it may have come first of all that came.
func (h *cacheHistory) allow(allowed map[refAnswer]bool, prefix, key string, n uint64, f cacheFrame, first refAnswer) {
	switch {
	case f.prefix != prefix || f.op != opReset && f.key != key || int64(n-first.epoch) <= 0 && first.hit:
	case f.op == opReset, f.op == opDelete:
		allowed[refAnswer{}] = true
	case f.op == opAdd && !refCounts(h.ring, n, f):
	case f.expiry != 0 && int64(h.clock.read()) >= f.expiry:
		allowed[refAnswer{}] = true
	default:
		allowed[refAnswer{true, n, f.value}] = true
	}
}

// records returns the records that the ring has, by their counters.
func (h *cacheHistory) records() map[uint64]cacheFrame {
	head, found := h.ring.Head(), map[uint64]cacheFrame{}
	for c := head - h.seg.capacity; c != head; c++ {
		if f, err := refFrameAt(h.ring, c); err == nil {
			found[c] = f
		}
	}
	return found
}

// TestCacheOutlivesATruncatedRoster: whoever asks whether a writer lives fails as
// long as the roster is gone, and only then.
func TestCacheOutlivesATruncatedRoster(t *testing.T) {
	rig := newSiblingRig(t, 8)
	c := rig.cache
	settled := uint32(rig.head())
	first := rig.begin(cacheFrame{op: opPut, prefix: "p", key: "b", value: "late"})
	open := rig.begin(cacheFrame{op: opAdd, prefix: "p", key: "a", value: "added", settled: settled})
	rig.finish(open)
	second := rig.begin(cacheFrame{op: opPut, prefix: "p", key: "c", value: "late"})
	path := segmentPath(rig.fleet.Name(), 0)
	roster, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, _, err := c.Get("a"); !errors.Is(err, orbit.ErrDamaged) {
			t.Errorf("get beside an unfinished frame without a roster: %v, want %v", err, orbit.ErrDamaged)
		}
	}
	if err := os.WriteFile(path, roster, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		wantCached(t, c, "a", "-") // open
		wantCached(t, c, "b", "-")
	}
	rig.finish(first)
	wantCached(t, c, "a", "added")
	wantCached(t, c, "b", "late")
	rig.finish(second)
	wantCached(t, c, "c", "late")
}

// ---- Stopped and dead siblings ----

// A siblingRig is a fleet's cache with a sibling whose writes the test begins
// and finishes.
type siblingRig struct {
	*cacheSegment
	fleet   *orbit.Fleet
	cache   *orbit.Cache
	sibling *orbit.Fleet
	owner   uint64
}

func newSiblingRig(t testing.TB, capacity int) siblingRig {
	name := fleetName(t)
	f := join(t, name, cacheShape(capacity, 96))
	c := openCache(t, f, "p")
	sibling := join(t, name, orbit.Options{})
	return siblingRig{mapCacheSegment(t, name), f, c, sibling, cacheOwner(t, name, sibling.Node())}
}

// begin has the sibling write all of a frame but its commit.
func (s *siblingRig) begin(f cacheFrame) uint64 {
	s.t.Helper()
	n, ok := s.claim(s.owner)
	if !ok {
		s.t.Fatalf("slot of counter %d is held", s.head())
	}
	s.fill(n, f)
	return n
}

func (s *siblingRig) finish(n uint64) bool { return s.commit(n, s.owner) }

func TestCacheReadsItsOwnWritesBehindAStoppedSibling(t *testing.T) {
	rig := newSiblingRig(t, 16)
	c := rig.cache
	cachePut(t, c, "mine", "0", 0)
	cachePut(t, c, "theirs", "old", 0)
	n := rig.begin(cacheFrame{op: opPut, prefix: "p", key: "theirs", value: "new"})
	for i := range 100 {
		cachePut(t, c, "mine", strconv.Itoa(i), 0)
		wantCached(t, c, "mine", strconv.Itoa(i))
	}
	_ = n
	if rig.finish(n) {
		t.Error("a frame lapped six times was committed")
	}
	wantCached(t, c, "theirs", "-")
	wantCached(t, c, "mine", "99")
}

func TestCacheTakesALateFrameForWhatItsCounterSays(t *testing.T) {
	rig := newSiblingRig(t, 16)
	c := rig.cache
	put := func(key string) cacheFrame { return cacheFrame{op: opPut, prefix: "p", key: key, value: "late"} }
	first, second := rig.begin(put("a")), rig.begin(put("b"))
	cachePut(t, c, "a", "newer", 0)
	wantCached(t, c, "a", "newer")
	wantCached(t, c, "b", "-")
	head := rig.head()
	rig.finish(first)
	wantCached(t, c, "a", "newer") // late, and older
	rig.finish(second)
	wantCached(t, c, "b", "late")
	if got := rig.head(); got != head {
		t.Fatalf("the head moved from %d to %d", head, got)
	}
	third := rig.begin(cacheFrame{op: opReset, prefix: "p"})
	cachePut(t, c, "c", "after", 0)
	wantCached(t, c, "b", "late")
	rig.finish(third)
	wantCached(t, c, "a", "-")
	wantCached(t, c, "b", "-")
	wantCached(t, c, "c", "after")
}

func TestCachePassesTheFrameOfADeadSibling(t *testing.T) {
	rig := newSiblingRig(t, 16)
	c := rig.cache
	cachePut(t, c, "a", "1", 0)
	rig.begin(cacheFrame{op: opPut, prefix: "p", key: "a", value: "2"})
	wantCached(t, c, "a", "1")
	rig.sibling.Close()
	wantCached(t, c, "a", "1")
	wantAdded(t, c, "b", "1", 0, true)
	for i := range 40 {
		cachePut(t, c, "a", strconv.Itoa(i), 0)
		wantCached(t, c, "a", strconv.Itoa(i))
	}
}

// TestCacheAddVoidsAnUnfinishedWrite shows what lets an add return at once:
// the frame of a stopped sibling that might have come before it becomes a
// hole, and its commit fails.
func TestCacheAddVoidsAnUnfinishedWrite(t *testing.T) {
	for _, op := range []uint8{opPut, opAdd} {
		rig := newSiblingRig(t, 16)
		c := rig.cache
		n := rig.begin(cacheFrame{op: op, prefix: "p", key: "a", value: "theirs", settled: uint32(rig.head())})
		wantAdded(t, c, "a", "mine", 0, true)
		if _, err := c.Ring().ReadAt(n, nil); !errors.Is(err, orbit.ErrHole) {
			t.Errorf("the unfinished frame: got %v, want a hole", err)
		}
		if st := rig.state(n).load(); st != n<<24|rig.owner<<2|slotBusy {
			t.Errorf("its slot: got state %#x, want it still to be its owner's", st)
		}
		if rig.finish(n) {
			t.Error("the voided frame was committed")
		}
		wantCached(t, c, "a", "mine")
		if st := rig.state(n).load(); st != n<<24|slotSkipped {
			t.Errorf("its slot: got state %#x, want it let go", st)
		}
	}
}

// TestCacheAddIsOpenWhileAnEarlierFrameMayDecide plays two siblings that add a
// key at once: one stops before its commit, and the other between its commit
// and its second look.
func TestCacheAddIsOpenWhileAnEarlierFrameMayDecide(t *testing.T) {
	for _, tt := range []struct {
		name        string
		finish, die bool
		want        string
	}{
		{"the earlier one commits and wins", true, false, "earlier"},
		{"the earlier one dies and the later wins", false, true, "later"},
		{"a third adder voids the earlier, so that the later wins", false, false, "later"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rig := newSiblingRig(t, 16)
			c := rig.cache
			settled := uint32(rig.head())
			earlier := rig.begin(cacheFrame{op: opAdd, prefix: "p", key: "a", value: "earlier", settled: settled})
			later := rig.begin(cacheFrame{op: opAdd, prefix: "p", key: "a", value: "later", settled: settled})
			rig.finish(later)
			wantCached(t, c, "a", "-") // neither has won
			switch {
			case tt.finish:
				rig.finish(earlier)
			case tt.die:
				rig.sibling.Close()
			default:
				wantAdded(t, c, "a", "third", 0, false)
			}
			wantCached(t, c, "a", tt.want)
		})
	}
}

// TestCacheAddVoidsATakenCounter: of a sibling that took a counter and marked
// no slot nobody knows whether it will. An add that it might have come before
// makes a hole of its counter, and does so at once.
func TestCacheAddVoidsATakenCounter(t *testing.T) {
	for _, capacity := range []int{1, 2, 16} {
		rig := newSiblingRig(t, capacity)
		c := rig.cache
		start := time.Now()
		for i := range 200 {
			key := strconv.Itoa(i)
			n := rig.take()
			if i%3 == 0 { // the slot has what was taken and not marked a lap ago
				for range capacity {
					n = rig.take()
				}
			}
			wantAdded(t, c, key, "mine", 0, true)
			if capacity > 1 { // and the add's own frame has another slot
				if st := rig.state(n).load(); st != n<<24|slotSkipped {
					t.Errorf("%d slots: the slot of the counter that was taken: got state %#x, want a hole", capacity, st)
				}
			}
			if rig.mark(n, rig.owner) {
				t.Errorf("%d slots: counter %d was marked after an add made it void", capacity, n)
			}
			wantCached(t, c, key, "mine")
			wantAdded(t, c, key, "again", 0, false)
		}
		// A wait for a writer that may be stopped is one of 100 ms or a second.
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%d slots: 400 adds took %v", capacity, took)
		}
	}
}

// TestCacheAddIsOpenWhileATakenCounterMayDecide has a sibling commit an add
// while another's counter before it is taken and its slot not marked.
func TestCacheAddIsOpenWhileATakenCounterMayDecide(t *testing.T) {
	for _, tt := range []struct {
		name   string
		settle func(rig *siblingRig, n uint64)
		want   string
	}{
		{"it is marked and committed, and wins", func(rig *siblingRig, n uint64) {
			if !rig.mark(n, rig.owner) {
				rig.t.Fatal("cannot mark")
			}
			wantCached(rig.t, rig.cache, "a", "-")
			rig.fill(n, cacheFrame{op: opPut, prefix: "p", key: "a", value: "earlier"})
			rig.finish(n)
		}, "earlier"},
		{"it is marked and its owner dies", func(rig *siblingRig, n uint64) {
			rig.mark(n, rig.owner)
			wantCached(rig.t, rig.cache, "a", "-")
			rig.sibling.Close()
		}, "later"},
		{"its owner dies, and a reader makes a hole of it", func(rig *siblingRig, n uint64) {
			rig.sibling.Close()
			wantCached(rig.t, rig.cache, "a", "-")
			rig.cache.Ring().ReadAt(n, nil)
		}, "later"},
		{"a third adder makes a hole of it", func(rig *siblingRig, n uint64) {
			wantAdded(rig.t, rig.cache, "a", "third", 0, false)
		}, "later"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rig := newSiblingRig(t, 16)
			settled := uint32(rig.head())
			earlier := rig.take()
			later := rig.begin(cacheFrame{op: opAdd, prefix: "p", key: "a", value: "later", settled: settled})
			rig.finish(later)
			late := openCache(t, rig.fleet, "p")
			for range 3 {
				wantCached(t, rig.cache, "a", "-") // neither has won
			}
			tt.settle(&rig, earlier)
			wantCached(t, rig.cache, "a", tt.want)
			wantCached(t, late, "a", tt.want)
		})
	}
}

// TestCacheAddThatLostNeverComesBack pushes the winner out of the ring first.
func TestCacheAddThatLostNeverComesBack(t *testing.T) {
	rig := newSiblingRig(t, 16)
	c := rig.cache
	settled := uint32(rig.head())
	for _, value := range []string{"first", "second", "third"} {
		n := rig.begin(cacheFrame{op: opAdd, prefix: "p", key: "a", value: value, settled: settled})
		rig.finish(n)
	}
	for range 13 {
		wantCached(t, c, "a", "first")
		cachePut(t, c, "x", "", 0)
	}
	wantCached(t, c, "a", "first")
	for range 20 {
		cachePut(t, c, "x", "", 0)
		wantCached(t, c, "a", "-")
		wantCached(t, openCache(t, rig.fleet, "p"), "a", "-")
	}
}

// TestCacheAddThatLosesItsGroundDuringALookIsLookedForAgain: when the look began
// the add counted, and when it comes to that it cannot be told any more.
func TestCacheAddThatLosesItsGroundDuringALookIsLookedForAgain(t *testing.T) {
	rig := newSiblingRig(t, 8)
	c, writer := rig.cache, openCache(t, rig.fleet, "p")
	cachePut(t, c, "passing", "", time.Hour)
	cachePut(t, writer, "x", "", 0)
	cachePut(t, writer, "x", "", 0) // what the add stands on
	wantCached(t, c, "x", "")
	rig.finish(rig.begin(cacheFrame{op: opAdd, prefix: "p", key: "k", value: "added", settled: 2}))
	for range 5 {
		cachePut(t, writer, "x", "", 0)
	}
	looked := false
	c.Clock = func() time.Duration { // it reads the clock to expel the first value
		if !looked {
			looked = true
			cachePut(t, writer, "k", "put", 0)
			cachePut(t, writer, "x", "", 0)
		}
		return time.Duration(orbit.Now())
	}
	wantCached(t, c, "k", "put")
	if !looked {
		t.Error("the look did not read the clock")
	}
}

// TestCacheReadsItsOwnWriteAtEveryHead beside an unfinished frame, where numbers
// that stand for no head might be one.
func TestCacheReadsItsOwnWriteAtEveryHead(t *testing.T) {
	for _, boundary := range []uint64{1 << 32, 1 << 40, 1 << 62, 1 << 63, 0} {
		for before := range uint64(6) {
			rig := newSiblingRig(t, 8)
			rig.preset(boundary - before)
			c := openCache(t, rig.fleet, "p")
			cachePut(t, c, "k", "old", 0)
			n := rig.begin(cacheFrame{op: opPut, prefix: "p", key: "theirs"})
			wantCached(t, c, "k", "old")
			cachePut(t, c, "k", "new", 0)
			if got, _, err := c.AppendGet(make([]byte, 0, 8), "k"); err != nil || string(got) != "new" {
				t.Errorf("head %#x: got %q, error %v, want the new value", rig.head(), got, err)
			}
			rig.finish(n)
		}
	}
}

// TestCacheOutlivesAStoppedWriteInATinyRing laps a stopped sibling in rings of
// very few slots.
func TestCacheOutlivesAStoppedWriteInATinyRing(t *testing.T) {
	rig := newSiblingRig(t, 2)
	n := rig.begin(cacheFrame{op: opPut, prefix: "p", key: "a", value: "theirs"})
	for i := range 10 {
		cachePut(t, rig.cache, "a", strconv.Itoa(i), 0)
		wantCached(t, rig.cache, "a", strconv.Itoa(i))
	}
	if rig.finish(n) {
		t.Error("a lapped frame was committed")
	}
	wantCached(t, rig.cache, "a", "9")
}

func TestCacheInARingOfOneSlot(t *testing.T) {
	eachFleet(t, cacheShape(1, 64), func(t *testing.T, f *orbit.Fleet) {
		c := openCache(t, f, "p")
		for i := range 5 {
			key := strconv.Itoa(i % 2)
			wantAdded(t, c, key, strconv.Itoa(i), 0, true)
			wantAdded(t, c, key, "no", 0, false)
			wantCached(t, c, key, strconv.Itoa(i))
		}
		if s := cacheStats(t, c); s.Evictions != 4 || s.Entries != 1 {
			t.Errorf("got %+v, want 4 evictions and 1 entry", s)
		}
	})
}

// ---- Examples and benchmarks ----

func ExampleCache() {
	fleet, err := orbit.Local("web", orbit.Options{Size: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer fleet.Close()
	sessions, err := orbit.OpenCache(fleet, "session:")
	if err != nil {
		fmt.Println(err)
		return
	}
	sessions.Put("41", []byte("ada"), 30*time.Minute)
	sessions.Put("42", []byte("bob"), 30*time.Minute)
	sessions.Delete("42")
	for _, id := range []string{"41", "42"} {
		user, ok, err := sessions.Get(id)
		fmt.Printf("%s: %q %v %v\n", id, user, ok, err)
	}
	for id, user := range sessions.All() {
		fmt.Printf("%s is %s\n", id, user)
	}
	stats, _ := sessions.Stats()
	fmt.Printf("%d hit, %d miss, %d entry\n", stats.Hits, stats.Misses, stats.Entries)
	// Output:
	// 41: "ada" true <nil>
	// 42: "" false <nil>
	// 41 is ada
	// 1 hit, 1 miss, 1 entry
}

// Of all the processes that find a report missing, one makes it.
func ExampleCache_Add() {
	fleet, _ := orbit.Local("web", orbit.Options{Size: 1})
	defer fleet.Close()
	reports, _ := orbit.OpenCache(fleet, "report:")
	for range 2 {
		mine, err := reports.Add("daily", []byte("in the making"), time.Minute)
		fmt.Println(mine, err)
	}
	// Output:
	// true <nil>
	// false <nil>
}

// A caller that keeps what it made of a value asks only for the epoch.
func ExampleCache_Stat() {
	fleet, _ := orbit.Local("web", orbit.Options{Size: 1})
	defer fleet.Close()
	configs, _ := orbit.OpenCache(fleet, "config:")

	type parsed struct {
		epoch uint64
		words []string
	}
	kept := map[string]parsed{}
	words := func(key string) []string {
		now, err := configs.Stat(key)
		if p, ok := kept[key]; ok && err == nil && now.Hit && p.epoch == now.Epoch {
			return p.words
		}
		text, meta, err := configs.GetMeta(nil, key)
		if err != nil || !meta.Hit {
			return nil
		}
		fmt.Println("parsing", string(text))
		kept[key] = parsed{meta.Epoch, strings.Fields(string(text))}
		return kept[key].words
	}
	configs.Put("hosts", []byte("a b c"), 0)
	fmt.Println(len(words("hosts")), len(words("hosts")))
	configs.Put("hosts", []byte("a b c d"), 0)
	fmt.Println(len(words("hosts")), len(words("hosts")))
	// Output:
	// parsing a b c
	// 3 3
	// parsing a b c d
	// 4 4
}

// BenchmarkCache measures reads with the ring unchanged, writes, and a read
// after every write, beside one atomic add.
func BenchmarkCache(b *testing.B) {
	open := map[string]func(b *testing.B) *orbit.Fleet{
		"local":            func(b *testing.B) *orbit.Fleet { return local(b, orbit.Options{}) },
		"shared":           func(b *testing.B) *orbit.Fleet { return join(b, fleetName(b), orbit.Options{}) },
		"shared unguarded": func(b *testing.B) *orbit.Fleet { return join(b, fleetName(b), orbit.Options{NoFaultGuard: true}) },
	}
	for _, name := range []string{"local", "shared", "shared unguarded"} {
		b.Run(name, func(b *testing.B) {
			f := open[name](b)
			c := openCache(b, f, "users:")
			value, buf := make([]byte, 64), make([]byte, 0, 64)
			cachePut(b, c, "ada.lovelace", string(value), 0)
			cachePut(b, c, "for an hour", string(value), time.Hour)
			run := func(name string, op func()) {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						op()
					}
				})
			}
			var word atomic.Uint64
			run("atomic add", func() { word.Add(1) })
			run("hit", func() { c.AppendGet(buf, "ada.lovelace") })
			run("hit that expires", func() { c.AppendGet(buf, "for an hour") })
			run("miss", func() { c.AppendGet(buf, "charles.babbage") })
			run("stat", func() { c.Stat("ada.lovelace") })
			b.Run("hit, parallel", func(b *testing.B) {
				b.RunParallel(func(pb *testing.PB) {
					buf := make([]byte, 0, 64)
					for pb.Next() {
						c.AppendGet(buf, "ada.lovelace")
					}
				})
			})
			w := openCache(b, f, "users:")
			run("put", func() { w.Put("ada.lovelace", value, 0) })
			run("put and hit", func() { c.Put("ada.lovelace", value, 0); c.AppendGet(buf, "ada.lovelace") })
			run("delete and add", func() { c.Delete("ada.lovelace"); c.Add("ada.lovelace", value, 0) })
		})
	}
}

// ---------------------------------------------------------------------------
// Contest

// contestJob and contestShard are kinds of subjects.
type (
	contestJob   struct{}
	contestShard struct{}
)

func (contestJob) OrbitKind() uint8   { return 12 }
func (contestShard) OrbitKind() uint8 { return 13 }

func contestOpen(t testing.TB, f *orbit.Fleet) *orbit.Contest {
	t.Helper()
	c, err := orbit.OpenContest(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func contestLocal(t testing.TB, opts orbit.Options) *orbit.Contest {
	t.Helper()
	return contestOpen(t, local(t, opts))
}

func contestJoin(t testing.TB, name string, opts orbit.Options) *orbit.Contest {
	t.Helper()
	opts.Size = 4
	return contestOpen(t, join(t, name, opts))
}

// contestEach runs a test over a local fleet, where both contests are the
// same, and over a shared one, where they are two members'.
func contestEach(t *testing.T, opts orbit.Options, test func(t *testing.T, a, b *orbit.Contest)) {
	t.Run("local", func(t *testing.T) {
		c := contestLocal(t, opts)
		test(t, c, c)
	})
	t.Run("shared", func(t *testing.T) {
		name := fleetName(t)
		test(t, contestJoin(t, name, opts), contestJoin(t, name, opts))
	})
}

// shortTTL is for guards that are to lapse, and is long enough for a claim that
// loses the processor: one of a millisecond can be over before it is handed out.
const shortTTL = 20 * time.Millisecond

func contestClaim[T orbit.Typed](t testing.TB, c *orbit.Contest, label, owner string, ttl time.Duration) *orbit.Guard {
	t.Helper()
	g, err := orbit.Claim[T](c, label, owner, ttl)
	if err != nil {
		t.Fatalf("Claim(%q, %q) failed: %v", label, owner, err)
	}
	return g
}

// contestRefused claims in vain, and returns what the error says.
func contestRefused[T orbit.Typed](t testing.TB, c *orbit.Contest, label, owner string) orbit.Holder {
	t.Helper()
	g, err := orbit.Claim[T](c, label, owner, time.Minute)
	var held *orbit.HeldError
	if !errors.Is(err, orbit.ErrHeld) || !errors.As(err, &held) || g != nil {
		t.Fatalf("Claim(%q, %q) = %v, %v; want a HeldError", label, owner, g, err)
	}
	return held.Holder
}

func contestHolder[T orbit.Typed](t testing.TB, c *orbit.Contest, label string) (orbit.Holder, bool) {
	t.Helper()
	h, held, err := orbit.HolderOf[T](c, label)
	if err != nil {
		t.Fatalf("HolderOf(%q) failed: %v", label, err)
	}
	return h, held
}

// contestEnded waits for the end of a guard's context and checks its cause.
func contestEnded(t testing.TB, ctx context.Context, want error) {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the guard's context did not end")
	}
	if got := context.Cause(ctx); !errors.Is(got, want) {
		t.Errorf("the context's cause = %v, want %v", got, want)
	}
}

func TestClaimOfAHeldSubjectNamesTheHolder(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		before := orbit.Now()
		g := contestClaim[contestJob](t, a, "nightly", "alpha", time.Minute)
		defer g.Release()
		h := contestRefused[contestJob](t, b, "nightly", "beta")
		seen, held := contestHolder[contestJob](t, b, "nightly")
		if !held || seen.Token != h.Token || seen.Owner != h.Owner {
			t.Errorf("HolderOf = %+v, %v; the error says %+v", seen, held, h)
		}
		if h.Kind != 12 || h.Label != "nightly" || h.Owner != "alpha" || h.PID != os.Getpid() || h.Node != 1 {
			t.Errorf("holder = %+v, want alpha of node 1, process %d", h, os.Getpid())
		}
		if h.Token != g.Token() || h.Token == 0 {
			t.Errorf("holder's token = %d, the guard's %d", h.Token, g.Token())
		}
		if h.Left <= 0 || h.Left > time.Minute+time.Second {
			t.Errorf("holder has %v left, want about a minute", h.Left)
		}
		if h.Since < before || h.Since > orbit.Now() {
			t.Errorf("held since %v, claimed at %v", h.Since, before)
		}
		_, err := orbit.Claim[contestJob](b, "nightly", "beta", time.Minute)
		for _, part := range []string{"orbit: ring 222 of fleet", `subject 12 "nightly" is held by "alpha" of node 1`, "for another"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error %q lacks %q", err, part)
			}
		}
	})
}

func TestReleaseLetsTheNextOneIn(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		last := uint64(0)
		for i := range 100 {
			c := a
			if i%2 == 1 {
				c = b
			}
			g := contestClaim[contestJob](t, c, "x", "", time.Minute)
			if !g.Valid() || g.Token() <= last {
				t.Fatalf("guard %d: valid %v, token %d after %d", i, g.Valid(), g.Token(), last)
			}
			last = g.Token()
			for range 3 { // releasing again changes nothing
				if err := g.Release(); err != nil {
					t.Fatalf("Release: %v", err)
				}
			}
			if err := g.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			if g.Valid() || g.Left() != 0 {
				t.Fatalf("a released guard is valid: %v, has %v left", g.Valid(), g.Left())
			}
			if _, held := contestHolder[contestJob](t, a, "x"); held {
				t.Fatal("a released subject has a holder")
			}
		}
	})
}

func TestReleaseOfAnEndedGuardLeavesTheNextHolderAlone(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		old := contestClaim[contestJob](t, a, "x", "alpha", shortTTL)
		contestEnded(t, old.Context(), orbit.ErrLapsed)
		g := contestClaim[contestJob](t, b, "x", "beta", time.Minute)
		for range 2 {
			if err := old.Release(); !errors.Is(err, orbit.ErrLapsed) {
				t.Errorf("Release of a lapsed guard = %v, want ErrLapsed", err)
			}
		}
		if err := old.Renew(time.Minute); !errors.Is(err, orbit.ErrLapsed) {
			t.Errorf("Renew of a lapsed guard = %v, want ErrLapsed", err)
		}
		if old.Valid() || !g.Valid() {
			t.Errorf("old valid %v, new valid %v; want false, true", old.Valid(), g.Valid())
		}
		if g.Token() <= old.Token() {
			t.Errorf("token %d after %d", g.Token(), old.Token())
		}
	})
}

func TestSubjectsAreKindAndLabel(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		var guards []*orbit.Guard
		for _, label := range []string{"", "a", "b", "ab", "\x00", "\x00\x00", strings.Repeat("a", orbit.MaxLabel)} {
			guards = append(guards, contestClaim[contestJob](t, a, label, "o", time.Minute), contestClaim[contestShard](t, a, label, "o", time.Minute))
			contestRefused[contestJob](t, b, label, "other")
			contestRefused[contestShard](t, b, label, "other")
		}
		list, err := b.Holders()
		if err != nil || len(list) != len(guards) {
			t.Fatalf("Holders returned %d, %v; want %d", len(list), err, len(guards))
		}
		tokens := map[uint64]bool{}
		for _, h := range list {
			tokens[h.Token] = true
		}
		for _, g := range guards {
			if !tokens[g.Token()] {
				t.Errorf("Holders lacks the guard of token %d", g.Token())
			}
			g.Release()
		}
		if list, err := b.Holders(); err != nil || len(list) != 0 {
			t.Errorf("Holders after all were released = %v, %v", list, err)
		}
	})
}

func TestGuardEndsWithItsTTL(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		const ttl = 30 * time.Millisecond
		start := time.Now()
		g := contestClaim[contestJob](t, a, "x", "alpha", ttl)
		ctx := g.Context()
		for g.Valid() {
			if ctx.Err() != nil && time.Since(start) < ttl/2 {
				t.Fatal("the context of a valid guard ended")
			}
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(start); d < ttl {
			t.Errorf("the guard lapsed after %v of %v", d, ttl)
		}
		contestEnded(t, ctx, orbit.ErrLapsed)
		if g.Left() != 0 {
			t.Errorf("a lapsed guard has %v left", g.Left())
		}
		contestClaim[contestJob](t, b, "x", "beta", time.Minute).Release()
	})
}

func TestRenewMovesTheEndEitherWay(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		var g *orbit.Guard
		var since orbit.Stamp
		err := orbit.ErrLapsed
		for errors.Is(err, orbit.ErrLapsed) { // if this loses the processor before it renews
			g = contestClaim[contestJob](t, a, "x", "alpha", 200*time.Millisecond)
			h, _ := contestHolder[contestJob](t, b, "x")
			since, err = h.Since, g.Renew(time.Hour)
		}
		if err != nil {
			t.Fatal(err)
		}
		token := g.Token()
		if g.Left() < 59*time.Minute {
			t.Errorf("%v left after Renew(1h)", g.Left())
		}
		time.Sleep(210 * time.Millisecond)
		h := contestRefused[contestJob](t, b, "x", "")
		if !g.Valid() || g.Context().Err() != nil {
			t.Fatal("a renewed guard lapsed at its old deadline")
		}
		if h.Token != token || h.Left < 59*time.Minute || h.Since != since {
			t.Errorf("after Renew the holder is %+v, want token %d since %v", h, token, since)
		}
		if err := g.Renew(20 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		contestEnded(t, g.Context(), orbit.ErrLapsed)
		contestClaim[contestJob](t, b, "x", "beta", time.Minute).Release()
	})
}

func TestRenewKeepsAGuardThroughManyDeadlines(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		g := contestClaim[contestJob](t, a, "x", "alpha", time.Hour)
		defer g.Release()
		var failed atomic.Int64
		var wg sync.WaitGroup
		for range 2 {
			spawn(&wg, func() {
				for range 2000 {
					if _, err := orbit.Claim[contestJob](b, "x", "beta", time.Hour); !errors.Is(err, orbit.ErrHeld) {
						failed.Add(1)
					}
				}
			})
		}
		for range 2000 {
			if err := g.Renew(time.Hour); err != nil {
				t.Errorf("Renew: %v", err)
			}
			if !g.Valid() {
				t.Error("the guard is not valid")
			}
		}
		wg.Wait()
		if n := failed.Load(); n > 0 {
			t.Errorf("%d claims of a held subject did not fail with ErrHeld", n)
		}
	})
}

func TestOwnerTakesUpItsOwnClaim(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		old := contestClaim[contestJob](t, a, "x", "alpha", 300*time.Millisecond)
		ctx := old.Context()
		g := contestClaim[contestJob](t, a, "x", "alpha", time.Hour)
		contestEnded(t, ctx, orbit.ErrLapsed)
		if old.Valid() || !g.Valid() {
			t.Errorf("old valid %v, new valid %v; want false, true", old.Valid(), g.Valid())
		}
		if g.Token() <= old.Token() {
			t.Errorf("token %d after %d", g.Token(), old.Token())
		}
		if err := old.Release(); !errors.Is(err, orbit.ErrLapsed) {
			t.Errorf("Release of the old guard = %v, want ErrLapsed", err)
		}
		if h := contestRefused[contestJob](t, b, "x", "beta"); h.Token != g.Token() || h.Left < 59*time.Minute {
			t.Errorf("holder = %+v, want token %d for an hour", h, g.Token())
		}
		if list, _ := a.Holders(); len(list) != 1 {
			t.Errorf("%d claims stand, want 1", len(list))
		}
		if err := g.Release(); err != nil {
			t.Fatal(err)
		}
		contestClaim[contestJob](t, b, "x", "beta", time.Minute).Release()
	})
}

func TestClaimIsTakenUpByNobodyElse(t *testing.T) {
	name := fleetName(t)
	a, b := contestJoin(t, name, orbit.Options{}), contestJoin(t, name, orbit.Options{})
	g := contestClaim[contestJob](t, a, "x", "alpha", time.Minute)
	contestRefused[contestJob](t, b, "x", "alpha") // the same label in another member
	contestRefused[contestJob](t, a, "x", "alph")
	nobody := contestClaim[contestJob](t, a, "y", "", time.Minute)
	contestRefused[contestJob](t, a, "y", "") // no label names nobody
	if !g.Valid() || !nobody.Valid() {
		t.Errorf("valid: %v, %v; want true, true", g.Valid(), nobody.Valid())
	}
}

func TestConcurrentClaimsOfOneOwnerLeaveOneGuard(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		for range 50 {
			var guards [4]*orbit.Guard
			var wg sync.WaitGroup
			for i := range guards {
				spawn(&wg, func() {
					g, err := orbit.Claim[contestJob](a, "x", "alpha", time.Minute)
					// One that lost the processor for 100 ms amid its claim is in the way.
					if err != nil && !errors.Is(err, orbit.ErrHeld) && !errors.Is(err, orbit.ErrBusy) {
						t.Error(err)
					}
					guards[i] = g
				})
			}
			wg.Wait()
			valid, last := 0, uint64(0)
			for _, g := range guards {
				if g != nil {
					last = max(last, g.Token())
				}
			}
			for _, g := range guards {
				if g == nil {
					continue
				}
				if g.Valid() {
					valid++
					if g.Token() != last {
						t.Errorf("the guard of token %d is valid, that of %d is not", g.Token(), last)
					}
				}
				g.Release()
			}
			if valid != 1 {
				t.Fatalf("%d guards are valid, want 1", valid)
			}
		}
	})
}

func TestCloseOfTheFleetReleasesItsGuards(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{Size: 2})
	a := contestOpen(t, f)
	b := contestJoin(t, name, orbit.Options{})
	var guards []*orbit.Guard
	for i := range 20 {
		guards = append(guards, contestClaim[contestJob](t, a, fmt.Sprint(i), "alpha", math.MaxInt64))
	}
	ctx := guards[0].Context()
	f.Close()
	contestEnded(t, ctx, orbit.ErrClosed)
	contestEnded(t, guards[1].Context(), orbit.ErrClosed)
	for i, g := range guards {
		if g.Valid() {
			t.Errorf("guard %d is valid", i)
		}
		if err := g.Renew(time.Minute); !errors.Is(err, orbit.ErrClosed) {
			t.Errorf("Renew = %v, want ErrClosed", err)
		}
		if err := g.Release(); err != nil {
			t.Errorf("Release = %v", err)
		}
		contestClaim[contestJob](t, b, fmt.Sprint(i), "beta", time.Minute)
	}
	if _, err := orbit.Claim[contestJob](a, "x", "alpha", time.Minute); !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("Claim = %v, want ErrClosed", err)
	}
	if _, _, err := orbit.HolderOf[contestJob](a, "0"); !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("HolderOf = %v, want ErrClosed", err)
	}
	if _, err := a.Holders(); !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("Holders = %v, want ErrClosed", err)
	}
	if err := orbit.WaitFree[contestJob](context.Background(), a, "0"); !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("WaitFree = %v, want ErrClosed", err)
	}
	if _, err := orbit.OpenContest(f); !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("OpenContest = %v, want ErrClosed", err)
	}
}

func TestCloseWhileOthersClaimLeavesNothingHeld(t *testing.T) {
	name := fleetName(t)
	b := contestJoin(t, name, orbit.Options{})
	for range 30 {
		f := join(t, name, orbit.Options{Size: 2})
		a := contestOpen(t, f)
		var wg sync.WaitGroup
		for i := range 4 {
			spawn(&wg, func() {
				for n := 0; ; n++ {
					g, err := orbit.Claim[contestJob](a, fmt.Sprint(i, n%8), "", time.Hour)
					if errors.Is(err, orbit.ErrClosed) {
						return
					}
					if err != nil && !errors.Is(err, orbit.ErrHeld) {
						t.Error(err)
						return
					}
					if n%3 == 0 && g != nil {
						g.Release()
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		f.Close()
		wg.Wait()
		if list, err := b.Holders(); err != nil || len(list) != 0 {
			t.Fatalf("after Close %v are held, %v", list, err)
		}
	}
}

// contestSmall makes the smallest table: for 64 claims.
var contestSmall = orbit.Options{Rings: map[uint8]orbit.Geometry{orbit.KindContest: {Capacity: 1}}}

func TestFullTableIsAnErrorAndLosesNoClaim(t *testing.T) {
	contestEach(t, contestSmall, func(t *testing.T, a, b *orbit.Contest) {
		if a.Capacity() != 64 {
			t.Fatalf("Capacity() = %d, want 64", a.Capacity())
		}
		var guards []*orbit.Guard
		for i := range a.Capacity() {
			c := a
			if i%2 == 1 {
				c = b
			}
			guards = append(guards, contestClaim[contestJob](t, c, fmt.Sprint(i), "o", time.Hour))
		}
		for i := range 100 {
			_, err := orbit.Claim[contestJob](b, fmt.Sprint("more", i), "o", time.Hour)
			if !errors.Is(err, orbit.ErrTableFull) {
				t.Fatalf("claim beyond the capacity: %v, want ErrTableFull", err)
			}
			if i == 0 && !strings.Contains(err.Error(), "all 64 claims") {
				t.Errorf("error %q does not name the size", err)
			}
		}
		contestRefused[contestJob](t, a, "1", "other")
		for i, g := range guards {
			if !g.Valid() {
				t.Errorf("guard %d was lost", i)
			}
			if err := g.Renew(time.Hour); err != nil {
				t.Errorf("Renew in a full table: %v", err)
			}
		}
		if g := contestClaim[contestJob](t, a, "0", "o", time.Hour); !g.Valid() || guards[0].Valid() {
			t.Error("an owner cannot take up its claim in a full table")
		}
		guards[7].Release()
		contestClaim[contestJob](t, a, "more", "o", time.Hour)
	})
}

func TestChurnLosesNoClaim(t *testing.T) {
	contestEach(t, contestSmall, func(t *testing.T, a, b *orbit.Contest) {
		var guards []*orbit.Guard
		for i := range 40 {
			guards = append(guards, contestClaim[contestJob](t, a, fmt.Sprint("kept", i), "alpha", time.Hour))
		}
		for i := range 20000 {
			g, err := orbit.Claim[contestJob](b, fmt.Sprint(i), "beta", time.Hour)
			if err != nil {
				t.Fatalf("claim %d: %v", i, err)
			}
			g.Release()
		}
		for i, g := range guards {
			if !g.Valid() {
				t.Errorf("guard %d was lost", i)
			}
			if h := contestRefused[contestJob](t, b, fmt.Sprint("kept", i), "beta"); h.Token != g.Token() {
				t.Errorf("holder of %d = %+v, want token %d", i, h, g.Token())
			}
		}
	})
}

func TestForgottenGuardsDoNotFillTheTable(t *testing.T) {
	contestEach(t, contestSmall, func(t *testing.T, a, b *orbit.Contest) {
		for i := range 10 * a.Capacity() {
			label := fmt.Sprint(i)
			for {
				_, err := orbit.Claim[contestJob](a, label, "o", 5*time.Millisecond)
				if err == nil {
					break
				}
				if !errors.Is(err, orbit.ErrTableFull) && !errors.Is(err, orbit.ErrLapsed) {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond) // until the first are over
			}
		}
		// Their records are free once their member has looked at them.
		patience := time.Now().Add(20 * time.Second)
		for i := range b.Capacity() {
			_, err := orbit.Claim[contestJob](b, fmt.Sprint("new", i), "o", time.Hour)
			for ; errors.Is(err, orbit.ErrTableFull) && time.Now().Before(patience); time.Sleep(time.Millisecond) {
				_, err = orbit.Claim[contestJob](b, fmt.Sprint("new", i), "o", time.Hour)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestClaimChecksItsArguments(t *testing.T) {
	c := contestLocal(t, orbit.Options{})
	label, owner := strings.Repeat("l", orbit.MaxLabel), strings.Repeat("o", orbit.MaxOwner)
	g := contestClaim[contestJob](t, c, label, owner, math.MaxInt64)
	if h, _ := contestHolder[contestJob](t, c, label); h.Label != label || h.Owner != owner || h.Left < 1<<62 {
		t.Errorf("holder = %+v, want the longest labels and no end", h)
	}
	g.Release()
	tests := []struct {
		name         string
		label, owner string
		ttl          time.Duration
		want         error
		text         string
	}{
		{"long label", label + "l", "o", time.Minute, orbit.ErrTooLarge, "label of 97 bytes, limit 96"},
		{"long owner", "l", owner + "o", time.Minute, orbit.ErrTooLarge, "owner of 49 bytes, limit 48"},
		{"zero TTL", "l", "o", 0, orbit.ErrTTL, "TTL of 0s, want more than 0"},
		{"negative TTL", "l", "o", -time.Second, orbit.ErrTTL, "TTL of -1s, want more than 0"},
		{"impossible TTL", "l", "o", 1, orbit.ErrLapsed, "TTL of 1ns ended before"},
	}
	for _, tt := range tests {
		g, err := orbit.Claim[contestJob](c, tt.label, tt.owner, tt.ttl)
		if g != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, %v; want %q", tt.name, g, err, tt.text)
		}
	}
	if _, _, err := orbit.HolderOf[contestJob](c, label+"l"); !errors.Is(err, orbit.ErrTooLarge) {
		t.Errorf("HolderOf of a long label: %v, want ErrTooLarge", err)
	}
	if err := orbit.WaitFree[contestJob](context.Background(), c, label+"l"); !errors.Is(err, orbit.ErrTooLarge) {
		t.Errorf("WaitFree of a long label: %v, want ErrTooLarge", err)
	}
	g = contestClaim[contestJob](t, c, "l", "o", time.Minute)
	if err := g.Renew(0); !errors.Is(err, orbit.ErrTTL) || !g.Valid() {
		t.Errorf("Renew(0) = %v, valid %v; want ErrTTL, true", err, g.Valid())
	}
	if list, _ := c.Holders(); len(list) != 1 {
		t.Errorf("%d claims stand after the failed ones, want 1", len(list))
	}
}

type contestReserved struct{}

func (contestReserved) OrbitKind() uint8 { return 222 }

func TestClaimRefusesTypesThatNameNoSubject(t *testing.T) {
	c := contestLocal(t, orbit.Options{})
	if _, err := orbit.Claim[contestReserved](c, "x", "o", time.Minute); !errors.Is(err, orbit.ErrKind) {
		t.Errorf("reserved kind: %v, want ErrKind", err)
	}
	if _, err := orbit.Claim[*contestJob](c, "x", "o", time.Minute); !errors.Is(err, orbit.ErrType) {
		t.Errorf("pointer: %v, want ErrType", err)
	}
	if _, _, err := orbit.HolderOf[orbit.Typed](c, "x"); !errors.Is(err, orbit.ErrType) {
		t.Errorf("interface: %v, want ErrType", err)
	}
}

func TestContestIsOpenedOnce(t *testing.T) {
	f := local(t, orbit.Options{})
	a := contestOpen(t, f)
	if b, err := orbit.OpenContest(f); a != b || err != nil {
		t.Errorf("OpenContest again = %p, %v; want %p", b, err, a)
	}
}

func TestContestRefusesAPayloadLimitBelowItsFrames(t *testing.T) {
	f, err := orbit.Local("local", orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{orbit.KindContest: {Capacity: 8, PayloadLimit: 100}}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := orbit.OpenContest(f); !errors.Is(err, orbit.ErrGeometry) || !strings.Contains(err.Error(), "payload limit 100, want at least 169") {
		t.Errorf("OpenContest = %v, want ErrGeometry", err)
	}
}

func TestObserverSeesHoldersAndChangesNothing(t *testing.T) {
	name := fleetName(t)
	f, err := orbit.Join(name, orbit.Options{Size: 1})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if _, err := orbit.OpenContest(o); !errors.Is(err, orbit.ErrNotExist) {
		t.Errorf("OpenContest before any member = %v, want ErrNotExist", err)
	}
	a, err := orbit.OpenContest(f)
	if err != nil {
		t.Fatal(err)
	}
	g := contestClaim[contestJob](t, a, "x", "alpha", time.Minute)
	b, err := orbit.OpenContest(o)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(segmentPath(name, int(orbit.KindContest)))
	if err != nil {
		t.Fatal(err)
	}
	if h, held := contestHolder[contestJob](t, b, "x"); !held || h.Token != g.Token() {
		t.Errorf("HolderOf = %+v, %v; want token %d", h, held, g.Token())
	}
	if list, err := b.Holders(); err != nil || len(list) != 1 {
		t.Errorf("Holders = %v, %v; want one", list, err)
	}
	if _, err := orbit.Claim[contestJob](b, "y", "beta", time.Minute); !errors.Is(err, orbit.ErrReadOnly) {
		t.Errorf("Claim = %v, want ErrReadOnly", err)
	}
	after, err := os.ReadFile(segmentPath(name, int(orbit.KindContest)))
	if err != nil || string(before) != string(after) {
		t.Errorf("the segment changed under an observer (%v)", err)
	}
	done := make(chan error, 1)
	go func() { done <- orbit.WaitFree[contestJob](context.Background(), b, "x") }()
	time.Sleep(5 * time.Millisecond)
	g.Release()
	if err := <-done; err != nil {
		t.Errorf("WaitFree = %v", err)
	}
}

func TestClaimsAndReleasesAreAnnounced(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		news := b.Ring().Oldest()
		g := contestClaim[contestJob](t, a, "x", "alpha", time.Minute)
		g.Renew(time.Hour)
		h := contestClaim[contestJob](t, a, "x", "alpha", time.Minute)
		contestRefused[contestJob](t, b, "x", "beta")
		h.Release()
		h.Release()
		g.Release()
		i := contestClaim[contestShard](t, a, "y", "gamma", shortTTL)
		contestEnded(t, i.Context(), orbit.ErrLapsed)
		want := []struct {
			change orbit.ClaimChange
			kind   uint8
			label  string
			owner  string
			token  uint64
		}{
			{orbit.Claimed, 12, "x", "alpha", g.Token()},
			{orbit.Renewed, 12, "x", "alpha", g.Token()},
			{orbit.Claimed, 12, "x", "alpha", h.Token()},
			{orbit.Released, 12, "x", "alpha", h.Token()},
			{orbit.Claimed, 13, "y", "gamma", i.Token()},
			{orbit.Fell, 13, "y", "gamma", i.Token()},
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		for f, err := range news.Frames(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			e, err := orbit.DecodeClaim(f)
			if err != nil {
				t.Fatal(err)
			}
			got := e.Holder
			w := want[0]
			if e.Change != w.change || got.Kind != w.kind || got.Label != w.label || got.Owner != w.owner || got.Token != w.token || got.Node != 1 || got.PID != os.Getpid() {
				t.Errorf("%v %+v; want %+v", e.Change, got, w)
			}
			if want = want[1:]; len(want) == 0 {
				break
			}
		}
		if _, _, err := news.Next(nil); !errors.Is(err, orbit.ErrNoFrame) {
			t.Errorf("there is more to hear: %v", err)
		}
	})
}

func TestDecodeClaimRefusesOtherFrames(t *testing.T) {
	for _, f := range []orbit.Frame{{}, {Kind: 1}, {Kind: 1, Payload: make([]byte, 24)}, {Kind: 5, Payload: make([]byte, 25)}, {Kind: 0, Payload: make([]byte, 25)}, {Kind: 1, Payload: make([]byte, 26)}} {
		if e, err := orbit.DecodeClaim(f); !errors.Is(err, orbit.ErrClaimEvent) {
			t.Errorf("DecodeClaim(%+v) = %+v, %v; want ErrClaimEvent", f, e, err)
		}
	}
	for change, want := range map[orbit.ClaimChange]string{orbit.Claimed: "claimed", orbit.Renewed: "renewed", orbit.Released: "released", orbit.Fell: "fell", 9: "change 9"} {
		if got := change.String(); got != want {
			t.Errorf("ClaimChange(%d) = %q, want %q", change, got, want)
		}
	}
}

func TestWaitFreeHearsTheRelease(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		if err := orbit.WaitFree[contestJob](context.Background(), b, "x"); err != nil {
			t.Fatalf("WaitFree of a free subject = %v", err)
		}
		g := contestClaim[contestJob](t, a, "x", "alpha", time.Hour)
		const waiters = 100
		done := make(chan error, waiters)
		for range waiters {
			go func() { done <- orbit.WaitFree[contestJob](context.Background(), b, "x") }()
		}
		time.Sleep(5 * time.Millisecond)
		select {
		case err := <-done:
			t.Fatalf("WaitFree of a held subject returned %v", err)
		default:
		}
		g.Release()
		for range waiters {
			if err := <-done; err != nil {
				t.Errorf("WaitFree = %v", err)
			}
		}
	})
}

func TestWaitFreeEndsWithTheTTLTheContextAndTheFleet(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		contestClaim[contestJob](t, a, "short", "alpha", 30*time.Millisecond)
		if err := orbit.WaitFree[contestJob](context.Background(), b, "short"); err != nil {
			t.Errorf("WaitFree = %v", err)
		}
		g := contestClaim[contestJob](t, a, "x", "alpha", time.Hour)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if err := orbit.WaitFree[contestJob](ctx, b, "x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitFree = %v, want DeadlineExceeded", err)
		}
		if !g.Valid() {
			t.Error("waiting ended the guard")
		}
	})
	f := local(t, orbit.Options{})
	c := contestOpen(t, f)
	contestClaim[contestJob](t, c, "x", "alpha", time.Hour)
	done := make(chan error, 1)
	go func() { done <- orbit.WaitFree[contestJob](context.Background(), c, "x") }()
	time.Sleep(5 * time.Millisecond)
	f.Close()
	// The guard is released first, so either may be heard.
	if err := <-done; err != nil && !errors.Is(err, orbit.ErrClosed) {
		t.Errorf("WaitFree = %v, want nil or ErrClosed", err)
	}
}

func TestGuardsCostNoGoroutines(t *testing.T) {
	c := contestLocal(t, orbit.Options{})
	before := runtime.NumGoroutine()
	var guards []*orbit.Guard
	for i := range 1000 {
		g := contestClaim[contestJob](t, c, fmt.Sprint(i), "alpha", time.Hour)
		g.Context()
		guards = append(guards, g)
	}
	if n := runtime.NumGoroutine(); n > before+2 {
		t.Errorf("%d goroutines with 1000 guards, %d before", n, before)
	}
	for _, g := range guards {
		g.Release()
		contestEnded(t, g.Context(), context.Canceled)
	}
}

func TestManyGuardsLapseEachAtItsTime(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		var wg sync.WaitGroup
		for i := range 200 {
			ttl := shortTTL + time.Duration((i*37)%100)*time.Millisecond
			start := time.Now()
			g := contestClaim[contestJob](t, a, fmt.Sprint(i), "alpha", ttl)
			spawn(&wg, func() {
				contestEnded(t, g.Context(), orbit.ErrLapsed)
				if d := time.Since(start); d < ttl {
					t.Errorf("the context of a guard of %v ended after %v", ttl, d)
				}
			})
		}
		wg.Wait()
		if list, err := b.Holders(); err != nil || len(list) != 0 {
			t.Errorf("Holders = %v, %v; want none", list, err)
		}
	})
}

func TestOneGuardAmongManyGoroutines(t *testing.T) {
	contestEach(t, orbit.Options{}, func(t *testing.T, a, b *orbit.Contest) {
		var inside, won atomic.Int64
		var last atomic.Uint64
		var wg sync.WaitGroup
		for i := range 8 {
			c := a
			if i%2 == 1 {
				c = b
			}
			spawn(&wg, func() {
				for range 1000 {
					g, err := orbit.Claim[contestJob](c, "x", "", time.Hour)
					if errors.Is(err, orbit.ErrHeld) {
						runtime.Gosched()
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d guards at once", n)
					}
					if before := last.Swap(g.Token()); before >= g.Token() {
						t.Errorf("token %d after %d", g.Token(), before)
					}
					won.Add(1)
					inside.Add(-1)
					if err := g.Release(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if won.Load() == 0 {
			t.Error("nobody ever won")
		}
	})
}

// contestPoke changes the table of the smallest contest behind its back. The
// table lies behind a page of header and one slot.
func contestPoke(t testing.TB, fleet string, change func(table []byte)) {
	t.Helper()
	f, err := os.OpenFile(segmentPath(fleet, int(orbit.KindContest)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := make([]byte, 8*(16+128+64+64*24))
	const off = 4096 + 256
	if _, err := f.ReadAt(table, off); err != nil {
		t.Fatal(err)
	}
	change(table)
	if _, err := f.WriteAt(table, off); err != nil {
		t.Fatal(err)
	}
}

func TestOrderNumbersWrapWithoutATrace(t *testing.T) {
	name := fleetName(t)
	a, b := contestJoin(t, name, contestSmall), contestJoin(t, name, contestSmall)
	for _, near := range []uint64{1 << 32, 1 << 47, 1 << 48, 0} {
		contestPoke(t, name, func(table []byte) { binary.NativeEndian.PutUint64(table, near-200) })
		var inside atomic.Int64
		var wg sync.WaitGroup
		for _, c := range []*orbit.Contest{a, b, a, b} {
			spawn(&wg, func() {
				for range 200 {
					g, err := orbit.Claim[contestJob](c, "x", "", time.Hour)
					if errors.Is(err, orbit.ErrHeld) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d guards at once", n)
					}
					if !g.Valid() {
						t.Error("the guard is not valid")
					}
					inside.Add(-1)
					g.Release()
				}
			})
		}
		wg.Wait()
	}
}

func TestTruncatedContestIsAnError(t *testing.T) {
	name := fleetName(t)
	a := contestJoin(t, name, orbit.Options{})
	g := contestClaim[contestJob](t, a, "x", "alpha", time.Hour)
	ctx := g.Context()
	if err := os.Truncate(segmentPath(name, int(orbit.KindContest)), 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := orbit.Claim[contestJob](a, "y", "alpha", time.Hour); !errors.Is(err, orbit.ErrDamaged) {
		t.Errorf("Claim = %v, want ErrDamaged", err)
	}
	if _, _, err := orbit.HolderOf[contestJob](a, "x"); !errors.Is(err, orbit.ErrDamaged) {
		t.Errorf("HolderOf = %v, want ErrDamaged", err)
	}
	if _, err := a.Holders(); !errors.Is(err, orbit.ErrDamaged) {
		t.Errorf("Holders = %v, want ErrDamaged", err)
	}
	if g.Valid() {
		t.Error("a guard in a truncated segment is valid")
	}
	contestEnded(t, ctx, orbit.ErrLapsed)
	if err := g.Renew(time.Hour); err == nil {
		t.Error("Renew succeeded")
	}
	g.Release()
}

func ExampleContest() {
	fleet, err := orbit.Local("example", orbit.Options{Size: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer fleet.Close()
	contest, err := orbit.OpenContest(fleet)
	if err != nil {
		fmt.Println(err)
		return
	}

	// The earliest claim has it.
	guard, err := orbit.Claim[contestJob](contest, "nightly", "worker-1", time.Minute)
	fmt.Println("worker-1 holds it:", err == nil && guard.Valid())

	// The others are told whom to yield to.
	_, err = orbit.Claim[contestJob](contest, "nightly", "worker-2", time.Minute)
	var held *orbit.HeldError
	if errors.As(err, &held) {
		fmt.Println("worker-2 yields to", held.Holder.Owner)
	}

	// Work stops when the guard does not hold any more.
	ctx := guard.Context()
	guard.Release()
	<-ctx.Done()

	next, err := orbit.Claim[contestJob](contest, "nightly", "worker-2", time.Minute)
	if err == nil {
		fmt.Println("worker-2 holds it with a larger token:", next.Token() > guard.Token())
	}
	// Output:
	// worker-1 holds it: true
	// worker-2 yields to worker-1
	// worker-2 holds it with a larger token: true
}

// A holder that was stopped for longer than its TTL may wake up and write. The
// resource refuses tokens smaller than the largest it has seen.
func ExampleGuard_Token() {
	fleet, err := orbit.Local("example", orbit.Options{Size: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer fleet.Close()
	contest, err := orbit.OpenContest(fleet)
	if err != nil {
		fmt.Println(err)
		return
	}

	largest := uint64(0)
	write := func(token uint64) string {
		if token < largest {
			return "refused"
		}
		largest = token
		return "written"
	}

	slow, _ := orbit.Claim[contestShard](contest, "7", "slow", 20*time.Millisecond)
	orbit.WaitFree[contestShard](context.Background(), contest, "7")
	quick, _ := orbit.Claim[contestShard](contest, "7", "quick", time.Minute)
	fmt.Println("quick:", write(quick.Token()))
	fmt.Println("slow:", write(slow.Token()))
	// Output:
	// quick: written
	// slow: refused
}

// Who needs the subject itself, and not only that somebody has it, waits and
// claims again.
func ExampleWaitFree() {
	fleet, err := orbit.Local("example", orbit.Options{Size: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer fleet.Close()
	contest, err := orbit.OpenContest(fleet)
	if err != nil {
		fmt.Println(err)
		return
	}
	first, _ := orbit.Claim[contestJob](contest, "nightly", "worker-1", time.Minute)
	time.AfterFunc(10*time.Millisecond, func() { first.Release() })

	ctx := context.Background()
	guard, err := orbit.Claim[contestJob](contest, "nightly", "worker-2", time.Minute)
	for errors.Is(err, orbit.ErrHeld) {
		if err = orbit.WaitFree[contestJob](ctx, contest, "nightly"); err == nil {
			guard, err = orbit.Claim[contestJob](contest, "nightly", "worker-2", time.Minute)
		}
	}
	fmt.Println(err == nil && guard.Valid())
	// Output: true
}

func BenchmarkContest(b *testing.B) {
	b.Run("atomic add", func(b *testing.B) {
		var x uint64
		for range b.N {
			atomic.AddUint64(&x, 1)
		}
	})
	for _, mode := range []string{"local", "shared"} {
		var c *orbit.Contest
		if mode == "local" {
			c = contestLocal(b, orbit.Options{})
		} else {
			c = contestJoin(b, fleetName(b), orbit.Options{})
		}
		b.Run(mode+"/claim and release", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				g, err := orbit.Claim[contestJob](c, "nightly", "worker", time.Minute)
				if err != nil {
					b.Fatal(err)
				}
				g.Release()
			}
		})
		g := contestClaim[contestJob](b, c, "held", "worker", math.MaxInt64)
		b.Run(mode+"/valid", func(b *testing.B) {
			for range b.N {
				g.Valid()
			}
		})
		b.Run(mode+"/renew", func(b *testing.B) {
			for range b.N {
				g.Renew(time.Minute)
			}
		})
		b.Run(mode+"/yield", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				contestRefused[contestJob](b, c, "held", "other")
			}
		})
		b.Run(mode+"/holder", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				contestHolder[contestJob](b, c, "held")
			}
		})
	}
}

// ---------------------------------------------------------------------------
// Events

func events(t testing.TB, f *orbit.Fleet) *orbit.EventBus {
	t.Helper()
	b, err := orbit.Events(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tinyBus has eight slots of 64 bytes.
var tinyBus = orbit.Options{Rings: map[uint8]orbit.Geometry{orbit.KindEvents: {Capacity: 8, PayloadLimit: 64}}}

func TestEventArrivesWithTopicTimeAndPayload(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		b := events(t, f)
		s := b.SubscribeNow()
		for n := range 70 {
			topic, payload := strings.Repeat("t", 1+n), strings.Repeat("p", n)
			before := orbit.Now()
			id, err := b.Publish(topic, []byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			var ev orbit.Event
			if err := s.Poll(&ev); err != nil {
				t.Fatal(err)
			}
			if ev.ID != id || string(ev.Topic) != topic || string(ev.Payload) != payload || ev.Lag.Total() != 0 || ev.Filtered != 0 {
				t.Fatalf("got %v %q %q, lag %+v", ev.ID, ev.Topic, ev.Payload, ev.Lag)
			}
			// A burst shares a stamp for a millisecond, if nothing comes between.
			if early := time.Duration(before - ev.Stamp); early > time.Second || ev.Age() < 0 {
				t.Errorf("stamped %v before it was published, age %v", early, ev.Age())
			}
		}
		if err := s.Poll(new(orbit.Event)); !errors.Is(err, orbit.ErrNoFrame) {
			t.Errorf("got %v at the end", err)
		}
	})
}

func TestBusWithoutRoomForATopicIsRefused(t *testing.T) {
	f := local(t, orbit.Options{Rings: map[uint8]orbit.Geometry{orbit.KindEvents: {Capacity: 4}}})
	_, err := orbit.Events(f)
	wantErr(t, "a bus with slots of no bytes", err, orbit.ErrGeometry)
}

func TestEventLimitsAreNamed(t *testing.T) {
	eachFleet(t, tinyBus, func(t *testing.T, f *orbit.Fleet) {
		b := events(t, f)
		_, err := b.Publish("", nil)
		wantErr(t, "empty topic", err, orbit.ErrTopic)
		_, err = b.Publish(strings.Repeat("x", 256), nil)
		wantErr(t, "long topic", err, orbit.ErrTopic)
		wantErr(t, "long topic", err, orbit.ErrTooLarge)
		_, err = b.Publish("topic", make([]byte, 60))
		wantErr(t, "long payload", err, orbit.ErrTooLarge)
		if !strings.Contains(err.Error(), "65 bytes, limit 64") {
			t.Errorf("got %q, want the sizes", err)
		}
		if _, err := b.Publish("topic", make([]byte, 59)); err != nil {
			t.Errorf("the longest event: %v", err)
		}
	})
}

func TestSubscriberReportsLagWhereItHappened(t *testing.T) {
	eachFleet(t, tinyBus, func(t *testing.T, f *orbit.Fleet) {
		b := events(t, f)
		s := b.SubscribeOldest()
		for i := range 20 {
			b.Publish("n", fmt.Append(nil, i))
		}
		b.Ring().Mint()
		b.Publish("n", []byte("20")) // 8 slots: 14 to 19, the hole, 20
		var ev orbit.Event
		for want := 14; want <= 20; want++ {
			if err := s.Poll(&ev); err != nil {
				t.Fatal(err)
			}
			lag := orbit.Gap{}
			if want == 14 {
				lag.Overwritten = 14
			}
			if want == 20 {
				lag.Holes = 1
			}
			if string(ev.Payload) != fmt.Sprint(want) || ev.Lag != lag {
				t.Fatalf("got %q after %+v, want %d after %+v", ev.Payload, ev.Lag, want, lag)
			}
		}
		if tally := s.Tally(); tally.Delivered != 7 || tally.Total() != 15 || s.Position().Counter != 22 {
			t.Errorf("got tally %+v at %d", tally, s.Position().Counter)
		}
	})
}

func TestFiltersSelectTopicsAndCountTheRest(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		b := events(t, f)
		exact, prefix, either := b.SubscribeNow(orbit.Topic("job.done")), b.SubscribeNow(orbit.TopicPrefix("job.")), b.SubscribeNow(orbit.Topic("load"), orbit.TopicPrefix("job.d"))
		topics := []string{"job.start", "load", "job.done", "job", "job.done.2", "job.done"}
		for _, topic := range topics {
			b.Publish(topic, nil)
		}
		for _, c := range []struct {
			sub      *orbit.Subscriber
			want     string
			filtered uint64
		}{
			{exact, "job.done job.done", 4},
			{prefix, "job.start job.done job.done.2 job.done", 2},
			{either, "load job.done job.done.2 job.done", 2},
		} {
			var got []string
			var ev orbit.Event
			for c.sub.Poll(&ev) == nil {
				got = append(got, string(ev.Topic))
			}
			tally := c.sub.Tally()
			if strings.Join(got, " ") != c.want || tally.Filtered != c.filtered || tally.Delivered+tally.Filtered+tally.Total() != uint64(len(topics)) {
				t.Errorf("got %q, tally %+v, want %q and %d filtered", got, tally, c.want, c.filtered)
			}
		}
	})
}

func TestSubscriberGoesOnFromASavedPosition(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	b := events(t, f)
	s := b.SubscribeOldest()
	b.Publish("a", []byte("1"))
	b.Publish("a", []byte("2"))
	var ev orbit.Event
	s.Poll(&ev)
	saved := s.Position()
	sibling := events(t, join(t, name, orbit.Options{}))
	again, err := sibling.SubscribeAt(saved)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Poll(&ev); err != nil || string(ev.Payload) != "2" || ev.Lag.Total() != 0 {
		t.Errorf("got %q after %+v, error %v, want 2", ev.Payload, ev.Lag, err)
	}
	_, err = sibling.SubscribeAt(orbit.Position{Fleet: saved.Fleet + 1, Counter: saved.Counter})
	wantErr(t, "another fleet's position", err, orbit.ErrNotExist)
}

func TestJoinThatMustFindAFleet(t *testing.T) {
	name := fleetName(t)
	_, err := orbit.Join(name, orbit.Options{Size: 1, MustExist: true})
	wantErr(t, "a fleet that is not there", err, orbit.ErrNotExist)
	if _, err := os.Stat(segmentPath(name, 0)); err == nil {
		t.Error("the fleet was made")
	}
	join(t, name, orbit.Options{})
	f, err := orbit.Join(name, orbit.Options{Size: 1, MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestIncarnationTellsAFleetFromTheOneBefore(t *testing.T) {
	name := fleetName(t)
	first, sibling := join(t, name, orbit.Options{}), join(t, name, orbit.Options{})
	observer, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer observer.Close()
	n := first.Incarnation()
	if n == 0 || sibling.Incarnation() != n || observer.Incarnation() != n {
		t.Errorf("a fleet's incarnations are %x, %x and %x, want one that is not 0", n, sibling.Incarnation(), observer.Incarnation())
	}
	saved := events(t, first).SubscribeNow().Position()
	if saved.Fleet != n {
		t.Errorf("a position is of fleet %x, want %x", saved.Fleet, n)
	}
	first.Close()
	sibling.Close()
	if err := orbit.Remove(name); err != nil {
		t.Fatal(err)
	}
	again := join(t, name, orbit.Options{})
	if again.Incarnation() == n {
		t.Errorf("the fleet removed and the one after it are both incarnation %x", n)
	}
	_, err = events(t, again).SubscribeAt(saved)
	wantErr(t, "a position of the fleet removed", err, orbit.ErrNotExist)
	if a, b := local(t, orbit.Options{}), local(t, orbit.Options{}); a.Incarnation() == b.Incarnation() {
		t.Error("two local fleets are one incarnation")
	}
}

func TestForeignFrameAmongEventsIsReported(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, tinyBus)
	b := events(t, f)
	s := b.SubscribeNow()
	b.Ring().Publish(200, 0, []byte("short"))
	b.Publish("ok", nil)
	var ev orbit.Event
	wantErr(t, "a frame that is no event", s.Poll(&ev), orbit.ErrDamaged)
	if err := s.Poll(&ev); err != nil || string(ev.Topic) != "ok" || ev.Lag != (orbit.Gap{Lost: 1}) {
		t.Errorf("got %q after %+v, error %v, want ok after one lost", ev.Topic, ev.Lag, err)
	}

	// An iterator goes on behind it, also if a batch before it met the frame.
	b.Publish("before", nil)
	b.Ring().Publish(200, 0, nil)
	b.Ring().Publish(200, 0, nil)
	b.Publish("behind", nil)
	if n, err := s.PollBatch(make([]orbit.Event, 4)); n != 1 || err != nil {
		t.Errorf("got a batch of %d, error %v, want the one event before the frame", n, err)
	}
	// The end of its context is the last, though the frame was not told of yet.
	ended, end := context.WithCancel(t.Context())
	end()
	turns := 0
	for _, err := range s.Events(ended) {
		if turns++; turns > 1 {
			t.Fatalf("the iterator goes on after its context ended: %v", err)
		}
		wantErr(t, "the iterator of an ended context", err, context.Canceled)
	}
	damaged := 0
	for ev, err := range s.Events(t.Context()) {
		if err == nil {
			if string(ev.Topic) != "behind" || damaged != 2 {
				t.Errorf("got %q after %d frames that are no events, want behind after 2", ev.Topic, damaged)
			}
			return
		}
		wantErr(t, "the iterator", err, orbit.ErrDamaged)
		damaged++
	}
	t.Errorf("the iterator ended after %d errors", damaged)
}

func TestEventsStreamAcrossFleets(t *testing.T) {
	name := fleetName(t)
	publisher, reader := events(t, join(t, name, orbit.Options{})), events(t, join(t, name, orbit.Options{}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := reader.SubscribeNow()
	go func() {
		for i := range 50 {
			publisher.Publish("n", fmt.Append(nil, i))
			time.Sleep(100 * time.Microsecond)
		}
	}()
	n := 0
	var last error
	for ev, err := range s.Events(ctx) {
		if last = err; err != nil {
			continue
		}
		if string(ev.Payload) != fmt.Sprint(n) {
			t.Fatalf("got %q, want %d", ev.Payload, n)
		}
		if n++; n == 50 {
			cancel()
		}
	}
	if n != 50 || !errors.Is(last, context.Canceled) {
		t.Errorf("got %d events, last error %v", n, last)
	}
}

// TestTenThousandSleepersCostGoroutines has ten thousand subscribers asleep
// on one shared bus, and wakes them all with one event.
func TestTenThousandSleepersCostGoroutines(t *testing.T) {
	b := events(t, join(t, fleetName(t), orbit.Options{}))
	before := threads(t)
	var asleep, woken sync.WaitGroup
	for range 10_000 {
		s := b.SubscribeNow()
		asleep.Add(1)
		spawn(&woken, func() {
			asleep.Done()
			var ev orbit.Event
			if err := s.Next(t.Context(), &ev); err != nil || string(ev.Topic) != "wake" {
				t.Errorf("got %q, error %v", ev.Topic, err)
			}
		})
	}
	asleep.Wait()
	time.Sleep(50 * time.Millisecond)
	if now := threads(t); now > before+8+runtime.GOMAXPROCS(0) {
		t.Errorf("got %d threads, %d before", now, before)
	}
	b.Publish("wake", nil)
	woken.Wait()
}

func TestEventPathsDoNotAllocate(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		b := events(t, f)
		s, payload := b.SubscribeNow(), make([]byte, 64)
		var ev orbit.Event
		batch := make([]orbit.Event, 8)
		work := func() {
			for range 9 {
				b.Publish("topic", payload)
			}
			s.Poll(&ev)
			s.PollBatch(batch)
		}
		work()
		if n := testing.AllocsPerRun(100, work); n != 0 {
			t.Errorf("got %v allocations", n)
		}
	})
}

// What just happened, for whoever wants to know.
func ExampleEventBus() {
	fleet, _ := orbit.Local("web", orbit.Options{Size: 4})
	defer fleet.Close()
	bus, _ := orbit.Events(fleet)
	jobs := bus.SubscribeNow(orbit.TopicPrefix("job."))
	bus.Publish("job.started", []byte("backup"))
	bus.Publish("config.changed", nil)
	bus.Publish("job.done", []byte("backup"))
	var ev orbit.Event
	for jobs.Poll(&ev) == nil {
		fmt.Printf("%s %s (missed %d)\n", ev.Topic, ev.Payload, ev.Lag.Total())
	}
	// Output:
	// job.started backup (missed 0)
	// job.done backup (missed 0)
}

func BenchmarkEventPublish64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		bus, payload := events(b, f), make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			bus.Publish("topic", payload)
		}
	})
}

func BenchmarkEventPoll64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		bus, payload := events(b, f), make([]byte, 64)
		for range bus.Ring().Geometry().Capacity {
			bus.Publish("topic", payload)
		}
		s, batch, left := bus.SubscribeOldest(), make([]orbit.Event, 64), 0
		b.ReportAllocs()
		for b.Loop() {
			if left == 0 {
				if left, _ = s.PollBatch(batch); left == 0 {
					s = bus.SubscribeOldest()
				}
			} else {
				left--
			}
		}
	})
}

// ---------------------------------------------------------------------------
// Heartbeats

func heartbeats(t testing.TB, f *orbit.Fleet) *orbit.Heartbeat {
	t.Helper()
	h, err := orbit.Heartbeats(f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSnapshotTellsFreshStaleAndMissingApart(t *testing.T) {
	eachFleet(t, orbit.Options{Size: 3, Node: 2}, func(t *testing.T, f *orbit.Fleet) {
		h := heartbeats(t, f)
		if _, err := h.Last(2); !errors.Is(err, orbit.ErrNoFrame) {
			t.Errorf("before any beat: got %v, want %v", err, orbit.ErrNoFrame)
		}
		if err := h.Beat(); err != nil {
			t.Fatal(err)
		}
		beat, err := h.Last(2)
		if err != nil {
			t.Fatal(err)
		}
		const maxAge = time.Second
		for _, c := range []struct {
			age  time.Duration
			want orbit.PulseState
		}{{-time.Hour, orbit.Fresh}, {0, orbit.Fresh}, {maxAge - 1, orbit.Fresh}, {maxAge, orbit.Fresh}, {maxAge + 1, orbit.Stale}, {100 * time.Hour, orbit.Stale}} {
			got, err := h.SnapshotAt(beat+orbit.Stamp(c.age), maxAge)
			want := []orbit.Pulse{
				{Node: 1, State: orbit.Missing},
				{Node: 2, State: c.want, Last: beat, Age: max(c.age, 0)},
				{Node: 3, State: orbit.Missing},
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("at age %v: got %v, error %v, want %v", c.age, got, err, want)
			}
		}
		got, err := h.Snapshot(time.Hour, 900, 2)
		if err != nil || len(got) != 2 || got[0].State != orbit.Fresh || got[1] != (orbit.Pulse{Node: 900, State: orbit.Missing}) {
			t.Errorf("expecting 900 and 2: got %v, error %v", got, err)
		}
	})
}

func TestBeatIsAlsoAFrame(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	h := heartbeats(t, f)
	if err := h.Beat(); err != nil {
		t.Fatal(err)
	}
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	seen := heartbeats(t, o)
	last, err := seen.Last(f.Node())
	frame, err2 := seen.Ring().Newest(nil)
	if err != nil || err2 != nil || frame.ID.Node() != f.Node() || orbit.Stamp(frame.Version) != last || len(frame.Payload) != 0 {
		t.Errorf("got frame %+v, last %d, errors %v %v", frame, last, err, err2)
	}
	wantErr(t, "an observer's beat", seen.Beat(), orbit.ErrReadOnly)
}

// TestChattySiblingHidesNobody has one node beat far more often than the ring
// holds frames, after a quiet one beat once.
func TestChattySiblingHidesNobody(t *testing.T) {
	name := fleetName(t)
	quiet, chatty := join(t, name, orbit.Options{}), join(t, name, orbit.Options{})
	if err := heartbeats(t, quiet).Beat(); err != nil {
		t.Fatal(err)
	}
	h := heartbeats(t, chatty)
	before, err := h.Last(quiet.Node())
	if err != nil {
		t.Fatal(err)
	}
	for range 10 * h.Ring().Geometry().Capacity {
		if err := h.Beat(); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := h.Last(quiet.Node()); err != nil || after != before {
		t.Errorf("got %v, error %v, want %v", after, err, before)
	}
}

func TestKeepBeatsUntilItsContextEnds(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		h := heartbeats(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		c := h.Ring().Tail()
		ended := make(chan error)
		go func() { ended <- h.Keep(ctx, time.Millisecond) }()
		for range 5 {
			if _, err := awaitFrame(t, c); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		wantErr(t, "keep", <-ended, context.Canceled)
	})
}

func TestKeepEndsWithItsFleet(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		h := heartbeats(t, f)
		ended := make(chan error)
		go func() { ended <- h.Keep(t.Context(), time.Hour) }()
		for {
			if _, err := h.Last(f.Node()); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		f.Close()
		wantErr(t, "keep", <-ended, orbit.ErrClosed)
		_, err := h.Snapshot(time.Second)
		wantErr(t, "snapshot", err, orbit.ErrClosed)
		wantErr(t, "beat", h.Beat(), orbit.ErrClosed)
		_, err = orbit.Heartbeats(f)
		wantErr(t, "heartbeats", err, orbit.ErrClosed)
	})
}

func TestBeatDoesNotAllocate(t *testing.T) {
	h := heartbeats(t, local(t, orbit.Options{}))
	if n := testing.AllocsPerRun(100, func() { h.Beat(); h.Last(1) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

// A heartbeat is judged by whoever looks at it.
func ExampleHeartbeat() {
	fleet, _ := orbit.Local("web", orbit.Options{Size: 2})
	defer fleet.Close()
	heart, _ := orbit.Heartbeats(fleet)
	heart.Beat() // from the loop that does the work
	pulses, _ := heart.Snapshot(5 * time.Second)
	for _, p := range pulses {
		fmt.Println("node", p.Node, p.State)
	}
	// Output:
	// node 1 fresh
	// node 2 missing
}

func BenchmarkBeat(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		h := heartbeats(b, f)
		b.ReportAllocs()
		for b.Loop() {
			h.Beat()
		}
	})
}
