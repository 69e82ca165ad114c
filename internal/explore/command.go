package explore

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"orbit/internal/overlay/step"
)

// A Choice is a world that a command can explore.
type Choice struct {
	Name string
	Long bool // only if asked for
	New  func() *Search
}

// NewScript returns the script of thread i, but for what it does, and the
// operations that the text describes: "op op", or "p: op op" for a thread of
// process p, which is i otherwise.
func NewScript(i int, text string) (s Script, ops []string) {
	s.Process = i
	if p, rest, ok := strings.Cut(text, ": "); ok {
		n, err := strconv.Atoi(p)
		if err != nil {
			panic(err)
		}
		s.Process, text = n, rest
	}
	s.Name = fmt.Sprintf("%d(%s)", i, text)
	return s, strings.Fields(text)
}

// Command is the main function of a command that explores worlds.
func Command(worlds []Choice) {
	long := flag.Bool("long", false, "explore the large worlds too")
	list := flag.Bool("list", false, "only list the worlds")
	run := flag.String("run", "", "explore the worlds whose names match this `expression`")
	profile := flag.String("profile", "", "write a CPU profile to this `file`")
	limit := flag.Int("limit", 0, "give up after so many states")
	plain := flag.Bool("plain", false, "explore all orders of independent steps too")
	flag.StringVar(&step.Fault, "fault", "", "commit this deliberate `fault`, if it was built in")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	match := regexp.MustCompile(*run)
	for _, c := range worlds {
		if c.Long && !*long || !match.MatchString(c.Name) {
			continue
		}
		if *list {
			fmt.Println(c.Name)
			continue
		}
		s := c.New()
		s.Limit, s.Plain = *limit, *plain
		start := time.Now()
		r := s.Run()
		fmt.Printf("%s: %d states, %d executions, %d steps, %d ends, %d cut, at most %d steps deep, %v\n",
			c.Name, r.States, r.Executions, r.Steps, r.Ends, r.Cut, r.Deepest, time.Since(start).Round(time.Millisecond))
		if r.Violation != "" {
			fmt.Printf("violation: %s\n", r.Violation)
			pprof.StopCPUProfile()
			os.Exit(1)
		}
	}
}
