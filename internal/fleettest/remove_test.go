//go:build linux

package fleettest

import (
	"encoding/binary"
	"strings"
	"syscall"
	"testing"

	"orbit"
	"orbit/internal/proc"
)

// TestRosterIsRemovedLast: who removes a fleet keeps joiners out by the locks of
// its roster. Once that has lost its name another fleet can begin, and what was
// not deleted by then would be deleted under it.
func TestRosterIsRemovedLast(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, orbit.Options{Size: 1})
	kinds := []uint8{1, 2, 99, 100, 199}
	for _, kind := range kinds {
		ring(t, f, kind)
	}
	f.Close()
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if _, err := syscall.InotifyAddWatch(fd, "/dev/shm", syscall.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	proc.RemoveFleet(t, name)
	var gone []string
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EAGAIN {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for b := buf[:n]; len(b) > 0; {
			size := binary.NativeEndian.Uint32(b[12:])
			object := strings.TrimRight(string(b[16:16+size]), "\x00")
			if strings.HasPrefix(object, "orbit-"+name+"-") {
				gone = append(gone, object)
			}
			b = b[16+size:]
		}
	}
	roster := strings.TrimPrefix(proc.Segment(name, 0), "/dev/shm/")
	if len(gone) != len(kinds)+1 || gone[len(gone)-1] != roster {
		t.Errorf("deleted in this order: %v; want %d segments, %s the last", gone, len(kinds)+1, roster)
	}
}
