//go:build linux

package fleettest

import (
	"os/exec"
	"path/filepath"
	"testing"

	"orbit/internal/overlay"
	"orbit/internal/proc"
)

// TestClaimantsMeetAtEveryMove is about the few instructions inside a claim in
// which two claimants can get in each other's way: see the directory duel.
func TestClaimantsMeetAtEveryMove(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "duel")
	overlay.Build(t, overlay.Variant{}, "build", "-tags=orbit_overlay", "-o", binary, "./internal/fleettest/duel")
	out, err := exec.Command(binary, proc.Fleet(t)).CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("\n%s", out)
}
