// Command leader runs a periodic job in one process of many, as cron would on
// one machine of many. Start it two or three times, in as many terminals:
//
//	go run ./examples/leader
//
// One of them leads: it holds a claim, renews it, and does the job again and
// again. Kill it with kill -9 and another takes over at once. Stop it with
// kill -STOP, and another takes over when its claim has expired; let it go on
// with kill -CONT, and it finds that it leads no more.
//
// Two things keep an old leader from doing harm:
//
//   - The guard's context ends with the claim, and the job with the context.
//     That saves work, but it is not safe alone: a process can be stopped
//     behind its last look at the context, and write hours later.
//   - So each result is written with the guard's fence token, and the ledger
//     refuses a token smaller than one it has seen. The flag -deaf makes the
//     job overlook its context, so that only the ledger is in its way.
//
// Tokens grow for as long as the segments of the fleet exist. The last process
// to leave removes them, and so the ledger of each incarnation of the fleet is
// a directory of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"orbit"
)

var (
	fleetName = flag.String("fleet", "leader", "`name` of the fleet")
	dir       = flag.String("dir", filepath.Join(os.TempDir(), "orbit-leader"), "`directory` of the ledgers")
	ttl       = flag.Duration("ttl", 3*time.Second, "how long a leader that is stopped keeps the others out")
	every     = flag.Duration("every", 2*time.Second, "time from one run of the job to the next")
	work      = flag.Duration("work", time.Second, "how long the job takes")
	deaf      = flag.Bool("deaf", false, "have the job overlook that its context has ended")
)

// Job is the subject that the processes contend for.
type Job struct{}

// OrbitKind tells this subject from those of other types.
func (Job) OrbitKind() uint8 { return 30 }

func main() {
	log.SetFlags(0)
	log.SetPrefix(fmt.Sprintf("pid %d: ", os.Getpid()))
	log.SetOutput(os.Stdout)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	fleet, err := orbit.Join(*fleetName, orbit.Options{Size: 3})
	if err != nil {
		return err
	}
	defer orbit.Remove(*fleetName) // fails, as it should, while others are members
	defer fleet.Close()
	contest, err := orbit.OpenContest(fleet)
	if err != nil {
		return err
	}
	ledger, err := openLedger(*dir, fleet)
	if err != nil {
		return err
	}
	for {
		err := contend(ctx, contest, ledger)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, orbit.ErrLapsed), errors.Is(err, errStale):
			log.Printf("leads no more: %v", err)
		case err != nil:
			return err
		}
	}
}

// contend leads if nobody else does, and otherwise waits until nobody does.
func contend(ctx context.Context, contest *orbit.Contest, ledger *Ledger) error {
	guard, err := orbit.Claim[Job](contest, "report", "", *ttl)
	if held := (*orbit.HeldError)(nil); errors.As(err, &held) {
		log.Printf("pid %d leads; waiting", held.Holder.PID)
		return orbit.WaitFree[Job](ctx, contest, "report")
	}
	if err != nil {
		return err
	}
	defer guard.Release()
	return lead(ctx, guard, ledger)
}

// lead does the job at its times until ctx ends or the guard does.
func lead(ctx context.Context, guard *orbit.Guard, ledger *Ledger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	held := guard.Context()
	defer context.AfterFunc(held, func() { cancel(context.Cause(held)) })()
	go renew(ctx, guard)

	// From here on the ledger refuses whoever led before.
	if _, err := ledger.Append(guard.Token(), "a new leader"); err != nil {
		return err
	}
	log.Printf("leads with token %d", guard.Token())
	tick := time.NewTicker(*every)
	defer tick.Stop()
	for {
		result, err := job(ctx)
		if err != nil {
			return err
		}
		n, err := ledger.Append(guard.Token(), result)
		if err != nil {
			return err
		}
		log.Printf("wrote result %d with token %d", n, guard.Token())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// renew keeps the claim for as long as this process runs. That says nothing of
// the job: one that may hang should renew the guard itself, as it gets on.
func renew(ctx context.Context, guard *orbit.Guard) {
	tick := time.NewTicker(*ttl / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			guard.Renew(*ttl) // if it fails, the guard's context has ended
		case <-ctx.Done():
			return
		}
	}
}

// job stands for work that takes its time and that a context can cut short.
func job(ctx context.Context) (result string, err error) {
	if *deaf {
		ctx = context.WithoutCancel(ctx)
	}
	log.Print("begins the job")
	select {
	case <-time.After(*work):
		return fmt.Sprintf("done by pid %d", os.Getpid()), nil
	case <-ctx.Done():
		return "", fmt.Errorf("job cut short: %w", context.Cause(ctx))
	}
}
