package measure

import (
	"slices"
	"time"

	"github.com/vlaring/vlaring/internal/kernel"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Bench measures with one runtime, in memory that it keeps.
type Bench struct {
	rt       *tensor.Runtime
	slab     []float32
	smallest float64 // work, in operations, that a product is repeated to
}

// New returns a Bench on rt, which must do nothing else meanwhile.
func New(rt *tensor.Runtime) *Bench { return &Bench{rt: rt, smallest: smallest} }

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
// millisecond or so each. No product of matrices of float32 is faster.
func Peak(rt *tensor.Runtime, rounds int) float64 { return peak(rt, rounds, kernel.PeakFlops) }

// PeakOf returns what measures the limit of products, of bfloat16 or of float32,
// and whether it is the tiles'. Without tiles it is Peak of both.
func PeakOf(bf16 bool) (peakOf func(rt *tensor.Runtime, rounds int) float64, tiles bool) {
	if bf16 && kernel.HasTiles() {
		return func(rt *tensor.Runtime, rounds int) float64 { return peak(rt, rounds, kernel.PeakTiles) }, true
	}
	return Peak, false
}

func peak(rt *tensor.Runtime, rounds int, of func(rounds int) float64) float64 {
	if rt.Threads() == 1 {
		return of(rounds)
	}
	done := make([]float64, rt.Threads())
	start := time.Now()
	run(rt, rt.Threads(), func(tile, _, _ int, _ *kernel.Workspace) {
		at := time.Now()
		rate := of(2 * rounds) // long enough for all threads to have come
		done[tile] = rate * time.Since(at).Seconds()
	})
	wall, sum := time.Since(start).Seconds(), 0.0
	for _, n := range done {
		sum += n
	}
	return sum / wall
}

// BandwidthFloats is the size of each of Bandwidth's two slabs: together about
// as much as the largest caches of today's servers, and more than a core's share of one.
const BandwidthFloats = 48 << 20

// Bandwidth returns the bytes a second that all threads read and write on
// slabs of n floats: the best of copying, of adding one slab to another in place
// and of reading. What a write fetches first is not counted.
func (b *Bench) Bandwidth(n int) float64 {
	mem := b.slabs(n, n)
	x, y := mem[0], mem[1]
	sums := make([]float32, b.rt.Threads())
	best := 0.0
	for round := range 4 {
		for _, way := range []struct {
			bytes float64
			f     func(tile, lo, hi int)
		}{
			{8, func(_, lo, hi int) { copy(y[lo:hi], x[lo:hi]) }},
			{12, func(_, lo, hi int) { kernel.Accumulate(y[lo:hi], x[lo:hi]) }},
			{4, func(tile, lo, hi int) { sums[tile] += kernel.Max(x[lo:hi]) }},
		} {
			start := time.Now()
			run(b.rt, n/16, func(tile, lo, hi int, _ *kernel.Workspace) { way.f(tile, 16*lo, 16*hi) })
			if round > 0 { // the first finds the memory cold
				best = max(best, way.bytes*float64(n)/time.Since(start).Seconds())
			}
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
