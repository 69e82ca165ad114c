//go:build linux

package main

import (
	"fmt"
	"os"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/overlay/step"
)

// holdRole makes a process hold one Get up before each of its steps in turn,
// while its siblings go on, and print what came of it.
const holdRole = "hold"

// hold prints a line for each step: what the Get returned, and where it was
// held up. It began after the key was deleted.
func hold() error {
	f, err := orbit.Local("hold", orbit.Options{Size: 1})
	if err != nil {
		return err
	}
	defer f.Close()
	c, err := orbit.OpenCache(f, "")
	if err != nil {
		return err
	}
	for at, held := 1, true; held; at++ {
		for _, err := range []error{c.Put("key", []byte("old"), 0), freshen(c), c.Delete("key")} {
			if err != nil {
				return err
			}
		}
		var got, where string
		if got, where, held, err = getHeldAt(at, c); err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, got, where)
	}
	return nil
}

// freshen brings the index of the handle up to date.
func freshen(c *orbit.Cache) error {
	_, _, err := c.Get("another key")
	return err
}

// getHeldAt gets the key, and holds the Get up before a step until another Get
// has had time to end. It tells whether there was such a step.
func getHeldAt(at int, c *orbit.Cache) (got, where string, held bool, err error) {
	reached, resume, ended := make(chan string), make(chan bool), make(chan error)
	n := 0
	step.Before = func(step.Kind, unsafe.Pointer) {
		if n++; n == at {
			step.Before = nil // the others are not held up
			reached <- step.Where()
			<-resume
		}
	}
	go func() {
		b, ok, err := c.AppendGet(make([]byte, 0, 64), "key")
		got = "nothing"
		if ok {
			got = string(b)
		}
		ended <- err
	}()
	select {
	case where = <-reached:
	case err = <-ended:
		step.Before = nil
		return got, "not held up", false, err
	}
	other := make(chan error, 1)
	go func() { other <- freshen(c) }()
	select {
	case err = <-other:
	case <-time.After(20 * time.Millisecond): // it waits for a lock that the held one has
	}
	close(resume)
	if e := <-ended; err == nil {
		err = e
	}
	return got, where, true, err
}
