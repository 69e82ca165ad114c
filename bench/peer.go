//go:build linux

package main

import (
	"errors"
	"io"
)

// A peer is one means by which processes on a host share facts. Each lies in a
// file of its own; what it leaves nil it does not do.
type peer struct {
	name  string
	class class
	notes []string // what it does not do, or does besides

	// serve starts what has to run before siblings can meet, and returns its
	// address and version. Its error is the reason why the peer is missing.
	serve func(b *bench) (address, version string, err error)

	latest   func(place) (latest, error)
	store    func(place) (store, error)
	sender   func(place) (sender, error)
	receiver func(place) (receiver, error) // polls, if the peer can be polled
	sleeper  func(place) (receiver, error) // sleeps until there is something
	claimer  func(place) (claimer, error)
	join     func(place) (io.Closer, error)

	// remove deletes what a place left behind, if it is not a file in its
	// directory.
	remove func(place)

	queue   bool // it holds a sender up until somebody receives
	batches bool // its senders are batchSenders
	crowd   bool // one process can join many times
	scale   bool // it takes part in the jobs that vary the number of writers
	sweep   bool // it takes part in the jobs that vary what is stored
}

// A class says what kind of thing a peer is.
type class string

const (
	classOrbit  class = "orbit"
	classFloor  class = "floor"  // without safety, to see what safety costs
	classKernel class = "kernel" // every operation is a system call
	classFile   class = "file"   // a library over a mapped or locked file
	classServer class = "server" // every operation is a message to a process
	classLocal  class = "local"  // one process only: no sibling sees it
)

// local tells that siblings are goroutines, for want of processes.
func (p *peer) local() bool { return p.class == classLocal }

// does lists what can be asked of it.
func (p *peer) does() (list []string) {
	for _, d := range []struct {
		can  bool
		what string
	}{
		{p.latest != nil, "latest value"},
		{p.store != nil, "cache"},
		{p.receiver != nil, "events"},
		{p.sleeper != nil, "wake"},
		{p.claimer != nil, "claims"},
		{p.join != nil, "join"},
	} {
		if d.can {
			list = append(list, d.what)
		}
	}
	return list
}

// A place is where the siblings of one measurement meet.
type place struct {
	Dir         string // in shared memory, removed with all that is in it
	Address     string // of the peer's server
	Name        string // used by no other measurement
	Payload     int    // bytes
	Capacity    int    // slots, where there are slots
	Members     int    // who only sit there
	Subscribers int
	Index       int // which of the subscribers
}

// file returns the path of the place's file of a suffix.
func (p place) file(suffix string) string { return p.Dir + "/" + p.Name + suffix }

// latest is a handle to one value, of which only the newest counts.
type latest interface {
	io.Closer
	write(value []byte) error
	read(dst []byte) ([]byte, error) // into the space of dst, if the peer can
}

// store is a handle to values by key.
type store interface {
	io.Closer
	put(key string, value []byte) error
	get(key string, dst []byte) (value []byte, hit bool, err error) // as read
}

// sender sends messages to all receivers of its place.
type sender interface {
	io.Closer
	send(message []byte) error
}

// batchSender sends several messages at the price of less than as many calls.
type batchSender interface {
	sender
	sendBatch(messages [][]byte) error
}

// receiver calls got for each message at hand. If there is none it returns
// without, or waits for one. A message is good until got returns.
type receiver interface {
	io.Closer
	receive(got func(message []byte)) error
}

// claimer claims and releases the one subject of its place.
type claimer interface {
	io.Closer
	claim() (bool, error) // false if another has it
	release() error
}

// value is the payload wherever a job does not vary it.
const value = 64

// ttl is the time to live of cached values and claims, in seconds, where the
// peer knows such a thing.
const ttl = 60

// held is what a claim writes where it has to write something.
var held = []byte{'1'}

var errMiss = errors.New("the value that was written is not there")

// peers are all of them, in the order of the report.
var peers []*peer

// Peers lead to siblings, and siblings to peers.
func init() {
	peers = []*peer{
		orbitPeer("orbit", false),
		orbitPeer("orbit, no fault guard", true),
		orbitValue,
		orbitRing,
		bareCopy,
		seqlock,
		mailbox,
		flock,
		pipe,
		datagram,
		mqueue,
		lmdb,
		sqlite,
		redis,
		memcached,
		natsBroker,
		boltDB,
		syncMap,
		otterCache,
		channel,
	}
}

func findPeer(name string) *peer {
	for _, p := range peers {
		if p.name == name {
			return p
		}
	}
	return nil
}
