//go:build orbit_overlay

package main

var configs = []config{
	{name: "2", records: 4, threads: []string{"claim", "claim"}},
	{name: "2 release", records: 4, threads: []string{"claim release", "claim release"}},
	{name: "2 d", records: 4, deaths: 1, threads: []string{"claim release", "claim"}},
	{name: "2 jump", records: 4, jumps: 1, threads: []string{"claim", "claim"}},
	{name: "renew jump", records: 4, jumps: 1, threads: []string{"claim renew valid", "claim"}},
	{name: "3", records: 4, threads: []string{"claim", "claim", "claim"}},
}
