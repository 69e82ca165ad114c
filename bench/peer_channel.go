//go:build linux

package main

import "errors"

// channel is Go's own way, between goroutines.
var channel = &peer{
	name:     "Go channel",
	class:    classLocal,
	notes:    []string{"goroutines of one process; one channel and one send per subscriber; a full channel holds the sender up"},
	sender:   func(at place) (sender, error) { return channelOf(at) },
	receiver: openChannelReader,
	sleeper:  openChannelReader,
	claimer:  func(at place) (claimer, error) { return channelOf(at) },
	remove: func(at place) {
		if c, ok := channels.take(at); ok {
			c.close()
		}
	},
	queue: true,
}

var channels registry[*fan]

// A fan is a channel for each subscriber, and one of one place for claims.
type fan struct {
	noClose
	subscribers []chan [value]byte
	claims      chan struct{}
}

func channelOf(at place) (*fan, error) {
	return channels.at(at, func() (*fan, error) {
		f := &fan{claims: make(chan struct{}, 1)}
		for range max(1, at.Subscribers) {
			f.subscribers = append(f.subscribers, make(chan [value]byte, 1024))
		}
		return f, nil
	})
}

func (f *fan) close() {
	for _, c := range f.subscribers {
		close(c)
	}
}

func (f *fan) send(message []byte) error {
	for _, c := range f.subscribers {
		c <- [value]byte(message)
	}
	return nil
}

func (f *fan) claim() (bool, error) {
	select {
	case f.claims <- struct{}{}:
		return true, nil
	default:
		return false, nil
	}
}

func (f *fan) release() error {
	<-f.claims
	return nil
}

type channelReader struct {
	noClose
	from chan [value]byte
	buf  [value]byte
}

func openChannelReader(at place) (receiver, error) {
	f, err := channelOf(at)
	return &channelReader{from: f.subscribers[at.Index]}, err
}

var errChannelClosed = errors.New("channel is closed")

func (r *channelReader) receive(got func(message []byte)) (err error) {
	var open bool
	if r.buf, open = <-r.from; !open {
		return errChannelClosed
	}
	got(r.buf[:])
	return nil
}
