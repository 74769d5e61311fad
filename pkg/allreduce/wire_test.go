package allreduce_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vlaring/vlaring/pkg/allreduce"
)

const mbit = 1e6 / 8 // bytes a second

// load is what a wire is tried with: steps of a gradient, over and over.
type load struct {
	world, elements, steps int
	opt                    Options
	wire                   Wire
	faults                 Faults
	beside                 func(hub *MemNetwork) // other use of the network
}

// eighth is the load with an eighth of all bytes, and of the rate: as long, and
// cheaper.
func (l load) eighth() load {
	part := func(n, standard int) int {
		if n == 0 {
			n = standard
		}
		return n / 8
	}
	l.elements /= 8
	l.opt.ChunkBytes, l.opt.WindowBytes = part(l.opt.ChunkBytes, 512<<10), part(l.opt.WindowBytes, 8<<20)
	l.wire.Rate /= 8
	return l
}

// run returns how long the steps after the first took, and what all rings did.
func (l load) run(t *testing.T) (took time.Duration, s Stats, in Injected) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hub := NewMemNetwork(l.faults)
		hub.SetWire(l.wire)
		members := names(l.world)
		nets := join(hub, members)
		bounds := make([]int, l.world+1)
		for r := range bounds {
			bounds[r] = r
		}
		j := trial{bounds: bounds, opt: l.opt}
		rings := j.rings(t, nets, members, 1)
		if l.beside != nil {
			go l.beside(hub)
		}
		step := func(n uint64) {
			var wg sync.WaitGroup
			for r, ring := range rings {
				wg.Go(func() {
					g, out := make([]float32, l.elements), make([]float32, l.elements)
					for i := range g {
						g[i] = float32(i%1021 + r)
					}
					op := ring.Begin(n, []Range{{0, l.elements}}, [][]float32{g}, out, nil)
					op.Ready(0)
					if _, err := op.Wait(context.Background()); err != nil {
						t.Errorf("rank %d, step %d: %v", r, n, err)
						return
					}
					for i, x := range out {
						if want := float32(l.world*(i%1021) + l.world*(l.world-1)/2); x != want {
							t.Errorf("rank %d, step %d, element %d: %v, want %v", r, n, i, x, want)
							return
						}
					}
				})
			}
			wg.Wait()
		}
		step(0)
		begin := time.Now()
		for n := range l.steps {
			step(uint64(n + 1))
		}
		took = time.Since(begin)
		time.Sleep(10 * time.Second) // what is on the way arrives, and what came in vain is counted
		for _, ring := range rings {
			ring.Close()
			r := ring.Stats()
			s.Frames += r.Frames
			s.BytesSent += r.BytesSent
			s.Retransmits += r.Retransmits
			s.Spurious += r.Spurious
			for k := range r.ByKind {
				s.ByKind[k] += r.ByKind[k]
			}
		}
		in = hub.Injected()
	})
	t.Logf("%v for %d steps, %d data frames, %d again, %d of them for nothing; of %d frames %d were lost; the longest queue was %v",
		took.Round(time.Millisecond), l.steps, s.Frames, s.Retransmits, s.Spurious, in.Frames, in.Dropped, in.Queued.Round(time.Millisecond))
	return took, s, in
}

// On a way that keeps order nothing goes again without a loss, however long the
// way or its queue; the way is used; and no more lies in queues than is asked
// for or two frames a link need.
func TestWires(t *testing.T) {
	for _, c := range []struct {
		name string
		load
		ideal time.Duration // of a step; 0: not looked at
		queue time.Duration // most that waits
	}{
		{name: "100 Mbit/s, 50 ms", load: load{world: 2, elements: 4 << 20, steps: 2, wire: Wire{Rate: 100 * mbit, Latency: 25 * time.Millisecond}},
			ideal: bytesAt(16<<20+512<<10, 100*mbit) + 50*time.Millisecond, queue: 400 * time.Millisecond},
		{name: "100 Mbit/s, 50 ms, small chunks", load: load{world: 2, elements: 4 << 20, steps: 2, wire: Wire{Rate: 100 * mbit, Latency: 25 * time.Millisecond},
			opt: Options{ChunkBytes: 64 << 10}}, ideal: bytesAt(16<<20, 100*mbit) + 50*time.Millisecond, queue: 300 * time.Millisecond},
		{name: "1 Gbit/s, 100 ms", load: load{world: 2, elements: 16 << 20, steps: 1, wire: Wire{Rate: 1000 * mbit, Latency: 50 * time.Millisecond},
			opt: Options{WindowBytes: 32 << 20}}, ideal: bytesAt(64<<20, 1000*mbit) + 100*time.Millisecond, queue: 300 * time.Millisecond},
		{name: "10 Gbit/s, 0.1 ms, four ranks", load: load{world: 4, elements: 4 << 20, steps: 1, wire: Wire{Rate: 10000 * mbit, Latency: 50 * time.Microsecond}},
			ideal: 2 * bytesAt(16<<20, 10000*mbit), queue: 100 * time.Millisecond},
		{name: "4 ranks at 100 Mbit/s each", load: load{world: 4, elements: 2 << 20, steps: 1, wire: Wire{Rate: 100 * mbit, Latency: 25 * time.Millisecond}},
			ideal: 2 * bytesAt(8<<20, 100*mbit), queue: 600 * time.Millisecond},
		{name: "8 ranks share 100 Mbit/s", load: load{world: 8, elements: 2 << 20, steps: 1, wire: Wire{Rate: 100 * mbit, Latency: 25 * time.Millisecond, Shared: true}},
			ideal: bytesAt(14*8<<20, 100*mbit), queue: 2 * time.Second},
		{name: "8 ranks share 20 Mbit/s", load: load{world: 8, elements: 1 << 20, steps: 1, wire: Wire{Rate: 20 * mbit, Latency: 25 * time.Millisecond, Shared: true}},
			ideal: bytesAt(14*4<<20, 20*mbit), queue: 8 * time.Second},
		{name: "30 ranks share 1 Gbit/s", load: load{world: 30, elements: 1 << 19, steps: 1, wire: Wire{Rate: 1000 * mbit, Latency: 100 * time.Microsecond, Shared: true}},
			queue: time.Second},
		{name: "a queue of five seconds comes up", load: load{world: 3, elements: 2 << 20, steps: 1, wire: Wire{Rate: 100 * mbit, Latency: 25 * time.Millisecond, Shared: true},
			beside: func(hub *MemNetwork) {
				other := hub.Join("another job")
				time.Sleep(time.Second)
				for range 60 {
					other.Send(context.Background(), "nobody", make([]byte, 1<<20/8))
				}
			}}, queue: 7 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			took, s, in := c.eighth().run(t)
			if s.Retransmits != 0 || s.Spurious != 0 {
				t.Errorf("%d of %d frames went again, where none was lost", s.Retransmits, s.Frames)
			}
			if ideal := time.Duration(c.steps) * c.ideal; ideal > 0 && took > ideal*11/10 {
				t.Errorf("the steps took %v, the wire needs %v", took, ideal)
			}
			if c.beside != nil && in.Queued < 4*time.Second {
				t.Errorf("the queue was %v, want one of seconds", in.Queued)
			}
			if in.Queued > c.queue {
				t.Errorf("frames waited for %v, want at most %v", in.Queued, c.queue)
			}
			if in.Frames > 3*s.Frames+1000 {
				t.Errorf("%d frames for %d with data", in.Frames, s.Frames)
			}
		})
	}
}

func bytesAt(n int, rate float64) time.Duration {
	return time.Duration(float64(n) / rate * float64(time.Second))
}

// Where frames are lost, each goes again about once a loss; where they overtake
// each other, the sender learns how far.
func TestWiresThatLose(t *testing.T) {
	long := Wire{Rate: 100 * mbit, Latency: 25 * time.Millisecond}
	jitter := long
	jitter.Jitter = 40 * time.Millisecond
	for _, c := range []struct {
		name string
		load
		slower float64 // than the wire, at most: most of it is the tail of a step, whose last frames are lost again and again
	}{
		{"a fifth is lost", load{world: 2, elements: 8 << 20, steps: 1, wire: long, faults: Faults{Seed: 1, Drop: 0.2}, opt: Options{ChunkBytes: 64 << 10}}, 1.8},
		{"a fifth is lost of long chunks", load{world: 2, elements: 8 << 20, steps: 2, wire: long, faults: Faults{Seed: 1, Drop: 0.2}}, 2.5},
		{"a fifth is lost among four", load{world: 4, elements: 4 << 20, steps: 1, wire: long, faults: Faults{Seed: 3, Drop: 0.2}, opt: Options{ChunkBytes: 64 << 10}}, 2.5},
		{"overtaking", load{world: 2, elements: 16 << 20, steps: 1, wire: jitter, opt: Options{ChunkBytes: 64 << 10}}, 1.2},
		{"overtaking and loss", load{world: 2, elements: 8 << 20, steps: 1, wire: jitter, faults: Faults{Seed: 2, Drop: 0.02}, opt: Options{ChunkBytes: 64 << 10}}, 1.4},
	} {
		t.Run(c.name, func(t *testing.T) {
			took, s, in := c.eighth().run(t)
			if s.ByKind[FaultLost] == 0 || c.faults.Drop > 0 && s.Retransmits == 0 {
				t.Errorf("nothing was amiss: %+v", s)
			}
			if 100*s.Spurious >= s.Frames {
				t.Errorf("%d of %d frames came twice: want less than one in a hundred", s.Spurious, s.Frames)
			}
			if s.Retransmits > in.Dropped+s.Frames/100 {
				t.Errorf("%d frames went again, where %d were lost", s.Retransmits, in.Dropped)
			}
			passes := 1
			if c.world > 2 {
				passes = 2
			}
			ideal := time.Duration(c.steps*passes) * bytesAt(4*c.elements, c.wire.Rate)
			if took > time.Duration(c.slower*float64(ideal)) {
				t.Errorf("the steps took %v, the wire needs %v: %.2f", took, ideal, float64(took)/float64(ideal))
			}
		})
	}
}

// Whatever the sizes, all gets through.
func TestWiresOfAnySize(t *testing.T) {
	for _, chunk := range []int{4, 64, 4096} {
		for _, window := range []int{0, 1, 3, 17} {
			for _, rate := range []float64{0, 1e3, 1e6, 1e9} {
				for _, drop := range []float64{0, 0.3} {
					if raced && chunk == 4096 {
						continue
					}
					t.Run(fmt.Sprintf("%d %d %v %v", chunk, window, rate, drop), func(t *testing.T) {
						load{world: 3, elements: 40 * chunk / 4, steps: 1, wire: Wire{Rate: rate, Latency: time.Millisecond, Jitter: time.Millisecond},
							opt: Options{ChunkBytes: chunk, WindowBytes: max(1, window*chunk)}, faults: Faults{Drop: drop}}.run(t)
					})
				}
			}
		}
	}
}
