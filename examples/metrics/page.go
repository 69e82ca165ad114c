package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"orbit"
)

// A Page is what the fleet has counted, as text for Prometheus.
type Page struct {
	samples *orbit.Orbital[Sample]
	heart   *orbit.Heartbeat
	maxAge  time.Duration // of a heartbeat, before its process is stale
}

func openPage(fleet *orbit.Fleet, maxAge time.Duration) (*Page, error) {
	samples, err := orbit.Bind[Sample](fleet)
	if err != nil {
		return nil, err
	}
	heart, err := orbit.Heartbeats(fleet)
	return &Page{samples, heart, maxAge}, err
}

// A row is what one process has counted.
type row struct {
	node  uint16
	stale bool
	Sample
}

// rows returns the newest sample of each process, from the newest to the
// oldest.
func (p *Page) rows() (rows []row, err error) {
	type process struct {
		node    uint16
		started orbit.Stamp
	}
	seen := map[process]bool{}
	taken := map[uint16]bool{} // nodes whose present process has been seen
	for id, sample := range p.samples.Recent() {
		node := id.Node()
		if seen[process{node, sample.Started}] {
			continue
		}
		last, err := p.heart.Last(node)
		if err != nil && !errors.Is(err, orbit.ErrNoFrame) {
			return nil, err
		}
		// The heart of a node may be that of another process by now.
		stale := taken[node] || err != nil || last.Age() > p.maxAge
		if stale {
			sample.InFlight = 0 // nobody works on them any more
		}
		rows = append(rows, row{node, stale, sample})
		seen[process{node, sample.Started}], taken[node] = true, true
	}
	return rows, nil
}

// Write writes the page.
func (p *Page) Write(w io.Writer) error {
	rows, err := p.rows()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	metric := func(name, kind, help string, value func(row) any) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		for _, r := range rows {
			fmt.Fprintf(&b, "%s{node=\"%d\",pid=\"%d\"} %v\n", name, r.node, r.PID, value(r))
		}
	}
	metric("web_stale", "gauge", "1 if the process beats no more.", func(r row) any {
		if r.stale {
			return 1
		}
		return 0
	})
	metric("web_requests_total", "counter", "Requests answered.", func(r row) any { return r.Requests })
	metric("web_failures_total", "counter", "Requests answered with a status of 500 or more.", func(r row) any { return r.Failures })
	metric("web_in_flight", "gauge", "Requests at work.", func(r row) any { return r.InFlight })

	var sum Sample
	for _, r := range rows {
		sum.add(r.Sample)
	}
	sum.write(&b)
	_, err = w.Write(b.Bytes())
	return err
}

// write writes the sample as that of all processes together.
func (s *Sample) write(w io.Writer) {
	const text = `# HELP fleet_requests_total Requests answered by all processes.
# TYPE fleet_requests_total counter
fleet_requests_total %d
# HELP fleet_failures_total Requests all processes answered with a status of 500 or more.
# TYPE fleet_failures_total counter
fleet_failures_total %d
# HELP fleet_in_flight Requests at work in all processes that beat.
# TYPE fleet_in_flight gauge
fleet_in_flight %d
# HELP fleet_request_seconds How long requests took, over all processes.
# TYPE fleet_request_seconds histogram
`
	fmt.Fprintf(w, text, s.Requests, s.Failures, s.InFlight)
	below := uint64(0) // buckets of Prometheus include those before them
	for i, bound := range bounds {
		below += s.Buckets[i]
		fmt.Fprintf(w, "fleet_request_seconds_bucket{le=\"%g\"} %d\n", bound, below)
	}
	fmt.Fprintf(w, "fleet_request_seconds_bucket{le=\"+Inf\"} %d\n", s.Requests)
	fmt.Fprintf(w, "fleet_request_seconds_sum %g\nfleet_request_seconds_count %d\n", s.Seconds, s.Requests)
}

// ServeHTTP serves the page.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(b.Bytes())
}
