//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// mqueue is a POSIX message queue for each subscriber, by bare system calls.
var mqueue = &peer{
	name:     "POSIX mqueue",
	class:    classKernel,
	notes:    []string{"one queue of 10 messages and one send per subscriber; a full queue holds the sender up; what was read is gone"},
	serve:    probeMqueue,
	sender:   openMqueues,
	receiver: openMqueue,
	sleeper:  openMqueue,
	remove: func(at place) {
		for i := 0; mqUnlink(mqName(at, i)) == nil; i++ {
		}
	},
	queue: true,
}

// mqAttributes is struct mq_attr.
type mqAttributes struct {
	flags, messages, size, current uintptr
	_                              [4]uintptr
}

func mqName(at place, index int) string { return fmt.Sprintf("%s.%d", at.Name, index) }

func mqOpen(name string, size int) (int, error) {
	path, err := syscall.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	attributes := mqAttributes{messages: 10, size: uintptr(size)}
	fd, _, e := syscall.Syscall6(syscall.SYS_MQ_OPEN, uintptr(unsafe.Pointer(path)),
		syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600, uintptr(unsafe.Pointer(&attributes)), 0, 0)
	if e != 0 {
		return -1, os.NewSyscallError("mq_open", e)
	}
	return int(fd), nil
}

func mqUnlink(name string) error {
	path, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	if _, _, e := syscall.Syscall(syscall.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(path)), 0, 0); e != 0 {
		return os.NewSyscallError("mq_unlink", e)
	}
	return nil
}

func probeMqueue(b *bench) (string, string, error) {
	name := b.prefix() + ".probe"
	fd, err := mqOpen(name, value)
	if err != nil {
		return "", "", err
	}
	return "", "", errors.Join(syscall.Close(fd), mqUnlink(name))
}

type mqSender struct{ fds }

func openMqueues(at place) (sender, error) {
	s := &mqSender{}
	for i := range at.Subscribers {
		fd, err := mqOpen(mqName(at, i), at.Payload)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.fds = append(s.fds, fd)
	}
	return s, nil
}

// mqCall sends or receives, and waits while it must.
func mqCall(call uintptr, fd int, buf []byte) (int, error) {
	return ignoringEINTR(func() (int, error) {
		n, _, e := syscall.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0, 0, 0)
		if e != 0 {
			return 0, e
		}
		return int(n), nil
	})
}

func (s *mqSender) send(message []byte) error {
	for _, fd := range s.fds {
		if _, err := mqCall(syscall.SYS_MQ_TIMEDSEND, fd, message); err != nil {
			return os.NewSyscallError("mq_send", err)
		}
	}
	return nil
}

type mqReceiver struct {
	fds
	buf []byte
}

func openMqueue(at place) (receiver, error) {
	fd, err := mqOpen(mqName(at, at.Index), at.Payload)
	return &mqReceiver{fds{fd}, make([]byte, at.Payload)}, err
}

func (r *mqReceiver) receive(got func(message []byte)) error {
	n, err := mqCall(syscall.SYS_MQ_TIMEDRECEIVE, r.fds[0], r.buf)
	if err != nil {
		return os.NewSyscallError("mq_receive", err)
	}
	got(r.buf[:n])
	return nil
}
