//go:build orbit_overlay

package main

// Two claimants who find the table the same want the same entry, and one of
// them gets it. Where they shall meet with a claim in an entry each, a third
// thread has another subject for a while: one looks before that is released,
// the other after.
var configs = []config{
	// Two claimants and three, in a table with room.
	{name: "2", records: 4, threads: []string{"claim", "claim"}},
	{name: "2 apart", records: 4, threads: []string{"claim", "claim", "had release!"}},
	{name: "2 release", records: 4, threads: []string{"claim release claim", "claim release"}},
	{name: "2 look", records: 4, threads: []string{"claim renew release", "claim", "look"}},
	{name: "3", records: 4, threads: []string{"claim", "claim", "claim"}},
	{name: "3 apart", records: 4, threads: []string{"claim", "claim", "claim!", "had release!"}, long: true},
	{name: "3 release", records: 4, threads: []string{"claim! release", "claim", "claim"}, long: true},
	{name: "again", records: 4, threads: []string{"claim claim release", "claim"}},
	{name: "announced", records: 4, announce: true, threads: []string{"claim release", "claim"}},

	// Deaths.
	{name: "2 d", records: 4, deaths: 1, threads: []string{"claim claim release", "claim release"}},
	{name: "2 2d", records: 4, deaths: 2, threads: []string{"claim", "claim"}},
	{name: "apart d", records: 4, deaths: 1, threads: []string{"claim", "claim", "had release!"}},
	{name: "3 d", records: 4, deaths: 1, threads: []string{"claim", "claim", "claim"}, long: true},

	// The end of time.
	{name: "renew jump", records: 4, jumps: 1, threads: []string{"claim! renew valid", "keep"}},
	{name: "again jump", records: 4, jumps: 1, threads: []string{"claim! claim valid", "keep"}, long: true},
	{name: "2 jump", records: 4, jumps: 1, threads: []string{"claim valid", "keep"}},
	{name: "2 2 jump", records: 4, jumps: 1, threads: []string{"claim", "claim"}, long: true},
	{name: "apart jump", records: 4, jumps: 1, threads: []string{"claim", "keep", "had release!"}, long: true},
	{name: "look jump", records: 4, jumps: 1, threads: []string{"claim! renew", "keep", "look"}, long: true},
	{name: "edge", records: 4, jumps: 1, edge: 20_000, skew: 40_000, threads: []string{"claim! valid renew", "keep"}},
	{name: "jump d", records: 4, jumps: 1, deaths: 1, threads: []string{"claim! renew", "keep"}},

	// Few entries, few records.
	{name: "1 entry", records: 32, free: 1, threads: []string{"claim release", "claim"}},
	{name: "2 entries", records: 32, free: 2, threads: []string{"claim release", "claim"}},
	{name: "3 entries", records: 32, free: 3, threads: []string{"claim release", "claim"}},
	{name: "2 entries apart", records: 32, free: 2, threads: []string{"claim", "claim", "had release!"}},
	{name: "1 entry other", records: 32, free: 1, deaths: 1, threads: []string{"claim! release", "other", "claim"}, long: true},
	{name: "1 entry jump", records: 32, free: 1, jumps: 1, threads: []string{"claim! renew", "keep"}},
	{name: "1 record", records: 4, spare: 1, together: true, deaths: 1, threads: []string{"claim", "keep release"}},
	{name: "record of the dead", records: 4, spare: 1, together: true, deaths: 1, threads: []string{"claim", "other"}},
	{name: "2 records", records: 4, spare: 2, together: true, deaths: 1, threads: []string{"claim", "keep! release", "other"}, long: true},

	// Threads of one process.
	{name: "share", records: 4, together: true, threads: []string{"0: share release", "0: share"}},
	{name: "share 3", records: 4, threads: []string{"0: share! renew", "0: share", "claim!"}},
	{name: "tick", records: 4, jumps: 1, threads: []string{"0: claim! renew", "0: tick"}},
	{name: "tick 3", records: 4, jumps: 1, threads: []string{"0: claim! renew", "0: tick", "keep!"}},
	{name: "close", records: 4, threads: []string{"0: claim", "0: close", "claim"}},
}
