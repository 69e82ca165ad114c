//go:build linux

package main

import (
	"math"
	"time"
)

// Some things happen in a history without anybody doing them. They are
// operations of nobody, that take place at some moment of a span.

const endOfTime = math.MaxInt64

// expire adds the end of every time that an operation set. The clock was read
// somewhere between its call and its return. Slack is how much later others
// may notice; and their clocks may be ahead of or behind that of who set it.
func (h *history) expire(sets func(o *op) bool, slack int64) {
	for _, o := range h.ops {
		if !sets(o) || o.TTL >= time.Hour {
			continue
		}
		early, late := int64(0), int64(0)
		for _, ahead := range h.ahead {
			early = min(early, h.ahead[o.process]-ahead)
			late = max(late, h.ahead[o.process]-ahead)
		}
		begin, end := max(o.Call, o.Call+int64(o.TTL)+early), o.Return
		if end != endOfTime {
			end += int64(o.TTL) + slack + late
		}
		h.happen(record{Action: expire, Key: o.Key, Value: o.Value, Call: begin, Return: end}, o.process).of = o.id
	}
}

// die adds the deaths of the processes that claimed a subject: their claims
// fall between the last sign of life and the moment at which the kernel said
// that they were dead.
func (h *history) die(key int) {
	claimed := map[int]bool{}
	for _, o := range h.ops {
		if o.Action == claim && int(o.Key) == key {
			claimed[o.process] = true
		}
	}
	for process, t := range h.died {
		if claimed[process] {
			h.happen(record{Action: die, Key: int64(key), Call: h.last[process] + 1, Return: t}, process)
		}
	}
}

// drop adds how a claim may end because its owner wanted a shorter one, whose
// time was over before he had it: a claim that is taken up ends and begins
// anew, and a renewal that comes too late was one all the same.
func (h *history) drop() {
	for _, o := range h.ops {
		again := o.Action == claim && owners[o.Value] != ""
		if late := o.Return-o.Call >= int64(o.TTL); late && (again || o.Action == renew && o.Outcome == refused) {
			h.happen(record{Action: drop, Key: o.Key, Value: o.Value, Call: o.Call, Return: o.Return}, o.process).of = o.id
		}
	}
}

func (h *history) happen(r record, process int) *op {
	o := &op{record: r, id: len(h.ops) + 1, lane: lanes + len(h.ops), process: process}
	h.ops = append(h.ops, o)
	return o
}
