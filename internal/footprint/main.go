// Footprint builds small programs as static, stripped binaries, prints their
// sizes, and fails if one is larger than it may be.
//
//	go run ./internal/footprint
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// programs are the ones under testdata, with the largest size allowed in
// bytes: 0 is no limit, -1 is the size of the program hello.
var programs = []struct {
	name  string
	limit int64
}{
	{"hello", 0},
	{"kernel", 1_520_435}, // 1.45 MiB
	{"everything", 1_655_000},
}

func main() {
	dir, err := os.MkdirTemp("", "footprint")
	check(err)
	defer os.RemoveAll(dir)
	sizes := map[string]int64{}
	failed := false
	for _, p := range programs {
		out := filepath.Join(dir, p.name)
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./internal/footprint/testdata/"+p.name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		check(build.Run())
		info, err := os.Stat(out)
		check(err)
		sizes[p.name] = info.Size()
		limit := p.limit
		if limit < 0 {
			limit = sizes["hello"]
		}
		verdict := ""
		if limit > 0 {
			verdict = fmt.Sprintf("limit %d", limit)
			if info.Size() > limit {
				verdict += ": too large"
				failed = true
			}
		}
		fmt.Printf("%-12s %9d bytes  %s\n", p.name, info.Size(), verdict)
	}
	if failed {
		os.RemoveAll(dir)
		os.Exit(1)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "footprint:", err)
		os.Exit(1)
	}
}
