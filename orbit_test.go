// Tests of package orbit, written against its exported names alone, one
// section for each of its types. Where a result can be worked out a second
// way, a slow and plainly right version of it stands next to the tests (the
// names start with ref) and is shared with the fuzz tests in fuzz_test.go.

package orbit_test

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

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
