//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// datagram is a Unix datagram socket for each subscriber, by bare system
// calls.
var datagram = &peer{
	name:     "Unix datagram",
	class:    classKernel,
	notes:    []string{"one socket and one send per subscriber; a full socket holds the sender up; what was read is gone"},
	sender:   dialDatagram,
	receiver: bindDatagram,
	sleeper:  bindDatagram,
	queue:    true,
}

func datagramPath(at place, index int) string { return at.file(fmt.Sprintf(".sock%d", index)) }

type datagramSender struct{ fds }

func dialDatagram(at place) (sender, error) {
	s := &datagramSender{}
	for i := range at.Subscribers {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, errors.Join(os.NewSyscallError("socket", err), s.Close())
		}
		s.fds = append(s.fds, fd)
		if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: datagramPath(at, i)}); err != nil {
			return nil, errors.Join(os.NewSyscallError("connect", err), s.Close())
		}
	}
	return s, nil
}

func (s *datagramSender) send(message []byte) error {
	for _, fd := range s.fds {
		if _, err := ignoringEINTR(func() (int, error) { return syscall.Write(fd, message) }); err != nil {
			return os.NewSyscallError("send", err)
		}
	}
	return nil
}

type datagramReceiver struct {
	fds
	buf []byte
}

func bindDatagram(at place) (receiver, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	r := &datagramReceiver{fds{fd}, make([]byte, at.Payload)}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: datagramPath(at, at.Index)}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), r.Close())
	}
	return r, nil
}

func (r *datagramReceiver) receive(got func(message []byte)) error {
	n, err := ignoringEINTR(func() (int, error) { return syscall.Read(r.fds[0], r.buf) })
	if err == nil {
		got(r.buf[:n])
	}
	return err
}
