// Package overlay builds test programs against an instrumented copy of package
// orbit, in which every operation on shared memory and every system call is a
// step that a harness sees, and can stop, order or end the process at.
//
// The copy is made from the checkout's own sources whenever a harness is
// built, and handed to the go command with its -overlay flag. So a harness
// does not check a model of the protocol that somebody has to keep true to the
// code: it runs the code. The sources themselves carry nothing for it, and a
// new operation in them is a new step without anybody remembering to make it
// one. This is what differs in the copy, line numbers excepted, which stay:
//
//   - In every file "sync/atomic" becomes [orbit/internal/overlay/atomic]: the
//     same operations, each reported to package step before and after.
//   - In every file "sync" becomes [orbit/internal/overlay/sync]: the same
//     locks, for which the harness can answer.
//   - The constant totalOrder becomes false, as it is on processors with weak
//     memory order: payloads are copied word by word with atomics, so each word
//     is a step as well.
//   - In the Linux files the calls of package syscall that enter the kernel go
//     to [orbit/internal/overlay/syscall], which reports them.
//   - Whether a member lives, the short pause of a writer that finds every slot
//     held, and the clock can be answered by the harness.
//   - Faults, if a harness wants to see that it would notice them, and a file
//     that exports what the harness needs to see.
//
// What the copy relies on in the sources is checked while it is made. A
// function that is renamed, a system call or an atomic type that is not
// provided for, and a function that touches memory by address and is not one
// of those known to do so, are errors, here or from the compiler: then the
// tables below, or the stand-ins, need an entry.
package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	stepPath   = "orbit/internal/overlay/step"
	atomicPath = "orbit/internal/overlay/atomic"
	syncPath   = "orbit/internal/overlay/sync"
	systemPath = "orbit/internal/overlay/syscall"
)

// answers are the functions that a harness can answer for. Each text goes to
// the beginning of the function's body.
var answers = map[string]string{
	"Fleet.memberAlive": "if step.Alive != nil { return step.Alive(owner) }; ",
	"backoff.pause":     "if step.Pause != nil { return step.Pause(limit) }; ",
	"clockNow":          "if step.Clock != nil { return step.Clock() }; ",
	"Ring.linger":       "if step.Pause != nil { return false }; ", // as long as it likes is not at all, too
}

// loops are the functions with a loop that tries until it succeeds, and the
// variables that one try leaves to the next. All else is as before the loop
// when a try begins, which saves an exploration from telling apart what does
// not differ. In a loop over maxAttempts the number of the try is left out.
var loops = map[string][]string{
	"Ring.publish":    nil,
	"Ring.claimSlow":  {"t", "late", "held"},
	"Ring.void":       nil,
	"raise":           nil,
	"Ring.release":    nil,
	"Ring.newest":     nil,
	"Ring.findNewest": nil,
	"Ring.readAt":     nil,
	"survey.at":       nil,
	"Contest.read":    nil,
}

// systemCalls are the functions of package syscall that enter the kernel and
// have a stand-in, lookingCalls those of them that change nothing, and
// harmlessCalls those that need none.
var (
	systemCalls = set("Open Close Fchmod Fallocate Fstat Lstat Pread ReadDirent Unlink FcntlFlock Syscall6 RawSyscall6 RawSyscall")

	lookingCalls = set("Fstat Lstat Pread ReadDirent")

	harmlessCalls = set("BytePtrFromString NsecToTimespec ParseDirent Geteuid Getpid Errno")
)

// plainAccess names the functions that touch memory by address without
// atomics, and says why no step is missed by that. A function that does so
// depending on totalOrder needs no entry.
var plainAccess = map[string]string{
	"formatRing":    "fills memory that has no name yet",
	"localBlock":    "makes memory",
	"mapMemory":     "makes memory",
	"copyPlain":     "is called only with totalOrder",
	"Orbital.Store": "clears padding of its own copy of the value",
}

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// A Fault is a change to a root file that a harness must notice. Old must
// occur in the file exactly once, and New must have as many lines.
type Fault struct{ File, Old, New string }

// A Variant says what to add to the instrumented copy.
type Variant struct {
	Faults []Fault
	// Expose is the path of a Go file to add to package orbit, from the root.
	Expose string
}

// Root returns the directory of the module that the working directory is in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module orbit\n") {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", errors.New("overlay: not in the module orbit")
	}
}

// Write makes the instrumented copy of the package at root in dir, and returns
// the path of the file to give to the go command as its -overlay.
func Write(root, dir string, v Variant) (string, error) {
	replace := map[string]string{}
	put := func(name, text string) error {
		replace[filepath.Join(root, name)] = filepath.Join(dir, name)
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666)
	}
	sources, err := read(root)
	if err != nil {
		return "", err
	}
	copies, err := Instrument(sources, v.Faults)
	if err != nil {
		return "", err
	}
	for name, text := range copies {
		if err := put(name, text); err != nil {
			return "", err
		}
	}
	if v.Expose != "" {
		text, err := os.ReadFile(filepath.Join(root, v.Expose))
		if err != nil {
			return "", err
		}
		if err := put("zz_expose.go", string(text)); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, text, 0o666)
}

// read returns the package's sources by name, for all systems.
func read(root string) (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(root, "*.go"))
	if err != nil {
		return nil, err
	}
	sources := map[string]string{}
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		sources[filepath.Base(p)] = string(text)
	}
	return sources, nil
}

// Changes returns the places in the sources for Linux that change memory by
// atomic operations on its address, or enter the kernel for more than to look:
// as "ring.go:276", with the function that is there. A deferred call is not
// among them, for it is made elsewhere.
func Changes(root string) (map[string]string, error) {
	sources, err := read(root)
	if err != nil {
		return nil, err
	}
	places := map[string]string{}
	for name, text := range sources {
		f := &file{name: name, set: token.NewFileSet()}
		if f.foreign() {
			continue
		}
		if f.tree, err = parser.ParseFile(f.set, name, text, parser.SkipObjectResolution); err != nil {
			return nil, err
		}
		for _, d := range f.tree.Decls {
			d, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if _, deferred := n.(*ast.DeferStmt); deferred {
					return false
				}
				if call, ok := n.(*ast.CallExpr); ok && changes(call) {
					places[name+":"+strconv.Itoa(f.set.Position(call.Pos()).Line)] = funcName(d)
				}
				return true
			})
		}
	}
	return places, nil
}

func changes(call *ast.CallExpr) bool {
	if isSelector(call.Fun, "syscall", "") {
		name := call.Fun.(*ast.SelectorExpr).Sel.Name
		return systemCalls[name] && !lookingCalls[name]
	}
	return isSelector(call.Fun, "atomic", "") && !strings.HasPrefix(call.Fun.(*ast.SelectorExpr).Sel.Name, "Load")
}

// Instrument returns the instrumented copies of a package's sources, by name.
func Instrument(sources map[string]string, faults []Fault) (map[string]string, error) {
	copies := maps.Clone(sources)
	for _, f := range faults {
		text := copies[f.File]
		if n := strings.Count(text, f.Old); n != 1 {
			return nil, fmt.Errorf("overlay: %s holds the text of a fault %d times, want once:\n%s", f.File, n, f.Old)
		}
		if strings.Count(f.Old, "\n") != strings.Count(f.New, "\n") {
			return nil, fmt.Errorf("overlay: a fault in %s moves lines:\n%s", f.File, f.New)
		}
		copies[f.File] = strings.Replace(text, f.Old, f.New, 1)
	}
	found := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(copies)) {
		text, err := instrument(name, copies[name], found)
		if err != nil {
			return nil, err
		}
		copies[name] = text
	}
	want := []string{"totalOrder", "sync", "sync/atomic"}
	want = append(want, slices.Collect(maps.Keys(answers))...)
	want = append(want, slices.Collect(maps.Keys(plainAccess))...)
	for name := range loops {
		want = append(want, name+" loop")
	}
	for _, what := range want {
		if found[what] == 0 {
			return nil, fmt.Errorf("overlay: no %s in the sources: it was renamed or removed, and package overlay must follow", what)
		}
	}
	return copies, nil
}

// A patch replaces the text from one offset to another.
type patch struct {
	from, to int
	text     string
}

// file is a source file on its way to an instrumented copy.
type file struct {
	name    string
	text    string
	set     *token.FileSet
	tree    *ast.File
	patches []patch
	found   map[string]int // what was found in all files

	stepSeen bool // whether package step is imported
	serial   int  // of the last loop
}

func instrument(name, text string, found map[string]int) (string, error) {
	f := &file{name: name, text: text, set: token.NewFileSet(), found: found, serial: len(found) * 100}
	var err error
	if f.tree, err = parser.ParseFile(f.set, name, text, parser.SkipObjectResolution); err != nil {
		return "", err
	}
	f.imports()
	for _, d := range f.tree.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			f.order(d)
		case *ast.FuncDecl:
			f.answer(d)
			if err := f.loop(d); err != nil {
				return "", err
			}
			if err := f.audit(d); err != nil {
				return "", err
			}
		}
	}
	if err := f.system(); err != nil {
		return "", err
	}
	return f.apply(), nil
}

func (f *file) offset(p token.Pos) int { return f.set.Position(p).Offset }

func (f *file) replace(n ast.Node, text string) {
	f.patches = append(f.patches, patch{f.offset(n.Pos()), f.offset(n.End()), text})
}

func (f *file) insert(at token.Pos, text string) {
	f.patches = append(f.patches, patch{f.offset(at), f.offset(at), text})
}

// importAs adds an import on the line of the package clause.
func (f *file) importAs(name, path string) {
	f.insert(f.tree.Name.End(), "; import "+name+" "+strconv.Quote(path))
}

func (f *file) apply() string {
	slices.SortStableFunc(f.patches, func(a, b patch) int { return a.from - b.from })
	var out strings.Builder
	at := 0
	for _, p := range f.patches {
		out.WriteString(f.text[at:p.from])
		out.WriteString(p.text)
		at = p.to
	}
	out.WriteString(f.text[at:])
	return out.String()
}

// imports puts the stand-ins for sync and sync/atomic in.
func (f *file) imports() {
	standIns := map[string]string{"sync": syncPath, "sync/atomic": atomicPath}
	for _, s := range f.tree.Imports {
		path, err := strconv.Unquote(s.Path.Value)
		if standIn := standIns[path]; err == nil && standIn != "" {
			f.replace(s.Path, strconv.Quote(standIn))
			f.found[path]++
		}
	}
}

// order makes payload copies go word by word.
func (f *file) order(d *ast.GenDecl) {
	for _, s := range d.Specs {
		v, ok := s.(*ast.ValueSpec)
		if ok && d.Tok == token.CONST && v.Names[0].Name == "totalOrder" {
			f.insert(v.Values[0].Pos(), "false && (")
			f.insert(v.Values[0].End(), ")")
			f.found["totalOrder"]++
		}
	}
}

// funcName returns the name of a function, or type and name of a method.
func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "." + d.Name.Name
		default:
			return d.Name.Name
		}
	}
}

// answer puts the question to the harness into the functions it can answer
// for.
func (f *file) answer(d *ast.FuncDecl) {
	if text := answers[funcName(d)]; text != "" {
		f.importStep()
		f.insert(d.Body.Lbrace+1, " "+text)
		f.found[funcName(d)]++
	}
}

// importStep lets the file see package step, unless it does: a fault may have
// brought it.
func (f *file) importStep() {
	if f.stepSeen {
		return
	}
	f.stepSeen = true
	for _, s := range f.tree.Imports {
		if path, err := strconv.Unquote(s.Path.Value); err == nil && path == stepPath {
			return
		}
	}
	f.importAs("step", stepPath)
}

// loop reports the tries of the function's loop, after a look at the variables
// that it assigns.
func (f *file) loop(d *ast.FuncDecl) (err error) {
	carried, ok := loops[funcName(d)]
	if !ok {
		return nil
	}
	found := 0
	ast.Inspect(d, func(n ast.Node) bool {
		var body *ast.BlockStmt
		switch n := n.(type) {
		case *ast.ForStmt:
			if n.Cond == nil {
				body = n.Body
			}
		case *ast.RangeStmt:
			if n.Key == nil {
				body = n.Body
			}
		}
		if body == nil {
			return true
		}
		found++
		f.importStep()
		f.found[funcName(d)+" loop"]++
		f.serial++
		args := strconv.Itoa(f.serial)
		f.insert(n.Pos(), "if step.Enter != nil { step.Enter("+args+") }; ")
		for _, v := range carried {
			args += ", uint64(" + v + ")"
		}
		f.insert(body.Lbrace+1, " if step.Again != nil { step.Again("+args+") }; ")
		for _, v := range assigned(body) {
			if !slices.Contains(carried, v) && err == nil {
				err = fmt.Errorf("overlay: %v: the loop in %s carries %s from one try to the next, and package overlay does not know", f.set.Position(n.Pos()), funcName(d), v)
			}
		}
		return true
	})
	if found != 1 && err == nil {
		err = fmt.Errorf("overlay: %s has %d loops that try until they succeed, want one", funcName(d), found)
	}
	return err
}

// assigned returns the variables that a block assigns and does not declare.
func assigned(b *ast.BlockStmt) (names []string) {
	declared := map[string]bool{}
	ast.Inspect(b, func(n ast.Node) bool {
		assign := func(e ast.Expr) {
			if x, ok := e.(*ast.Ident); ok && x.Name != "_" && !declared[x.Name] {
				names = append(names, x.Name)
			}
		}
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, l := range n.Lhs {
				if x, ok := l.(*ast.Ident); ok && n.Tok == token.DEFINE {
					declared[x.Name] = true
				}
				assign(l)
			}
		case *ast.ValueSpec:
			for _, x := range n.Names {
				declared[x.Name] = true
			}
		case *ast.IncDecStmt:
			assign(n.X)
		}
		return true
	})
	return names
}

// audit looks for memory touched by address and not through atomics: there a
// step could be missed.
func (f *file) audit(d *ast.FuncDecl) (err error) {
	if f.foreign() {
		return nil
	}
	if plainAccess[funcName(d)] != "" {
		f.found[funcName(d)]++
		return nil
	}
	asks := false
	ast.Inspect(d, func(n ast.Node) bool {
		plain := false
		switch n := n.(type) {
		case *ast.Ident:
			asks = asks || n.Name == "totalOrder"
		case *ast.StarExpr:
			_, plain = n.X.(*ast.CallExpr)
		case *ast.CallExpr:
			if plain = isSelector(n.Fun, "unsafe", "Slice"); plain {
				of, ok := n.Args[0].(*ast.CallExpr)
				plain = !ok || !isSelector(of.Fun, "unsafe", "StringData")
			}
		}
		if plain && err == nil {
			err = fmt.Errorf("overlay: %v: %s touches memory by address: see to it that steps in shared memory go through sync/atomic, then list it in plainAccess", f.set.Position(n.Pos()), funcName(d))
		}
		return true
	})
	if asks {
		return nil
	}
	return err
}

func isSelector(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg && (name == "" || s.Sel.Name == name)
}

// foreign tells whether the file is for other systems than Linux, on which no
// system calls are steps.
func (f *file) foreign() bool {
	return strings.HasSuffix(f.name, "_darwin.go") || strings.HasSuffix(f.name, "_stub.go")
}

// system sends system calls to their stand-ins. Only files for one system may
// make any.
func (f *file) system() (err error) {
	if f.foreign() {
		return nil
	}
	linux := strings.HasSuffix(f.name, "_linux.go")
	imported := false
	ast.Inspect(f.tree, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && isSelector(call.Fun, "syscall", "") && err == nil {
			name := call.Fun.(*ast.SelectorExpr).Sel.Name
			if !harmlessCalls[name] && !(linux && systemCalls[name]) {
				err = fmt.Errorf("overlay: %v: syscall.%s has no stand-in", f.set.Position(n.Pos()), name)
			}
		}
		// Not only in calls: the function might be passed on.
		if s, ok := n.(*ast.SelectorExpr); ok && isSelector(s, "syscall", "") && systemCalls[s.Sel.Name] {
			if !imported {
				f.importAs("stepcall", systemPath)
				imported = true
			}
			f.replace(s.X, "stepcall")
		}
		return true
	})
	return err
}

// Build makes an instrumented copy and runs the go command with args on it,
// which begin with "build" or "test" and say where the program goes, at the
// root of the module. It skips the test on a machine without the go command.
func Build(t testing.TB, v Variant, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command here to build the instrumented program with")
	}
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	file, err := Write(root, t.TempDir(), v)
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{args[0], "-overlay=" + file}, args[1:]...)
	cmd := exec.Command(tool, args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
