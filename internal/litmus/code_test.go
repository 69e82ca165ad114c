package litmus

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The argument for arm64 is one about instructions. This looks at those that
// the compiler at hand makes.
func TestCompilerMakesTheInstructionsOfTheArgument(t *testing.T) {
	code := disassemble(t)
	total := map[string]int{}
	for name, counts := range code {
		if counts["lse"] != counts["stlxr"] {
			t.Errorf("%s: got %d LSE atomics and %d loops with STLXR, want each in both forms", name, counts["lse"], counts["stlxr"])
		}
		for what, n := range counts {
			total[what] += n
			if strings.HasPrefix(what, "weak ") {
				t.Errorf("%s: got %d %s, want none", name, n, what)
			}
		}
	}
	for _, what := range []string{"load", "store", "lse"} {
		if total[what] < 10 {
			t.Errorf("got %d of %s in all functions, want at least 10", total[what], what)
		}
	}
	// Eight words a turn, one word a turn, and the last word.
	if got := code["orbit.loadWords"]; got["load"] < 10 || len(got) != 1 {
		t.Errorf("orbit.loadWords: got %v, want at least 10 loads and nothing else", got)
	}
	if got := code["orbit.storeWords"]; got["store"] < 10 || len(got) != 1 {
		t.Errorf("orbit.storeWords: got %v, want at least 10 stores and nothing else", got)
	}
}

// disassemble builds a program that uses the package for arm64, and returns
// how many accesses of each kind that orders others are in each function of
// package orbit.
func disassemble(t *testing.T) map[string]map[string]int {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("no Go toolchain here: %v", err)
	}
	program := filepath.Join(t.TempDir(), "program")
	build := exec.Command("go", "build", "-o", program, "orbit/internal/litmus/testdata/program")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	listing, err := exec.Command("go", "tool", "objdump", "-s", `^orbit\.`, program).Output()
	if err != nil {
		t.Fatalf("go tool objdump: %v", err)
	}
	code := map[string]map[string]int{}
	name := ""
	line := regexp.MustCompile(`^\s+\S+:\d+\s+0x[0-9a-f]+\s+([0-9a-f]{8})\s+(\S+)`)
	for in := bufio.NewScanner(bytes.NewReader(listing)); in.Scan(); {
		if text, ok := strings.CutPrefix(in.Text(), "TEXT "); ok {
			name, _, _ = strings.Cut(text, "(SB)")
			code[name] = map[string]int{}
		} else if m := line.FindStringSubmatch(in.Text()); m != nil {
			word, _ := strconv.ParseUint(m[1], 16, 32)
			if what := accessOf(uint32(word), m[2]); what != "" {
				code[name][what]++
			}
		}
	}
	return code
}

// accessOf names an access that orders others. Those of the compare-and-swap family
// and LDAPR are told by their bits, which not every disassembler knows. Of the
// loop of LDAXR and STLXR it names the second.
func accessOf(word uint32, mnemonic string) string {
	const anyRegisters = 0x001f03ff
	switch word & 0xbfffffff &^ anyRegisters {
	case 0x88e0fc00, 0xb8e00000, 0xb8e01000, 0xb8e03000, 0xb8e08000: // CASAL, LDADDAL, LDCLRAL, LDSETAL, SWPAL
		return "lse"
	case 0x88a07c00, 0x88e07c00, 0x88a0fc00: // CAS, CASA, CASL
		return "weak CAS"
	case 0xb8a0c000: // LDAPR, in 32 and 64 bits
		return "weak LDAPR"
	}
	switch {
	case strings.HasPrefix(mnemonic, "LDAR"):
		return "load"
	case strings.HasPrefix(mnemonic, "STLR"):
		return "store"
	case strings.HasPrefix(mnemonic, "STLXR"):
		return "stlxr"
	case strings.HasPrefix(mnemonic, "LDXR"), strings.HasPrefix(mnemonic, "STXR"):
		return "weak " + mnemonic
	}
	return ""
}
