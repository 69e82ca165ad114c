//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// duration writes nanoseconds with three digits that mean something.
func duration(ns float64) string {
	switch {
	case ns == 0:
		return "-"
	case ns < 1e3:
		return digits(ns) + " ns"
	case ns < 1e6:
		return digits(ns/1e3) + " µs"
	default:
		return digits(ns/1e6) + " ms"
	}
}

// perSecond writes a rate.
func perSecond(rate float64) string {
	switch {
	case rate < 1e3:
		return digits(rate) + " /s"
	case rate < 1e6:
		return digits(rate/1e3) + " k/s"
	default:
		return digits(rate/1e6) + " M/s"
	}
}

func digits(x float64) string {
	switch {
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.0f", x)
	}
}

// row is what the tables show of a figure.
func (g group) row(f figure) []string {
	if f.Error != "" {
		return []string{f.Peer, "failed", "", "", "", "", f.Error}
	}
	main, p99, allocs := duration(f.Nanos), "", ""
	if g.Rate {
		main = perSecond(1e9 / f.Nanos)
	}
	if f.P99 > 0 {
		p99 = duration(f.P99)
	}
	if f.Allocs != nil {
		allocs = fmt.Sprintf("%.2f", *f.Allocs)
		allocs = strings.TrimSuffix(allocs, ".00")
	}
	return []string{f.Peer, main, spread(f.Rounds), p99, digits(f.Ratio) + "x", allocs, f.Remark}
}

// spread writes how far apart the middle half of the rounds lies, in percent
// of the median.
func spread(rounds []float64) string {
	if len(rounds) == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f%%", 100*(quantile(rounds, 0.75)-quantile(rounds, 0.25))/median(rounds))
}

var columns = []string{"peer", "median", "spread", "p99", "atomic adds", "allocs", "remark"}

func (r *results) head() []string {
	return []string{
		fmt.Sprintf("%s, %s, %d processors (%s), load %s, %s", r.Go, r.System, r.Processors, r.Processor, r.Load, r.Date.Format("2006-01-02")),
		r.Effort,
		fmt.Sprintf("one uncontended atomic add: %s at the start, %s at the end", duration(r.AtomicAdds[0]), duration(r.AtomicAdds[1])),
	}
}

// text writes the table for a terminal.
func (r *results) text(out io.Writer) error {
	for _, line := range r.head() {
		fmt.Fprintln(out, line)
	}
	for _, g := range r.Groups {
		fmt.Fprintf(out, "\n%s: %s\n", g.Name, g.Title)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  "+strings.Join(columns, "\t"))
		for _, f := range g.Figures {
			fmt.Fprintln(w, "  "+strings.Join(g.row(f), "\t"))
		}
		w.Flush()
	}
	fmt.Fprintln(out)
	for _, line := range r.footnotes() {
		_, _ = fmt.Fprintln(out, line)
	}
	return nil
}

// footnotes say what the figures do not.
func (r *results) footnotes() (lines []string) {
	lines = append(lines,
		"Time is per operation; a rate is of all processes together. Spread is how far apart the middle half of the rounds lies. A p99 is without the time of reading the clock.",
		"Every process of a measurement runs where the kernel puts it. Files lie in shared memory, without sync. What a peer does not do it is not measured at:")
	for _, p := range r.Peers {
		line := strings.TrimSpace(p.Name+" "+p.Version) + " (" + strings.Join(p.Does, ", ") + ")"
		lines = append(lines, strings.Join(append([]string{line}, p.Notes...), "; ")+".")
	}
	for _, m := range r.Missing {
		lines = append(lines, "MISSING on this machine: "+m.Peer+": "+m.Reason)
	}
	if r.Failed > 0 {
		lines = append(lines, fmt.Sprintf("FAILED: %d measurements", r.Failed))
	}
	return lines
}

// markdown writes the same for a document.
func (r *results) markdown(out io.Writer) error {
	fmt.Fprintf(out, "%s\n", strings.Join(r.head(), "; "))
	for _, g := range r.Groups {
		if len(g.Figures) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n**%s**: %s\n\n| %s |\n|%s\n", g.Name, g.Title, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
		for _, f := range g.Figures {
			fmt.Fprintf(out, "| %s |\n", strings.Join(g.row(f), " | "))
		}
	}
	fmt.Fprintln(out)
	for _, line := range r.footnotes() {
		fmt.Fprintf(out, "- %s\n", line)
	}
	return nil
}
