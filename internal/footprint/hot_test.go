package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// These tests keep what makes hot paths fast from getting lost, and do not look
// at a clock to do so.

// TestHotHelpersInline: what every operation does for every frame must not cost
// a call.
func TestHotHelpersInline(t *testing.T) {
	if strconv.IntSize == 32 {
		t.Skip("atomics of 64 bits are calls there")
	}
	readKernel(t)
	out, err := exec.Command("go", "build", "-gcflags=orbit=-m=1", "-o", os.DevNull, "orbit").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, f := range []string{
		"since", "putWord", "getWord", "raise", "(*Ring).slot", "(*Ring).writing", "(*Ring).take", "(*Ring).mark", "(*Ring).putHeader",
		"(*Ring).commit", "(*Ring).release", "(*Ring).notify", "(*Ring).id", "(*Ring).idOf", "(*Ring).oldest", "(*Ring).tableWord",
		"(*block).word", "(*block).putBytes", "(*block).getBytes", "extend", "(*Ring).Newest", "(*Cursor).Next", "(*Gap).add", "enterGuard", "NetID64.Counter", "NetID64.Node", "NetID64.Kind", "MakeNetID64",
	} {
		if !regexp.MustCompile(`(?m): can inline ` + regexp.QuoteMeta(f) + `$`).Match(out) {
			t.Errorf("%s is not inlined", f)
		}
	}
}

// TestHotPathsStayShort counts the instructions of the functions on the way of
// a frame, and those among them that lock the bus: a publish makes three, the add
// that takes its ticket and the compare-and-swaps of mark and commit.
func TestHotPathsStayShort(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the counts are of amd64")
	}
	readKernel(t)
	binary := filepath.Join(t.TempDir(), "everything")
	if out, err := exec.Command("go", "build", "-o", binary, "./testdata/everything").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, f := range []struct {
		symbol        string
		instructions  int
		locked        int
		whatTheyLock  string
		notToBeCalled string
	}{
		{`orbit.\(\*Ring\).Publish`, 50, 0, "nothing", ""},
		{`orbit.\(\*Ring\).publish`, 150, 2, "the commit, and letting go when lapped", "runtime.newobject"},
		{`orbit.\(\*Ring\).claim`, 65, 2, "the head, and the slot", "runtime.newobject"},
		{`orbit.\(\*Ring\).fill`, 75, 0, "nothing", "runtime.newobject"},
		{`orbit.\(\*Ring\).copyFrame`, 170, 0, "nothing", "runtime.newobject"},
	} {
		text, err := exec.Command("go", "tool", "objdump", "-s", "^"+f.symbol+"$", binary).Output()
		if err != nil {
			t.Fatal(err)
		}
		count, locked := 0, 0
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "0x") {
				continue
			}
			count++
			if strings.Contains(line, "LOCK") || regexp.MustCompile(`\tXCHG[BWLQ] .*\(`).MatchString(line) {
				locked++
			}
			if f.notToBeCalled != "" && strings.Contains(line, f.notToBeCalled) {
				t.Errorf("%s calls %s", f.symbol, f.notToBeCalled)
			}
		}
		t.Logf("%s: %d instructions, %d locked", f.symbol, count, locked)
		if count == 0 || count > f.instructions {
			t.Errorf("%s has %d instructions, want 1 to %d", f.symbol, count, f.instructions)
		}
		if locked != f.locked {
			t.Errorf("%s has %d locked instructions, want %d: %s", f.symbol, locked, f.locked, f.whatTheyLock)
		}
	}
}

// TestKernelImportsLittle: each package of the standard library that the kernel
// imports is in every program that vendors it.
func TestKernelImportsLittle(t *testing.T) {
	readKernel(t)
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, "orbit").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{
		"context", "encoding/binary", "errors", "hash/maphash", "iter", "math", "math/bits", "math/rand/v2", "reflect", "runtime", "slices",
		"strconv", "strings", "sync", "sync/atomic", "syscall", "time", "unicode/utf8", "unsafe",
	}
	for _, name := range strings.Fields(string(out)) {
		if !slices.Contains(allowed, name) {
			t.Errorf("the kernel imports %s", name)
		}
	}
}

// readKernel reads the source, so that results for another are not taken from
// the test cache: what the go command reads for a test, the cache does not see.
func readKernel(t *testing.T) {
	t.Helper()
	names, err := filepath.Glob("../../*.go")
	if err != nil || len(names) == 0 {
		t.Fatalf("no source of the kernel: %v", err)
	}
	for _, name := range names {
		if _, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
}
