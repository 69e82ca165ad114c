//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A message carries its number in its first and last word, and the moment it
// was sent in its second. The numbers show what was lost, and frames that are
// half of one message and half of another.
const messageLen = 24

func mark(message []byte, number uint64, sent int64) {
	binary.NativeEndian.PutUint64(message, number)
	binary.NativeEndian.PutUint64(message[8:], uint64(sent))
	binary.NativeEndian.PutUint64(message[len(message)-8:], number)
}

func marks(message []byte) (number uint64, sent int64, whole bool) {
	if len(message) < messageLen {
		return 0, 0, false
	}
	number = binary.NativeEndian.Uint64(message)
	last := binary.NativeEndian.Uint64(message[len(message)-8:])
	return number, int64(binary.NativeEndian.Uint64(message[8:])), number == last
}

// pattern returns the value that siblings write: each byte differs from its
// neighbours.
func pattern(size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i*7 + 1)
	}
	return p
}

func checkPattern(got []byte, size int) error {
	if want := pattern(size); !bytes.Equal(got, want) {
		return fmt.Errorf("read %d bytes beginning %.8x, want %d beginning %.8x", len(got), got, size, want)
	}
	return nil
}
