package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"orbit/internal/overlay"
)

// A fault is a change to a file at the root that some tests must notice.
type fault struct {
	name     string
	file     string
	old, new string  // old occurs in the file exactly once
	life     string  // what it would mean in life
	noticed  []suite // who is to notice it: the first that does is enough
}

// A suite is some tests of one package.
type suite struct {
	pkg string // from the root, as "." or "./internal/fleettest"
	run string // names, with a bar between two
}

const (
	pkgRoot    = "."
	pkgFleet   = "./internal/fleettest"
	pkgContest = "./internal/contesttest"
	pkgExplore = "./internal/explore"
)

// The functions below make a table of faults read well.

func root(names string) []suite    { return []suite{{pkgRoot, names}} }
func fleet(names string) []suite   { return []suite{{pkgFleet, names}} }
func contest(names string) []suite { return []suite{{pkgContest, names}} }

// worlds are worlds of the exploration, the one test of its package that is
// asked for by parts: see ./internal/explore/slots.
func worlds(names string) []suite { return []suite{{pkgExplore, names}} }

const exploration = "TestNoInterleavingBreaksTheSlotProtocol"

// duel is the test of the contest that has claimants meet at every move.
var duel = []suite{{pkgFleet, "TestClaimantsMeetAtEveryMove"}}

// A program is what a test builds against the instrumented copy of package
// orbit and runs. The copy is made from the sources as they are on disk, so
// the fault must be put into the copy, and the program run in the test's place.
type program struct {
	dir    string
	expose string // see [overlay.Variant]
	args   []string
}

func (s suite) program() (p program, ok bool) {
	switch {
	case s.pkg == pkgExplore:
		return program{pkgExplore + "/slots", "internal/explore/testdata/expose.go", []string{"-run=" + s.pattern()}}, true
	case s == duel[0]:
		return program{pkgFleet + "/duel", "", []string{ownFleet("duel")}}, true
	}
	return p, false
}

// ownFleet returns a fleet name of this process.
func ownFleet(name string) string { return fmt.Sprintf("t%d.%s", os.Getpid(), name) }

func (s suite) names() []string { return strings.Split(s.run, "|") }
func (s suite) pattern() string { return "^(" + s.run + ")$" }

// tests returns the names of the test functions in the suite.
func (s suite) tests() []string {
	if s.pkg == pkgExplore {
		return []string{exploration}
	}
	return s.names()
}

// where is the package, in a form for people.
func (s suite) where() string {
	if s.pkg == pkgRoot {
		return "orbit"
	}
	return filepath.Base(s.pkg)
}

func (s suite) String() string {
	what := strings.ReplaceAll(s.run, "|", ", ")
	if s.pkg == pkgExplore {
		what = exploration + ", worlds " + what
	}
	return s.where() + ": " + what
}

// apply returns the text of the faulty file.
func (f fault) apply(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, f.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), f.old); n != 1 {
		return "", fmt.Errorf("%s has the text of the fault %q %d times, want once:\n%s", f.file, f.name, n, f.old)
	}
	return strings.Replace(string(text), f.old, f.new, 1), nil
}

// instrumented returns the fault in the form that package overlay takes, which
// moves no lines.
func (f fault) instrumented() []overlay.Fault {
	if f.file == "" {
		return nil
	}
	missing := strings.Count(f.old, "\n") - strings.Count(f.new, "\n")
	return []overlay.Fault{{File: f.file, Old: f.old, New: f.new + strings.Repeat("\n", max(missing, 0))}}
}

// union returns all the tests that faults name, by package.
func union(chosen []fault) (all []suite) {
	names := map[string][]string{}
	for _, f := range chosen {
		for _, s := range f.noticed {
			names[s.pkg] = append(names[s.pkg], s.names()...)
		}
	}
	for pkg, n := range names {
		slices.Sort(n)
		all = append(all, suite{pkg, strings.Join(slices.Compact(n), "|")})
	}
	slices.SortFunc(all, func(a, b suite) int { return strings.Compare(a.pkg, b.pkg) })
	return all
}
