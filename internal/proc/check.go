package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orbit"
)

// What tests with processes check again and again.

// patience is how long something may take to become so on a busy machine.
const patience = 20 * time.Second

// MustBe fails the test unless err matches want and says all the words.
func MustBe(t testing.TB, what string, err, want error, words ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want one that matches %v", what, err, want)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: got error %q, want it to say %q", what, err, w)
		}
	}
}

// Eventually waits until ok returns true, and fails the test if that takes too
// long.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after %v: %s", patience, what)
		}
	}
}

// Chance returns what tells a test of chance whether to go on: for the least time in
// any case, and until something was met for the most.
func Chance(least, most time.Duration, met func() bool) (goOn func() bool) {
	begin := time.Now()
	return func() bool {
		past := time.Since(begin)
		return past <= least || !met() && past <= most
	}
}

// Stopped tells whether the kernel says that every thread of a process stands
// still, as none does of one that has ended.
func Stopped(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return len(stats) > 0 && !slices.ContainsFunc(stats, func(name string) bool {
		b, err := os.ReadFile(name)
		_, state, _ := strings.Cut(string(b), ") ")
		return err != nil || !strings.HasPrefix(state, "T")
	})
}

// NeedNative skips a test that looks at the system calls of processes: those of
// an emulated one are its emulator's.
func NeedNative(t testing.TB) {
	t.Helper()
	if run := os.Getenv(execEnv); run != "" {
		t.Skipf("run by %s, which makes system calls of its own", run)
	}
}

// NeedRoot skips a test that only the superuser can run.
func NeedRoot(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("needs root, to %s", why)
	}
}

// Segments returns the paths of all segments of a fleet, or what has their
// names.
func Segments(fleet string) []string { return segments(fleet + "-") }

// RemoveFleet removes a fleet that nobody is in, and fails if anything of it
// stays.
func RemoveFleet(t testing.TB, name string) {
	t.Helper()
	if err := orbit.Remove(name); err != nil {
		t.Errorf("Remove(%q): %v", name, err)
	}
	if left := Segments(name); len(left) > 0 {
		t.Errorf("left in shared memory: %v", left)
	}
}

// A Checker is a helper's way to say what was not as it should be, line by
// line, to the test that started it.
type Checker struct{ bad int }

// Failed says so unless err matches want and says all the words.
func (c *Checker) Failed(what string, err, want error, words ...string) {
	text := fmt.Sprint(err)
	ok := err != nil && errors.Is(err, want)
	for _, w := range words {
		ok = ok && strings.Contains(text, w)
	}
	if !ok {
		c.Say("%s: got error %q, want one that matches %v and says %q", what, text, want, words)
	}
}

// Worked says so if err is one.
func (c *Checker) Worked(what string, err error) {
	if err != nil {
		c.Say("%s: %v", what, err)
	}
}

// Say says what is wrong.
func (c *Checker) Say(format string, args ...any) {
	c.bad++
	fmt.Printf(format+"\n", args...)
}

// Done says "ok" if nothing was wrong. It returns nil for helpers to return.
func (c *Checker) Done() error {
	if c.bad == 0 {
		fmt.Println("ok")
	}
	return nil
}
