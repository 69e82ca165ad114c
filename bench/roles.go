//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"orbit"
)

// roles are what siblings do. Each calls ready once it is, and returns when
// the work is stopped.
var roles map[string]func(*work) error

// receives tells which roles may wait for a message that never comes, and are
// left waiting.
var receives = map[string]bool{"read": true, "listen": true}

func init() {
	roles = map[string]func(*work) error{
		"write":  write,
		"put":    putKeys,
		"send":   send,
		"read":   read,
		"listen": listen,
		"claim":  claim,
		"crowd":  crowd,
		"guard":  guard,
		"nats":   runNATS,
	}
}

// write writes the latest value once and then at its rate.
func write(w *work) error {
	l, err := w.peer.latest(w.Place)
	if err != nil {
		return err
	}
	defer l.Close()
	value := pattern(w.Place.Payload)
	if err := l.write(value); err != nil {
		return err
	}
	return w.repeat(func(int) error { return l.write(value) })
}

// keys are the ones that the jobs of caches use.
var keys = func() (all [1000]string) {
	for i := range all {
		all[i] = fmt.Sprintf("user.%04d", i)
	}
	return
}()

// putKeys puts every key once, and then one after the other at its rate.
func putKeys(w *work) error {
	s, err := w.peer.store(w.Place)
	if err != nil {
		return err
	}
	defer s.Close()
	value := pattern(w.Place.Payload)
	for _, key := range keys {
		if err := s.put(key, value); err != nil {
			return err
		}
	}
	return w.repeat(func(i int) error { return s.put(keys[i%len(keys)], value) })
}

// send sends numbered messages at its rate.
func send(w *work) error {
	s, err := w.peer.sender(w.Place)
	if err != nil {
		return err
	}
	defer s.Close()
	messages := make([][]byte, w.Batch)
	for i := range messages {
		messages[i] = make([]byte, w.Place.Payload)
	}
	number := uint64(0)
	return w.repeat(func(int) error {
		for _, m := range messages {
			number++
			mark(m, number, 0)
		}
		if w.Batch > 1 {
			return s.(batchSender).sendBatch(messages)
		}
		return s.send(messages[0])
	})
}

// repeat is ready, and does an operation at the rate of the order until the
// work is stopped.
func (w *work) repeat(op func(i int) error) error {
	w.ready()
	if w.Rate == idle {
		w.idle()
		return nil
	}
	start := time.Now()
	told := newStride()
	for i := 0; !w.stopped.Load(); {
		due := i + told.next()
		if w.Rate != flatOut {
			time.Sleep(time.Millisecond)
			due = int(w.Rate * time.Since(start).Seconds())
		}
		for ; i < due && !(w.Rate != flatOut && w.stopped.Load()); i++ {
			if err := op(i); err != nil {
				return err
			}
		}
		w.count.Store(uint64(i))
	}
	return nil
}

// A stride is how many operations a sibling does before it tells how far it
// is: one if they are slow, many if telling would make them slower.
type stride struct {
	length int
	since  time.Time
}

func newStride() *stride { return &stride{1, time.Now()} }

// next begins the next stride.
func (s *stride) next() int {
	now := time.Now()
	if s.length < 64 && now.Sub(s.since) < 5*time.Microsecond {
		s.length *= 2
	}
	s.since = now
	return s.length
}

// read receives as fast as it can, and counts.
func read(w *work) error {
	r, err := w.peer.receiver(w.Place)
	if err != nil {
		return err
	}
	defer r.Close()
	var count, lost, torn, last uint64
	got := func(message []byte) {
		number, _, whole := marks(message)
		if !whole {
			torn++
			return
		}
		if last != 0 && number > last+1 {
			lost += number - last - 1
		}
		last = number
		count++
	}
	w.ready()
	told, due := newStride(), uint64(1)
	for !w.stopped.Load() {
		if err := r.receive(got); err != nil {
			return err
		}
		if count < due {
			continue
		}
		due = count + uint64(told.next())
		w.count.Store(count)
		w.lost.Store(lost)
		w.torn.Store(torn)
	}
	return nil
}

// listen sleeps until a message comes, and keeps how long each was under way.
func listen(w *work) error {
	r, err := w.peer.sleeper(w.Place)
	if err != nil {
		return err
	}
	defer r.Close()
	got := func(message []byte) {
		now := int64(orbit.Now())
		number, sent, whole := marks(message)
		w.mu.Lock()
		defer w.mu.Unlock()
		if !whole || number == 0 {
			w.torn.Add(1)
			return
		}
		for uint64(len(w.latencies)) < number {
			w.latencies = append(w.latencies, 0)
		}
		w.latencies[number-1] = now - sent
		w.count.Add(1)
	}
	w.ready()
	for !w.stopped.Load() {
		if err := r.receive(got); err != nil {
			return err
		}
	}
	return nil
}

// claim claims without waiting, and releases at once what it got.
func claim(w *work) error {
	c, err := w.peer.claimer(w.Place)
	if err != nil {
		return err
	}
	defer c.Close()
	w.ready()
	for !w.stopped.Load() {
		w.tries.Add(1)
		won, err := c.claim()
		if err != nil {
			return err
		}
		if !won {
			runtime.Gosched()
			continue
		}
		if err := c.release(); err != nil {
			return err
		}
		w.count.Add(1)
	}
	return nil
}

// crowd joins many times over and stays.
func crowd(w *work) error {
	for range w.Count {
		member, err := w.peer.join(w.Place)
		if err != nil {
			return err
		}
		defer member.Close()
	}
	w.ready()
	w.idle()
	return nil
}

func (w *work) idle() {
	for !w.stopped.Load() {
		time.Sleep(10 * time.Millisecond)
	}
}

// guard runs a server that ends with the guard, as this ends with the parent,
// whatever happens to that.
func guard(w *work) error {
	cmd := exec.Command(w.Command[0], w.Command[1:]...)
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	w.ready()
	for !w.stopped.Load() {
		select {
		case err := <-gone:
			return fmt.Errorf("%s ended: %v", w.Command[0], err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-gone:
	case <-time.After(2 * time.Second):
		cmd.Process.Kill()
		<-gone
	}
	return nil
}
