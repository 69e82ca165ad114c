//go:build !linux

package main

// Only Linux has shared memory objects as files that can be listed.

func segmentPath(string, uint8) string { return "" }

func segments(string) []segment { return nil }
