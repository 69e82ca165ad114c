//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// A part is what is checked by itself: the operations of a history on one key,
// and the sequential object that they must look like. A step returns the states
// that the object may be in after an operation, none if it cannot have had that
// outcome. An operation of unknown outcome leads to more than one.
type part struct {
	ops   []*op
	step  func(state any, o *op) []any
	start any
}

// checkLimit is how long the checker may think about a part. It rarely takes a
// hundredth of a second.
const checkLimit = 5 * time.Second

func (p *part) model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{p.start} },
		Step: func(state, input, _ any) []any { return p.step(state, input.(*op)) },
		DescribeOperation: func(input, _ any) string {
			o := input.(*op)
			return fmt.Sprintf("%v %d (%x) -> %v %x", o.Action, o.Key, o.Value, o.Outcome, o.Got)
		},
		DescribeState: func(state any) string { return fmt.Sprintf("%x", state) },
	}
	return m.ToModel()
}

func operations(ops []*op) []porcupine.Operation {
	all := make([]porcupine.Operation, len(ops))
	for i, o := range ops {
		all[i] = porcupine.Operation{ClientId: o.lane, Input: o, Output: o, Call: o.Call, Return: o.Return}
	}
	return all
}

func (p *part) check() porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(p.model(), operations(p.ops), checkLimit)
}

// smallest returns a part of an illegal part that is illegal by itself: the
// shortest beginning, without the operations that change nothing and are not to
// blame, and without the values of a register that are not. A history whose
// beginning is illegal is illegal, and one that is legal stays so without them.
func (p *part) smallest() part {
	ends := make([]int64, len(p.ops))
	for i, o := range p.ops {
		ends[i] = o.Return
	}
	slices.Sort(ends)
	n := sort.Search(len(ends)-1, func(i int) bool { q := p.until(ends[i]); return q.check() == porcupine.Illegal })
	small := p.until(ends[n])
	for size := 0; size != len(small.ops); {
		size = len(small.ops)
		for i := 0; i < len(small.ops); i++ {
			less := small
			if less.ops = small.without(i); len(less.ops) < len(small.ops) && less.check() == porcupine.Illegal {
				small = less
				i--
			}
		}
	}
	return small
}

// without returns the operations without number i, and without all that cannot
// be right without it: a write goes with the reads of its value, and a wipe if
// no read found nothing. It returns all if the others may not be right.
func (p *part) without(i int) []*op {
	o := p.ops[i]
	nothing := func(x *op) bool { return x.Outcome == missed }
	return slices.DeleteFunc(slices.Clone(p.ops), func(x *op) bool {
		switch {
		case o.Action == write:
			return x == o || x.Action == read && x.Got == o.Value
		case o.Action == wipe:
			return x == o && !slices.ContainsFunc(p.ops, nothing)
		}
		return x == o && o.looks()
	})
}

// until returns the part as it stood at a time: what had not returned by then
// may have happened or not.
func (p *part) until(t int64) part {
	q := *p
	q.ops = nil
	for _, o := range p.ops {
		switch {
		case o.Return <= t:
			q.ops = append(q.ops, o)
		case o.Call <= t && !o.looks():
			open := *o
			open.Return = endOfTime
			if o.Action < expire {
				open.Outcome = unknown
			}
			q.ops = append(q.ops, &open)
		}
	}
	return q
}

// dump writes an illegal part, its smallest offending part and a picture of it
// to files in dir, and returns the path of the text.
func (p *part) dump(dir, name string, w io.Writer) (string, error) {
	f, err := os.CreateTemp(dir, "linear-"+name+"-*.txt")
	if err != nil {
		return "", err
	}
	defer f.Close()
	small := p.smallest()
	out := io.MultiWriter(f, w)
	fmt.Fprintf(out, "not linearizable: %s, smallest offending part, times in ms:\n", name)
	print(out, small.ops)
	fmt.Fprintf(f, "\nthe whole part:\n")
	print(f, p.ops)
	_, info := porcupine.CheckOperationsVerbose(small.model(), operations(small.ops), checkLimit)
	picture := f.Name()[:len(f.Name())-len(filepath.Ext(f.Name()))] + ".html"
	return f.Name(), porcupine.VisualizePath(small.model(), info, picture)
}

func print(w io.Writer, ops []*op) {
	if len(ops) == 0 {
		return
	}
	first := ops[0].Call
	for _, o := range ops {
		first = min(first, o.Call)
	}
	for _, o := range ops {
		shifted := *o
		shifted.Call -= first
		if o.Return != endOfTime {
			shifted.Return -= first
		}
		fmt.Fprintln(w, " ", &shifted)
	}
}
