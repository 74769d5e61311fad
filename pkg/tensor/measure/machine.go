package measure

import (
	"slices"
	"time"

	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/tensor/internal/kernel"
)

// Bench measures with one runtime, in memory that it keeps.
type Bench struct {
	rt   *tensor.Runtime
	slab []float32
}

// New returns a Bench on rt, which must do nothing else meanwhile.
func New(rt *tensor.Runtime) *Bench { return &Bench{rt: rt} }

// slabs returns slices of the given sizes, each on a cache line, filled with
// numbers between -1 and 1. They are the caller's until the next call.
func (b *Bench) slabs(sizes ...int) (l [][]float32) {
	total := 0
	for _, n := range sizes {
		total += (n + 15) / 16 * 16
	}
	if total > len(b.slab) {
		b.slab = tensor.Floats(total)
	}
	at := 0
	for k, n := range sizes {
		x := b.slab[at : at+n : at+n]
		for i := range x {
			x[i] = float32((i+k)%61)*(2.0/61) - 1
		}
		l = append(l, x)
		at += (n + 15) / 16 * 16
	}
	return l
}

// parts does f on equal parts of n, one for each thread.
type parts struct {
	n, tiles int
	f        func(tile, lo, hi int, ws *kernel.Workspace)
}

func (p *parts) Tile(i int, ws *kernel.Workspace) {
	if lo, hi := i*p.n/p.tiles, (i+1)*p.n/p.tiles; lo < hi {
		p.f(i, lo, hi, ws)
	}
}

func run(rt *tensor.Runtime, n int, f func(tile, lo, hi int, ws *kernel.Workspace)) {
	p := &parts{n, rt.Threads(), f}
	rt.Run(p, p.tiles)
}

// Peak returns the floating-point operations a second of all threads of rt
// together, at fused multiply-adds on registers: the best of rounds times a
// millisecond or so each. No product of matrices is faster.
func Peak(rt *tensor.Runtime, rounds int) float64 {
	if rt.Threads() == 1 {
		return kernel.PeakFlops(rounds)
	}
	done := make([]float64, rt.Threads())
	start := time.Now()
	run(rt, rt.Threads(), func(tile, _, _ int, _ *kernel.Workspace) {
		at := time.Now()
		rate := kernel.PeakFlops(2 * rounds) // long enough for all threads to have come
		done[tile] = rate * time.Since(at).Seconds()
	})
	wall, sum := time.Since(start).Seconds(), 0.0
	for _, n := range done {
		sum += n
	}
	return sum / wall
}

// BandwidthFloats is the size of each of Bandwidth's three slabs: together more
// than the caches of the machines that we know.
const BandwidthFloats = 32 << 20

// Bandwidth returns the bytes a second that all threads read and write on
// slabs of n floats: the better of copying and of adding two to a third. What a
// write fetches first is not counted.
func (b *Bench) Bandwidth(n int) float64 {
	mem := b.slabs(n, n, n)
	x, y, z := mem[0], mem[1], mem[2]
	best := 0.0
	for i := range 6 {
		start := time.Now()
		bytes := 8.0
		run(b.rt, n/16, func(_, lo, hi int, _ *kernel.Workspace) {
			if i%2 == 0 {
				copy(z[16*lo:16*hi], x[16*lo:16*hi])
			} else {
				kernel.Add(z[16*lo:16*hi], x[16*lo:16*hi], y[16*lo:16*hi])
			}
		})
		if i%2 == 1 {
			bytes = 12
		}
		if i > 1 { // the first two touch the memory
			best = max(best, bytes*float64(n)/time.Since(start).Seconds())
		}
	}
	return best
}

// Time is what repeated runs of one piece of work took.
type Time struct {
	Runs   int
	Median float64 // seconds
	Best   float64
	CPU    float64 // median CPU time of the process, all threads; 0 where the system does not tell
}

// times runs f for budget, at least thrice after once for the caches, and
// calls each with what a run took.
func times(budget time.Duration, f func(), each func(wall, cpu float64)) Time {
	f()
	var walls, cpus []float64
	for begin := time.Now(); len(walls) < 3 || time.Since(begin) < budget; {
		c, at := CPUTime(), time.Now()
		f()
		wall, cpu := time.Since(at).Seconds(), (CPUTime() - c).Seconds()
		walls, cpus = append(walls, wall), append(cpus, cpu)
		if each != nil {
			each(wall, cpu)
		}
	}
	return Time{Runs: len(walls), Median: Median(walls), Best: slices.Min(walls), CPU: Median(cpus)}
}

// Median sorts x and returns its middle; 0 of nothing.
func Median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	slices.Sort(x)
	return (x[len(x)/2] + x[(len(x)-1)/2]) / 2
}
