//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

// redis is a server over a Unix socket, spoken to by a small client.
var redis = &peer{
	name:  "Redis",
	class: classServer,
	notes: []string{
		"a server over a Unix socket; without persistence here; a publish reaches only who is connected; to join is to connect, of which no sibling is told",
	},
	serve:    serveRedis,
	latest:   func(at place) (latest, error) { return dialRedis(at) },
	store:    func(at place) (store, error) { return dialRedis(at) },
	sender:   func(at place) (sender, error) { return dialRedis(at) },
	receiver: subscribeRedis,
	sleeper:  subscribeRedis,
	claimer:  claimRedis,
	join:     func(at place) (io.Closer, error) { return dialRedis(at) },
	crowd:    true,
	batches:  true,
	scale:    true,
}

func serveRedis(b *bench) (string, string, error) {
	socket := b.dir + "/redis.sock"
	version, err := b.guard(socket, "Redis server v=", "redis-server",
		"--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no",
		"--dir", b.dir, "--client-output-buffer-limit", "pubsub 0 0 0")
	return socket, version, err
}

// redisConn is one connection. A command is a list of strings, as the protocol
// has it.
type redisConn struct {
	net.Conn
	in   *bufio.Reader
	out  *bufio.Writer
	name string // of the place: its key and its channel
	buf  []byte
}

func dialRedis(at place) (*redisConn, error) {
	c, err := net.Dial("unix", at.Address)
	if err != nil {
		return nil, err
	}
	r := &redisConn{Conn: c, in: bufio.NewReaderSize(c, 1<<16), out: bufio.NewWriterSize(c, 1<<16), name: at.Name}
	// Ready is who had an answer.
	return r, r.order("PING")
}

func (r *redisConn) command(words ...string) {
	r.begin(len(words))
	for _, w := range words {
		r.word(w)
	}
}

func (r *redisConn) begin(words int) { r.header('*', words) }

func (r *redisConn) word(w string) {
	r.header('$', len(w))
	r.out.WriteString(w)
	r.out.WriteString("\r\n")
}

func (r *redisConn) bytes(b []byte) {
	r.header('$', len(b))
	r.out.Write(b)
	r.out.WriteString("\r\n")
}

func (r *redisConn) header(sign byte, n int) {
	r.out.WriteByte(sign)
	r.out.Write(strconv.AppendInt(r.out.AvailableBuffer(), int64(n), 10))
	r.out.WriteString("\r\n")
}

// reply reads one reply that is no array: its sign, its number if it is one,
// and the bytes of a string, in the connection's buffer. A string that is not
// there has the number -1.
func (r *redisConn) reply() (sign byte, number int, text []byte, err error) {
	line, err := r.in.ReadSlice('\n')
	if err != nil {
		return 0, 0, nil, err
	}
	if len(line) < 3 {
		return 0, 0, nil, fmt.Errorf("redis: reply %q", line)
	}
	sign, text = line[0], line[1:len(line)-2]
	switch sign {
	case '+':
		return sign, 0, text, nil
	case '-':
		return sign, 0, nil, errors.New("redis: " + string(text))
	}
	for i, d := range text {
		if d != '-' {
			number = number*10 + int(d-'0')
		} else if i == 0 {
			return sign, -1, nil, nil
		}
	}
	if sign != '$' {
		return sign, number, nil, nil
	}
	if cap(r.buf) < number+2 {
		r.buf = make([]byte, number+2)
	}
	r.buf = r.buf[:number+2]
	_, err = io.ReadFull(r.in, r.buf)
	return sign, number, r.buf[:number], err
}

// order sends what was written, or words first, and wants no error for it.
func (r *redisConn) order(words ...string) error {
	if len(words) > 0 {
		r.command(words...)
	}
	if err := r.out.Flush(); err != nil {
		return err
	}
	_, _, _, err := r.reply()
	return err
}

func (r *redisConn) set(key string, value []byte, expires bool) error {
	if expires {
		r.begin(5)
	} else {
		r.begin(3)
	}
	r.word("SET")
	r.word(key)
	r.bytes(value)
	if expires {
		r.word("EX")
		r.word(strconv.Itoa(ttl))
	}
	return r.order()
}

func (r *redisConn) put(key string, value []byte) error { return r.set(key, value, true) }

func (r *redisConn) get(key string, dst []byte) ([]byte, bool, error) {
	r.command("GET", key)
	if err := r.out.Flush(); err != nil {
		return dst, false, err
	}
	_, n, text, err := r.reply()
	return append(dst[:0], text...), n >= 0 && err == nil, err
}

func (r *redisConn) write(value []byte) error        { return r.set(r.name, value, false) }
func (r *redisConn) read(dst []byte) ([]byte, error) { return readKey(r, r.name, dst) }

func (r *redisConn) publish(message []byte) {
	r.begin(3)
	r.word("PUBLISH")
	r.word(r.name)
	r.bytes(message)
}

func (r *redisConn) send(message []byte) error {
	r.publish(message)
	return r.order()
}

func (r *redisConn) sendBatch(messages [][]byte) error {
	for _, m := range messages {
		r.publish(m)
	}
	if err := r.out.Flush(); err != nil {
		return err
	}
	for range messages {
		if _, _, _, err := r.reply(); err != nil {
			return err
		}
	}
	return nil
}

type redisSubscriber struct{ *redisConn }

func subscribeRedis(at place) (receiver, error) {
	r, err := dialRedis(at)
	if err != nil {
		return nil, err
	}
	r.command("SUBSCRIBE", r.name)
	if err := r.out.Flush(); err != nil {
		return nil, err
	}
	return redisSubscriber{r}, r.push(func([]byte) {})
}

func (s redisSubscriber) receive(got func(message []byte)) error { return s.push(got) }

// push reads what the server sends to subscribers: an array of the word
// message, the channel and the message.
func (r *redisConn) push(got func(message []byte)) error {
	_, n, _, err := r.reply()
	var last []byte
	for range n {
		if err == nil {
			_, _, last, err = r.reply()
		}
	}
	if err == nil {
		got(last)
	}
	return err
}

// redisClaimer is the lock that the manual of Redis describes: a key set if it
// is not there, with an expiry, and deleted by a script if it is still one's
// own.
type redisClaimer struct {
	*redisConn
	key, token, script string
}

const releaseScript = `if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`

func claimRedis(at place) (claimer, error) {
	r, err := dialRedis(at)
	if err != nil {
		return nil, err
	}
	r.command("SCRIPT", "LOAD", releaseScript)
	if err := r.out.Flush(); err != nil {
		return nil, err
	}
	_, _, sha, err := r.reply()
	return &redisClaimer{r, at.Name + ".lock", strconv.Itoa(os.Getpid()), string(sha)}, err
}

func (c *redisClaimer) claim() (bool, error) {
	c.command("SET", c.key, c.token, "NX", "EX", strconv.Itoa(ttl))
	if err := c.out.Flush(); err != nil {
		return false, err
	}
	sign, _, _, err := c.reply()
	return sign == '+', err
}

func (c *redisClaimer) release() error {
	c.command("EVALSHA", c.script, "1", c.key, c.token)
	if err := c.out.Flush(); err != nil {
		return err
	}
	_, n, _, err := c.reply()
	if err == nil && n != 1 {
		err = errors.New("redis: the lock was not ours any more")
	}
	return err
}
