// Package explore runs a small concurrent program in every order that its
// threads can make their steps in, and checks each state on the way. The
// program is not a model: it is package orbit, compiled from its own sources
// with every operation on shared memory reported as a step. How that copy is
// made, and why no step can be left out of it, is told in package
// orbit/internal/overlay. This package is the search; what it explores, and
// what every step is held to, is in the directories slots and claims.
//
// # Slots
//
// Rings of one to eight slots, with writers and readers that stand for so many
// processes. In short:
//
//   - every change of a slot's state is one of the legal transitions, made by
//     who may make it, and nobody else writes into a slot;
//   - no slot names a counter that nobody has taken;
//   - a frame committed or delivered is whole, and the one committed there;
//   - the newest frame is no older than any committed before the call, and if
//     none was found, there was a moment without any;
//   - a cursor delivers in order, each frame once, and what it says of the
//     counters in between can be so;
//   - every thread comes to an end, whoever else dies or stands still;
//   - then a survivor reads everything and goes round the ring twice.
//
// # Claims
//
// A contest table of two buckets, in which every subject has the same sixteen
// entries: all free, or all but one, two or three taken by claims that stand;
// and with records enough, or one or two. Two and three claimants want a
// subject, take it up again, renew and release it, ask whether they still hold
// it and who does, while processes die, time runs out and the clocks of two
// processes differ; or threads of one process claim it together, its timer
// goes off, and it closes. What is held to is this:
//
//   - every change of an entry is one of the legal transitions, made by who may
//     make it: a claim that stands is ended by nobody else before the time that
//     its owner was promised;
//   - at most one entry holds a subject, and at most one guard of it is valid,
//     in every state;
//   - guards have tokens in the order in which they came to hold the subject;
//   - a record is written by its owner alone, does not change while an entry
//     names it but for what may, and changes hands only while none does;
//   - who is told to yield was not alone, is told of a claim that was made, and
//     who is told that the table is full found it so;
//   - a look finds the holder if there was one all the time, and none if there
//     was none;
//   - without deaths and expiries the subject never ends with nobody, whatever
//     claims yielded;
//   - then a survivor claims every subject, with a larger token than any before
//     it, unless somebody holds it; and once all is released nothing is left in
//     the table, and as much room as in the beginning.
//
// Claimants who find the table the same want the same entry, and a compare
// decides between them. Where two shall meet with a claim in an entry each, so
// that one must be struck, another subject is in an entry that both would take,
// and is released at some moment.
//
// Claims are announced in the ring of the contest, but the announcement decides
// nothing, so in all worlds but one the ring refuses it. The labels are short:
// each word of a record that is written makes steps.
//
// # Deaths, stops and clocks
//
// A process that stops is one whose steps come late, or not at all while the
// others come to their ends: that is among the orders explored. A process that
// dies makes no step any more, and the kernel says so when asked. Whether it is
// dead is decided when somebody asks, and from then on; before the first
// question a death is a stop. A pause, the little sleep of a writer who finds
// every slot held, ends when something has changed or, if nothing does, ends
// the waiting: to look again before is to see the same again. A clock stands
// still, or jumps past every timeout, which is decided when somebody reads it:
// before that nobody can tell.
//
// # Threads of one process
//
// What a process has to itself, locks included, is no step in a process with a
// single thread: nobody else sees it, and it follows from what the thread has
// seen. If there are more, each operation on it is a step. One who wants a lock
// moves when it is free; a state in which all who are left want locks is a
// violation.
//
// # How it works
//
// Each thread is a coroutine that gives way before every step. An execution
// follows the path of choices to its end and then the first choice of each new
// state; the next one differs in the last choice that has an alternative. A
// state is what is in memory, what every thread has seen so far (from which
// follows all that it holds in variables), and what the checks remember; one
// that was seen before is not explored again. Loads of words that nobody writes
// are no steps: which these are is found out by starting again when one is
// written after all.
//
// What makes the worlds finite is that each thread makes a few operations, and
// that every failed try of one takes a step of another, a death or a jump of
// the clock, of which there are so many. Counters need no bound: they go no
// further than that. Only three writers over two slots could keep one another
// from committing for ever, by laps that take ever new counters; there states
// with more than so many counters taken are where the search turns back, and it
// says how many these were.
//
// Two reductions leave all states in and some orders out. A loop that tries
// until it succeeds forgets its failed tries (package overlay checks what it
// carries from one to the next); one that fails again without any change comes
// round to the same state, and is reported as endless. And of two steps whose
// order makes no difference only one order is explored, by Godefroid's sleep
// sets; the checks have a say in which those are. The flag -plain of the
// commands explores them all, and finds the same states. In the worlds of
// claims, moreover, what a thread has seen in an operation is forgotten when it
// is over: all that is left of it is the guard and what the process has to
// itself.
//
// States are told apart by 64 bits: among ten million different ones the odds
// that two are taken for the same are one in 300,000.
//
// What it does not show: more threads, slots and operations than there are in
// its worlds; and orders that only a processor's weak memory makes, for each
// step here is seen by all at once, as Go promises for sync/atomic.
//
//	go test -v ./internal/explore                 the small worlds: 3.2 million states of slots, 1.6 million of claims
//	go test -v ./internal/explore -explore.long   all of them: hours for slots, 18 million states and minutes for claims
package explore
