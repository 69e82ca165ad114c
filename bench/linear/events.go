//go:build linux

package main

import (
	"math"
	"slices"
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

// halves adds what a renewal may do that is not a success. First it moves the
// time, which others see at once, and then it makes sure of the claim. If it
// comes late, the claim may have got another time and have ended in between, be
// that by the new time or because somebody had seen that the old one was over.
//
// A claim by the same owner is such a renewal of the claim that it takes up. If
// its time is over before the guard is had, the claim falls, and it begins anew.
func (h *history) halves() {
	for _, o := range h.ops {
		again := h.mayTakeUp(o)
		if !again && (o.Action != renew || o.Outcome == done) {
			continue
		}
		r := record{Action: extend, Key: o.Key, TTL: o.TTL, Call: o.Call, Return: o.Return}
		if o.Action == renew {
			r.Value = o.Value
		}
		h.happen(r, o.process).of = o.id
		r.Action = drop
		d := h.happen(r, o.process)
		d.of, d.excused = o.id, again && o.Return-o.Call >= int64(o.TTL)
	}
}

// mayTakeUp tells whether a claim can have met one of the same owner.
func (h *history) mayTakeUp(o *op) bool {
	claims := func(x *op) bool { return x.Action == claim && owners[x.Value] != "" }
	return claims(o) && slices.ContainsFunc(h.ops, func(x *op) bool {
		return x != o && claims(x) && x.Outcome != refused && x.process == o.process && x.Key == o.Key && x.Call <= o.Return
	})
}

func (h *history) happen(r record, process int) *op {
	o := &op{record: r, id: len(h.ops) + 1, lane: lanes + len(h.ops), process: process}
	h.ops = append(h.ops, o)
	return o
}
