//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func init() {
	proc.Helper("metrics", func([]string) error { main(); return nil })
}

func TestMain(m *testing.M) { proc.Main(m) }

// A site is a process that serves.
type site struct {
	*proc.Process
	url string
}

func start(t *testing.T, fleet string) site {
	t.Helper()
	p := proc.Start(t, "metrics", "-fleet", fleet, "-beat", "50ms")
	return site{p, p.Line()}
}

func (s site) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	r, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// samples reads a page: the value of each metric by its name and labels, with
// the label of the node left out.
func samples(t *testing.T, page string) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	line := regexp.MustCompile(`^([a-z_]+(?:\{.*\})?) (\S+)$`)
	for text := range strings.Lines(page) {
		text = strings.TrimSuffix(text, "\n")
		if strings.HasPrefix(text, "# ") {
			continue
		}
		m := line.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("got line %q in\n%s", text, page)
		}
		value, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		name := regexp.MustCompile(`node="\d+",`).ReplaceAllString(m[1], "")
		if _, twice := all[name]; twice {
			t.Fatalf("%s is twice in\n%s", name, page)
		}
		all[name] = value
	}
	return all
}

// want waits until the site's page has these values.
func (s site) want(t *testing.T, want map[string]float64) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		status, page := s.get(t, "metrics")
		if status != http.StatusOK {
			t.Fatalf("got status %d: %s", status, page)
		}
		got := samples(t, page)
		var wrong []string
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if v, ok := got[name]; !ok || v != want[name] {
				wrong = append(wrong, fmt.Sprintf("got %s %v, want %v", name, v, want[name]))
			}
		}
		if wrong == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s\n%s", strings.Join(wrong, "\n"), page)
		}
	}
}

// of returns the name of a metric of a site.
func (s site) of(metric string) string {
	return fmt.Sprintf("%s{pid=\"%d\"}", metric, s.Process.Process.Pid)
}

func TestPageSumsUpAllAndKeepsTheDead(t *testing.T) {
	fleet := proc.Fleet(t)
	var sites []site
	for range 3 {
		sites = append(sites, start(t, fleet))
	}
	for i, s := range sites {
		for range 10 * (i + 1) {
			if status, _ := s.get(t, "?ms=0&status=200"); status != 200 {
				t.Fatalf("got status %d, want 200", status)
			}
		}
		if status, _ := s.get(t, "?ms=60&status=503"); status != 503 {
			t.Fatalf("got status %d, want 503", status)
		}
	}
	want := map[string]float64{
		"fleet_requests_total":                    63,
		"fleet_failures_total":                    3,
		"fleet_in_flight":                         0,
		"fleet_request_seconds_count":             63,
		`fleet_request_seconds_bucket{le="+Inf"}`: 63,
		sites[0].of("web_requests_total"):         11,
		sites[1].of("web_requests_total"):         21,
		sites[2].of("web_requests_total"):         31,
		sites[2].of("web_failures_total"):         1,
		sites[0].of("web_stale"):                  0,
		sites[1].of("web_stale"):                  0,
		sites[2].of("web_stale"):                  0,
	}
	for _, s := range sites {
		s.want(t, want)
	}

	// One dies in the middle of a request.
	go http.Get(sites[2].url + "?ms=3600000")
	sites[0].want(t, map[string]float64{"fleet_in_flight": 1, sites[2].of("web_in_flight"): 1})
	sites[2].Kill()
	sites[2].Died(9)
	want[sites[2].of("web_stale")] = 1
	want[sites[2].of("web_in_flight")] = 0
	for _, s := range sites[:2] {
		s.want(t, want)
	}

	// Another takes its place, and perhaps its node id.
	sites[2] = start(t, fleet)
	sites[2].get(t, "?ms=0")
	want["fleet_requests_total"] = 64
	want["fleet_request_seconds_count"] = 64
	want[`fleet_request_seconds_bucket{le="+Inf"}`] = 64
	want[sites[2].of("web_requests_total")] = 1
	want[sites[2].of("web_stale")] = 0
	for _, s := range sites {
		s.want(t, want)
	}

	// Who only observes sees the same.
	p := proc.Start(t, "metrics", "-fleet", fleet, "-beat", "1h", "-print")
	var page strings.Builder
	for p.Stdout.Scan() {
		page.WriteString(p.Stdout.Text() + "\n")
	}
	p.Finish()
	if got := samples(t, page.String())["fleet_requests_total"]; got != 64 {
		t.Errorf("an observer printed fleet_requests_total %v, want 64", got)
	}

	for _, s := range sites {
		s.Process.Process.Signal(os.Interrupt)
		s.Finish()
	}
	if _, err := orbit.Observe(fleet); !errors.Is(err, orbit.ErrNotExist) {
		t.Errorf("got error %v, want that the fleet does not exist", err)
	}
}

func TestProcessesThatHadOneNodeAfterAnotherAreToldApart(t *testing.T) {
	fleet, err := orbit.Local("histogram", orbit.Options{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer fleet.Close()
	page, err := openPage(fleet, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i, seconds := range [][]float64{{0.01, 0.02, 7}, {0.5, 0.6}} {
		c := newCounts()
		c.sample.PID, c.sample.Started = int64(i), orbit.Stamp(i)
		for _, s := range seconds {
			c.begin()
			c.end(s, false)
		}
		if _, err := page.samples.Store(c.Sample()); err != nil {
			t.Fatal(err)
		}
	}
	if err := page.heart.Beat(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := page.Write(&text); err != nil {
		t.Fatal(err)
	}
	got := samples(t, text.String())
	if older, newer := got[`web_stale{pid="0"}`], got[`web_stale{pid="1"}`]; older != 1 || newer != 0 {
		t.Errorf("got web_stale %v of the older process and %v of the newer, want 1 and 0", older, newer)
	}
	for bound, want := range map[string]float64{"0.01": 1, "0.05": 2, "0.1": 2, "0.5": 3, "1": 4, "+Inf": 5} {
		if name := fmt.Sprintf("fleet_request_seconds_bucket{le=%q}", bound); got[name] != want {
			t.Errorf("got %s %v, want %v", name, got[name], want)
		}
	}
	if got := got["fleet_request_seconds_sum"]; got < 8.129 || got > 8.131 {
		t.Errorf("got a sum of %v seconds, want 8.13", got)
	}
}
