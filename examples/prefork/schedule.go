package main

import (
	"context"
	"errors"
	"time"

	"orbit"
)

// Scheduler is the office that one worker holds: it does for all what only one
// should do. Here that is to count the sessions.
type Scheduler struct{}

// OrbitKind tells this subject from those of other types.
func (Scheduler) OrbitKind() uint8 { return 34 }

// Report is what the scheduler finds.
type Report struct {
	Token    uint64 // the fence token of the scheduler that wrote it
	Sessions int64
}

// OrbitKind names the ring that reports travel in.
func (Report) OrbitKind() uint8 { return 35 }

const (
	schedulerTTL = 3 * time.Second // how long a scheduler that hangs keeps others out
	reportEvery  = 500 * time.Millisecond
)

// schedule holds the office whenever nobody else does.
func (w *worker) schedule(ctx context.Context) error {
	for {
		guard, err := orbit.Claim[Scheduler](w.contest, "", "", schedulerTTL)
		switch {
		case err == nil:
			err = w.hold(ctx, guard)
		case errors.Is(err, orbit.ErrHeld):
			err = orbit.WaitFree[Scheduler](ctx, w.contest, "")
		}
		if err != nil && !errors.Is(err, orbit.ErrLapsed) {
			return err
		}
	}
}

// hold does the scheduler's work until ctx ends or the guard does.
func (w *worker) hold(ctx context.Context, guard *orbit.Guard) error {
	defer guard.Release()
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		// Each round renews the claim: a scheduler whose work hangs loses it.
		if err := guard.Renew(schedulerTTL); err != nil {
			return err
		}
		report := Report{Token: guard.Token()}
		for range w.sessions.All() {
			report.Sessions++
		}
		if _, err := w.reports.Store(report); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// report returns the newest report. A scheduler that was stopped and goes on
// may store a late one: its token is smaller than that of its successor, and
// so it does not count.
func (w *worker) report() (newest Report) {
	for _, r := range w.reports.Recent() {
		if r.Token > newest.Token {
			newest = r
		}
	}
	return newest
}
