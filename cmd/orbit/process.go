package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// A process is one that this one started, as known from outside.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser // it lives as long as this is open
	stderr bytes.Buffer
	exited chan struct{} // closed when it has ended, after which err counts
	err    error
}

// startSelf starts this program again, and has somebody listen to what it says
// on standard output until it says no more.
func startSelf(listen func(io.Reader), args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self, args...), exited: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start a process: %w", err)
	}
	go func() {
		listen(out)
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the process as nothing can be caught: SIGKILL, where there are
// signals.
func (p *process) kill() error { return p.cmd.Process.Kill() }

// ended tells whether the process has ended, and why.
func (p *process) ended() (bool, error) {
	select {
	case <-p.exited:
	default:
		return false, nil
	}
	text := strings.TrimSpace(p.stderr.String())
	if p.err != nil && text != "" {
		return true, fmt.Errorf("%w: %s", p.err, text)
	}
	return true, p.err
}

// stopAll asks all processes to leave, waits until they have, and kills those
// that do not within the patience.
func stopAll(processes []*process, patience time.Duration) error {
	for _, p := range processes {
		p.stdin.Close()
	}
	late := time.After(patience)
	var failed error
	for _, p := range processes {
		select {
		case <-p.exited:
		case <-late:
			failed = fmt.Errorf("process %d did not leave within %v and was killed", p.pid(), patience)
			for _, p := range processes {
				p.kill()
			}
			<-p.exited
		}
	}
	return failed
}
