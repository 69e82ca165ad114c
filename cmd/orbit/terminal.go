package main

import (
	"bytes"
	"os"
	"strings"
)

// A terminal is the whole of one for a live view: a screen of its own, which
// leaves the one before as it was, and keys one by one.
type terminal struct {
	in, out *os.File
	color   bool
	keys    chan byte // nil where there are none
	resized chan os.Signal
	stopped chan os.Signal // Ctrl-Z

	restore func() // what rawKeys returned, nil if keys are as they were
}

const (
	otherScreen = "\x1b[?1049h"
	thatScreen  = "\x1b[?1049l"
	clearAll    = "\x1b[2J"
	home        = "\x1b[H"
)

func openTerminal(in, out *os.File, color bool) *terminal {
	t := &terminal{in: in, out: out, color: color, resized: make(chan os.Signal, 1), stopped: make(chan os.Signal, 1)}
	notifyResize(t.resized)
	notifySuspend(t.stopped)
	t.enter()
	if t.restore != nil {
		t.keys = make(chan byte)
		go t.readKeys()
	}
	return t
}

// enter takes the terminal over, and leave gives it back.
func (t *terminal) enter() {
	if isTerminal(t.in) {
		t.restore, _ = rawKeys(t.in)
	}
	t.out.WriteString(otherScreen + hideCursor + cutLines + clearAll)
}

func (t *terminal) leave() {
	t.out.WriteString(wrapLines + showCursor + thatScreen)
	if t.restore != nil {
		t.restore()
		t.restore = nil
	}
}

// suspend gives the terminal back while this process is stopped.
func (t *terminal) suspend() {
	t.leave()
	suspend()
	t.enter()
}

func (t *terminal) readKeys() {
	var b [1]byte
	for {
		if n, err := t.in.Read(b[:]); err != nil || n == 0 {
			return
		}
		t.keys <- b[0]
	}
}

// size returns the columns and rows to fill.
func (t *terminal) size() (columns, rows int) {
	if columns, rows = windowSize(t.out); columns <= 0 || rows <= 0 {
		return 80, 24
	}
	return columns, rows
}

// draw writes lines over all that is there, in one go.
func (t *terminal) draw(lines []topLine) error {
	s := screen{color: t.color}
	texts := make([]string, len(lines))
	for i, line := range lines {
		texts[i] = line.text
		if line.style != "" {
			texts[i] = s.style(line.style, line.text)
		}
		texts[i] += clearRight
	}
	var b bytes.Buffer
	b.WriteString(home + strings.Join(texts, "\n") + clearBelow)
	_, err := t.out.Write(b.Bytes())
	return err
}
