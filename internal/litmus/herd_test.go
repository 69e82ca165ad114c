package litmus

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// expected returns what herd7 has to say of every file in testdata: Never of a
// shape as Orbit has it, Sometimes of most that are broken on purpose.
func expected(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/expected.txt")
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]string{}
	for line := range strings.Lines(string(text)) {
		var name, outcome string
		if n, err := fmt.Sscan(line, &name, &outcome); n != 2 || outcome != "Never" && outcome != "Sometimes" {
			t.Fatalf("expected.txt: got line %q, %v, want a name and Never or Sometimes", line, err)
		}
		outcomes[name] = outcome
	}
	return outcomes
}

func files(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.litmus")
	if err != nil || len(paths) == 0 {
		t.Fatalf("got %d litmus files, %v, want some", len(paths), err)
	}
	return paths
}

func nameOf(path string) string { return strings.TrimSuffix(filepath.Base(path), ".litmus") }

func TestOnlyBrokenShapesAreExpectedToShowTheForbidden(t *testing.T) {
	outcomes := expected(t)
	for _, path := range files(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := nameOf(path)
		lines := strings.SplitN(string(text), "\n", 3)
		if _, title, _ := strings.Cut(lines[0], " "); title != name {
			t.Errorf("%s: got title %q, want the name of the file", path, title)
		}
		broken := strings.HasPrefix(lines[1], `"Broken: `)
		if got := outcomes[name]; (got == "Sometimes") != broken || got == "" {
			t.Errorf("%s, %s: got expected outcome %q", name, lines[1], got)
		}
		delete(outcomes, name)
	}
	for name := range outcomes {
		t.Errorf("expected.txt: got %s, want it among the files", name)
	}
}

// herd returns what herd7 observes of litmus files, by name. The environment
// can name another program than the herd7 of the path.
func herd(t *testing.T, paths []string) map[string]string {
	t.Helper()
	program := os.Getenv("ORBIT_TEST_HERD7")
	if program == "" {
		program = "herd7"
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("no herd7 here: %v", err)
	}
	out, err := exec.Command(program, paths...).CombinedOutput()
	if err != nil {
		t.Fatalf("herd7: %v\n%s", err, out)
	}
	outcomes := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^Observation (\S+) (\S+) `).FindAllStringSubmatch(string(out), -1) {
		outcomes[m[1]] = m[2]
	}
	if len(outcomes) != len(paths) {
		t.Errorf("got %d observations of %d files:\n%s", len(outcomes), len(paths), out)
	}
	return outcomes
}

func TestHerdFindsWhatIsExpected(t *testing.T) {
	got := herd(t, files(t))
	for name, want := range expected(t) {
		if got[name] != want {
			t.Errorf("%s: got %s, want %s", name, got[name], want)
		}
	}
}

// An outcome is easily impossible for a reason that was not meant, such as a
// misspelt register. So the last thing that a condition asks for must be what
// makes it impossible.
func TestWithoutItsLastTermEveryConditionIsMet(t *testing.T) {
	last := regexp.MustCompile(`(?m)^(exists \(.*) /\\ [^/]*\)$`)
	dir := t.TempDir()
	var paths []string
	for _, path := range files(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		weaker := last.ReplaceAll(text, []byte("$1)"))
		if slices.Equal(weaker, text) {
			t.Fatalf("%s: got no condition of several terms", path)
		}
		paths = append(paths, filepath.Join(dir, filepath.Base(path)))
		if err := os.WriteFile(paths[len(paths)-1], weaker, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, got := range herd(t, paths) {
		if got != "Sometimes" && got != "Always" {
			t.Errorf("%s: got %s, want it to be met", name, got)
		}
	}
}
