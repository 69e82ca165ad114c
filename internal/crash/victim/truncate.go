//go:build orbit_overlay

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"orbit"
	"orbit/internal/overlay/step"
)

// truncations are what befalls a fleet: some of its segments are cut off, all of
// them or but for the header.
var truncations = []struct {
	name   string
	roster bool
	size   int64
}{
	{"rings cut to nothing", false, 0},
	{"rings cut to their headers", false, 4096},
	{"roster cut to nothing", true, 0},
	{"roster cut to its header", true, 4096},
}

// truncate does an operation in one new fleet after the other, and truncates
// segments of it right before a step, which is the next one each time. Whatever
// the operation comes to then, it comes to that, and the fleet can be left.
func truncate(prefix string, d doing) error {
	runs, damaged := 0, 0
	for _, cut := range truncations {
		for at := 1; ; at++ {
			name := fmt.Sprintf("%s.%d", prefix, runs)
			where, err := cutBefore(name, d, at, cut.roster, cut.size)
			if where == "" {
				break
			}
			runs++
			// A segment that is cut while it is opened is foreign.
			if errors.Is(err, orbit.ErrDamaged) || errors.Is(err, orbit.ErrForeign) {
				damaged++
			} else if err != nil {
				return fmt.Errorf("%s before step %d (%s): %w", cut.name, at, where, err)
			}
		}
	}
	fmt.Println("truncated", runs, "damaged", damaged)
	return nil
}

// cutBefore returns what became of an operation, and before which step it was
// disturbed, if it came to that.
func cutBefore(name string, d doing, at int, roster bool, size int64) (where string, err error) {
	v := &victim{name: name}
	steps := 0
	prepared, err := d.run(v, func(what string) {
		if steps++; steps != at {
			return
		}
		where = what + " " + step.Where()
		paths, _ := filepath.Glob("/dev/shm/orbit-" + name + "-*")
		for _, path := range paths {
			if strings.HasPrefix(path, "/dev/shm/orbit-"+name+"-0-") == roster {
				os.Truncate(path, size)
			}
		}
	})
	if prepared != nil {
		return where, fmt.Errorf("prepare: %w", prepared)
	}
	if v.fleet != nil {
		if e := v.fleet.Close(); e != nil {
			return where, fmt.Errorf("Close: %w", e)
		}
	}
	e := orbit.Remove(name)
	if e != nil && !errors.Is(e, orbit.ErrNotExist) {
		return where, fmt.Errorf("Remove: %w", e)
	}
	return where, err
}
