//go:build linux

package hostile

import (
	"encoding/binary"
	"os"
	"testing"

	"orbit/internal/proc"
)

// Where the words of a segment lie, for tests that damage them. Package
// fleettest holds the package to this description.
const (
	page        = 4096
	fixedHeader = 104

	offCapacity    = 24
	offStride      = 40
	offTable       = 56
	offTableLen    = 64
	offFingerprint = 128
	offFirst       = 192
	offHead        = 256
	offWake        = 320

	seatSize = 64
	seats    = 1024
)

// A segment is one that a test has open to damage it.
type segment struct {
	t    testing.TB
	path string
	file *os.File

	size, capacity, stride, table, tableLen int
}

func openSegment(t testing.TB, fleet string, kind int) *segment {
	t.Helper()
	s := &segment{t: t, path: proc.Segment(fleet, kind)}
	var err error
	if s.file, err = os.OpenFile(s.path, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.file.Close() })
	st, err := s.file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s.size = int(st.Size())
	s.capacity, s.stride = int(s.word(offCapacity)), int(s.word(offStride))
	s.table, s.tableLen = int(s.word(offTable)), int(s.word(offTableLen))
	return s
}

func (s *segment) slot(i int) int { return page + i*s.stride }
func (s *segment) seat(i int) int { return s.table + i*seatSize }

func (s *segment) bytes(off, n int) []byte {
	s.t.Helper()
	b := make([]byte, n)
	if _, err := s.file.ReadAt(b, int64(off)); err != nil {
		s.t.Fatalf("read %s at %d: %v", s.path, off, err)
	}
	return b
}

func (s *segment) word(off int) uint64 {
	s.t.Helper()
	return binary.NativeEndian.Uint64(s.bytes(off, 8))
}

// write changes bytes in place, under those who have them mapped.
func (s *segment) write(off int, b []byte) {
	s.t.Helper()
	if _, err := s.file.WriteAt(b, int64(off)); err != nil {
		s.t.Fatalf("write %s at %d: %v", s.path, off, err)
	}
}

func (s *segment) put(off int, v uint64) {
	s.t.Helper()
	s.write(off, binary.NativeEndian.AppendUint64(nil, v))
}

func (s *segment) truncate(n int) {
	s.t.Helper()
	if err := s.file.Truncate(int64(n)); err != nil {
		s.t.Fatalf("truncate %s to %d: %v", s.path, n, err)
	}
}
