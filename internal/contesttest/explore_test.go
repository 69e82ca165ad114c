package contesttest

import (
	"flag"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orbit/internal/overlay"
)

var exploreLong = flag.Bool("explore.long", false, "explore the large worlds of the claim protocol, too")

// Announcements decide nothing, and so need not be explored.
var silent = []overlay.Fault{
	{File: "contest.go", Old: `c.ring.Publish(uint8(Fell), v.token, appendClaimEvent(b[:0], &v.claimRecord, v.label(), v.owner()))`, New: `_ = b`},
	{File: "contest.go", Old: `g.contest.ring.Publish(uint8(change), g.token, appendClaimEvent(b[:0], &about, g.subject.label, g.owner))`, New: `_, _ = b, about`},
}

// buildClaims builds the command in the directory claims with faults in the
// code it explores.
func buildClaims(t *testing.T, faults ...overlay.Fault) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "claims")
	v := overlay.Variant{Faults: append(append([]overlay.Fault(nil), silent...), faults...), Expose: "internal/contesttest/testdata/expose.go"}
	overlay.Build(t, v, "build", "-tags=orbit_overlay", "-o", binary, "./internal/contesttest/claims")
	return binary
}

func TestNoInterleavingOfClaimsHasTwoHolders(t *testing.T) {
	var args []string
	if *exploreLong {
		args = append(args, "-long")
	}
	out, err := exec.Command(buildClaims(t), args...).CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("\n%s", out)
}

// TestExplorationNoticesFaults shows that the exploration would find what the
// protocol guards against.
func TestExplorationNoticesFaults(t *testing.T) {
	tests := []struct {
		name  string
		world string
		want  string
		fault overlay.Fault
	}{
		{
			name: "younger claims are not struck", world: "^two, apart$", want: "at once",
			fault: overlay.Fault{File: "contest.go",
				Old: "atomic.CompareAndSwapUint64(c.entry(i), w, 0) // strike",
				New: "return false, nil"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := exec.Command(buildClaims(t, tt.fault), "-run", tt.world).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "violation: ") || !strings.Contains(string(out), tt.want) {
				t.Errorf("exploring %q: %v, want a violation with %q\n%s", tt.world, err, tt.want, out)
			}
		})
	}
}
