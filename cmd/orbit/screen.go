package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// A screen shows a block of lines that changes in place, and above it lines
// that stay. Where it cannot move the cursor it prints everything in order.
type screen struct {
	out   *os.File
	live  bool // moves the cursor
	color bool
	block []string // the block as it stands, last on the screen
}

func newScreen(out *os.File) *screen {
	live := isTerminal(out) && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
	return &screen{out: out, live: live, color: live && os.Getenv("NO_COLOR") == ""}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// say prints lines that stay.
func (s *screen) say(format string, args ...any) {
	s.redraw(strings.Split(fmt.Sprintf(format, args...), "\n"), s.block)
}

// show replaces the block.
func (s *screen) show(block []string) { s.redraw(nil, block) }

// end leaves the block where it is: what comes next goes below.
func (s *screen) end() { s.block = nil }

// redraw writes over the block that stands: first the lines that stay, then
// the new block, whose long lines are cut. It is one write, at the end of which
// the terminal is as it was, so nothing needs to be put right if this process
// dies.
func (s *screen) redraw(stay, block []string) {
	var b bytes.Buffer
	if !s.live {
		for _, line := range append(stay, block...) {
			fmt.Fprintln(&b, line)
		}
		s.out.Write(b.Bytes())
		return
	}
	b.WriteString(hideCursor)
	if n := len(s.block); n > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", n)
	}
	b.WriteString("\r")
	writeLines(&b, stay)
	b.WriteString(cutLines)
	writeLines(&b, block)
	b.WriteString(clearBelow + wrapLines + showCursor)
	s.out.Write(b.Bytes())
	s.block = block
}

func writeLines(b *bytes.Buffer, lines []string) {
	for _, line := range lines {
		b.WriteString(line + clearRight + "\n")
	}
}

// What a terminal understands.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	cutLines   = "\x1b[?7l"
	wrapLines  = "\x1b[?7h"
	clearRight = "\x1b[K"
	clearBelow = "\x1b[J"
)

// Styles, which are nothing without color.
const (
	bold = "1"
	dim  = "2"
	red  = "31"
)

func (s *screen) style(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
