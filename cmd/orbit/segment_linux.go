package main

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// shmDir is where POSIX shared memory objects are files.
const shmDir = "/dev/shm"

// segmentPath returns the file of a segment. Kind 0 is the roster.
func segmentPath(fleet string, kind uint8) string {
	return fmt.Sprintf("%s/orbit-%s-%d-%d", shmDir, fleet, kind, os.Geteuid())
}

// segments lists what has the names of a fleet's segments, by kind.
func segments(fleet string) (list []segment) {
	for kind := 0; kind <= 255; kind++ {
		var st syscall.Stat_t
		if syscall.Lstat(segmentPath(fleet, uint8(kind)), &st) != nil {
			continue
		}
		list = append(list, segment{uint8(kind), st.Size, time.Unix(st.Mtim.Unix()), whyItStays(&st)})
	}
	return list
}

// whyItStays tells what keeps an object from being deleted as a segment: the
// library deletes only plain files that nobody else can touch.
func whyItStays(st *syscall.Stat_t) string {
	switch uid := os.Geteuid(); {
	case st.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return "not a plain file"
	case int(st.Uid) != uid:
		return fmt.Sprintf("owned by uid %d, want %d", st.Uid, uid)
	case st.Mode&0o7777 != 0o600:
		return fmt.Sprintf("mode 0%o, want 0600", st.Mode&0o7777)
	}
	return ""
}
