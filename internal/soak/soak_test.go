package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		os.Exit(play())
	}
	os.Exit(m.Run())
}

// TestStormDoesNoDamage is the short form of the soak. ORBIT_SOAK, a duration,
// makes it longer.
func TestStormDoesNoDamage(t *testing.T) {
	length := 5 * time.Second
	if s := os.Getenv("ORBIT_SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	err := soak(length, 2, rand.Uint64(), &out)
	t.Logf("\n%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob("/dev/shm/orbit-soak*")
	if len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
