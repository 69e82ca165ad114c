package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"orbit"
)

func TestFlagsMayStandAnywhereBeforeTwoDashes(t *testing.T) {
	for _, c := range []struct {
		args, operands []string
		topic          string
		json           bool
	}{
		{nil, nil, "", false},
		{[]string{"web"}, []string{"web"}, "", false},
		{[]string{"-json", "web", "-topic", "a", "x"}, []string{"web", "x"}, "a", true},
		{[]string{"web", "job", "--", "ls", "-json"}, []string{"web", "job", "ls", "-json"}, "", false},
		{[]string{"-topic", "b", "--", "-json"}, []string{"-json"}, "b", false},
		{[]string{"web", "-", "--"}, []string{"web", "-"}, "", false},
		{[]string{"web", "--", "--", "-json"}, []string{"web", "--", "-json"}, "", false},
	} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		topic, json := flags.String("topic", "", ""), flags.Bool("json", false, "")
		operands, err := parse(flags, c.args)
		if err != nil || !slices.Equal(operands, c.operands) || *topic != c.topic || *json != c.json {
			t.Errorf("%q: got %q, topic %q, json %v, %v; want %q, %q, %v", c.args, operands, *topic, *json, err, c.operands, c.topic, c.json)
		}
	}
}

func TestExitCodesTellWhatKindOfEnd(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("no"), 1},
		{usagef("no"), 2},
		{fmt.Errorf("join: %w", errors.ErrUnsupported), 3},
		{nof("key %q has no value", "k"), 4},
		{fmt.Errorf("join: %w", orbit.ErrNotExist), 4},
		{&orbit.HeldError{}, 4},
		{fmt.Errorf("join: %w", orbit.ErrName), 2},
		{exitError(77), 77},
		{errInterrupted, 130},
	} {
		if code := exitCode(c.err); code != c.code {
			t.Errorf("%v: got exit code %d, want %d", c.err, code, c.code)
		}
	}
}

func TestOperandsAreCountedByTheirNames(t *testing.T) {
	for _, c := range []struct {
		operands    string
		least, most int
	}{
		{"", 0, 0},
		{"FLEET", 1, 1},
		{"[FLEET]", 0, 1},
		{"FLEET TOPIC [PAYLOAD|-]", 2, 3},
		{"FLEET [KEY...]", 1, 9},
		{"FLEET SUBJECT -- COMMAND [ARGUMENT...]", 3, 9},
	} {
		for n := range 10 {
			err := (&command{operands: c.operands}).check(make([]string, n))
			if wrong := n < c.least || n > c.most; (err != nil) != wrong || wrong && exitCode(err) != exitUsage {
				t.Errorf("%q: got %v for %d operands, want %d to %d", c.operands, err, n, c.least, c.most)
			}
		}
	}
}

func TestSpansAreNotShorterThanTheLeast(t *testing.T) {
	var d time.Duration
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	spanFlag(flags, &d, "for", 3*time.Second, time.Second, "")
	for _, c := range []struct {
		arg  string
		want time.Duration
		says string
	}{
		{"-for=1s", time.Second, ""},
		{"-for=2h", 2 * time.Hour, ""},
		{"-for=999ms", 2 * time.Hour, "want at least 1s"},
		{"-for=5", 2 * time.Hour, "want a duration"},
	} {
		err := flags.Parse([]string{c.arg})
		if d != c.want || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, %v, want %v and %q", c.arg, d, err, c.want, c.says)
		}
	}
	if def := flags.Lookup("for").DefValue; def != "3s" {
		t.Errorf("got default %q, want 3s", def)
	}
}

func TestTextForPeople(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{bytesText(0), "0 B"},
		{bytesText(1023), "1023 B"},
		{bytesText(1536), "1.5 KiB"},
		{bytesText(2 << 20), "2 MiB"},
		{bytesText(3 << 40), "3 TiB"},
		{spanText(1500 * time.Nanosecond), "2µs"},
		{spanText(1234 * time.Millisecond), "1.2s"},
		{spanText(150 * time.Second), "2m30s"},
		{spanText(3*time.Hour + 2*time.Minute), "3h2m"},
		{spanText(50 * time.Hour), "2d2h"},
		{bytesAsText([]byte("héllo")), "héllo"},
		{bytesAsText([]byte("a\x1b[2J")), `"a\x1b[2J"`},
		{bytesAsText([]byte{0xff, 0}), "0xff00"},
		{bytesAsText(nil), ""},
		{nameText(""), `""`},
		{nameText("\xff"), "0xff"},
		{ownerText(""), "-"},
		{tokenText(0), "claiming"},
		{tokenText(17), "17"},
		{leftText(math.MaxInt64 - time.Hour), "until released"},
		{leftText(time.Hour), "1h0m"},
		{leftText(-time.Second), "0s"},
		{pulseText(orbit.Pulse{State: orbit.Missing}), "missing"},
		{pulseText(orbit.Pulse{State: orbit.Stale, Age: 4 * time.Second}), "stale, 4s ago"},
		{expiryText(0), "never"},
		{expiryText(math.MinInt64 / 2), "at once"},
		{expiryText(orbit.Now() - orbit.Stamp(2*time.Second)), "2s ago"}, // no more: the clock begins with the boot
		{counted(1, "key"), "1 key"},
		{counted(uint64(2), "key"), "2 keys"},
		{someOf([]string{"a", "b"}), "a, b"},
		{someOf(strings.Split("abcdefghij", "")), "a, b, c, d, e, f, g, h, and 2 more"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestKindsAreNumbersOrSubstrates(t *testing.T) {
	for s, want := range map[string]uint8{"12": 12, "cache": 200, "events": 220, "heartbeat": 221, "contest": 222, "255": 255} {
		if kind, err := parseKind(s); err != nil || kind != want {
			t.Errorf("%q: got %d, %v, want %d", s, kind, err, want)
		}
	}
	for _, s := range []string{"", "0", "256", "-1", "Cache"} {
		if kind, err := parseKind(s); err == nil {
			t.Errorf("%q: got kind %d, want an error", s, kind)
		}
	}
}
