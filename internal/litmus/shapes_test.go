package litmus

import (
	"runtime"
	"sync/atomic"
)

// A word lies on a cache line of its own, as the state of a slot, the head, the
// first counter and the wake word do.
type word struct {
	v uint64
	_ [56]byte
}

// An instance is the memory of one run of a shape, all zeros before it, and
// what its threads saw.
type instance struct {
	state, head, first, wake, entry, index, seat word
	payload                                      [8]uint64
	saw                                          [maxThreads][4]uint64
}

const maxThreads = 4

// A shape is a race between threads that Orbit runs into, cut down to the words
// that matter. Each thread makes its accesses and stores what it saw.
type shape struct {
	name      string
	forbidden string // what it would mean if it were seen
	threads   []func(m *instance, saw *[4]uint64)
	seen      func(m *instance) bool
}

// The accesses below are copies of those in ring.go, down to the difference
// between processors.
const totalOrder = runtime.GOARCH == "amd64" || runtime.GOARCH == "386"

func load(w *word) uint64                { return atomic.LoadUint64(&w.v) }
func swap(w *word, old, new uint64) bool { return atomic.CompareAndSwapUint64(&w.v, old, new) }
func add(w *word)                        { atomic.AddUint64(&w.v, 1) }

//go:norace
func fill(p *[8]uint64, v uint64) {
	for i := range p {
		if totalOrder {
			p[i] = v
		} else {
			atomic.StoreUint64(&p[i], v)
		}
	}
}

// look returns how many words of a payload are v.
//
//go:norace
func look(p *[8]uint64, v uint64) (n uint64) {
	var copied [8]uint64
	if totalOrder {
		copied = *p
	} else {
		for i := range p {
			copied[i] = atomic.LoadUint64(&p[i])
		}
	}
	for _, w := range copied {
		if w == v {
			n++
		}
	}
	return n
}

// The states of a slot, one lap: what it was, being written, written.
const (
	old = iota
	writing
	done
)

const won = 1

func didWin(ok bool) uint64 {
	if ok {
		return won
	}
	return 0
}

// publish is claim, fill and commit.
func publish(m *instance, saw *[4]uint64) {
	saw[0] = didWin(swap(&m.state, old, writing))
	fill(&m.payload, 1)
	saw[1] = didWin(swap(&m.state, writing, done))
}

// read is look, copy and look again.
func read(m *instance, saw *[4]uint64) {
	saw[0] = load(&m.state)
	saw[1] = look(&m.payload, 1)
	saw[2] = load(&m.state)
}

// torn tells whether reader i took for a frame what nobody wrote.
func torn(m *instance, i int) bool {
	first, words, second := m.saw[i][0], m.saw[i][1], m.saw[i][2]
	return first == second && (first == old && words != 0 || first == done && words != 8)
}

var shapes = []shape{{
	name:      "frame",
	forbidden: "a torn frame: the state was the same before and after the copy, the payload not what it names",
	threads:   []func(*instance, *[4]uint64){publish, read},
	seen:      func(m *instance) bool { return torn(m, 1) },
}, {
	name:      "frame, two readers",
	forbidden: "a torn frame, or a frame that came and went again between two readers in turn",
	threads: []func(*instance, *[4]uint64){publish, func(m *instance, saw *[4]uint64) {
		read(m, saw)
		swap(&m.index, 0, 1+saw[0])
	}, func(m *instance, saw *[4]uint64) {
		saw[3] = load(&m.index)
		read(m, saw)
	}},
	seen: func(m *instance) bool {
		return torn(m, 1) || torn(m, 2) || m.saw[2][3] > 1+m.saw[2][0]
	},
}, {
	name:      "handover",
	forbidden: "words of an owner who let the slot go, over those of the owner after it",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		fill(&m.payload, 1)
		swap(&m.state, old, done)
	}, func(m *instance, saw *[4]uint64) {
		if saw[0] = didWin(swap(&m.state, done, writing)); saw[0] == won {
			fill(&m.payload, 2)
		}
	}},
	seen: func(m *instance) bool { return m.saw[1][0] == won && look(&m.payload, 2) != 8 },
}, {
	name:      "head",
	forbidden: "a slot that names a counter which nobody has taken",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		add(&m.head)
		swap(&m.state, old, writing)
	}, func(m *instance, saw *[4]uint64) {
		saw[0], saw[1] = load(&m.state), load(&m.head)
	}},
	seen: func(m *instance) bool { return m.saw[1][0] == writing && m.saw[1][1] == 0 },
}, {
	name:      "told",
	forbidden: "a frame that one had read, and another, who was told of it then, does not find",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		add(&m.head)
		swap(&m.state, old, done)
	}, func(m *instance, saw *[4]uint64) {
		if load(&m.state) == done {
			atomic.StoreUint64(&m.index.v, 1)
		}
	}, func(m *instance, saw *[4]uint64) {
		saw[0], saw[1], saw[2] = load(&m.index), load(&m.head), load(&m.state)
	}},
	seen: func(m *instance) bool { return m.saw[2][0] == 1 && (m.saw[2][1] == 0 || m.saw[2][2] != done) },
}, {
	name:      "wake",
	forbidden: "a lost wake: the publisher saw no sleeper, and the sleeper no frame",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		swap(&m.state, old, done)
		saw[0] = load(&m.wake)
	}, func(m *instance, saw *[4]uint64) {
		swap(&m.wake, 0, 1)
		saw[0] = load(&m.state)
	}},
	seen: func(m *instance) bool { return m.saw[0][0] == 0 && m.saw[1][0] == old },
}, {
	name:      "second sleeper",
	forbidden: "a lost wake of a sleeper who found the bit set already",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		swap(&m.state, old, done)
		saw[0] = load(&m.wake)
	}, func(m *instance, saw *[4]uint64) {
		swap(&m.wake, 0, 1)
	}, func(m *instance, saw *[4]uint64) {
		saw[0], saw[1] = load(&m.wake), load(&m.state)
	}},
	seen: func(m *instance) bool { return m.saw[0][0] == 0 && m.saw[2][0] == 1 && m.saw[2][1] == old },
}, {
	name:      "index",
	forbidden: "a frame found through the index of the cache that is not the one the index took",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		fill(&m.payload, 1)
		swap(&m.state, old, done)
	}, func(m *instance, saw *[4]uint64) {
		if load(&m.state) == done {
			atomic.StoreUint64(&m.index.v, 1)
		}
	}, func(m *instance, saw *[4]uint64) {
		saw[0], saw[1], saw[2] = load(&m.index), look(&m.payload, 1), load(&m.state)
	}},
	seen: func(m *instance) bool { return m.saw[2][0] == 1 && (m.saw[2][1] != 8 || m.saw[2][2] != done) },
}, {
	name:      "seat",
	forbidden: "a live claimant taken for dead: its claim was seen, its seat was not",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		atomic.StoreUint64(&m.seat.v, 1)
		swap(&m.state, old, writing)
	}, func(m *instance, saw *[4]uint64) {
		saw[0], saw[1] = load(&m.state), load(&m.seat)
	}},
	seen: func(m *instance) bool { return m.saw[1][0] == writing && m.saw[1][1] == 0 },
}, {
	name:      "record",
	forbidden: "a record of a struck claim, written anew, under an entry that named it at both looks",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		swap(&m.entry, 0, 1)
	}, func(m *instance, saw *[4]uint64) {
		if load(&m.entry) == 1 {
			fill(&m.payload, 1)
		}
	}, func(m *instance, saw *[4]uint64) {
		saw[0], saw[1], saw[2] = load(&m.entry), look(&m.payload, 1), load(&m.entry)
	}},
	seen: func(m *instance) bool { return m.saw[2][0] == 0 && m.saw[2][1] != 0 && m.saw[2][2] == 0 },
}, {
	name:      "independent readers",
	forbidden: "a head raised and a reset, seen in opposite orders by two readers",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		add(&m.head)
	}, func(m *instance, saw *[4]uint64) {
		swap(&m.first, 0, 1)
	}, func(m *instance, saw *[4]uint64) {
		saw[0], saw[1] = load(&m.head), load(&m.first)
	}, func(m *instance, saw *[4]uint64) {
		saw[0], saw[1] = load(&m.first), load(&m.head)
	}},
	seen: func(m *instance) bool {
		return m.saw[2][0] == 1 && m.saw[2][1] == 0 && m.saw[3][0] == 1 && m.saw[3][1] == 0
	},
}, {
	name:      "coherence",
	forbidden: "a state that went back",
	threads: []func(*instance, *[4]uint64){publish, func(m *instance, saw *[4]uint64) {
		for i := range saw {
			saw[i] = load(&m.state)
		}
	}},
	seen: func(m *instance) bool {
		s := &m.saw[1]
		return s[0] > s[1] || s[1] > s[2] || s[2] > s[3]
	},
}}

// The shapes below are broken on purpose: they use plain accesses where Orbit
// must not. What is forbidden above may be seen here, if the processor is one
// that reorders them.
var broken = []shape{{
	name:      "wake",
	forbidden: "a lost wake",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		saw[0] = storeThenLoad(&m.state.v, done, &m.wake.v)
	}, func(m *instance, saw *[4]uint64) {
		saw[0] = storeThenLoad(&m.wake.v, 1, &m.state.v)
	}},
	seen: func(m *instance) bool { return m.saw[0][0] == 0 && m.saw[1][0] == old },
}, {
	name:      "frame",
	forbidden: "a torn frame",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		swap(&m.state, old, writing)
		plainFill(&m.payload, 1)
		swap(&m.state, writing, done)
	}, func(m *instance, saw *[4]uint64) {
		saw[0] = load(&m.state)
		saw[1] = plainLook(&m.payload, 1)
		saw[2] = load(&m.state)
	}},
	seen: func(m *instance) bool { return torn(m, 1) },
}, {
	name:      "independent readers",
	forbidden: "two orders",
	threads: []func(*instance, *[4]uint64){func(m *instance, saw *[4]uint64) {
		plainStore(&m.head.v, 1)
	}, func(m *instance, saw *[4]uint64) {
		plainStore(&m.first.v, 1)
	}, func(m *instance, saw *[4]uint64) {
		saw[0], saw[1] = loadTwo(&m.head.v, &m.first.v)
	}, func(m *instance, saw *[4]uint64) {
		saw[0], saw[1] = loadTwo(&m.first.v, &m.head.v)
	}},
	seen: func(m *instance) bool {
		return m.saw[2][0] == 1 && m.saw[2][1] == 0 && m.saw[3][0] == 1 && m.saw[3][1] == 0
	},
}}

//go:norace
//go:noinline
func storeThenLoad(to *uint64, v uint64, from *uint64) uint64 {
	*to = v
	return *from
}

//go:norace
//go:noinline
func plainStore(to *uint64, v uint64) { *to = v }

//go:norace
//go:noinline
func loadTwo(a, b *uint64) (x, y uint64) {
	x = *a
	y = *b
	return x, y
}

//go:norace
//go:noinline
func plainFill(p *[8]uint64, v uint64) {
	for i := range p {
		p[i] = v
	}
}

//go:norace
//go:noinline
func plainLook(p *[8]uint64, v uint64) (n uint64) {
	copied := *p
	for _, w := range copied {
		if w == v {
			n++
		}
	}
	return n
}
