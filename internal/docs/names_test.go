//go:build linux

package docs

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// documents returns the texts that outsiders read, by file.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"README.md", "docs/*.md", "examples/*.md", "bench/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			all[strings.TrimPrefix(file, root+"/")] = read(t, file)
		}
	}
	if len(all) < 5 {
		t.Fatalf("found only %d documents", len(all))
	}
	return all
}

// exported returns the package's exported names, methods as Type.Method, and
// its comment.
func exported(t *testing.T) (names map[string]bool, comment string) {
	t.Helper()
	set := token.NewFileSet()
	files, err := filepath.Glob(filepath.Join(root, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*ast.File
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || strings.Contains(file, "shm_") {
			continue
		}
		f, err := parser.ParseFile(set, file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	p, err := doc.NewFromFiles(set, parsed, "orbit")
	if err != nil {
		t.Fatal(err)
	}
	names = map[string]bool{}
	values := func(list []*doc.Value) {
		for _, v := range list {
			for _, n := range v.Names {
				names[n] = true
			}
		}
	}
	values(p.Consts)
	values(p.Vars)
	for _, f := range p.Funcs {
		names[f.Name] = true
	}
	for _, typ := range p.Types {
		names[typ.Name] = true
		values(typ.Consts)
		values(typ.Vars)
		for _, f := range typ.Funcs {
			names[f.Name] = true
		}
		for _, m := range typ.Methods {
			names[typ.Name+"."+m.Name] = true
		}
		if s, ok := typ.Decl.Specs[0].(*ast.TypeSpec).Type.(*ast.StructType); ok {
			for _, field := range s.Fields.List {
				for _, n := range field.Names {
					names[typ.Name+"."+n.Name] = true
				}
			}
		}
	}
	return names, p.Doc
}

// TestEveryExportedNameHasAComment and says what it is of in its first word or
// the words before.
func TestEveryExportedNameHasAComment(t *testing.T) {
	set := token.NewFileSet()
	files, _ := filepath.Glob(filepath.Join(root, "*.go"))
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && !receivesUnexported(d) {
					t.Errorf("%v: %s has no comment", set.Position(d.Pos()), d.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					checkSpec(t, set, d, s)
				}
			}
		}
	}
}

func receivesUnexported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return false
	}
	name := ""
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return true
	})
	return !ast.IsExported(name)
}

func checkSpec(t *testing.T, set *token.FileSet, d *ast.GenDecl, s ast.Spec) {
	switch s := s.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
			t.Errorf("%v: %s has no comment", set.Position(s.Pos()), s.Name)
		}
	case *ast.ValueSpec:
		for _, n := range s.Names {
			if n.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
				t.Errorf("%v: %s has no comment", set.Position(s.Pos()), n)
			}
		}
	}
}

// TestDocumentsNameWhatThereIs looks for names of the package, tests, fuzz
// targets, directories and files that the documents mention.
func TestDocumentsNameWhatThereIs(t *testing.T) {
	names, comment := exported(t)
	tests := testNames(t)
	all := documents(t)
	all["the package comment"] = comment
	var (
		qualified = regexp.MustCompile(`\borbit\.([A-Z]\w*)`)
		testName  = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
		goRun     = regexp.MustCompile(`go (?:run|test)(?: -[\w.=]+(?: '[^']*'| [\d.]+\w+)?)* (\./[\w/.]+)`)
		link      = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
		code      = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	)
	for file, text := range all {
		for _, m := range qualified.FindAllStringSubmatch(text, -1) {
			if !names[m[1]] {
				t.Errorf("%s mentions orbit.%s, which there is not", file, m[1])
			}
		}
		for _, m := range testName.FindAllString(text, -1) {
			if !tests[m] && m != "TestXxx" {
				t.Errorf("%s mentions %s, which there is not", file, m)
			}
		}
		for _, m := range goRun.FindAllStringSubmatch(text, -1) {
			dir := strings.TrimSuffix(m[1], "/...")
			if _, err := os.Stat(filepath.Join(root, dir)); err != nil && file != "docs/VENDORING.md" {
				if _, err := os.Stat(filepath.Join(root, "bench", dir)); err != nil {
					t.Errorf("%s mentions %s, which there is not", file, m[1])
				}
			}
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(file), m[1])); err != nil && file != "the package comment" {
				t.Errorf("%s links to %s, which there is not", file, m[1])
			}
		}
	}
}

// testNames returns the tests and fuzz targets of the whole tree.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestFirstProgramOfTheReadmeRuns runs it as it stands there.
func TestFirstProgramOfTheReadmeRuns(t *testing.T) {
	m := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindStringSubmatch(read(t, filepath.Join(root, "README.md")))
	if m == nil {
		t.Fatal("the README has no program")
	}
	if n := strings.Count(m[1], "\n"); n > 25 {
		t.Errorf("the first program has %d lines", n)
	}
	dir, err := os.MkdirTemp("testdata", "program")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// Its fleet must be one of this test's own.
	name := "readme-" + filepath.Base(dir)
	program := strings.Replace(m[1], `orbit.Join("web"`, `orbit.Join("`+name+`"`, 1)
	if program == m[1] {
		t.Fatal("the first program joins no fleet \"web\"")
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() {
		left, _ := filepath.Glob("/dev/shm/orbit-" + name + "-*")
		for _, s := range left {
			os.Remove(s)
		}
	}()
	out, err := exec.Command("go", "run", "./"+dir).CombinedOutput()
	if err != nil || string(out) != "{0.7 0.4} from node 1 <nil>\n" {
		t.Errorf("the first program: %v, it printed %q", err, out)
	}
}
