package explore_test

import (
	"flag"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orbit/internal/overlay"
)

var long = flag.Bool("explore.long", false, "explore all worlds of the slot protocol: this takes long")

// short are the worlds that go test explores: two writers and a reader or three
// writers, and every kind of operation, over one slot, two and eight, with deaths.
var short = []string{
	"1 2w newest", "1 2w newest 2d", "2 2w newest", "2 2w newest 2d", "2 2w cursor", "1 3w",
	"mint", "mint cursor", "reset", "reset cursor", "lap", "batch",
}

// buildSlots builds the command in the directory slots with faults in the code
// it explores.
func buildSlots(t *testing.T, faults ...overlay.Fault) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "slots")
	v := overlay.Variant{Faults: faults, Expose: "internal/explore/testdata/expose.go"}
	overlay.Build(t, v, "build", "-tags=orbit_overlay", "-o", binary, "./internal/explore/slots")
	return binary
}

// TestNoInterleavingBreaksTheSlotProtocol explores every interleaving of the
// real code's steps on shared memory, in small worlds.
func TestNoInterleavingBreaksTheSlotProtocol(t *testing.T) {
	args := []string{"-run", "^(" + strings.Join(short, "|") + ")$"}
	if *long {
		args = []string{"-long"}
	}
	out, err := exec.Command(buildSlots(t), args...).CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("\n%s", out)
}

// TestExplorationNoticesFaults shows that the exploration would find what the
// protocol guards against.
func TestExplorationNoticesFaults(t *testing.T) {
	tests := []struct {
		name, world string
		old, new    string
	}{
		{"a reader does not look again", "1 2w newest",
			"	f.Payload = r.mem.appendBytes(dst, s, n)\n	if atomic.LoadUint64((*uint64)(s)) != st {",
			"	f.Payload = r.mem.appendBytes(dst, s, n)\n	if false {"},
		{"a stopped writer is taken for a dead one", "1 2w newest",
			"if st&heldBit != 0 && r.alive(st) {", "if st&heldBit != 0 && false {"},
		{"a claim does not compare", "1 2w newest",
			"		atomic.CompareAndSwapUint64(s, st, r.writing(h))", "		func() bool { atomic.StoreUint64(s, r.writing(h)); return true }()"},
		{"one search below an unfinished claim is believed", "2 2w newest",
			"if ahead && sum != saw {", "if ahead && false {"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			binary := buildSlots(t, overlay.Fault{File: "ring.go", Old: tt.old, New: tt.new})
			out, err := exec.Command(binary, "-run", "^"+tt.world+"$").CombinedOutput()
			if err == nil || !strings.Contains(string(out), "violation: ") {
				t.Errorf("exploring %q: %v, want a violation\n%s", tt.world, err, out)
			}
		})
	}
}
