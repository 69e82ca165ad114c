//go:build !linux

// Bench measures Orbit and what people would use instead. It needs Linux, the
// home of shared fleets and of most of what Orbit is compared with.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: needs Linux")
	os.Exit(2)
}
