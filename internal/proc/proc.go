// Package proc runs the processes of multi-process tests: it starts the test
// binary again as a named helper, so that a test reads as one program.
package proc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	helperEnv = "ORBIT_TEST_HELPER"
	// execEnv names a program to run test binaries with, such as an emulator
	// of another processor.
	execEnv = "ORBIT_TEST_EXEC"
)

var (
	helpers = map[string]func(args []string) error{}
	usedMu  sync.Mutex
	used    = map[string]bool{}
	serial  atomic.Int64
)

// Helper registers a helper. Call it from init.
func Helper(name string, run func(args []string) error) {
	if helpers[name] != nil {
		panic("two helpers named " + name)
	}
	helpers[name] = run
}

// Main runs a helper if this process is one, and the tests otherwise. A helper
// that a full run of the tests never started is an error, and so is a segment
// that it left behind. Call it from TestMain.
func Main(m *testing.M) {
	if name := os.Getenv(helperEnv); name != "" {
		run := helpers[name]
		if run == nil {
			fmt.Fprintf(os.Stderr, "no helper named %q\n", name)
			os.Exit(2)
		}
		if err := run(os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "helper %s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	for _, s := range segments(prefix() + ".") { // and none of process 1234 for 123
		fmt.Fprintf(os.Stderr, "the tests left segment %s\n", s)
		os.Remove(s)
		code = max(code, 1)
	}
	if code == 0 && fullRun() {
		for name := range helpers {
			if !used[name] {
				fmt.Fprintf(os.Stderr, "no test used helper %q\n", name)
				code = 1
			}
		}
	}
	os.Exit(code)
}

func fullRun() bool {
	for _, a := range os.Args[1:] {
		for _, f := range []string{"run", "skip", "short", "list", "fuzz", "bench"} {
			if strings.HasPrefix(strings.TrimLeft(a, "-"), "test."+f) {
				return false
			}
		}
	}
	return true
}

func prefix() string { return fmt.Sprintf("t%d", os.Getpid()) }

// Fleet returns a fleet name that no other test uses, and removes what the
// fleet leaves in shared memory when the test ends, however it ends.
func Fleet(t testing.TB) string {
	name := fmt.Sprintf("%s.%d", prefix(), serial.Add(1))
	t.Cleanup(func() {
		for _, s := range segments(name + "-") {
			os.Remove(s)
		}
	})
	return name
}

// Segment returns the path of a fleet's segment of a kind.
func Segment(fleet string, kind int) string {
	return fmt.Sprintf("/dev/shm/orbit-%s-%d-%d", fleet, kind, os.Geteuid())
}

func segments(fleet string) []string {
	s, _ := filepath.Glob("/dev/shm/orbit-" + fleet + "*")
	sort.Strings(s)
	return s
}

// A Process is a running helper.
type Process struct {
	*exec.Cmd
	Stdin  io.WriteCloser // closes when the test's process dies: see WatchParent
	Stdout *bufio.Scanner
	stderr strings.Builder
	waited chan error
	t      testing.TB
	name   string
}

// Start runs a helper. It is killed when the test ends.
func Start(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	return StartEnv(t, nil, name, args...)
}

// StartEnv is Start with more environment variables.
func StartEnv(t testing.TB, env []string, name string, args ...string) *Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return StartBinary(t, env, self, name, args...)
}

// StartBinary runs a helper of another test binary.
func StartBinary(t testing.TB, env []string, binary, name string, args ...string) *Process {
	t.Helper()
	usedMu.Lock()
	used[name] = true
	usedMu.Unlock()
	argv := append([]string{binary}, args...)
	if run := os.Getenv(execEnv); run != "" {
		argv = append(strings.Fields(run), argv...)
	}
	p := &Process{Cmd: exec.Command(argv[0], argv[1:]...), waited: make(chan error, 1), t: t, name: name}
	p.Env = append(append(os.Environ(), helperEnv+"="+name), env...)
	p.Cmd.Stderr = &p.stderr
	var err error
	if p.Stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Cmd.Stdout = w
	p.Stdout = bufio.NewScanner(out)
	if err := p.Cmd.Start(); err != nil {
		t.Fatalf("start helper %s: %v", name, err)
	}
	w.Close()
	go func() { p.waited <- p.Cmd.Wait() }()
	t.Cleanup(func() {
		p.Kill()
		p.exit(10 * time.Second)
		out.Close()
	})
	return p
}

func (p *Process) exit(limit time.Duration) error {
	select {
	case err := <-p.waited:
		p.waited <- err
		return err
	case <-time.After(limit):
		return fmt.Errorf("helper %s still runs after %v", p.name, limit)
	}
}

// Finish waits until the helper ends by itself, and fails the test if it does
// not end well.
func (p *Process) Finish() {
	p.t.Helper()
	if err := p.exit(60 * time.Second); err != nil {
		p.t.Fatalf("helper %s: %v\n%s", p.name, err, p.stderr.String())
	}
}

// Died waits until the helper ends and fails the test unless a signal ended
// it.
func (p *Process) Died(sig syscall.Signal) {
	p.t.Helper()
	p.exit(60 * time.Second)
	ws, ok := p.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() || ws.Signal() != sig {
		p.t.Fatalf("helper %s ended with %v, want signal %v\n%s", p.name, p.ProcessState, sig, p.stderr.String())
	}
}

// Line returns the next line the helper prints.
func (p *Process) Line() string {
	p.t.Helper()
	if !p.Stdout.Scan() {
		p.exit(5 * time.Second)
		p.t.Fatalf("helper %s printed no more\n%s", p.name, p.stderr.String())
	}
	return p.Stdout.Text()
}

// Say writes a line to the helper's standard input.
func (p *Process) Say(line string) { fmt.Fprintln(p.Stdin, line) }

// Kill kills the helper as nothing can be caught, and Stop and Continue halt
// and resume it.
func (p *Process) Kill()     { p.Process.Signal(syscall.SIGKILL) }
func (p *Process) Stop()     { p.Process.Signal(syscall.SIGSTOP) }
func (p *Process) Continue() { p.Process.Signal(syscall.SIGCONT) }

// WatchParent ends a helper when the test's process dies. The returned
// function reads the next line of its standard input, "" at the end.
func WatchParent() (read func() string) {
	lines := make(chan string, 64)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			lines <- in.Text()
		}
		close(lines)
		time.Sleep(10 * time.Second) // for a helper that ends by itself when its input does
		os.Exit(3)
	}()
	return func() string { return <-lines }
}
