//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "the tests that notice faults need Linux")
	os.Exit(1)
}
