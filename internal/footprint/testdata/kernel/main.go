// A program that joins a fleet, stores a value and loads it.
package main

import "orbit"

type load struct{ CPU, Memory float64 }

func (load) OrbitKind() uint8 { return 12 }

func main() {
	fleet, err := orbit.Join("footprint", orbit.Options{Size: 1})
	if err != nil {
		panic(err)
	}
	defer fleet.Close()
	o, err := orbit.Bind[load](fleet)
	if err != nil {
		panic(err)
	}
	o.Store(load{0.5, 0.25})
	if v, _, err := o.Load(); err != nil || v.CPU != 0.5 {
		panic("not what was stored")
	}
}
