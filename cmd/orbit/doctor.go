package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"orbit"
)

var doctorFlags struct{ json bool }

var doctorCommand = &command{
	name:     "doctor",
	operands: "[FLEET]",
	short:    "check what shared fleets need of this host, and the fleets on it",
	long: `Checks what Orbit needs of this host: shared memory with room in it, what the
kernel offers, tried for real in files without a name, limits, namespaces, and
whether somebody clears shared memory away at logout. Then it makes a fleet of
its own, publishes, reads, and removes it, and looks at all fleets of this user,
or at FLEET alone, for segments that are damaged, foreign, or left behind.

Each finding is one line, with what to do about it below:

  ok       as it should be
  note     worth knowing
  warning  will be in the way some day
  problem  is in the way now

It exits with 0 if there is no problem, and with 1 otherwise.

  orbit doctor
  orbit doctor -json web | jq 'select(.status == "problem")'
`,
	flags: func(f *flag.FlagSet) {
		jsonFlag(f, &doctorFlags.json)
	},
	run: runDoctor,
}

// A status says how bad a finding is.
type status string

const (
	fine    status = "ok"
	note    status = "note"
	warning status = "warning"
	problem status = "problem"
)

// A finding is what one check found, and what to do about it.
type finding struct {
	Type   string  `json:"type"` // "finding"
	Status status  `json:"status"`
	Check  string  `json:"check"`
	Fleet  *string `json:"fleet"` // null if it is about the host
	Found  string  `json:"found"`
	Remedy *string `json:"remedy"` // null if there is nothing to do
}

// found makes a finding about the host, with a remedy if there is one.
func found(s status, check, remedy, format string, args ...any) finding {
	f := finding{Type: "finding", Status: s, Check: check, Found: fmt.Sprintf(format, args...)}
	if remedy != "" {
		f.Remedy = &remedy
	}
	return f
}

// about makes it a finding about a fleet.
func (f finding) about(fleet string) finding {
	f.Fleet = &fleet
	return f
}

func runDoctor(args []string) error {
	if len(args) == 1 {
		v, err := lookAt(args[0])
		if err != nil {
			return err
		}
		v.close()
	}
	report := &report{screen: newScreen(os.Stdout)}
	report.add(checkHost()...)
	report.add(tryFleet())
	report.add(checkFleets(args)...)
	return report.end()
}

// A report prints findings as they come and counts them.
type report struct {
	screen *screen
	counts map[status]int
	failed error
}

func (r *report) add(list ...finding) {
	if r.counts == nil {
		r.counts = map[status]int{}
	}
	for _, f := range list {
		r.counts[f.Status]++
		if doctorFlags.json {
			r.failed = errors.Join(r.failed, printJSON(f))
			continue
		}
		fmt.Printf("%s  %s\n", r.paint(f.Status), f.Found)
		if f.Remedy != nil {
			fmt.Printf("%9s%s\n", "", *f.Remedy)
		}
	}
}

func (r *report) paint(s status) string {
	text := fmt.Sprintf("%-7s", s)
	switch s {
	case fine:
		return r.screen.style(dim, text)
	case warning:
		return r.screen.style(bold, text)
	case problem:
		return r.screen.style(red, text)
	}
	return text
}

// end sums up.
func (r *report) end() error {
	if !doctorFlags.json {
		problems := "no problem"
		if n := r.counts[problem]; n > 0 {
			problems = counted(n, "problem")
		}
		fmt.Printf("\n%s, %s, %s, %d ok\n", problems, counted(r.counts[warning], "warning"), counted(r.counts[note], "note"), r.counts[fine])
	}
	if r.failed == nil && r.counts[problem] > 0 {
		return exitError(exitFailed)
	}
	return r.failed
}

// tryFleet does with a fleet of its own what programs do.
func tryFleet() finding {
	const check = "probe"
	name := fmt.Sprintf("doctor-%d", os.Getpid())
	start := time.Now()
	err := useFleet(name)
	if removeErr := orbit.Remove(name); !errors.Is(removeErr, orbit.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported) && runtime.GOOS != "linux": // there it is one call that is
		return found(problem, check, "Use orbit.Local within one process, or run on Linux or macOS.", "%s has no shared memory that Orbit can use", runtime.GOOS)
	case errors.Is(err, orbit.ErrNoSpace):
		return found(problem, check, "Make room in shared memory, as said above.", "a fleet cannot be made: %s", plain(err))
	case err != nil:
		return found(problem, check, "Whatever is wrong above may be the reason.", "a fleet made for this check did not work: %s", plain(err))
	}
	return found(fine, check, "", "a fleet made for this check worked: joined, published, observed, removed in %s", spanText(time.Since(start)))
}

// useFleet joins a fleet, publishes, and reads that as an observer.
func useFleet(name string) error {
	const kind, text = 1, "are you well?"
	f, err := orbit.Join(name, orbit.Options{Size: 1, Rings: map[uint8]orbit.Geometry{kind: {Capacity: 8, PayloadLimit: 64}}})
	if err != nil {
		return err
	}
	defer f.Close()
	ring, err := f.Ring(kind)
	if err != nil {
		return err
	}
	id, err := ring.Publish(0, 1, []byte(text))
	if err != nil {
		return err
	}
	o, err := orbit.Observe(name)
	if err != nil {
		return err
	}
	defer o.Close()
	seen, err := o.Ring(kind)
	if err != nil {
		return err
	}
	frame, err := seen.Newest(nil)
	if err != nil {
		return err
	}
	if frame.ID != id || string(frame.Payload) != text {
		return fmt.Errorf("published %v with %q, read %v with %q", id, text, frame.ID, frame.Payload)
	}
	members, err := o.Members()
	if err != nil {
		return err
	}
	if len(members) != 1 || members[0].Node != f.Node() || members[0].PID != os.Getpid() {
		return fmt.Errorf("one member with pid %d joined, an observer sees %v", os.Getpid(), members)
	}
	return nil
}

// checkFleets looks at the fleets named, or at all.
func checkFleets(names []string) (list []finding) {
	const check = "fleets"
	views, err := lookAtAll(names)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return []finding{found(note, check, "Name the fleet: \"orbit doctor FLEET\".", "%s cannot list shared memory", runtime.GOOS)}
	case err != nil:
		return []finding{found(problem, check, "", "the fleets cannot be looked at: %s", plain(err))}
	case len(views) == 0:
		return []finding{found(fine, check, "", "no fleets on this host")}
	}
	for _, v := range views {
		for _, f := range checkFleet(v) {
			list = append(list, f.about(v.name))
		}
		v.close()
	}
	return list
}

// checkFleet looks at one fleet.
func checkFleet(v *view) (list []finding) {
	list = segmentFindings(v)
	size := bytesText(v.size())
	switch {
	case v.fleet == nil:
	case len(v.members) == 0:
		list = append(list, found(note, "stopped", fmt.Sprintf("If it is not going to be started again: \"orbit clear %s\".", v.name),
			"fleet %q has no member and holds %s%s", v.name, size, openedText(v.opened)))
	case len(list) == 0:
		list = append(list, found(fine, "fleet", "", "fleet %q is sound: %s, %s, %s", v.name, counted(len(v.members), "member"), counted(len(v.rings), "ring"), size))
	}
	return list
}

// openedText says for how long nobody has attached to any segment of a fleet as
// a member does. What members write later leaves no trace in a file's times.
func openedText(opened time.Time) string {
	if opened.IsZero() {
		return ""
	}
	return fmt.Sprintf("; nobody opened it to write for %s", spanText(time.Since(opened)))
}

// segmentFindings lists what is wrong with a fleet's segments.
func segmentFindings(v *view) (list []finding) {
	if v.fleet == nil {
		list = append(list, unsound(v, 0, v.err))
	}
	for _, r := range v.rings {
		if r.ring == nil && r.err != errNoRoster {
			list = append(list, unsound(v, r.kind, r.err))
		} else if r.ring != nil {
			list = append(list, unfinished(v.name, r)...)
		}
	}
	return list
}

// unsound says what is wrong with a segment, and how to get rid of it.
func unsound(v *view, kind uint8, err error) finding {
	path, clear := segmentPath(v.name, kind), fmt.Sprintf("\"orbit clear %s\"", v.name)
	all := segments(v.name)
	i := slices.IndexFunc(all, func(s segment) bool { return s.kind == kind })
	switch {
	case errors.Is(err, orbit.ErrVersion):
		return found(problem, "version", "Stop the programs of the other version of Orbit, then "+clear+"; or keep the two apart by the fleet's name.", "%s", plain(err))
	case i >= 0 && all[i].stays != "":
		return found(problem, "foreign", "It is no segment of this user alone, and Orbit leaves it there: find out whose "+path+" is, and remove it by hand.", "%s", plain(err))
	case kind == 0 && i < 0:
		return found(warning, "remains", clear+" removes them.", "%s", plain(err))
	}
	return found(problem, "damaged", "Stop the members of the fleet if there are any, then "+clear+".", "%s", plain(err))
}

// standing is how long a live member may take for a frame before it is said to
// be stopped. Writing one takes microseconds, and a turn at the processor that
// ends in between some ten milliseconds.
const standing = 200 * time.Millisecond

// unfinished tells of frames that live members have begun and do not finish.
func unfinished(fleet string, r *ringView) []finding {
	stats, err := r.ring.Stats()
	if err != nil || stats.Pending == 0 {
		return nil
	}
	begun := pending(r.ring)
	time.Sleep(standing)
	n := 0
	for c := range pending(r.ring) {
		if begun[c] {
			n++
		}
	}
	// To an observer a counter that a dead one took and did not begin with is
	// pending as well.
	if n = min(n, stats.Pending); n == 0 {
		return nil
	}
	return []finding{found(warning, "unfinished", "A member was stopped in the middle of a write: look for processes in state T (\"ps\"), and resume or kill them. They hold nobody back, but readers wait "+orbit.DefaultGrace.String()+" before they pass such a frame.",
		"ring %d of fleet %q has %s unfinished for more than %v", r.kind, fleet, counted(n, "frame"), standing)}
}

// pending returns the counters whose frames live members are writing.
func pending(r *orbit.Ring) map[uint64]bool {
	counters := map[uint64]bool{}
	for c := range back(r) {
		if _, err := r.ReadAt(c, nil); errors.Is(err, orbit.ErrPending) {
			counters[c] = true
		}
	}
	return counters
}
