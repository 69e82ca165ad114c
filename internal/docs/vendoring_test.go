//go:build linux

package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestVendoringWorksAsDocumented runs the commands of docs/VENDORING.md in the
// directory of a new module.
func TestVendoringWorksAsDocumented(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the vendored tests")
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(read(t, "../../docs/VENDORING.md"), -1)
	if len(blocks) != 4 {
		t.Fatalf("the document has %d blocks of commands, want 4", len(blocks))
	}
	script := "set -e\n"
	for _, b := range blocks {
		script += b[1]
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module yourmodule\n\ngo 1.24\n")
	write("main.go", `package main

import "yourmodule/internal/orbit"

func main() {
	f, err := orbit.Local("vendored", orbit.Options{Size: 1})
	if err != nil {
		panic(err)
	}
	f.Close()
}
`)
	// Whoever checks the documents need not run all tests twice.
	script = strings.Replace(script, "go test ./internal/orbit\n", "go test -short -run 'Frame|NetID|Example' ./internal/orbit\n", 1)
	script = strings.Replace(script, "-fuzztime 10s", "-fuzztime 200x", 1)
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "ORBIT="+root, "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	run("sh", "-c", script)
	run("./orbit-static")
	file, err := os.ReadFile(filepath.Join(dir, "orbit-static"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(file), "ld-linux") {
		t.Error("the program is not static")
	}
}
