package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		os.Exit(play())
	}
	os.Exit(m.Run())
}

// TestStormDoesNoDamage is the short form of the soak. ORBIT_SOAK, a duration,
// makes it longer.
func TestStormDoesNoDamage(t *testing.T) {
	length := 5 * time.Second
	if s := os.Getenv("ORBIT_SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	err := soak(length, 2, rand.Uint64(), &out)
	t.Logf("\n%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(fmt.Sprintf("/dev/shm/orbit-soak%d-*", os.Getpid()))
	if len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestStormNoticesWhatMustNotBe: nearly all actors are killed, so what one tells
// of before that has to count, and that one ends by itself.
func TestStormNoticesWhatMustNotBe(t *testing.T) {
	run := func(script string) (r row) {
		t.Helper()
		a := &actor{Cmd: exec.Command("sh", "-c", script), output: &bytes.Buffer{}}
		a.Cmd.Stdout = a.output
		in, err := a.StdinPipe() // open for as long as the script is to run
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		// Descriptor 3 is closed when the script has come to its end, or waits.
		there, end, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer there.Close()
		a.ExtraFiles = []*os.File{end}
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		end.Close()
		if _, err := io.ReadAll(there); err != nil {
			t.Fatal(err)
		}
		var s storm
		s.kill(a)
		return s.rows[0]
	}
	if r := run("exec 3>&-; read line"); len(r.violations) != 0 || r.kills != 1 {
		t.Errorf("killed as it should be: %+v, want no violation", r)
	}
	if r := run("exit 1"); len(r.violations) != 1 {
		t.Errorf("ended with an error before it was killed: %+v, want a violation", r)
	}
	r := run("echo torn: a frame; echo unaccounted: a counter; echo something else; exec 3>&-; read line")
	if r.torn != 1 || r.unaccounted != 1 || len(r.violations) != 3 {
		t.Errorf("told of three things: %+v, want all of them", r)
	}
}
