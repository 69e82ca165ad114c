package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"orbit"
)

var runFlags struct {
	owner          string
	ttl, killAfter time.Duration
	wait           time.Duration // as long as it takes if negative
	create         bool
	busyExit       int
}

// Exit codes of run that are its own. The last two are what shells say.
const (
	exitLost      = 5
	exitCannotRun = 126
	exitNotFound  = 127
	exitSignal    = 128 // plus the signal that ended the command
)

// shellKind is the kind of subjects claimed from a shell, far from the small
// numbers that the types of programs declare.
const shellKind = 199

// minTTL is the shortest TTL that a busy machine lets anybody renew in time.
const minTTL = 100 * time.Millisecond

var runCommand = &command{
	name:     "run",
	operands: "FLEET SUBJECT -- COMMAND [ARGUMENT...]",
	short:    "run a command while nobody else of the fleet runs it",
	long: `Claims SUBJECT in the contest of FLEET and runs COMMAND while the claim holds:
of all that contend for a subject at most one runs. If SUBJECT is held it waits,
unless -wait or -nowait say otherwise; there is no queue, and whoever claims
first after a release has it.

The command finds ORBIT_FLEET, ORBIT_SUBJECT and ORBIT_TOKEN in its environment.
SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to it, but
for what the terminal sends to both anyway.

If this process is killed, the kernel kills COMMAND with it, and the subject is
free at once. If the claim is lost, which is when this process was stopped for
longer than the TTL or the fleet's memory was damaged, the command is ended with
all that it started: by SIGTERM, and after -kill-after by SIGKILL.

Limits:
  A stopped process can end nothing: from the end of the TTL until it goes on,
  the command runs without its claim. What must not happen even then must be
  fenced: send ORBIT_TOKEN along, which grows with every holder, and refuse one
  smaller than the largest seen. Tokens begin anew if the fleet is removed.
  The kernel kills COMMAND alone, not what it started, and no set-user-id
  program: let a script "exec" its last command. What COMMAND left behind
  without a parent before the claim was lost is not found.
  Other systems than Linux kill nothing with this process, and end COMMAND only.

Exit codes:
  that of the command, or 128 plus the signal that ended it
  1    it failed, and the command did not run
  2    wrong usage
  4    the subject is held (another code with -busy-exit), or there is no fleet
  5    the claim was lost while the command ran, and the command was ended
  126  COMMAND cannot be executed
  127  COMMAND was not found

  orbit run -nowait -create web nightly -- backup /srv
  orbit run -wait 1m -owner "$USER" web deploy -- make deploy
`,
	flags: func(f *flag.FlagSet) {
		f.Func("kind", "the `kind` of the subject, from 1 to 199: that of a Go type to contend with\na program that claims by it (default 199)", setSubjectKind)
		f.StringVar(&runFlags.owner, "owner", "", "in whose `name` the claim is made, for others to see\n(default the command's name)")
		spanFlag(f, &runFlags.ttl, "ttl", 10*time.Second, minTTL, "the `duration` for which the claim stands if this process hangs or is stopped;\nit is renewed three times as often")
		runFlags.wait = -1
		f.Func("wait", "the longest `duration` to wait for the subject to be free\n(default as long as it takes)", setWait)
		f.BoolFunc("nowait", "do not wait, as with -wait 0", func(string) error { return setWait("0") })
		f.IntVar(&runFlags.busyExit, "busy-exit", exitNo, "the exit `code` if the subject is held, to tell that from the command's")
		spanFlag(f, &runFlags.killAfter, "kill-after", 2*time.Second, 0, "the `duration` between SIGTERM and SIGKILL if the claim is lost")
		createFlag(f, &runFlags.create)
	},
	run: runRun,
}

func setWait(s string) error { return span{&runFlags.wait, 0}.Set(s) }

func setSubjectKind(s string) error {
	kind, err := parseKind(s)
	if err != nil || kind > 199 {
		return errors.New("want 1 to 199")
	}
	subjectKind = kind
	return nil
}

// A subject has whatever kind is wanted: the contest asks its type.
type subject struct{}

var subjectKind uint8 = shellKind

func (subject) OrbitKind() uint8 { return subjectKind }

func runRun(args []string) error {
	if runFlags.busyExit < 0 || runFlags.busyExit > 255 {
		return usagef("-busy-exit %d: want 0 to 255", runFlags.busyExit)
	}
	fleet, label := args[0], args[1]
	cmd := exec.Command(args[2], args[3:]...)
	if cmd.Err != nil {
		return cannotStart(cmd.Err)
	}
	owner := runFlags.owner
	if owner == "" {
		owner = filepath.Base(args[2])
		owner = strings.ToValidUTF8(owner[:min(len(owner), orbit.MaxOwner)], "")
	}
	v := visit{fleet, orbit.KindContest, runFlags.create, func(f *orbit.Fleet) error {
		contest, err := orbit.OpenContest(f)
		if err == nil {
			_, err = orbit.Claim[subject](contest, label, owner, time.Hour)
		}
		return err
	}}
	err := v.do(func(f *orbit.Fleet) error {
		contest, err := orbit.OpenContest(f)
		if err != nil {
			return err
		}
		guard, err := win(contest, label, owner)
		if err != nil {
			return err
		}
		cmd.Env = append(os.Environ(),
			"ORBIT_FLEET="+fleet, "ORBIT_SUBJECT="+label, "ORBIT_TOKEN="+strconv.FormatUint(guard.Token(), 10))
		return runGuarded(cmd, guard)
	})
	if errors.Is(err, orbit.ErrHeld) {
		complain(err)
		return exitError(runFlags.busyExit)
	}
	return err
}

// win claims the subject, and waits for it as long as the flags say. A signal
// meanwhile ends this process, and with it the claim.
func win(contest *orbit.Contest, label, owner string) (*orbit.Guard, error) {
	ctx, cancel := context.Background(), func() {}
	if wait := runFlags.wait; wait >= 0 {
		ctx, cancel = context.WithTimeout(ctx, wait)
	}
	defer cancel()
	for {
		guard, err := orbit.Claim[subject](contest, label, owner, runFlags.ttl)
		switch {
		case errors.Is(err, orbit.ErrLapsed): // this process was stopped while it claimed
		case !errors.Is(err, orbit.ErrHeld):
			return guard, err
		default:
			if waitErr := orbit.WaitFree[subject](ctx, contest, label); ctx.Err() != nil {
				return nil, err // who has it
			} else if waitErr != nil {
				return nil, waitErr
			}
		}
	}
}

// runGuarded runs the command for as long as the guard holds.
func runGuarded(cmd *exec.Cmd, guard *orbit.Guard) error {
	signals := catch(passedOn)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	dieWithUs(cmd)
	if err := cmd.Start(); err != nil {
		guard.Release()
		return cannotStart(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	if err := keep(guard, cmd, signals, ended); err != nil {
		complain(fmt.Errorf("the claim is lost, and the command is ended: %s", plain(err)))
		endCommand(cmd, ended)
		return exitError(exitLost)
	}
	if err := guard.Release(); err != nil {
		complain(fmt.Errorf("the claim was lost while the command ran (%v): %s", cmd.ProcessState, plain(err)))
		return exitError(exitLost)
	}
	return endOf(cmd)
}

// catch has signals sent to a channel, except for those that this process was
// started to ignore, as by nohup: so shall the command. Go tells that of SIGHUP
// and SIGINT only.
func catch(signals []os.Signal) <-chan os.Signal {
	caught := make(chan os.Signal, 16)
	for _, s := range signals {
		if !signal.Ignored(s) {
			signal.Notify(caught, s)
		}
	}
	return caught
}

// keep renews the guard and passes signals on until the command has ended. Its
// error says why the guard does not hold any more.
func keep(guard *orbit.Guard, cmd *exec.Cmd, signals <-chan os.Signal, ended <-chan struct{}) error {
	renew := time.NewTicker(runFlags.ttl / 3)
	defer renew.Stop()
	for {
		select {
		case <-ended:
			return nil
		case s := <-signals:
			if !hasIt(cmd, s) {
				cmd.Process.Signal(s)
			}
		case <-guard.Context().Done():
			return context.Cause(guard.Context())
		case <-renew.C:
			if err := guard.Renew(runFlags.ttl); err != nil {
				return err
			}
		}
	}
}

// endCommand ends the command and what it started in turn, whether they want to
// or not.
func endCommand(cmd *exec.Cmd, ended <-chan struct{}) {
	adoptOrphans()
	signalAll(cmd, syscall.SIGTERM)
	late := time.After(runFlags.killAfter)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for force := false; ; {
		select {
		case <-late:
			force = true
		case <-look.C:
		}
		select {
		case <-ended:
			if len(descendants()) == 0 {
				return
			}
		default:
		}
		if force {
			signalAll(cmd, syscall.SIGKILL)
		}
	}
}

func signalAll(cmd *exec.Cmd, s syscall.Signal) {
	cmd.Process.Signal(s)
	for _, pid := range descendants() {
		if p, err := os.FindProcess(pid); err == nil && pid != cmd.Process.Pid {
			p.Signal(s)
			p.Release()
		}
	}
}

// endOf turns how the command ended into this one's exit code.
func endOf(cmd *exec.Cmd) error {
	code := cmd.ProcessState.ExitCode()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = exitSignal + int(status.Signal())
	}
	if code == 0 {
		return nil
	}
	return exitError(code)
}

func cannotStart(err error) error {
	complain(err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return exitError(exitNotFound)
	}
	return exitError(exitCannotRun)
}

// complain says what ends this command with an exit code of its own.
func complain(err error) {
	fmt.Fprintf(os.Stderr, "orbit run: %s\n", plain(err))
}
