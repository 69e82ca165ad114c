//go:build linux

package main

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"
)

// The chart has two columns of groups of horizontal bars, one group for each
// job, on one logarithmic scale of time per operation. Lengths are in pixels.
const (
	chartWidth = 1040
	margin     = 20
	gutter     = 30
	column     = (chartWidth - 2*margin - gutter) / 2
	labelWidth = 138
	valueWidth = 62
	barsWidth  = column - labelWidth - valueWidth
	rowHeight  = 16
	barHeight  = 10
	titleSpace = 34 // above the bars of a group
	headSpace  = 92 // above the columns
	footSpace  = 52 // below them
)

const chartStyle = `
text { font: 11.5px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933 }
.title { font-size: 17px; font-weight: 600 }
.group { font-size: 12.5px; font-weight: 600 }
.quiet { fill: #627080 }
.end { text-anchor: end }
.middle { text-anchor: middle }
.page { fill: #ffffff }
.grid { stroke: #dfe4ea; stroke-width: 1 }
.orbit { fill: #1d6fd8 }
.others { fill: #8a97a6 }
.local { fill: #c9b26b }
.floor { fill: none; stroke: #627080; stroke-width: 1.2; stroke-dasharray: 3 2 }
.mine { font-weight: 600; fill: #1d6fd8 }
@media (prefers-color-scheme: dark) {
text { fill: #e3e8ee }
.quiet { fill: #9aa7b5 }
.page { fill: #10161d }
.grid { stroke: #2a3440 }
.orbit { fill: #4f9cf5 }
.others { fill: #6b7a8b }
.local { fill: #9c8540 }
.floor { stroke: #9aa7b5 }
.mine { fill: #6fb0fa }
}`

// drawing is a chart being written.
type drawing struct {
	strings.Builder
	results  *results
	from, to float64 // ends of the scale, as powers of ten of nanoseconds
}

// chart draws the figures of the jobs that belong into it.
func (r *results) chart(out io.Writer) error {
	d := &drawing{results: r}
	groups := r.charted()
	if len(groups) == 0 {
		return fmt.Errorf("the chart has nothing to show: no job was measured that belongs into it")
	}
	d.from, d.to = scale(groups)
	columns, height := inColumns(groups)
	d.open(headSpace + height + footSpace)
	for i, groups := range columns {
		d.column(margin+i*(column+gutter), height, groups)
	}
	d.text(margin, headSpace+height+footSpace-10, "quiet", r.caveat())
	d.WriteString("</svg>\n")
	_, err := io.WriteString(out, d.String())
	return err
}

// caveat says what the bars do not, in a line.
func (r *results) caveat() string {
	text := "Peers differ in what they promise: the table says how."
	for i, m := range r.Missing {
		if i == 0 {
			text += " Not on this machine: "
		} else {
			text += ", "
		}
		text += m.Peer
	}
	return text
}

// charted returns the groups of the chart, each with its figures from the
// fastest to the slowest.
func (r *results) charted() (groups []group) {
	for _, g := range r.Groups {
		figures := slices.DeleteFunc(slices.Clone(g.Figures), func(f figure) bool { return f.Error != "" })
		if !g.Chart || len(figures) == 0 {
			continue
		}
		slices.SortStableFunc(figures, func(a, b figure) int { return cmp.Compare(a.Nanos, b.Nanos) })
		g.Figures = figures
		groups = append(groups, g)
	}
	return groups
}

// scale returns the decades that hold all bars. The first begins below the
// shortest bar, so that this has a length.
func scale(groups []group) (from, to float64) {
	from, to = math.Inf(1), math.Inf(-1)
	for _, g := range groups {
		for _, f := range g.Figures {
			at := math.Log10(f.Nanos)
			from, to = min(from, math.Ceil(at)-1), max(to, math.Ceil(at))
		}
	}
	return from, to
}

// inColumns deals the groups out to the two columns in order, as evenly as
// that goes, and returns the height of the taller one.
func inColumns(groups []group) (columns [2][]group, height int) {
	height = math.MaxInt
	for cut := range len(groups) + 1 {
		if tallest := max(heightOf(groups[:cut]), heightOf(groups[cut:])); tallest < height {
			height, columns = tallest, [2][]group{groups[:cut], groups[cut:]}
		}
	}
	return columns, height
}

func heightOf(groups []group) (height int) {
	for _, g := range groups {
		height += titleSpace + rowHeight*len(g.Figures)
	}
	return height
}

func (d *drawing) open(height int) {
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">`, chartWidth, height)
	d.printf("<title>Orbit beside what people would use instead: time per operation</title>\n<style>%s\n</style>", chartStyle)
	d.printf(`<rect class="page" width="%d" height="%d" rx="8"/>`, chartWidth, height)
	d.text(margin, 32, "title", "Orbit beside what people would use instead")
	d.text(margin, 52, "quiet", fmt.Sprintf("Time per operation, logarithmic: shorter is better. %s, %d processors (%s), %s.",
		d.results.Go, d.results.Processors, d.results.Processor, d.results.Date.Format("2006-01-02")))
	x := margin
	for _, l := range []struct{ class, what string }{
		{"orbit", "Orbit"}, {"others", "across processes"}, {"local", "one process only"}, {"floor", "floor, without safety"},
	} {
		d.printf(`<rect class="%s" x="%d" y="64" width="14" height="%d" rx="2"/>`, l.class, x, barHeight)
		d.text(x+20, 73, "", l.what)
		x += 40 + 7*len(l.what)
	}
}

func (d *drawing) column(x, height int, groups []group) {
	d.grid(x+labelWidth, height)
	y := headSpace
	for _, g := range groups {
		d.text(x, y+titleSpace-10, "group", g.Title)
		y += titleSpace
		for _, f := range g.Figures {
			d.bar(x, y, g, f)
			y += rowHeight
		}
	}
}

// grid draws a line for each decade, and names as many below as there is room
// for.
func (d *drawing) grid(x, height int) {
	const nameWidth = 46
	named := 1 + int(nameWidth/d.length(d.from+1))
	for i := 0; d.from+float64(i) <= d.to; i++ {
		decade := d.from + float64(i)
		at := x + int(d.length(decade))
		d.printf(`<line class="grid" x1="%d" x2="%[1]d" y1="%d" y2="%d"/>`, at, headSpace+titleSpace-6, headSpace+height+4)
		if i%named == 0 {
			d.text(at, headSpace+height+18, "quiet middle", round(math.Pow(10, decade)))
		}
	}
}

// length returns the length of a bar to a power of ten.
func (d *drawing) length(power float64) float64 {
	return barsWidth * (power - d.from) / max(1, d.to-d.from)
}

func (d *drawing) bar(x, y int, g group, f figure) {
	name, fill := "quiet", "others"
	switch class := d.results.classOf(f.Peer); class {
	case classOrbit:
		name, fill = "mine", "orbit"
	case classFloor, classLocal:
		fill = string(class)
	}
	shown := duration(f.Nanos)
	if g.Rate {
		shown = perSecond(1e9 / f.Nanos)
	}
	width := d.length(math.Log10(f.Nanos))
	baseline := y + barHeight - 1
	d.text(x+labelWidth-6, baseline, "end "+name, f.Peer)
	d.printf(`<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`, fill, x+labelWidth, y, max(width, 1), barHeight)
	d.text(x+labelWidth+int(width)+5, baseline, name, shown)
}

func (d *drawing) text(x, y int, class, text string) {
	d.printf(`<text class="%s" x="%d" y="%d">%s</text>`, class, x, y, html.EscapeString(text))
}

func (d *drawing) printf(format string, args ...any) {
	fmt.Fprintf(&d.Builder, format+"\n", args...)
}

// round writes a power of ten of nanoseconds.
func round(ns float64) string {
	for _, unit := range []string{"ns", "µs", "ms"} {
		if ns < 999.9 {
			return fmt.Sprintf("%.4g %s", ns, unit)
		}
		ns /= 1e3
	}
	return fmt.Sprintf("%.4g s", ns)
}
