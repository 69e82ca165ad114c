// Command metrics merges what several processes count into one page for
// Prometheus, which every one of them serves. Start it in some terminals:
//
//	go run ./examples/metrics
//
// Each prints its address. Load http://address/ of one and another a few times:
// each time is a request with some work. Then look at http://address/metrics,
// which is the same page at all of them, or let a program that only observes
// print it:
//
//	go run ./examples/metrics -print
//
// Each process stores all its numbers as one value of fixed layout, at every
// beat of its heart. Whoever is scraped reads the newest value of each, asks
// none of them, and waits for none. A process that is killed stays on the page
// with the last numbers it stored, marked as stale, because its heart beats no
// more: what it had counted still counts in the sums, while its requests in
// flight do not. At most what it counted since its last beat is lost.
//
// All values share one ring of 16384 slots. Nobody stores more often than it
// beats, so that the busy push out nobody who is idle. A dead one's last value
// is there until 16384 newer ones were stored: with four processes that beat
// every second for more than an hour. Then the sums shrink by it, which
// Prometheus takes for a restart.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"orbit"
)

var (
	fleetName = flag.String("fleet", "metrics", "`name` of the fleet")
	addr      = flag.String("addr", "127.0.0.1:0", "`address` to serve at")
	beat      = flag.Duration("beat", time.Second, "time from one beat and sample to the next")
	printPage = flag.Bool("print", false, "print the page and end")
)

func main() {
	flag.Parse()
	run := serve
	if *printPage {
		run = observe
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// maxAge is how old a heartbeat may be before its process is stale.
func maxAge() time.Duration { return 3 * *beat }

// observe prints the page without being a member.
func observe() error {
	fleet, err := orbit.Observe(*fleetName)
	if err != nil {
		return err
	}
	defer fleet.Close()
	page, err := openPage(fleet, maxAge())
	if err != nil {
		return err
	}
	return page.Write(os.Stdout)
}

// serve answers requests, and counts them, until it is told to end.
func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fleet, err := orbit.Join(*fleetName, orbit.Options{Size: 4})
	if err != nil {
		return err
	}
	defer orbit.Remove(*fleetName) // fails, as it should, while others are members
	defer fleet.Close()
	page, err := openPage(fleet, maxAge())
	if err != nil {
		return err
	}
	counts := newCounts()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", counts.Count(handle))
	mux.Handle("GET /metrics", page)

	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Printf("http://%v/\n", listener.Addr())
	server := &http.Server{Handler: mux}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if err := keep(ctx, page, counts, served); err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	server.Shutdown(patience)
	_, err = page.samples.Store(counts.Sample())
	return err
}

// keep beats and stores samples until ctx ends.
func keep(ctx context.Context, page *Page, counts *Counts, served <-chan error) error {
	tick := time.NewTicker(*beat)
	defer tick.Stop()
	for {
		if _, err := page.samples.Store(counts.Sample()); err != nil {
			return err
		}
		if err := page.heart.Beat(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case err := <-served:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// handle stands for the work of a request. Its parameters say how long it
// takes, in milliseconds, and with which status it ends.
func handle(w http.ResponseWriter, r *http.Request) (status int) {
	ms, err := strconv.Atoi(r.FormValue("ms"))
	if err != nil {
		ms = rand.IntN(200)
	}
	time.Sleep(time.Duration(ms) * time.Millisecond)
	if status, err = strconv.Atoi(r.FormValue("status")); err != nil {
		status = http.StatusOK
	}
	http.Error(w, http.StatusText(status), status)
	return status
}
