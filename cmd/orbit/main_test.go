package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// built is the command, built once for all tests.
var built string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "orbit")
	if err != nil {
		panic(err)
	}
	built = filepath.Join(dir, "orbit")
	if out, err := exec.Command("go", "build", "-o", built, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s", out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func orbitCommand(args ...string) (*exec.Cmd, *bytes.Buffer) {
	var out bytes.Buffer
	c := exec.Command(built, args...)
	c.Stdout, c.Stderr = &out, &out
	return c, &out
}

// nothingLeft fails the test if the demo left segments or processes behind.
func nothingLeft(t *testing.T, fleet string) {
	t.Helper()
	left, _ := filepath.Glob("/dev/shm/orbit-" + fleet + "-*")
	for _, path := range left {
		os.Remove(path)
	}
	if len(left) > 0 {
		t.Errorf("left in shared memory: %v", left)
	}
	if out, err := exec.Command("pgrep", "-f", fleet).Output(); err == nil {
		t.Errorf("left running: %s", out)
	}
}

func fleetName() string { return fmt.Sprintf("demotest%d", os.Getpid()) }

func TestDemoKillsASiblingAndLeavesNothing(t *testing.T) {
	name := fleetName()
	c, out := orbitCommand("demo", "-for", "4s", "-n", "3", "-fleet", name)
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	nothingLeft(t, name)
	text := out.String()
	if strings.Contains(text, "\x1b") {
		t.Errorf("escape sequences where there is no terminal:\n%q", text)
	}
	for _, want := range []string{
		`fleet ` + name,
		`4 members`,
		`killed process \d+, node \d+: no member any more after`,
		`3 members`,
		`started process \d+ in its place`,
		`[1-9]\d* values stored by 4 processes`,
		`its siblings went on: [1-9]\d* values since`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	sum := regexp.MustCompile(`: (\d+) accounted for of (\d+)`).FindStringSubmatch(text)
	if sum == nil || sum[1] != sum[2] {
		t.Errorf("counters do not add up: %v in\n%s", sum, text)
	}
}

func TestInterruptedDemoLeavesNothing(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		name := fleetName()
		c, out := orbitCommand("demo", "-fleet", name)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		c.Process.Signal(sig)
		var exit *exec.ExitError
		if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
			t.Errorf("%v: got %v, want exit code %d\n%s", sig, err, exitInterrupted, out)
		}
		nothingLeft(t, name)
	}
}

func TestSiblingsEndWithAKilledDemo(t *testing.T) {
	name := fleetName()
	c, _ := orbitCommand("demo", "-fleet", name)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	c.Process.Kill()
	c.Wait()
	time.Sleep(time.Second)
	if out, err := exec.Command("pgrep", "-f", name).Output(); err == nil {
		t.Errorf("left running: %s", out)
	}
	// A killed parent cannot tidy up: its segments stay for the next to remove.
	left, _ := filepath.Glob("/dev/shm/orbit-" + name + "-*")
	for _, path := range left {
		os.Remove(path)
	}
}

func TestWrongUseIsExplained(t *testing.T) {
	for _, args := range [][]string{{}, {"nonsense"}, {"demo", "-n", "1"}, {"demo", "-for", "1s"}, {"demo", "extra"}, {"demo", "-nonsense"}} {
		c, out := orbitCommand(args...)
		var exit *exec.ExitError
		if err := c.Run(); !errors.As(err, &exit) || exit.ExitCode() != exitUsage || out.Len() == 0 {
			t.Errorf("%v: got %v and %q, want exit code %d and an explanation", args, err, out, exitUsage)
		}
	}
	c, out := orbitCommand("-h")
	if err := c.Run(); err != nil || !strings.Contains(out.String(), "demo") {
		t.Errorf("-h: got %v and %q", err, out)
	}
}
