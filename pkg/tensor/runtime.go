package tensor

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/vlaring/vlaring/internal/kernel"
)

// Task is work that falls into tiles which may be done in any order and at the
// same time. It is implemented by the operations of a tape.
type Task interface {
	// Tile does tile i with a thread's own workspace.
	Tile(i int, ws *kernel.Workspace)
}

// Runtime owns the threads that compute. It serves one caller at a time.
type Runtime struct {
	threads int
	spins   int
	ws      []*kernel.Workspace // [threads], the caller's first

	task    Task
	tiles   int
	next    atomic.Int64  // tile that nobody has taken yet
	epoch   atomic.Uint64 // counts runs; a change is the signal to start
	left    atomic.Int32  // helpers that have not finished the run
	closed  atomic.Bool
	parked  []atomic.Bool
	wake    []chan struct{}
	waiting atomic.Bool
	done    chan struct{}
	panics  chan any
	wg      sync.WaitGroup

	flat flatTask // kept, so that a step allocates nothing
	adam adamTask
	lerp lerpTask
	norm normTask

	timed bool      // SetProfile
	spent SlabTimes // since Profile
}

// spins is how often a thread looks for work, yielding in between, before it
// parks: some tens of microseconds, longer than the gap between two operations.
const spins = 2000

// NewRuntime starts a runtime of threads ≥ 1, of which the caller of Run is
// one. Close ends the others.
func NewRuntime(threads int) *Runtime {
	if threads < 1 {
		panic(&ShapeError{Op: "NewRuntime", Want: "threads ≥ 1", Got: sprint(threads)})
	}
	return newRuntime(threads, spins)
}

func newRuntime(threads, spins int) *Runtime {
	r := &Runtime{threads: threads, spins: spins, done: make(chan struct{}, 1), panics: make(chan any, threads)}
	for i := range threads {
		r.ws = append(r.ws, kernel.NewWorkspace())
		if i > 0 {
			r.wake = append(r.wake, make(chan struct{}, 1))
		}
	}
	r.parked = make([]atomic.Bool, threads-1)
	for i := range threads - 1 {
		r.wg.Add(1)
		go r.help(i)
	}
	return r
}

// Threads is the number of threads, the caller of Run included.
func (r *Runtime) Threads() int { return r.threads }

// Close ends the threads and waits for them. No Run may be in progress.
func (r *Runtime) Close() {
	if r.closed.Swap(true) {
		return
	}
	r.epoch.Add(1)
	for i := range r.wake {
		if r.parked[i].Swap(false) {
			r.wake[i] <- struct{}{}
		}
	}
	r.wg.Wait()
}

// Run does all tiles of a task and returns when they are done. Whoever is free
// takes the next tile; no result depends on who. A panic in a tile is raised
// again here.
func (r *Runtime) Run(t Task, tiles int) {
	if r.threads == 1 || tiles <= 1 {
		for i := range tiles {
			t.Tile(i, r.ws[0])
		}
		return
	}
	r.task, r.tiles = t, tiles
	r.next.Store(0)
	r.left.Store(int32(r.threads - 1))
	r.epoch.Add(1)
	for i := range r.wake {
		if r.parked[i].Swap(false) {
			r.wake[i] <- struct{}{}
		}
	}
	r.part(0)
	for i := 0; r.left.Load() > 0; i++ {
		if i < r.spins {
			runtime.Gosched()
			continue
		}
		r.waiting.Store(true)
		if r.left.Load() > 0 || !r.waiting.Swap(false) {
			// A helper saw waiting and signals. It may be the last one of the run before, held up between its two
			// steps: so the loop looks again.
			<-r.done
		}
	}
	r.task = nil
	var first any
	for range len(r.panics) {
		if p := <-r.panics; first == nil {
			first = p
		}
	}
	if first != nil {
		panic(first)
	}
}

// part does tiles as thread k until none is left.
func (r *Runtime) part(k int) {
	defer func() {
		if p := recover(); p != nil {
			r.panics <- p
		}
	}()
	for {
		i := int(r.next.Add(1)) - 1
		if i >= r.tiles {
			return
		}
		r.task.Tile(i, r.ws[k])
	}
}

func (r *Runtime) help(i int) {
	defer r.wg.Done()
	seen := uint64(0)
	for {
		for n := 0; r.epoch.Load() == seen; n++ {
			if n < r.spins {
				runtime.Gosched()
				continue
			}
			r.parked[i].Store(true)
			if r.epoch.Load() == seen || !r.parked[i].Swap(false) {
				<-r.wake[i]
			}
		}
		seen = r.epoch.Load()
		if r.closed.Load() {
			return
		}
		r.part(i + 1)
		if r.left.Add(-1) == 0 && r.waiting.Swap(false) {
			r.done <- struct{}{}
		}
	}
}

// AMX is the CPULevel that has instructions for products of bfloat16; elsewhere
// they are made of those of float32, with the same bits.
const AMX = "amx"

// CPULevel is the instruction set that the kernels use on this machine: amx,
// avx512, avx2, neon or generic. The environment's VLARING_CPU forces one.
func CPULevel() string { return kernel.Active().String() }

// CPUError is the error of a VLARING_CPU that names no level of this machine.
func CPUError() error { return kernel.Err() }

// CPURefused is the error of a system that refuses a part of the CPU which
// products of bfloat16 would use; nil: none.
func CPURefused() error { return kernel.Refused() }

// SetCPU makes the kernels use a level by name, "" for the best. It must not
// be called while anything runs.
func SetCPU(level string) error { return kernel.Select(level) }

// CPULevels lists the levels of this machine, slowest first.
func CPULevels() (names []string) {
	for _, l := range kernel.Supported() {
		names = append(names, l.String())
	}
	return names
}
