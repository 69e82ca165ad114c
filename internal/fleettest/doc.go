// Package fleettest holds the tests of whole fleets: many processes that share
// segments, are killed, stopped and started again, and a world that is hostile
// to them: foreign objects, damaged bytes, no space. It has no code of its own.
package fleettest
