package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"
)

// A pty is a terminal with a command in it, of which the test is the keyboard
// and the screen.
type pty struct {
	t        *testing.T
	ptm, pts *os.File
	cmd      *exec.Cmd
	before   string // its modes before the command began

	mu   sync.Mutex
	said bytes.Buffer
}

// startPty starts a program as the leader of the session of a terminal.
func startPty(t *testing.T, columns, rows uint16, name string, args ...string) *pty {
	t.Helper()
	ptm, pts := newTerminal(t)
	p := &pty{t: t, ptm: ptm, pts: pts, cmd: exec.Command(name, args...)}
	p.resize(columns, rows)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = pts, pts, pts
	p.cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=1")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p.before = p.modes()
	must(0, p.cmd.Start())(t)
	t.Cleanup(func() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGHUP) // to a shell, which passes it on
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	go p.listen()
	return p
}

func (p *pty) listen() {
	b := make([]byte, 4096)
	for {
		n, err := p.ptm.Read(b)
		p.mu.Lock()
		p.said.Write(b[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *pty) resize(columns, rows uint16) {
	p.t.Helper()
	size := [4]uint16{rows, columns}
	if err := ioctl(p.pts, syscall.TIOCSWINSZ, unsafe.Pointer(&size)); err != nil {
		p.t.Fatal(err)
	}
}

// modes returns what of a terminal's state rawKeys may change.
func (p *pty) modes() string {
	p.t.Helper()
	var m syscall.Termios
	if err := ioctl(p.pts, syscall.TCGETS, unsafe.Pointer(&m)); err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprintf("%o %o %o %o %d", m.Iflag, m.Oflag, m.Cflag, m.Lflag, m.Cc)
}

func (p *pty) press(keys string) {
	p.t.Helper()
	if _, err := p.ptm.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pty) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// frame returns the lines of the screen as it was last drawn.
func (p *pty) frame() []string {
	frames := strings.Split(p.text(), home)
	last := frames[len(frames)-1]
	if !strings.HasSuffix(last, clearBelow) && len(frames) > 1 {
		last = frames[len(frames)-2] // the last is not all here
	}
	return strings.Split(strings.ReplaceAll(strings.TrimSuffix(last, clearBelow), clearRight, ""), "\r\n")
}

// until waits for something.
func (p *pty) until(what string, is func() bool) {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("waited in vain until %s; the screen is\n%s", what, strings.Join(p.frame(), "\n"))
		}
	}
}

// untilShown waits for a frame with a line that matches.
func (p *pty) untilShown(pattern string) {
	p.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	p.until("it shows "+pattern, func() bool { return re.MatchString(strings.Join(p.frame(), "\n")) })
}

// finish waits for the end and wants an exit code.
func (p *pty) finish(code int) {
	p.t.Helper()
	p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("got exit code %d (%v), want %d; said %q", got, p.cmd.ProcessState, code, p.text())
	}
}

func TestTopGivesTheTerminalBackAsItWas(t *testing.T) {
	f := joinFleet(t, nil)
	publish(t, openBus(t, f), "topic", "payload")
	for name, end := range map[string]func(*pty){
		"q":       func(p *pty) { p.press("q") },
		"Ctrl-C":  func(p *pty) { p.press("\x03") },
		"SIGTERM": func(p *pty) { p.cmd.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			p := startPty(t, 80, 24, "/bin/sh", "-c", "read -r _ && exec "+program+" top -interval 50ms "+f.Name())
			p.press("\n")
			p.untilShown("^fleet .*1 member")
			p.untilShown("^q quit")
			if raw := p.modes(); raw == p.before {
				t.Errorf("the terminal's modes are as before: %s", raw)
			}
			end(p)
			p.finish(exitDone)
			if after := p.modes(); after != p.before {
				t.Errorf("got modes %s at the end, want %s", after, p.before)
			}
			p.until("the screen of before is back", func() bool {
				return strings.Contains(p.text(), otherScreen) && strings.HasSuffix(p.text(), wrapLines+showCursor+thatScreen)
			})
		})
	}
}

func TestTopFitsIntoAnyTerminalAndFollowsItsSize(t *testing.T) {
	f := joinFleet(t, nil)
	p := startPty(t, 100, 40, program, "top", "-interval", "50ms", f.Name())
	for _, size := range [][2]uint16{{100, 40}, {40, 10}, {80, 24}, {20, 3}} {
		p.resize(size[0], size[1])
		p.until(fmt.Sprint("it fills ", size), func() bool {
			lines := p.frame()
			for _, line := range lines {
				if utf8.RuneCountInString(line) > int(size[0]) {
					return false
				}
			}
			return len(lines) == int(size[1]) && strings.HasPrefix(lines[size[1]-1], "q quit")
		})
	}
}

func TestTopObeysItsKeys(t *testing.T) {
	f := joinFleet(t, nil)
	bus := openBus(t, f)
	publish(t, bus, "first", "")
	p := startPty(t, 90, 24, program, "top", "-interval", "50ms", f.Name())
	p.untilShown("node 1 +first")
	p.untilShown("s sort by pid")
	p.press("s")
	p.untilShown("s sort by age")
	p.press("1")
	p.until("the rings are hidden", func() bool { return !strings.Contains(strings.Join(p.frame(), "\n"), "slots") })
	p.press("1")
	p.untilShown("slots")
	p.press("p")
	p.untilShown("paused$")
	publish(t, bus, "second", "")
	time.Sleep(200 * time.Millisecond)
	if got := strings.Join(p.frame(), "\n"); strings.Contains(got, "second") {
		t.Errorf("paused, it shows what came since:\n%s", got)
	}
	p.press("p")
	p.untilShown("node 1 +second")
	p.press("c")
	p.until("the events are cleared", func() bool { return !strings.Contains(strings.Join(p.frame(), "\n"), "second") })
	p.press("q")
	p.finish(exitDone)
}

func TestTopIsNotStoppedWhereNobodyCouldLetItGoOn(t *testing.T) {
	f := joinFleet(t, nil)
	p := startPty(t, 90, 24, program, "top", "-interval", "50ms", f.Name())
	p.untilShown("^q quit")
	p.press("\x1a")
	p.until("it is back on its screen", func() bool { return strings.Count(p.text(), otherScreen) == 2 })
	p.press("q")
	p.finish(exitDone)
}

func TestTopThatIsSuspendedLeavesTheTerminalAndComesBack(t *testing.T) {
	f := joinFleet(t, nil)
	// A shell that controls jobs stops its job on Ctrl-Z, and takes it up again
	// when the test says so.
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	p := startPty(t, 90, 24, bash, "-mc", program+" top -interval 50ms "+f.Name()+"; echo shell has it; read -r _; fg >/dev/null; echo ended with $?")
	p.untilShown("^q quit")
	p.press("\x1a")
	p.until("the shell has the terminal", func() bool { return strings.Contains(p.text(), "shell has it") })
	if got := p.modes(); got != p.before {
		t.Errorf("suspended, got modes %s, want %s", got, p.before)
	}
	if text := p.text(); !strings.Contains(text[strings.LastIndex(text, home):], wrapLines+showCursor+thatScreen) {
		t.Errorf("suspended, it did not leave its screen: %q", text)
	}
	p.press("\n")
	p.until("it is back", func() bool {
		text := p.text()
		return strings.Contains(text[strings.LastIndex(text, otherScreen):], "q quit") && strings.Count(text, otherScreen) == 2
	})
	if p.modes() == p.before {
		t.Errorf("back, it does not read keys one by one: %s", p.modes())
	}
	p.press("q")
	p.until("the shell says how it ended", func() bool { return strings.Contains(p.text(), "ended with 0") })
	if got := p.modes(); got != p.before {
		t.Errorf("at the end, got modes %s, want %s", got, p.before)
	}
}
