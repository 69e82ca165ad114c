//go:build linux && !cgo

package main

import "errors"

// lmdb needs a compiler for C.
var lmdb = &peer{
	name:  "LMDB",
	class: classFile,
	serve: func(*bench) (string, string, error) { return "", "", errors.New("built without cgo") },
}
