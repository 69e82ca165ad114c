package main

import (
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"orbit/internal/overlay"
)

func rootDir(t *testing.T) string {
	t.Helper()
	dir, err := overlay.Root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestFaultsApply holds the list to the code: the text of every fault is in
// its file once, and the package compiles with the fault in it.
func TestFaultsApply(t *testing.T) {
	dir := rootDir(t)
	p := parsePackage(t, dir)
	for _, f := range faults {
		text, err := f.apply(dir)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := p.check(f.file, text); err != nil {
			t.Errorf("with the fault %q: %v", f.name, err)
		}
		for _, s := range f.noticed {
			if _, ok := s.program(); !ok {
				continue
			}
			if _, err := overlay.Instrument(p.text, f.instrumented()); err != nil {
				t.Errorf("with the fault %q: %v", f.name, err)
			}
		}
	}
}

// A parsed is package orbit, ready to be checked with another file in place of
// one of its own. The functions of the other files are without bodies then: it
// takes the most time to check those.
type parsed struct {
	set      *token.FileSet
	text     map[string]string
	hollow   map[string]*ast.File
	importer types.Importer
	imported map[string]*types.Package
}

func parsePackage(t *testing.T, dir string) *parsed {
	t.Helper()
	found, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &parsed{set: token.NewFileSet(), text: map[string]string{}, hollow: map[string]*ast.File{}, imported: map[string]*types.Package{}}
	p.importer = importer.ForCompiler(p.set, "source", nil)
	for _, name := range found.GoFiles {
		p.text[name] = read(t, filepath.Join(dir, name))
		tree, err := parser.ParseFile(p.set, name, p.text[name], parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Type.TypeParams == nil && f.Name.Name != "init" {
				f.Body = nil
			}
		}
		p.hollow[name] = tree
	}
	return p
}

// check returns the first error the compiler would find with this text in
// place of a file.
func (p *parsed) check(name, text string) error {
	faulty, err := parser.ParseFile(p.set, name, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	files := []*ast.File{faulty}
	for other, tree := range p.hollow {
		if other != name {
			files = append(files, tree)
		}
	}
	_, err = (&types.Config{Importer: p, DisableUnusedImportCheck: true}).Check("orbit", p.set, files, nil)
	return err
}

// Import reads a package once: to find that it was read takes the importer of
// the standard library as long as to check all of package orbit.
func (p *parsed) Import(path string) (pkg *types.Package, err error) {
	if p.imported[path] == nil {
		p.imported[path], err = p.importer.Import(path)
	}
	return p.imported[path], err
}

func TestFaultsAreTold(t *testing.T) {
	names := map[string]bool{}
	for _, f := range faults {
		if names[f.name] {
			t.Errorf("two faults are named %q", f.name)
		}
		names[f.name] = true
		if f.life == "" || len(f.noticed) == 0 || f.old == f.new {
			t.Errorf("fault %q lacks what it would mean, who is to notice it, or a change", f.name)
		}
	}
}

// TestNamedTestsExist keeps the runner from looking for tests that were
// renamed.
func TestNamedTestsExist(t *testing.T) {
	dir := rootDir(t)
	declared := map[string]map[string]bool{}
	worlds := map[string]bool{}
	for _, m := range regexp.MustCompile(`name: "([^"]+)"`).FindAllStringSubmatch(read(t, filepath.Join(dir, "internal/explore/slots/configs.go")), -1) {
		worlds[m[1]] = true
	}
	for _, f := range faults {
		for _, s := range f.noticed {
			if declared[s.pkg] == nil {
				declared[s.pkg] = testsIn(t, filepath.Join(dir, s.pkg))
			}
			for _, name := range s.tests() {
				if !declared[s.pkg][name] {
					t.Errorf("fault %q: no test %s in %s", f.name, name, s.pkg)
				}
			}
			for _, name := range s.names() {
				if s.pkg == pkgExplore && !worlds[name] {
					t.Errorf("fault %q: no world %q to explore", f.name, name)
				}
			}
		}
	}
}

func testsIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, path := range glob(t, dir, "*_test.go") {
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(read(t, path), -1) {
			names[m[1]] = true
		}
	}
	return names
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
