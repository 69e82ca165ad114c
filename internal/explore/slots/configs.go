//go:build orbit_overlay

package main

var configs = []config{
	{name: "two writers", capacity: 2, filled: 2, threads: []string{"publish", "publish"}},
	{name: "two writers, reader", capacity: 2, filled: 2, threads: []string{"publish", "publish", "newest"}},
	{name: "two writers, reader, c1", capacity: 1, filled: 1, threads: []string{"publish", "publish", "newest"}},
	{name: "two writers, reader, deaths", capacity: 2, filled: 2, deaths: 1, threads: []string{"publish", "publish", "newest"}},
	{name: "two writers twice, reader", capacity: 2, filled: 2, threads: []string{"publish publish", "publish publish", "newest"}},
	{name: "two writers twice, reader, c1", capacity: 1, filled: 1, threads: []string{"publish publish", "publish publish", "newest"}},
	{name: "two writers twice, reader, deaths", capacity: 2, filled: 2, deaths: 1, threads: []string{"publish publish", "publish publish", "newest"}},
	{name: "three writers", capacity: 2, filled: 2, threads: []string{"publish", "publish", "publish"}},
}
