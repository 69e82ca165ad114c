//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"orbit/internal/overlay"
)

// limit is how long the tests of a suite may take with a fault in the code,
// which can make them hang. Without one they take as long as they take.
const limit = time.Minute

// A workshop builds tests around faulty files, and runs them.
type workshop struct {
	root string // of the module
	dir  string // for what is built

	mu      sync.Mutex
	running *exec.Cmd
}

// tryAll runs the suites that are to notice a fault, until one does.
func (w *workshop) tryAll(f fault) (v verdict, err error) {
	for _, s := range f.noticed {
		if v, err = w.tryOne(f, s); err != nil || v.how != passed && v.how != skipped {
			break
		}
	}
	return v, err
}

// tryOne builds a suite with a fault and runs it. The fault without a file is
// none.
func (w *workshop) tryOne(f fault, s suite) (verdict, error) {
	binary := filepath.Join(w.dir, "tests")
	if err := w.build(binary, f, s); err != nil {
		return verdict{}, err
	}
	patience := limit
	if f.file == "" {
		patience = 10 * limit
	}
	return w.run(binary, s, patience), nil
}

// build makes the program that runs the suite, with the fault in it.
func (w *workshop) build(binary string, f fault, s suite) error {
	args := []string{"test", "-c", "-vet=off", "-o", binary, s.pkg}
	replace, err := "", error(nil)
	if p, ok := s.program(); ok {
		replace, err = overlay.Write(w.root, w.dir, overlay.Variant{Faults: f.instrumented(), Expose: p.expose})
		args = []string{"build", "-tags=orbit_overlay", "-o", binary, p.dir}
	} else if f.file != "" {
		replace, err = w.replace(f)
	}
	if err != nil {
		return err
	}
	if replace != "" {
		args = append([]string{args[0], "-overlay=" + replace}, args[1:]...)
	}
	c := exec.Command("go", args...)
	c.Dir = w.root
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("it does not compile: %w\n%s", err, out)
	}
	return nil
}

// replace writes the faulty file, and the file that tells the go command to
// read it in place of the sound one.
func (w *workshop) replace(f fault) (string, error) {
	text, err := f.apply(w.root)
	if err != nil {
		return "", err
	}
	faulty, replace := filepath.Join(w.dir, f.file), filepath.Join(w.dir, "overlay.json")
	if err := os.WriteFile(faulty, []byte(text), 0o666); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(w.root, f.file): faulty}})
	if err != nil {
		return "", err
	}
	return replace, os.WriteFile(replace, list, 0o666)
}

// run runs the program of a suite in a process group of its own, and leaves
// nothing of it behind, however it ends.
func (w *workshop) run(binary string, s suite, patience time.Duration) verdict {
	args := []string{"-test.run=" + s.pattern(), "-test.v", "-test.timeout=" + patience.String()}
	if p, ok := s.program(); ok {
		args = p.args
	}
	c := exec.Command(binary, args...)
	temp := filepath.Join(w.dir, "temp")
	if err := os.MkdirAll(temp, 0o777); err != nil {
		return verdict{suite: s, how: broke, said: err.Error()}
	}
	defer os.RemoveAll(temp)
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	c.Dir = filepath.Join(w.root, s.pkg)
	c.Env = append(os.Environ(), "TMPDIR="+temp)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = time.Second // for helpers that keep the output open
	w.mu.Lock()
	w.running = c
	err := c.Start()
	w.mu.Unlock()
	if err != nil {
		return verdict{suite: s, how: broke, said: err.Error()}
	}
	overdue := time.AfterFunc(patience+10*time.Second, w.abandon)
	err = c.Wait()
	late := !overdue.Stop()
	w.abandon()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return judge(s, said.String(), err != nil, late)
}

// abandon kills the running program with all that it started, and removes what
// they leave in shared memory. Tests name their fleets after their process.
func (w *workshop) abandon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == nil || w.running.Process == nil {
		return
	}
	pid := w.running.Process.Pid
	syscall.Kill(-pid, syscall.SIGKILL)
	for _, owner := range []int{pid, os.Getpid()} {
		left, _ := filepath.Glob(fmt.Sprintf("/dev/shm/orbit-t%d.*", owner))
		for _, path := range left {
			os.Remove(path)
		}
	}
	w.running = nil
}

// A verdict is what a run of some tests came to.
type verdict struct {
	suite suite
	how   outcome
	test  string // the one that did not pass
	said  string
}

type outcome string

const (
	passed  outcome = "passed"
	skipped outcome = "skipped" // as what only root can run is for others
	failed  outcome = ""
	broke   outcome = "crash"
	timeout outcome = "timeout"
)

func (v verdict) String() string {
	s := v.suite.where() + ": " + v.test
	if v.how != failed {
		s += " (" + string(v.how) + ")"
	}
	return s
}

var (
	failLine      = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
	passLine      = regexp.MustCompile(`(?m)^--- PASS: `)
	skipLine      = regexp.MustCompile(`(?m)^--- SKIP: `)
	runLine       = regexp.MustCompile(`(?m)^=== RUN +(\S+)`)
	lateLine      = regexp.MustCompile(`(?m)^panic: test timed out after`)
	crashLine     = regexp.MustCompile(`(?m)^(panic: |fatal error: |unexpected fault address|SIG[A-Z]+: )`)
	violationLine = regexp.MustCompile(`(?m)^violation: `)
	worldLine     = regexp.MustCompile(`(?m)^(\S.*): \d+ states, `)
)

// judge reads what the program of a suite said, and how it ended.
func judge(s suite, said string, bad, late bool) verdict {
	v := verdict{suite: s, how: passed, said: said}
	v.test = last(runLine, said)
	if _, ok := s.program(); ok {
		v.test = s.tests()[0]
	}
	switch {
	case late || lateLine.MatchString(said):
		v.how = timeout
	case !bad:
		if skipLine.MatchString(said) && !passLine.MatchString(said) {
			v.how = skipped
		}
	case violationLine.MatchString(said):
		v.how = failed
		if world := last(worldLine, said); world != "" {
			v.test += ", world " + world
		}
	case failLine.MatchString(said) && !crashLine.MatchString(said):
		v.how, v.test = failed, failLine.FindStringSubmatch(said)[1]
	default:
		v.how = broke
	}
	return v
}

// last returns what the expression's group matches last in text.
func last(e *regexp.Regexp, text string) string {
	all := e.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}
