//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os/user"
	"strconv"
)

// memcached is a server over a Unix socket, spoken to in its text protocol.
var memcached = &peer{
	name:  "memcached",
	class: classServer,
	notes: []string{
		"a server over a Unix socket; nobody is woken; a release deletes whoever's claim it is; to join is to connect, of which no sibling is told",
	},
	serve:   serveMemcached,
	latest:  func(at place) (latest, error) { return dialMemcached(at) },
	store:   func(at place) (store, error) { return dialMemcached(at) },
	claimer: func(at place) (claimer, error) { return dialMemcached(at) },
	join:    func(at place) (io.Closer, error) { return dialMemcached(at) },
	crowd:   true,
}

func serveMemcached(b *bench) (string, string, error) {
	me, err := user.Current()
	if err != nil {
		return "", "", err
	}
	socket := b.dir + "/memcached.sock"
	version, err := b.guard(socket, "memcached ", "memcached", "-s", socket, "-m", "64", "-t", "2", "-u", me.Username)
	return socket, version, err
}

type memcachedConn struct {
	net.Conn
	in   *bufio.Reader
	out  *bufio.Writer
	name string
}

func dialMemcached(at place) (*memcachedConn, error) {
	c, err := net.Dial("unix", at.Address)
	if err != nil {
		return nil, err
	}
	m := &memcachedConn{Conn: c, in: bufio.NewReaderSize(c, 1<<16), out: bufio.NewWriterSize(c, 1<<16), name: at.Name}
	m.out.WriteString("version\r\n")
	_, err = m.line() // ready is who had an answer
	return m, err
}

// line sends what was written and reads a line.
func (m *memcachedConn) line() ([]byte, error) {
	if err := m.out.Flush(); err != nil {
		return nil, err
	}
	line, err := m.in.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

// expect sends what was written and tells whether the answer is the one
// hoped for. It fails unless it is one of the two.
func (m *memcachedConn) expect(hoped, other string) (bool, error) {
	line, err := m.line()
	if err != nil || string(line) == hoped {
		return err == nil, err
	}
	if string(line) != other {
		return false, fmt.Errorf("memcached: %q, want %s or %s", line, hoped, other)
	}
	return false, nil
}

// set writes a value by the command set, or add, which is refused if the key
// has one.
func (m *memcachedConn) set(command, key string, value []byte, ttl int) (bool, error) {
	for _, s := range [...]string{command, " ", key, " 0 "} {
		m.out.WriteString(s)
	}
	m.out.Write(strconv.AppendInt(m.out.AvailableBuffer(), int64(ttl), 10))
	m.out.WriteByte(' ')
	m.out.Write(strconv.AppendInt(m.out.AvailableBuffer(), int64(len(value)), 10))
	m.out.WriteString("\r\n")
	m.out.Write(value)
	m.out.WriteString("\r\n")
	return m.expect("STORED", "NOT_STORED")
}

func (m *memcachedConn) put(key string, value []byte) error {
	_, err := m.set("set", key, value, ttl)
	return err
}

func (m *memcachedConn) get(key string, dst []byte) ([]byte, bool, error) {
	for _, s := range [...]string{"get ", key, "\r\n"} {
		m.out.WriteString(s)
	}
	line, err := m.line()
	if err != nil || string(line) == "END" {
		return dst[:0], false, err
	}
	size := 0
	for _, d := range line[bytes.LastIndexByte(line, ' ')+1:] {
		if d < '0' || d > '9' {
			return dst[:0], false, fmt.Errorf("memcached: %q to get", line)
		}
		size = size*10 + int(d-'0')
	}
	if size > cap(dst) {
		return dst[:0], false, fmt.Errorf("memcached: value of %d bytes, want at most %d", size, cap(dst))
	}
	dst = dst[:size]
	if _, err := io.ReadFull(m.in, dst); err != nil {
		return dst, false, err
	}
	_, err = m.in.Discard(len("\r\nEND\r\n"))
	return dst, err == nil, err
}

func (m *memcachedConn) write(value []byte) error {
	_, err := m.set("set", m.name, value, 0)
	return err
}

func (m *memcachedConn) read(dst []byte) ([]byte, error) { return readKey(m, m.name, dst) }

func (m *memcachedConn) claim() (bool, error) { return m.set("add", m.name, held, ttl) }

func (m *memcachedConn) release() error {
	for _, s := range [...]string{"delete ", m.name, "\r\n"} {
		m.out.WriteString(s)
	}
	deleted, err := m.expect("DELETED", "NOT_FOUND")
	if err == nil && !deleted {
		err = errors.New("memcached: the claim was gone")
	}
	return err
}
