//go:build linux

package main

import "testing"

// TestVerdictSaysWhatNoticedAFault: a hang and a crash count as noticed, each
// by its own name, and a program that ends well has noticed nothing.
func TestVerdictSaysWhatNoticedAFault(t *testing.T) {
	some, explored := root("TestA|TestB")[0], worlds("1 2w newest|lap")[0]
	tests := []struct {
		name      string
		suite     suite
		said      string
		bad, late bool
		want      string
	}{
		{"passed", some, "=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n", false, false, "orbit: TestA (passed)"},
		{"skipped", some, "=== RUN   TestA\n--- SKIP: TestA (0.00s)\nPASS\n", false, false, "orbit: TestA (skipped)"},
		{"failed", some, "=== RUN   TestA\n--- PASS: TestA\n=== RUN   TestB\n--- FAIL: TestB (0.00s)\n    --- FAIL: TestB/local\nFAIL\n", true, false, "orbit: TestB"},
		{"panicked", some, "=== RUN   TestA\n--- FAIL: TestA (0.00s)\npanic: index out of range [recovered]\n", true, false, "orbit: TestA (crash)"},
		{"died", some, "=== RUN   TestA\n=== RUN   TestB\nunexpected fault address 0x7\nfatal error: fault\n", true, false, "orbit: TestB (crash)"},
		{"killed", some, "=== RUN   TestA\n", true, false, "orbit: TestA (crash)"},
		{"hung", some, "=== RUN   TestA\npanic: test timed out after 1m0s\n", true, false, "orbit: TestA (timeout)"},
		{"hung for good", some, "=== RUN   TestB\n", true, true, "orbit: TestB (timeout)"},
		{"explored", explored, "lap: 22 states, 2 executions\n", false, false, "explore: " + exploration + " (passed)"},
		{"violation", explored, "lap: 22 states, 2 executions\nviolation: torn\n\tlap: 3 states, seen\n", true, false, "explore: " + exploration + ", world lap"},
		{"violation at once", duel[0], "violation: 2 guards at once\n", true, false, "fleettest: TestClaimantsMeetAtEveryMove"},
	}
	for _, tt := range tests {
		if got := judge(tt.suite, tt.said, tt.bad, tt.late).String(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
