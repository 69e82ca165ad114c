//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// pipe is a named pipe for each subscriber, read and written by bare system
// calls.
var pipe = &peer{
	name:     "named pipe",
	class:    classKernel,
	notes:    []string{"one pipe and one write per subscriber; a full pipe holds the sender up; what was read is gone"},
	sender:   openPipeWriters,
	receiver: openPipeReader,
	sleeper:  openPipeReader,
	queue:    true,
	batches:  true,
}

// fds are the descriptors of one end, one for each subscriber.
type fds []int

func (f fds) Close() (err error) {
	for _, fd := range f {
		err = errors.Join(err, syscall.Close(fd))
	}
	return err
}

func pipePath(at place, index int) string { return at.file(fmt.Sprintf(".pipe%d", index)) }

// openPipe opens for reading and writing, which does not wait for the other
// end, nor end with it.
func openPipe(at place, index int) (int, error) {
	path := pipePath(at, index)
	if err := syscall.Mkfifo(path, 0o600); err != nil && err != syscall.EEXIST {
		return 0, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	return ignoringEINTR(func() (int, error) { return syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0) })
}

type pipeWriters struct {
	fds
	bulk []byte
}

func openPipeWriters(at place) (sender, error) {
	w := &pipeWriters{}
	for i := range at.Subscribers {
		fd, err := openPipe(at, i)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.fds = append(w.fds, fd)
	}
	return w, nil
}

func (w *pipeWriters) send(message []byte) error {
	for _, fd := range w.fds {
		if _, err := ignoringEINTR(func() (int, error) { return syscall.Write(fd, message) }); err != nil {
			return err
		}
	}
	return nil
}

// sendBatch makes one write of the messages. The kernel keeps it in one piece
// up to 4096 bytes, and there is only one sender here.
func (w *pipeWriters) sendBatch(messages [][]byte) error {
	w.bulk = w.bulk[:0]
	for _, m := range messages {
		w.bulk = append(w.bulk, m...)
	}
	return w.send(w.bulk)
}

type pipeReader struct {
	fds
	buf  []byte
	size int
}

func openPipeReader(at place) (receiver, error) {
	fd, err := openPipe(at, at.Index)
	return &pipeReader{fds{fd}, make([]byte, 64*at.Payload), at.Payload}, err
}

// receive reads up to 64 messages at once. Writes are whole messages and fit,
// so a read never ends within one.
func (r *pipeReader) receive(got func(message []byte)) error {
	n, err := ignoringEINTR(func() (int, error) { return syscall.Read(r.fds[0], r.buf) })
	for i := 0; i+r.size <= n; i += r.size {
		got(r.buf[i : i+r.size])
	}
	return err
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}
