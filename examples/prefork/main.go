// Command prefork is a web server of several worker processes on one port, in
// the manner of nginx or Gunicorn, whose workers share what they know:
//
//	go run ./examples/prefork -addr 127.0.0.1:8080
//
// Every answer says in a header which worker gave it. Each new connection may
// get another one.
//
//	curl -i -c jar -d user=ann localhost:8080/login    a session, in the shared Cache:
//	curl -i -b jar localhost:8080/                     known to every worker
//	curl -i -d greeting=Moin localhost:8080/config     an event, heard by every worker
//	curl -i localhost:8080/health                      who is alive, at what load,
//	                                                   and which one is the scheduler
//
// Kill a worker with kill -9: the others go on, and the supervisor starts
// another. Kill the scheduler: one of the others takes its place at once, with
// a larger fence token. Ctrl-C or SIGTERM lets all workers finish what they are
// at. If the supervisor itself is killed, the workers leave too, and the last
// of them clears up.
//
//	main.go      the supervisor
//	worker.go    the life of a worker, and what it shares
//	schedule.go  the job that one of the workers does for all
//	handlers.go  the pages
//	listen_*.go  many listeners on one port
//
// The kernel spreads connections over the listeners on Linux. On macOS and the
// BSDs it may prefer one of them. What lies in the queue of a listener that is
// closed is reset: a client should try again, as it should anyway.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"orbit"
)

var (
	fleetName = flag.String("fleet", "prefork", "`name` of the fleet")
	addr      = flag.String("addr", "127.0.0.1:8080", "`address` to serve at")
	count     = flag.Int("n", 4, "`number` of workers")
	isWorker  = flag.Bool("worker", false, "be a worker: for the supervisor's use")
)

// patience is how long a worker gets to finish its requests.
const patience = 10 * time.Second

func main() {
	flag.Parse()
	log.SetPrefix(fmt.Sprintf("pid %d: ", os.Getpid()))
	run := supervise
	if *isWorker {
		run = work
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// supervise keeps the workers running until it is told to end.
func supervise() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// What a supervisor that was killed with all its workers has left. A fleet
	// in use is that of a running server, and so is a port.
	if err := clearAway(); err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	fmt.Printf("serving http://%s/ with %d workers\n", address, *count)
	var places sync.WaitGroup
	for range *count {
		places.Add(1)
		go func() {
			defer places.Done()
			keepWorker(ctx, address)
		}()
	}
	places.Wait()
	return clearAway()
}

func clearAway() error {
	if err := orbit.Remove(*fleetName); !errors.Is(err, orbit.ErrNotExist) {
		return err
	}
	return nil
}

// freeAddress makes sure that nobody serves at the address, for many listeners
// on one port would not be told, and chooses a port if none was given.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// keepWorker fills one place with a worker, and with another whenever it dies,
// but not more often than once a second.
func keepWorker(ctx context.Context, address string) {
	for ctx.Err() == nil {
		next := time.After(time.Second)
		err := runWorker(ctx, address)
		if ctx.Err() != nil {
			return
		}
		log.Printf("a worker ended, and is replaced: %v", err)
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}

// runWorker runs a worker until it ends, which it does when ctx has ended: its
// standard input is a pipe that then closes, as it does if this process dies.
func runWorker(ctx context.Context, address string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	w := exec.CommandContext(ctx, self, "-worker", "-fleet", *fleetName, "-addr", address, "-n", fmt.Sprint(*count))
	stdin, err := w.StdinPipe()
	if err != nil {
		return err
	}
	w.Stdout, w.Stderr = os.Stdout, os.Stderr
	w.Cancel = stdin.Close
	w.WaitDelay = patience + time.Second // after which it is killed
	return w.Run()
}
