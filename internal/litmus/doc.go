// Package litmus checks that Orbit holds on processors that reorder accesses
// to memory, arm64 above all. It has no code of its own: this text is the
// argument, testdata has its steps as litmus files for a checker of memory
// models, and the tests play the same races on real threads and processes.
//
// # The argument in one paragraph
//
// Package orbit/internal/explore searches Orbit's protocols exhaustively, but
// with each step seen by all at once, in one order: sequential consistency.
// What remains to be shown is that real processors give nothing else. On
// everything but amd64 and 386, each access to a word that another process may
// be writing, payloads included, is an operation of sync/atomic, and a program
// of which that is true has only sequentially consistent executions. On amd64
// and 386 payloads are copied with plain instructions, which those processors
// keep in an order that is as good. So the search speaks for the processors.
//
// # arm64
//
// The compiler makes these things of the operations of sync/atomic:
//
//	Load              LDAR                   load-acquire
//	Store             STLR                   store-release
//	CompareAndSwap    CASAL                  if the processor has LSE atomics,
//	                  LDAXR ... STLXR        in a loop, if it has not
//	Add               LDADDAL, or the loop   likewise
//
// and never LDAPR, the weaker load-acquire. The choice between CASAL and the
// loop is made as the program runs, so both must hold. What is said of CASAL
// below holds for LDADDAL. Of two accesses of one thread, to different words, the
// Arm memory model (Arm Architecture Reference Manual, section B2.3,
// "Barrier-ordered-before"; aarch64hwreqs.cat of herdtools7, relation bob) keeps
// the order if
//
//	the first is a load-acquire            [A]; po; [M]    LDAR, LDAXR, CASAL's load
//	the second is a store-release          [M]; po; [L]    STLR, STLXR, CASAL's store
//	a store-release, then a load-acquire   [L]; po; [A]
//
// When every load is an acquire and every store a release, these are all the
// cases: load and anything, anything and store, store and load. So program
// order is part of the order that all observers share, which the model
// requires to be without cycles together with who reads from whom, who
// overwrites whom, and who read before it was overwritten. That is sequential
// consistency. A compare-and-swap that fails is a load-acquire and no store,
// in either form; one that succeeds lets nothing come between its load and its
// store to the same word.
//
// The third rule is what the wake handshake stands on, and the only one that
// LDAPR does not have. The second is what keeps a payload behind its claim:
// in LDAXR, STLXR the load is the acquire, and a plain store after the loop is
// ordered behind that load but may be seen before the STLXR. There the branch
// on the status of STLXR is no help: the model counts no dependency through
// it. Behind CASAL a plain store or load would be ordered, but the same
// program must run without CASAL.
//
// # Who races with whom
//
// Each line is a pair of accesses of one process, and another pair, of another
// process, that would contradict it. The file in testdata has the name of the
// line, with -llsc or -lse for the two forms of compare-and-swap; the files
// with longer names break it on purpose. Rules by number, in the order above.
//
//	torn            claim, then fill (2)
//	                copy, then the second look at the state (1)
//	                A copy that has a word of a later owner's frame is followed
//	                by a look that finds the claim of that owner, or a later one.
//	stale           fill, then commit (2)
//	                look at the state, then copy (1)
//	                A copy after a look that found the commit has its frame.
//	handover        fill, then let the slot go (2)
//	                claim, then fill (1 and 2)
//	                Who takes over a slot overwrites the owner before.
//	head            take a ticket from the head, then mark the slot (2)
//	                load the state, then the head (1)
//	                A head loaded after a state is above the counter that the
//	                state names. So a claimant tells a ticket made void from
//	                damage, who makes a counter void takes no state of the far
//	                future for an old one, and a cursor, which looks at the slot
//	                before the head, is never ahead of it.
//	told            take a ticket from the head, then commit; see the frame,
//	                then tell another of it (2)
//	                hear of it, then load the head, then the state (1)
//	                A frame committed before a call began is below the head that
//	                the call loads, and in its slot. A slot below the head that
//	                names an older counter was not marked by then: one word, its
//	                state, decides between who marks it and who makes it void.
//	wake            commit, then load the wake word (3)
//	                set the bit in the wake word, then look at the slot (3)
//	                The publisher sees the sleeper, or the sleeper the frame.
//	                A look at the head is as good: that was raised before.
//	                Raising the gate against claims, and Close, is of this shape.
//	second-sleeper  the same, if the sleeper found the bit set by another:
//	                load the wake word, then look at the slot (1)
//	index           Cache.Get copies a frame that another goroutine found
//	                committed, and looks at the state only after that: commit,
//	                look, then enter into the index (2); load the index, then
//	                copy (1). A state never comes back, so one look is enough.
//	seat            take the seat, then claim (2)
//	                look at the claim, then at the seat (1)
//	                A claimant whose claim is seen is not taken for dead.
//	install         two contestants: install, then look at the other entries (3)
//	record          a struck claimant sees that, then writes its record anew (1)
//	                see an entry, copy the record, see the entry again (1)
//	iriw            add to the head; raise the first counter, elsewhere
//	                two readers, who load both in different orders (1)
//	coherence       one word's values are seen in the order they were stored
//
// Nobody writes to a slot for the dead: the locks by which the kernel tells
// that a process is dead are dropped after its last instruction, by code with
// full barriers, and who asks for them goes through the same spin lock.
//
// # Other processors
//
// amd64 and 386 delay stores, and reorder nothing else (total store order). A
// compare-and-swap (LOCK CMPXCHG), an add (LOCK XADD) and an atomic store (XCHG)
// wait until the stores before them are seen. So the head is raised before the
// claim is seen, the claim is seen before the fill, the fill before the commit,
// and the commit before the wake word is loaded; a reader's loads are made in
// order, plain or not. Between plain stores and a load whose order matters there
// is always a compare-and-swap. The compiler moves no plain access across an
// atomic one: each takes a state of memory, and an atomic operation makes a new
// one. What copy does for large payloads keeps to this too: string instructions
// may store their own bytes in any order, but not across other stores, and the
// streaming stores that memmove uses from 1 MiB on lie between two
// compare-and-swaps, which order them like any other.
//
// riscv64 has LR.aq for a load, AMOSWAP.aqrl for a store, AMOADD.aqrl for an add
// and LR.aq, SC.rl for a compare-and-swap. The annotations of these are of the
// kind (RCsc) that has the same three rules (RISC-V manual, RVWMO, preserved
// program order 5 to 7).
// s390x delays stores only, and the compiler serializes after an atomic one.
// ppc64le has a SYNC before every atomic load and store.
//
// All of this takes one thing for granted: that an operation of sync/atomic is
// one of the processor, and so means something to another process. On mips and
// mipsle, and on arm unless it is built with GOARM=7 or the kernel reports
// LPAE, the 64-bit operations take a lock in the memory of the process instead.
// There shared fleets cannot work, and TestProcessesSeeNothingForbidden does
// not pass: what is lost between processes there is the additions it counts by.
//
// # What shows what
//
// The litmus files are checked with herd7 of herdtools7 (7.58 has been used; it
// is in Debian from 14 on, and in opam), which enumerates all executions that
// the architecture allows:
//
//	cd internal/litmus/testdata && herd7 *.litmus | grep Observation
//
// testdata/expected.txt says what it finds. The files are those of one race
// each, with one word of payload; that whole programs are sequentially
// consistent is the argument above. A test runs herd7 if there is one, and
// tries each condition without its last term too, which must be possible.
//
// The Go tests play the same shapes with real threads, in one process and in
// several, and through the public face of package orbit:
//
//	go test ./internal/litmus                     some seconds
//	go test ./internal/litmus -litmus.time 1m -timeout 2h    a minute for each
//
// and under emulation, once with LSE atomics and once without:
//
//	cd internal/litmus && GOARCH=arm64 CGO_ENABLED=0 go test -c -o /tmp/litmus.arm64
//	for cpu in max cortex-a53; do
//		ORBIT_TEST_EXEC="qemu-aarch64 -cpu $cpu" qemu-aarch64 -cpu $cpu /tmp/litmus.arm64 -test.v
//	done
//
// On a real arm64 machine they look for reorderings where those happen. An
// emulator on amd64 cannot show them: it turns each access into one of amd64,
// in order, so that the only reordering left is that of amd64's own store
// buffer, which it does show: TestBrokenShapesShowTheForbidden finds lost wakes
// under it, but neither torn frames nor two orders of independent stores, which
// the same broken code has on arm64. What emulation does show is that the code
// for arm64 does what it should: it copies every byte of every length, and
// takes both forms of compare-and-swap. That nothing is reordered on arm64 rests
// on the argument, on herd7 and on TestCompilerMakesTheInstructionsOfTheArgument;
// a run on an arm64 machine would add evidence, but no proof.
package litmus
