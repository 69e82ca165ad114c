package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// A screen shows a picture that changes. On a terminal it draws over the last
// one; elsewhere it prints the picture now and then, as plain lines.
type screen struct {
	out   io.Writer
	live  bool
	lines int
	last  time.Time
}

// plainEvery is how often a picture is printed where none can be redrawn.
const plainEvery = 2 * time.Second

func newScreen(out io.Writer) *screen {
	f, isFile := out.(*os.File)
	live := false
	if isFile {
		info, err := f.Stat()
		live = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "" && os.Getenv("TERM") != "dumb"
	}
	return &screen{out: out, live: live}
}

// show shows the picture, if it is time to.
func (s *screen) show(picture string) {
	if !s.live {
		if time.Since(s.last) >= plainEvery {
			s.last = time.Now()
			fmt.Fprintln(s.out, picture)
		}
		return
	}
	if s.lines > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA", s.lines)
	}
	for line := range strings.Lines(picture) {
		fmt.Fprint(s.out, "\x1b[2K", line)
	}
	fmt.Fprint(s.out, "\x1b[J")
	s.lines = strings.Count(picture, "\n")
}

// say prints a line that stays, above the pictures to come. The next picture
// shows what came of it.
func (s *screen) say(format string, args ...any) {
	s.last = time.Time{}
	if s.live && s.lines > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.lines)
		s.lines = 0
	}
	fmt.Fprintf(s.out, format+"\n", args...)
}

// bold marks a word, where there is a terminal that wants it.
func (s *screen) bold(text string) string {
	if !s.live || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}
