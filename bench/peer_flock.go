//go:build linux

package main

import (
	"io"
	"os"
	"syscall"
)

// flock is a file in shared memory under an advisory lock.
var flock = &peer{
	name:    "flock and file",
	class:   classKernel,
	notes:   []string{"a locked file: a stopped holder holds everybody up; no TTL, no fence token, nobody is woken"},
	latest:  func(at place) (latest, error) { return openLocked(at) },
	claimer: func(at place) (claimer, error) { return openLocked(at) },
	join:    func(at place) (io.Closer, error) { return openLocked(at) },
	scale:   true,
}

type lockedFile struct {
	*os.File
	fd int
}

func openLocked(at place) (*lockedFile, error) {
	f, err := os.OpenFile(at.file(".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &lockedFile{f, int(f.Fd())}, nil
}

// lock locks and unlock unlocks. Go's signals can interrupt a wait.
func (l *lockedFile) lock(how int) (err error) {
	for {
		if err = syscall.Flock(l.fd, how); err != syscall.EINTR {
			return err
		}
	}
}

func (l *lockedFile) release() error { return l.lock(syscall.LOCK_UN) }

func (l *lockedFile) write(value []byte) error {
	if err := l.lock(syscall.LOCK_EX); err != nil {
		return err
	}
	defer l.release()
	_, err := syscall.Pwrite(l.fd, value, 0)
	return err
}

func (l *lockedFile) read(dst []byte) ([]byte, error) {
	if err := l.lock(syscall.LOCK_SH); err != nil {
		return nil, err
	}
	defer l.release()
	n, err := syscall.Pread(l.fd, dst[:cap(dst)], 0)
	return dst[:max(n, 0)], err
}

func (l *lockedFile) claim() (bool, error) {
	err := l.lock(syscall.LOCK_EX | syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}
