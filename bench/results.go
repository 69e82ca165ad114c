//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// results are all that a run found.
type results struct {
	Date       time.Time   `json:"date"`
	Go         string      `json:"go"`
	System     string      `json:"system"`
	Processor  string      `json:"processor"`
	Processors int         `json:"processors"`
	Load       string      `json:"load"` // of the machine at the start
	AtomicAdd  float64     `json:"atomic_add_ns"`
	AtomicAdds [2]float64  `json:"atomic_add_before_and_after_ns"`
	Effort     string      `json:"effort"`
	Peers      []peerNotes `json:"peers"`
	Missing    []missing   `json:"missing"`
	Groups     []group     `json:"jobs"`
	Failed     int         `json:"failed"`
}

type peerNotes struct {
	Name    string   `json:"name"`
	Class   class    `json:"class"`
	Does    []string `json:"does"`
	Version string   `json:"version,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// missing is a peer that this machine does not have, and why.
type missing struct {
	Peer   string `json:"peer"`
	Reason string `json:"reason"`
}

// A group is one job with the figures of all peers.
type group struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Rate    bool     `json:"rate"`
	Chart   bool     `json:"chart"`
	Figures []figure `json:"figures"`
}

func newResults(e effort) *results {
	return &results{
		Date: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), System: system(),
		Processor: processor(), Processors: runtime.NumCPU(), Load: load(),
		Effort: fmt.Sprintf("median of %d rounds of %v after a warm-up; p99 of up to %d operations timed one by one", e.rounds, e.round, e.samples),
	}
}

func system() string {
	var u syscall.Utsname
	syscall.Uname(&u)
	var release []byte
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	return fmt.Sprintf("%s/%s, kernel %s", runtime.GOOS, runtime.GOARCH, release)
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// moduleVersion returns the version of a module that is built in.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	return ""
}

// relate sets every ratio. The unit is the smaller of what an atomic add took
// before and after: what disturbs a measurement only ever adds to it.
func (r *results) relate(before, after float64) {
	r.AtomicAdd, r.AtomicAdds = min(before, after), [2]float64{before, after}
	for _, g := range r.Groups {
		for i := range g.Figures {
			g.Figures[i].Ratio = g.Figures[i].Nanos / r.AtomicAdd
		}
	}
}

func (r *results) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

func readResults(path string) (*results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &results{}
	return r, json.Unmarshal(text, r)
}

// classOf returns the class of a peer of these results.
func (r *results) classOf(name string) class {
	for _, p := range r.Peers {
		if p.Name == name {
			return p.Class
		}
	}
	return ""
}
