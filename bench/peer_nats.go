//go:build linux

package main

import (
	"errors"
	"io"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// natsBroker is a broker as a library. It runs in a sibling of its own.
var natsBroker = &peer{
	name:  "NATS",
	class: classServer,
	notes: []string{
		"embedded broker in a process of its own, over TCP on the loopback, for it has no Unix sockets; core only, without JetStream; a publish returns before the broker has it; drops what a subscriber is too slow for; to join is to connect, of which no sibling is told",
	},
	serve: func(b *bench) (string, string, error) {
		_, ready, err := b.spawn(order{Role: "nats", Place: place{Dir: b.dir}})
		return ready.Text, moduleVersion("github.com/nats-io/nats-server/v2"), err
	},
	sender:   func(at place) (sender, error) { return dialNATS(at) },
	receiver: subscribeNATS,
	sleeper:  subscribeNATS,
	join:     func(at place) (io.Closer, error) { return dialNATS(at) },
	batches:  true,
	crowd:    true,
}

// runNATS is the role of the broker.
func runNATS(w *work) error {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, MaxPending: 1 << 30,
	})
	if err != nil {
		return err
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(5 * time.Second) {
		return errors.New("the broker does not answer")
	}
	w.text = s.ClientURL()
	w.ready()
	w.idle()
	return nil
}

type natsConn struct {
	*nats.Conn
	subject string
}

func dialNATS(at place) (*natsConn, error) {
	c, err := nats.Connect(at.Address)
	return &natsConn{c, at.Name}, err
}

func (c *natsConn) Close() error {
	c.Conn.Close()
	return nil
}

func (c *natsConn) send(message []byte) error { return c.Publish(c.subject, message) }

// sendBatch sends one by one: the client gathers what is sent by itself.
func (c *natsConn) sendBatch(messages [][]byte) error {
	for _, m := range messages {
		if err := c.send(m); err != nil {
			return err
		}
	}
	return nil
}

type natsSubscriber struct {
	*natsConn
	from chan *nats.Msg
}

func subscribeNATS(at place) (receiver, error) {
	c, err := dialNATS(at)
	if err != nil {
		return nil, err
	}
	s := &natsSubscriber{c, make(chan *nats.Msg, 1<<16)}
	if _, err := c.ChanSubscribe(c.subject, s.from); err != nil {
		return nil, err
	}
	return s, c.Flush()
}

func (s *natsSubscriber) receive(got func(message []byte)) error {
	got((<-s.from).Data)
	return nil
}
