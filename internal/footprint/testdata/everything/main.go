// A program that uses every substrate.
package main

import (
	"time"

	"orbit"
)

type load struct{ CPU, Memory float64 }

func (load) OrbitKind() uint8 { return 12 }

func main() {
	fleet, err := orbit.Join("footprint", orbit.Options{Size: 1})
	check(err)
	defer fleet.Close()
	o, err := orbit.Bind[load](fleet)
	check(err)
	_, err = o.Store(load{0.5, 0.25})
	check(err)
	cursor := o.Ring().Oldest()
	check(cursor.Wait(nil))
	bus, err := orbit.Events(fleet)
	check(err)
	sub := bus.SubscribeNow()
	_, err = bus.Publish("topic", []byte("payload"))
	check(err)
	var ev orbit.Event
	check(sub.Next(nil, &ev))
	cache, err := orbit.OpenCache(fleet, "prefix")
	check(err)
	check(cache.Put("key", []byte("value"), time.Second))
	heart, err := orbit.Heartbeats(fleet)
	check(err)
	check(heart.Beat())
	_, err = heart.Snapshot(time.Second)
	check(err)
	contest, err := orbit.OpenContest(fleet)
	check(err)
	guard, err := orbit.Claim[load](contest, "label", "owner", time.Second)
	check(err)
	guard.Release()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
