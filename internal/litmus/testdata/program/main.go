// Command program uses the parts of package orbit whose code for arm64 is
// looked at.
package main

import (
	"context"

	"orbit"
)

func main() {
	f, err := orbit.Local("program", orbit.Options{Size: 1})
	if err != nil {
		panic(err)
	}
	r, err := f.Ring(1)
	if err != nil {
		panic(err)
	}
	c := r.Oldest()
	r.Publish(1, 1, []byte("frame"))
	c.Wait(context.Background())
	c.Next(nil)
	r.Newest(nil)
}
