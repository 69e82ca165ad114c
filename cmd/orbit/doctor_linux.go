package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
)

// checkHost checks what shared fleets need of a Linux host.
func checkHost() []finding {
	list := checkShm(shmDir)
	list = append(list, tryKernel(shmDir)...)
	list = append(list, checkLimits(limitsNow())...)
	list = append(list, checkNamespaces("/proc")...)
	return append(list, checkLogout(os.DirFS("/"), os.Geteuid()))
}

// ---- The file system of shared memory ----

// shmFacts are what the kernel says about the directory of shared memory.
type shmFacts struct {
	dir        string
	mode       os.FileMode
	fsType     int64
	readOnly   bool
	total      uint64 // bytes; 0 if there is no limit
	free       uint64
	inodes     uint64 // 0 if there is no limit
	freeInodes uint64
}

const (
	tmpfsMagic    = 0x01021994
	readOnlyMount = 1

	containerDefault = 64 << 20
	mounting         = "Mount one: \"mount -t tmpfs -o mode=1777 tmpfs /dev/shm\"."
	moreRoom         = "On a host: \"mount -o remount,size=1g /dev/shm\". In Docker: \"docker run --shm-size=1g\", or shm_size in a compose file. In Kubernetes: mount an emptyDir with \"medium: Memory\" at /dev/shm."
)

func checkShm(dir string) []finding {
	info, err := os.Stat(dir)
	if err != nil {
		return []finding{found(problem, "shm", mounting, "no shared memory: %v", err)}
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return []finding{found(problem, "shm", "", "%s cannot be looked at: %v", dir, err)}
	}
	unit := uint64(st.Bsize)
	return judgeShm(shmFacts{
		dir:        dir,
		mode:       info.Mode(),
		fsType:     int64(st.Type),
		readOnly:   st.Flags&readOnlyMount != 0,
		total:      st.Blocks * unit,
		free:       st.Bavail * unit,
		inodes:     st.Files,
		freeInodes: st.Ffree,
	})
}

func judgeShm(f shmFacts) []finding {
	if !f.mode.IsDir() {
		return []finding{found(problem, "shm", mounting, "%s is no directory", f.dir)}
	}
	list := []finding{judgeFileSystem(f), judgeMode(f)}
	if f.total > 0 {
		list = append(list, judgeSize(f), judgeFree(f))
	}
	if f.inodes > 0 {
		list = append(list, judgeInodes(f))
	}
	return list
}

func judgeFileSystem(f shmFacts) finding {
	switch {
	case f.readOnly:
		return found(problem, "shm", "Mount it for writing: \"mount -o remount,rw /dev/shm\"; in a container, do not make it read-only.", "%s is mounted read-only", f.dir)
	case f.fsType != tmpfsMagic:
		return found(warning, "shm", mounting, "%s is no tmpfs (file system type 0x%x): facts may be written to a disk, and stay after a reboot", f.dir, uint32(f.fsType))
	}
	return found(fine, "shm", "", "%s is a tmpfs", f.dir)
}

func judgeMode(f shmFacts) finding {
	mode := fmt.Sprintf("mode 0%o", f.mode.Perm())
	if f.mode&os.ModeSticky != 0 {
		mode = fmt.Sprintf("mode 01%03o", f.mode.Perm())
	}
	switch {
	case f.mode.Perm()&0o002 == 0:
		return found(note, "mode", "If this user is not to be the only one: \"chmod 1777 /dev/shm\".", "%s has %s: not everybody may write there", f.dir, mode)
	case f.mode&os.ModeSticky == 0:
		return found(warning, "mode", "\"chmod 1777 /dev/shm\".", "%s has %s without the sticky bit: any user can delete the segments of any other", f.dir, mode)
	}
	return found(fine, "mode", "", "%s has %s: everybody may write there, and delete only their own", f.dir, mode)
}

func judgeSize(f shmFacts) finding {
	size := bytesText(int64(f.total))
	switch {
	case f.total == containerDefault:
		return found(warning, "size", moreRoom, "%s has %s, which is what containers get by default", f.dir, size)
	case f.total < containerDefault:
		return found(warning, "size", moreRoom, "%s has only %s", f.dir, size)
	}
	return found(fine, "size", "", "%s has %s", f.dir, size)
}

// smallFleet is about what a fleet with one ring of default geometry takes.
const smallFleet = 1 << 20

func judgeFree(f shmFacts) finding {
	remedy := "\"ls -lS /dev/shm\" shows what takes it; \"orbit clear\" removes fleets that are not needed. " + moreRoom
	free, share := bytesText(int64(f.free)), 100*float64(f.free)/float64(f.total)
	switch {
	case f.free < smallFleet:
		return found(problem, "free", remedy, "%s has only %s free: no fleet can begin", f.dir, free)
	case share < 10:
		return found(warning, "free", remedy, "%s has only %s free, %.0f %%", f.dir, free, share)
	}
	return found(fine, "free", "", "%s has %s free, %.0f %%", f.dir, free, share)
}

func judgeInodes(f shmFacts) finding {
	const remedy = "Remove files from /dev/shm, or allow more: \"mount -o remount,nr_inodes=100k /dev/shm\"."
	switch {
	case f.freeInodes < 2:
		return found(problem, "inodes", remedy, "%s has room for %d more files, and a fleet is two at least", f.dir, f.freeInodes)
	case f.freeInodes < 100:
		return found(warning, "inodes", remedy, "%s has room for only %d more files; a fleet takes one, and one for each ring", f.dir, f.freeInodes)
	}
	return found(fine, "inodes", "", "%s has room for %d more files; a fleet takes one, and one for each ring", f.dir, f.freeInodes)
}

// ---- Limits of this process ----

// limits are soft limits of this process; noLimit for none.
type limits struct{ files, memory, fileSize uint64 }

const noLimit = math.MaxUint64

func limitsNow() limits {
	get := func(resource int) uint64 {
		var r syscall.Rlimit
		if syscall.Getrlimit(resource, &r) != nil {
			return noLimit
		}
		return uint64(r.Cur)
	}
	return limits{get(syscall.RLIMIT_NOFILE), get(syscall.RLIMIT_AS), get(syscall.RLIMIT_FSIZE)}
}

func checkLimits(l limits) []finding {
	files := found(fine, "open_files", "", "%d files may be open at once; a fleet keeps one open", l.files)
	if l.files < 64 {
		files = found(warning, "open_files", "Raise it: \"ulimit -n\", or LimitNOFILE= in a systemd unit.", "only %d files may be open at once; a fleet keeps one open, and joining takes some more", l.files)
	}
	return []finding{
		files,
		checkLimit("address_space", l.memory, "the address space", "ulimit -v", "LimitAS=", "mapping larger rings fails"),
		checkLimit("file_size", l.fileSize, "the size of a file", "ulimit -f", "LimitFSIZE=", "larger rings cannot be made"),
	}
}

// plenty is more than most fleets map.
const plenty = 1 << 30

func checkLimit(check string, limit uint64, what, ulimit, unit, effect string) finding {
	if limit == noLimit {
		return found(fine, check, "", "%s is not limited", what)
	}
	s, size := note, bytesText(int64(min(limit, math.MaxInt64)))
	if limit < plenty {
		s = warning
	}
	return found(s, check, fmt.Sprintf("Raise it if rings are large: \"%s\", or %s in a systemd unit.", ulimit, unit), "%s is limited to %s: %s", what, size, effect)
}

// ---- Namespaces ----

// The kernel gives the first namespaces of a boot fixed numbers.
const (
	firstPIDNamespace  = "pid:[4026531836]"
	firstTimeNamespace = "time:[4026531834]"
)

// checkNamespaces tells whether siblings may see other process ids or clocks.
func checkNamespaces(proc string) []finding {
	return []finding{checkPIDNamespace(proc), checkTimeNamespace(proc)}
}

func checkPIDNamespace(proc string) finding {
	own, err := os.Readlink(proc + "/self/ns/pid")
	switch {
	case err != nil:
		return found(note, "pid_namespace", "Mount /proc: Orbit needs it to name segments.", "the PID namespace cannot be read: %v", err)
	case own != firstPIDNamespace:
		return found(note, "pid_namespace", "", "this process is in a PID namespace of its own, %s: process ids shown are those that each member has in its own; who lives is asked by locks, which work across", own)
	}
	return found(fine, "pid_namespace", "", "process ids are those of the host")
}

func checkTimeNamespace(proc string) finding {
	const remedy = "Run all members of a fleet in one time namespace."
	own, err := os.Readlink(proc + "/self/ns/time")
	if os.IsNotExist(err) || own == firstTimeNamespace {
		return found(fine, "time_namespace", "", "the monotonic clock is the host's, the same for all members")
	}
	if err != nil {
		return found(note, "time_namespace", remedy, "the time namespace cannot be read: %v", err)
	}
	offset := monotonicOffset(proc + "/self/timens_offsets")
	if offset == "" {
		return found(fine, "time_namespace", "", "a time namespace of its own, %s, with the host's monotonic clock", own)
	}
	if first, err := os.Readlink(proc + "/1/ns/time"); err == nil && first == own {
		return found(note, "time_namespace", remedy, "process 1 and this one have a monotonic clock %s from the host's: members outside would disagree on ages and expiry", offset)
	}
	return found(warning, "time_namespace", remedy, "this process has a monotonic clock %s from the host's: members elsewhere disagree on ages and expiry", offset)
}

// monotonicOffset reads by how much a time namespace moves the clock that ages
// run on, "" for not at all.
func monotonicOffset(path string) string {
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && (f[0] == "monotonic" || f[0] == "1") && (f[1] != "0" || f[2] != "0") {
			return f[1] + " s " + f[2] + " ns"
		}
	}
	return ""
}
