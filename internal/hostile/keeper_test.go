//go:build linux

package hostile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func init() { roles["keeper"] = keeper }

// keeper is a member that holds the subject of its name, and does what it is
// told: keeper fleet name.
func keeper(args []string) error {
	read := proc.WatchParent()
	return keep(args[0], args[1], read, nil)
}

// keep is the life of a keeper. More are commands beyond those that all know.
func keep(fleet, name string, read func() string, more map[string]func() string) error {
	f, err := orbit.Join(fleet, crewOptions())
	if err != nil {
		return err
	}
	c, err := orbit.OpenContest(f)
	if err != nil {
		return err
	}
	h, err := orbit.Heartbeats(f)
	if err != nil {
		return err
	}
	cache, err := orbit.OpenCache(f, "kept")
	if err != nil {
		return err
	}
	g, err := orbit.Claim[task](c, name, name, time.Minute)
	if err != nil {
		return err
	}
	guards := map[string]*orbit.Guard{name: g}
	fmt.Println("keeps", name)
	for line := read(); line != ""; line = read() {
		word, about, _ := strings.Cut(line, " ")
		switch word {
		case "members":
			m, err := f.Members()
			fmt.Println("members", len(m), nameOf(err))
		case "held":
			_, held, err := orbit.HolderOf[task](c, about)
			fmt.Println("held", held, nameOf(err))
		case "claim":
			g, err := orbit.Claim[task](c, about, name, time.Minute)
			if err == nil {
				guards[about] = g
			}
			fmt.Println("claim", nameOf(err))
		case "valid":
			g := guards[about]
			fmt.Println("valid", g.Valid())
		case "token":
			fmt.Println(guards[about].Token())
		case "beat":
			fmt.Println("beat", nameOf(h.Beat()))
		case "pulse":
			var node uint16
			fmt.Sscan(about, &node)
			all, err := h.Snapshot(time.Minute, node)
			state := "none"
			for _, p := range all {
				if p.Node == node {
					state = p.State.String()
				}
			}
			fmt.Println("pulse", state, nameOf(err))
		case "put":
			fmt.Println("put", nameOf(cache.Put(about, []byte(name), time.Minute)))
		case "get":
			v, ok, err := cache.Get(about)
			fmt.Println("get", string(v), ok, nameOf(err))
		default:
			fmt.Println(more[line]())
		}
	}
	return f.Close()
}

// becomes asks a process again and again until it gives the wanted answer.
func becomes(t *testing.T, p *proc.Process, ask, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		p.Say(ask)
		if got = answer(t, p); got == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("asked for %q, a process still answers %q after %v, want %q", ask, got, patience, want)
		}
	}
}
