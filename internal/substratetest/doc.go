// Package substratetest holds the event bus, the cache and the heartbeat to
// what they promise between processes: real ones, which are killed, stopped and
// started again while their siblings look on. It has no code of its own.
package substratetest
