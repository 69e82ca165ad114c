// Package atomic stands in for sync/atomic in the instrumented copy of package
// orbit: every operation reports to package step before and after. It has what
// package orbit uses and a little more; a use of anything else fails to
// compile, so that no operation goes unseen.
package atomic

import (
	"sync/atomic"
	"unsafe"

	"orbit/internal/overlay/step"
)

func before(k step.Kind, addr unsafe.Pointer) {
	if step.Before != nil {
		step.Before(k, addr)
	}
}

func after(k step.Kind, addr unsafe.Pointer, result uint64) {
	if step.After != nil {
		step.After(k, addr, result)
	}
}

func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func LoadInt32(addr *int32) int32 {
	before(step.Load, unsafe.Pointer(addr))
	v := atomic.LoadInt32(addr)
	after(step.Load, unsafe.Pointer(addr), uint64(v))
	return v
}

func StoreInt32(addr *int32, val int32) {
	before(step.Store, unsafe.Pointer(addr))
	atomic.StoreInt32(addr, val)
	after(step.Store, unsafe.Pointer(addr), 0)
}

func AddInt32(addr *int32, delta int32) int32 {
	before(step.Add, unsafe.Pointer(addr))
	v := atomic.AddInt32(addr, delta)
	after(step.Add, unsafe.Pointer(addr), uint64(v))
	return v
}

func SwapInt32(addr *int32, val int32) int32 {
	before(step.Swap, unsafe.Pointer(addr))
	v := atomic.SwapInt32(addr, val)
	after(step.Swap, unsafe.Pointer(addr), uint64(v))
	return v
}

func CompareAndSwapInt32(addr *int32, old, val int32) bool {
	before(step.Compare, unsafe.Pointer(addr))
	v := atomic.CompareAndSwapInt32(addr, old, val)
	after(step.Compare, unsafe.Pointer(addr), truth(v))
	return v
}

func LoadInt64(addr *int64) int64 {
	before(step.Load, unsafe.Pointer(addr))
	v := atomic.LoadInt64(addr)
	after(step.Load, unsafe.Pointer(addr), uint64(v))
	return v
}

func StoreInt64(addr *int64, val int64) {
	before(step.Store, unsafe.Pointer(addr))
	atomic.StoreInt64(addr, val)
	after(step.Store, unsafe.Pointer(addr), 0)
}

func AddInt64(addr *int64, delta int64) int64 {
	before(step.Add, unsafe.Pointer(addr))
	v := atomic.AddInt64(addr, delta)
	after(step.Add, unsafe.Pointer(addr), uint64(v))
	return v
}

func SwapInt64(addr *int64, val int64) int64 {
	before(step.Swap, unsafe.Pointer(addr))
	v := atomic.SwapInt64(addr, val)
	after(step.Swap, unsafe.Pointer(addr), uint64(v))
	return v
}

func CompareAndSwapInt64(addr *int64, old, val int64) bool {
	before(step.Compare, unsafe.Pointer(addr))
	v := atomic.CompareAndSwapInt64(addr, old, val)
	after(step.Compare, unsafe.Pointer(addr), truth(v))
	return v
}

func LoadUint32(addr *uint32) uint32 {
	before(step.Load, unsafe.Pointer(addr))
	v := atomic.LoadUint32(addr)
	after(step.Load, unsafe.Pointer(addr), uint64(v))
	return v
}

func StoreUint32(addr *uint32, val uint32) {
	before(step.Store, unsafe.Pointer(addr))
	atomic.StoreUint32(addr, val)
	after(step.Store, unsafe.Pointer(addr), 0)
}

func AddUint32(addr *uint32, delta uint32) uint32 {
	before(step.Add, unsafe.Pointer(addr))
	v := atomic.AddUint32(addr, delta)
	after(step.Add, unsafe.Pointer(addr), uint64(v))
	return v
}

func SwapUint32(addr *uint32, val uint32) uint32 {
	before(step.Swap, unsafe.Pointer(addr))
	v := atomic.SwapUint32(addr, val)
	after(step.Swap, unsafe.Pointer(addr), uint64(v))
	return v
}

func CompareAndSwapUint32(addr *uint32, old, val uint32) bool {
	before(step.Compare, unsafe.Pointer(addr))
	v := atomic.CompareAndSwapUint32(addr, old, val)
	after(step.Compare, unsafe.Pointer(addr), truth(v))
	return v
}

func LoadUint64(addr *uint64) uint64 {
	before(step.Load, unsafe.Pointer(addr))
	v := atomic.LoadUint64(addr)
	after(step.Load, unsafe.Pointer(addr), uint64(v))
	return v
}

func StoreUint64(addr *uint64, val uint64) {
	before(step.Store, unsafe.Pointer(addr))
	atomic.StoreUint64(addr, val)
	after(step.Store, unsafe.Pointer(addr), 0)
}

func AddUint64(addr *uint64, delta uint64) uint64 {
	before(step.Add, unsafe.Pointer(addr))
	v := atomic.AddUint64(addr, delta)
	after(step.Add, unsafe.Pointer(addr), uint64(v))
	return v
}

func SwapUint64(addr *uint64, val uint64) uint64 {
	before(step.Swap, unsafe.Pointer(addr))
	v := atomic.SwapUint64(addr, val)
	after(step.Swap, unsafe.Pointer(addr), uint64(v))
	return v
}

func CompareAndSwapUint64(addr *uint64, old, val uint64) bool {
	before(step.Compare, unsafe.Pointer(addr))
	v := atomic.CompareAndSwapUint64(addr, old, val)
	after(step.Compare, unsafe.Pointer(addr), truth(v))
	return v
}

// Int32 is atomic.Int32.
type Int32 struct {
	_ [0]atomic.Int32 // aligned as the original
	v int32
}

func (x *Int32) Load() int32                        { return LoadInt32(&x.v) }
func (x *Int32) Store(val int32)                    { StoreInt32(&x.v, val) }
func (x *Int32) Add(delta int32) int32              { return AddInt32(&x.v, delta) }
func (x *Int32) Swap(val int32) int32               { return SwapInt32(&x.v, val) }
func (x *Int32) CompareAndSwap(old, val int32) bool { return CompareAndSwapInt32(&x.v, old, val) }

// Int64 is atomic.Int64.
type Int64 struct {
	_ [0]atomic.Int64 // aligned as the original
	v int64
}

func (x *Int64) Load() int64                        { return LoadInt64(&x.v) }
func (x *Int64) Store(val int64)                    { StoreInt64(&x.v, val) }
func (x *Int64) Add(delta int64) int64              { return AddInt64(&x.v, delta) }
func (x *Int64) Swap(val int64) int64               { return SwapInt64(&x.v, val) }
func (x *Int64) CompareAndSwap(old, val int64) bool { return CompareAndSwapInt64(&x.v, old, val) }

// Uint32 is atomic.Uint32.
type Uint32 struct {
	_ [0]atomic.Uint32 // aligned as the original
	v uint32
}

func (x *Uint32) Load() uint32                        { return LoadUint32(&x.v) }
func (x *Uint32) Store(val uint32)                    { StoreUint32(&x.v, val) }
func (x *Uint32) Add(delta uint32) uint32             { return AddUint32(&x.v, delta) }
func (x *Uint32) Swap(val uint32) uint32              { return SwapUint32(&x.v, val) }
func (x *Uint32) CompareAndSwap(old, val uint32) bool { return CompareAndSwapUint32(&x.v, old, val) }

// Uint64 is atomic.Uint64.
type Uint64 struct {
	_ [0]atomic.Uint64 // aligned as the original
	v uint64
}

func (x *Uint64) Load() uint64                        { return LoadUint64(&x.v) }
func (x *Uint64) Store(val uint64)                    { StoreUint64(&x.v, val) }
func (x *Uint64) Add(delta uint64) uint64             { return AddUint64(&x.v, delta) }
func (x *Uint64) Swap(val uint64) uint64              { return SwapUint64(&x.v, val) }
func (x *Uint64) CompareAndSwap(old, val uint64) bool { return CompareAndSwapUint64(&x.v, old, val) }

// Bool is atomic.Bool.
type Bool struct{ v Uint32 }

func (x *Bool) Load() bool         { return x.v.Load() != 0 }
func (x *Bool) Store(val bool)     { x.v.Store(uint32(truth(val))) }
func (x *Bool) Swap(val bool) bool { return x.v.Swap(uint32(truth(val))) != 0 }
func (x *Bool) CompareAndSwap(old, val bool) bool {
	return x.v.CompareAndSwap(uint32(truth(old)), uint32(truth(val)))
}

// Pointer is atomic.Pointer.
type Pointer[T any] struct{ v atomic.Pointer[T] }

func (x *Pointer[T]) Load() *T {
	before(step.Load, unsafe.Pointer(x))
	v := x.v.Load()
	after(step.Load, unsafe.Pointer(x), truth(v != nil))
	return v
}

func (x *Pointer[T]) Store(val *T) {
	before(step.Store, unsafe.Pointer(x))
	x.v.Store(val)
	after(step.Store, unsafe.Pointer(x), 0)
}

func (x *Pointer[T]) Swap(val *T) *T {
	before(step.Swap, unsafe.Pointer(x))
	v := x.v.Swap(val)
	after(step.Swap, unsafe.Pointer(x), truth(v != nil))
	return v
}

func (x *Pointer[T]) CompareAndSwap(old, val *T) bool {
	before(step.Compare, unsafe.Pointer(x))
	v := x.v.CompareAndSwap(old, val)
	after(step.Compare, unsafe.Pointer(x), truth(v))
	return v
}
