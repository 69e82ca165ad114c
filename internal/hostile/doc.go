// Package hostile holds the tests of a hostile world: bytes overwritten at
// random, segments truncated, unlinked and made anew under live fleets, other
// users who squat names, namespaces with other process ids and other clocks,
// systems without space, descriptors or addresses, and children that outlive
// their parents. It has no code of its own.
//
// What it leaves out is in package fleettest: foreign and damaged segments met
// at the door (hostile_test.go), words of a ring overwritten one by one and a
// single ring or the roster truncated (damage_test.go), the roster replaced
// (replace_test.go), the limits of one ring (limits_test.go), and storms of
// kills and stops (storm_test.go). Claims of the dead are in contesttest, and
// death at every step in crash.
//
// The tests called Truncated cannot run under the race detector, whose atomics
// fault where nobody can catch it: leave them out with -skip Truncated. The
// flag -hostile.for sets how long each random test goes on.
//
// One thing that damage can do is left: a head that is thrown 2^39 counters
// ahead and back makes counters come twice, and a reader that was stopped in
// the middle of a copy all the while takes a frame of the second time for the
// one of the first. Who can do that could have written into the frame itself.
package hostile
