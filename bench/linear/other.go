//go:build !linux

// Linear checks that Orbit is linearizable across real processes. It needs
// Linux, where processes can be stopped and killed between any two steps.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "linear: needs Linux")
	os.Exit(1)
}
