//go:build linux

// Linear checks that Orbit is linearizable across real processes: that the
// latest value is a register, the cache a map, and a contest a lock with fence
// tokens, as if every operation took place at one moment between its call and
// its return.
//
//	go run ./linear -for 5m
//
// Crews of processes play short histories, each operation written down with the
// times of its call and its return on the clock that all processes share, while
// processes are killed, stopped and resumed. Porcupine then looks for an order
// that explains the history. An operation of a process that died in it may have
// happened or not, but not after the death: what a dead writer or claimant
// leaves may not come to life later.
//
// Every scenario is played twice: by the package as it is, and stepped, by its
// instrumented copy (see package orbit/internal/overlay), in which processes
// are held up, stopped and killed in the middle of operations, between any two
// accesses to shared memory.
//
// What the scenarios are, and what they allow for besides:
//
//   - latest-N: a register in a ring of N slots, by Publish, Newest and Reset,
//     and the same by Store and Load. A read may find no frame if frames in the
//     making can have every slot, for which it takes half as many unfinished
//     writes as there are slots: in 64 slots it must never happen here.
//   - cache: Put, Get, Add, Delete and Reset, with and without times, in a ring
//     that evicts nothing. Each key is checked by itself: over several keys a
//     reset is not atomic. A Get that is held up until the value it found has
//     expired may miss one that was put meanwhile.
//   - cache-N: the same in N slots. A miss is allowed once the value can have
//     been overwritten, and then it is gone for good. An Add during which half a
//     lap went by may begin anew, and so take effect more than once.
//   - contest: Claim, Renew, Valid, Release and HolderOf. Claims end with their
//     time, for others up to 50 microseconds later, and with their process. A
//     claim without token in the answer is one in the making. A renewal that is
//     held up beyond the end of the claim may succeed all the same, if nobody
//     claimed the subject meanwhile, although HolderOf may have said that
//     nobody holds it.
//   - rush: the same for one subject that all want at once and hold for moments.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		exitActor(role)
	}
	length := flag.Duration("for", time.Minute, "how long to run, over all scenarios")
	only := flag.String("only", "", "run the scenarios whose names contain this")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random choices")
	dir := flag.String("dump", os.TempDir(), "directory for histories that are not linearizable")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	if err := runAll(ctx, *length, *only, *seed, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "linear:", err)
		os.Exit(1)
	}
}

func exitActor(role string) {
	act := func() error { return play(role) }
	if role == holdRole {
		act = hold
	}
	if err := act(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// trials returns all trials whose names contain a text.
func trials(plain, stepped, only, dir string) (all []trial) {
	for i := range scenarios {
		for _, t := range []trial{
			{scenario: &scenarios[i], binary: plain, dir: dir, out: os.Stdout},
			{scenario: &scenarios[i], binary: stepped, stepped: true, dir: dir, out: os.Stdout},
		} {
			if strings.Contains(t.name(), only) {
				all = append(all, t)
			}
		}
	}
	return all
}

func runAll(ctx context.Context, length time.Duration, only string, seed uint64, dir string) error {
	plain, err := os.Executable()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "orbit-linear")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	stepped, err := buildStepped(tmp)
	if err != nil {
		return err
	}
	all := trials(plain, stepped, only, dir)
	fmt.Printf("seed %d\n", seed)
	printHeader(os.Stdout)
	var sum row
	for i := range all {
		r, err := all[i].run(ctx, length/time.Duration(len(all)), seed+uint64(i))
		if err != nil {
			return err
		}
		r.print(os.Stdout)
		sum.add(&r)
	}
	sum.print(os.Stdout)
	if sum.failed() {
		return errors.New("not all histories could be shown to be linearizable")
	}
	return nil
}
