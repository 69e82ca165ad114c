// Fuzz tests of package orbit. Each checks, for any input at all, that nothing
// panics, that the answer is the one a reference in orbit_test.go gives, and
// that what was read can be written and read again.

package orbit_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"orbit"
)

func FuzzParseNetID64(f *testing.F) {
	for _, tt := range netIDTexts {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := orbit.ParseNetID64(text)
		want, ok := refParseNetID64(text)
		if got.Raw() != want || (err == nil) != ok {
			t.Fatalf("ParseNetID64(%q) = %#v, %v; reference %#x, %v", text, got, err, want, ok)
		}
		before := orbit.NetID64(^want)
		n := before
		textErr := n.UnmarshalText([]byte(text))
		if err != nil {
			checkNetIDError(t, err)
			if textErr == nil || textErr.Error() != err.Error() || n != before {
				t.Errorf("UnmarshalText(%q) left %v, %v; ParseNetID64 failed with %v", text, n, textErr, err)
			}
			return
		}
		if textErr != nil || n != got {
			t.Errorf("UnmarshalText(%q) gave %v, %v; ParseNetID64 gave %v", text, n, textErr, got)
		}
		checkNetIDTextRoundTrip(t, got)
	})
}

func FuzzNetID64Bytes(f *testing.F) {
	f.Add([]byte(nil), []byte("\x00"))
	f.Add([]byte("\x0c\x00\x03\x00\x00\x00\x01\xc8"), []byte("\x0c\x00\x03\x00\x00\x00\x01\xc9"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00"), []byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add([]byte("\x7f\xff\xff\xff\xff\xff\xff\xff"), []byte("\x80\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("1234567"), []byte("123456789"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, okX := checkNetIDWire(t, a)
		y, okY := checkNetIDWire(t, b)
		if !okX || !okY {
			return
		}
		want := bytes.Compare(a, b)
		if got := x.Compare(y); got != want {
			t.Errorf("%#v.Compare(%#v) = %d, wire order says %d", x, y, got, want)
		}
		if got := y.Compare(x); got != -want {
			t.Errorf("%#v.Compare(%#v) = %d, wire order says %d", y, x, got, -want)
		}
	})
}

// checkNetIDWire reads wire as an id, checks the outcome, and reports whether
// there was an id in it.
func checkNetIDWire(t *testing.T, wire []byte) (orbit.NetID64, bool) {
	t.Helper()
	n, err := orbit.NetID64FromBytes(wire)
	if len(wire) != 8 {
		if err == nil || n != 0 {
			t.Fatalf("NetID64FromBytes(%x) = %#v, %v; want the zero id and an error", wire, n, err)
		}
		checkNetIDError(t, err)
		return 0, false
	}
	if err != nil || n.Raw() != binary.BigEndian.Uint64(wire) {
		t.Fatalf("NetID64FromBytes(%x) = %#v, %v", wire, n, err)
	}
	if back := n.Bytes(); !bytes.Equal(back[:], wire) {
		t.Errorf("Bytes() = %x, want %x", back, wire)
	}
	if back := n.AppendBytes(wire[:0:0]); !bytes.Equal(back, wire) {
		t.Errorf("AppendBytes(empty) = %x, want %x", back, wire)
	}
	if back := orbit.MakeNetID64(n.Kind(), n.Node(), n.Counter()); back != n {
		t.Errorf("the parts of %#v make %#v", n, back)
	}
	checkNetIDTextRoundTrip(t, n)
	return n, true
}

func checkNetIDTextRoundTrip(t *testing.T, n orbit.NetID64) {
	t.Helper()
	text := n.String()
	if want := refNetID64Text(n.Raw()); text != want {
		t.Errorf("String() = %q, want %q", text, want)
	}
	for _, text := range []string{text, fmt.Sprintf("%#x", n.Raw()), fmt.Sprintf("%#016X", n.Raw())} {
		if back, err := orbit.ParseNetID64(text); err != nil || back != n {
			t.Errorf("ParseNetID64(%q) = %#v, %v; want %#v", text, back, err, n)
		}
	}
}

func checkNetIDError(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, orbit.ErrID) {
		t.Errorf("error %v does not match ErrID", err)
	}
	if n := len(err.Error()); n > longestNetIDError {
		t.Errorf("error of %d bytes: %.80s...", n, err)
	}
}
