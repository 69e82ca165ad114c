package orbit

import (
	"encoding/binary"
	"runtime"
	"unsafe"
)

// A record of the cache is a frame of the cache's ring. The frame's kind says
// what the record does, its version is when the record expires on the clock of
// [clockNow], 0 for never, and its payload is
//
//	lengths u64 | prefix | key | value
//
// Prefix and key are padded with zeros to whole words. From its low end,
// lengths is the length of the prefix, 16 bits, the length of the key, 16
// bits, and in an add the low 32 bits of the counter below which all frames
// were settled when the key was found absent.
const (
	cachePut = 1 + iota
	cacheAdd
	cacheDelete
	cacheReset // of the prefix; without a key

	cacheTexts    = wordSize // where the prefix begins in the payload
	cacheSizeMask = 1<<32 - 1
	maxCacheText  = 1<<16 - 1
)

// cacheLengths is the lengths word of a record that is not an add.
func cacheLengths(prefix, key int) uint64 { return uint64(prefix) | uint64(key)<<16 }

// cacheValueAt returns where the value begins in a payload with these lengths.
func cacheValueAt(lengths uint64) int {
	prefix, key := int(lengths&maxCacheText), int(lengths>>16&maxCacheText)
	return cacheTexts + roundUp(prefix, wordSize) + roundUp(key, wordSize)
}

// A cacheRecord is all of a record but its value. The texts alias the bytes it
// was decoded from.
type cacheRecord struct {
	op      uint8
	expiry  int64
	settled uint32
	prefix  []byte
	key     []byte
}

// decodeCacheRecord decodes the payload of a frame, which may end where the
// value begins. It accepts only what the cache writes.
func decodeCacheRecord(op uint8, expiry int64, b []byte) (rec cacheRecord, ok bool) {
	if op < cachePut || op > cacheReset || len(b) < cacheTexts {
		return rec, false
	}
	lengths := binary.NativeEndian.Uint64(b)
	if len(b) < cacheValueAt(lengths) {
		return rec, false
	}
	rec = cacheRecord{op: op, expiry: expiry, settled: uint32(lengths >> 32)}
	rec.prefix, b, ok = cutText(b[cacheTexts:], int(lengths&maxCacheText))
	if !ok {
		return rec, false
	}
	rec.key, _, ok = cutText(b, int(lengths>>16&maxCacheText))
	return rec, ok && (op != cacheReset || len(rec.key) == 0) && (op == cacheAdd || rec.settled == 0)
}

// cutText cuts a text of n bytes and its padding from b, which is long enough.
func cutText(b []byte, n int) (text, rest []byte, ok bool) {
	end := roundUp(n, wordSize)
	for _, pad := range b[n:end] {
		if pad != 0 {
			return nil, b, false
		}
	}
	return b[:n:n], b[end:], true
}

// putText writes a text at an offset of the payload of a slot that this member
// owns, and returns the offset behind its padding.
func putText(s unsafe.Pointer, at int, text string) int {
	for i := 0; i < len(text); i += wordSize {
		putWord(s, offPayload+uintptr(at+i), textWord(text, i))
	}
	return at + roundUp(len(text), wordSize)
}

// sameText tells whether the payload of a slot has the words of a text at an
// offset.
func sameText(s unsafe.Pointer, at int, text string) bool {
	if totalOrder {
		return unsafe.String((*byte)(unsafe.Add(s, offPayload+uintptr(at))), len(text)) == text
	}
	for i := 0; i < len(text); i += wordSize {
		if getWord(s, offPayload+uintptr(at+i)) != textWord(text, i) {
			return false
		}
	}
	return true
}

// textWord returns the word of a text that begins at byte i, padded with
// zeros.
func textWord(text string, i int) (w uint64) {
	if len(text)-i >= wordSize {
		return wordAt(text, i)
	}
	if !littleEndian {
		return tailWord(text[i:])
	}
	if n := len(text); n >= wordSize {
		return wordAt(text, n-wordSize) >> (8 * uint(i+wordSize-n) & 63)
	}
	for j := len(text) - 1; j >= i; j-- {
		w = w<<8 | uint64(text[j])
	}
	return w
}

// wordAt returns the word of the 8 bytes of a text from byte i.
func wordAt(text string, i int) uint64 {
	return binary.NativeEndian.Uint64(unsafe.Slice(unsafe.StringData(text), len(text))[i:])
}

func tailWord(text string) uint64 {
	var word [wordSize]byte
	copy(word[:], text)
	return binary.NativeEndian.Uint64(word[:])
}

// littleEndian is true where the short ways to the last word of a text are
// known to be right.
const littleEndian = runtime.GOARCH == "amd64" || runtime.GOARCH == "386" || runtime.GOARCH == "arm64"
