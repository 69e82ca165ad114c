// Package explore runs a small concurrent program in every order that its
// threads can make their steps in, and checks each state on the way. The
// program is not a model: it is package orbit, compiled from its own sources
// with every operation on shared memory reported as a step. How that copy is
// made, and why no step can be left out of it, is told in package
// orbit/internal/overlay; what is explored is in the directory slots: rings of
// one to eight slots, with writers and readers that stand for so many
// processes, and the checks that each of their steps is held to. In short:
//
//   - every change of a slot's state is one of the legal transitions, made by
//     who may make it, and nobody else writes into a slot;
//   - below the head every slot names its counter or a later one;
//   - a frame committed or delivered is whole, and the one committed there;
//   - the newest frame is no older than any committed before the call, and if
//     none was found, there was a moment without any;
//   - a cursor delivers in order, each frame once, and what it says of the
//     counters in between can be so;
//   - every thread comes to an end, whoever else dies or stands still;
//   - then a survivor reads everything and goes round the ring twice.
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
// still, or jumps past every timeout.
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
// Two reductions leave all states in and some orders out. A loop that tries
// until it succeeds forgets its failed tries (package overlay checks what it
// carries from one to the next); one that fails again without any change comes
// round to the same state, and is reported as endless. And of two steps whose
// order makes no difference only one order is explored, by Godefroid's sleep
// sets.
//
// States are told apart by 64 bits: among ten million different ones the odds
// that two are taken for the same are one in 300,000.
//
// What it does not show: more threads, slots and operations than there are in
// its worlds; and orders that only a processor's weak memory makes, for each
// step here is seen by all at once, as Go promises for sync/atomic.
//
//	go test -v ./internal/explore                 the small worlds
//	go test -v ./internal/explore -explore.long   all of them: hours
package explore
