package allreduce_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vlaring/vlaring/pkg/allreduce"
)

// These tests run on a fake clock (testing/synctest): patience and deadlines
// pass only when every goroutine waits, so no timing decides a test, and a
// goroutine that is left over fails it.

// trial is a job that rings run in tests: what is reduced, and how.
type trial struct {
	micro   int
	bounds  []int // nil: as even as can be, the longer first
	buckets []Range
	first   uint64 // step
	steps   int
	opt     Options
}

func names(world int) []string {
	l := make([]string, world)
	for i := range l {
		l[i] = fmt.Sprintf("worker-%d", i)
	}
	return l
}

func (j trial) split(world int) []int {
	if j.bounds != nil {
		return j.bounds
	}
	b := make([]int, world+1)
	for r := 1; r <= world; r++ {
		b[r] = b[r-1] + j.micro/world
		if r <= j.micro%world {
			b[r]++
		}
	}
	return b
}

func (j trial) elements() int {
	n := 0
	for _, b := range j.buckets {
		n = max(n, b.Hi)
	}
	return n
}

// gradient is a function of step and micro-batch alone. Its elements are far
// apart in size, so that another order of addition gives other bits.
func (j trial) gradient(step uint64, m int) []float32 {
	r := rand.New(rand.NewPCG(step, uint64(m)))
	g := make([]float32, j.elements())
	for i := range g {
		g[i] = float32(math.Ldexp(r.Float64()-0.5, r.IntN(24)))
	}
	return g
}

func (j trial) fold(step uint64) []float32 {
	sum := j.gradient(step, 0)
	for m := 1; m < j.micro; m++ {
		for i, x := range j.gradient(step, m) {
			sum[i] += x
		}
	}
	at := 0
	for _, b := range append(slices.Clone(j.buckets), Range{len(sum), len(sum)}) { // between buckets nothing is written
		for ; at < b.Lo; at++ {
			sum[at] = float32(math.NaN())
		}
		at = b.Hi
	}
	return sum
}

func (j trial) rings(t *testing.T, nets []Network, members []string, generation uint64) []*Ring {
	t.Helper()
	rings := make([]*Ring, len(nets))
	for r := range rings {
		var err error
		if rings[r], err = NewRing(nets[r], Group{Generation: generation, Rank: r, Members: members, Micro: j.split(len(nets))}, j.opt); err != nil {
			t.Fatal(err)
		}
	}
	return rings
}

// begin starts a step of one rank. Nothing is ready.
func (j trial) begin(ring *Ring, rank, world int, step uint64) (Reduction, []float32) {
	b := j.split(world)
	var micro [][]float32
	for m := b[rank]; m < b[rank+1]; m++ {
		micro = append(micro, j.gradient(step, m))
	}
	out := make([]float32, j.elements())
	for i := range out {
		out[i] = float32(math.NaN())
	}
	return ring.Begin(step, j.buckets, micro, out, func() Flags { return Flags(1<<rank) << (step % 2) }), out
}

// run executes all steps on all ranks, buckets becoming ready in odd orders,
// and compares with the naive fold.
func (j trial) run(t *testing.T, nets []Network, members []string, generation uint64) Stats {
	t.Helper()
	world := len(nets)
	rings := j.rings(t, nets, members, generation)
	var wg sync.WaitGroup
	for rank, ring := range rings {
		wg.Go(func() {
			for step := j.first; step < j.first+uint64(j.steps); step++ {
				op, out := j.begin(ring, rank, world, step)
				order := rand.New(rand.NewPCG(step, uint64(rank))).Perm(len(j.buckets))
				go func() {
					for _, b := range order {
						op.Ready(b)
						op.Ready(b) // again: no harm
					}
				}()
				flags, err := op.Wait(context.Background())
				if err != nil {
					t.Errorf("world %d, rank %d, step %d: %v", world, rank, step, err)
					return
				}
				want := j.fold(step)
				for i := range want {
					if math.Float32bits(out[i]) != math.Float32bits(want[i]) {
						t.Errorf("world %d, rank %d, step %d, element %d: %v, want %v", world, rank, step, i, out[i], want[i])
						return
					}
				}
				if all := Flags(1<<world-1) << (step % 2); len(want) > 0 && flags != all {
					t.Errorf("world %d, rank %d, step %d: flags %b, want %b", world, rank, step, flags, all)
				}
				shard(t, ring, rank, world, step, j.elements(), out, out)
			}
		})
	}
	wg.Wait()
	var sum Stats
	for _, ring := range rings {
		ring.Close()
		s := ring.Stats()
		sum.BytesSent += s.BytesSent
		sum.Frames += s.Frames
		sum.Retransmits += s.Retransmits
		for k := range s.ByKind {
			sum.ByKind[k] += s.ByKind[k]
		}
	}
	return sum
}

func TestRingIsTheNaiveFold(t *testing.T) {
	shapes := map[string][]Range{
		"nothing":  {},
		"empty":    {{0, 0}, {0, 0}},
		"one":      {{0, 1}},
		"prime":    {{0, 97}},
		"ragged":   {{0, 5}, {5, 5}, {5, 70}, {70, 71}, {71, 103}, {103, 103}},
		"a window": {{0, 48}, {48, 96}},
	}
	for world := 1; world <= 16; world++ {
		if raced && world > 7 && world < 16 {
			continue
		}
		t.Run(fmt.Sprintf("world %d", world), func(t *testing.T) {
			for name, buckets := range shapes {
				for _, chunk := range []int{1, 12, 1000} {
					if chunk == 12 && world > 6 {
						continue
					}
					synctest.Test(t, func(t *testing.T) {
						// Five micro-batches: from world 6 on the last ranks own none.
						j := trial{micro: 5, buckets: buckets, first: 3, steps: 2, opt: Options{ChunkBytes: 4 * chunk, WindowBytes: 16 * chunk}}
						members := names(world)
						s := j.run(t, join(NewMemNetwork(Faults{}), members), members, 1)
						if t.Failed() {
							t.Fatalf("%s, chunks of %d", name, chunk)
						}
						// Each rank but one sends everything once in each pass.
						want := uint64(2 * (world - 1) * 4 * j.elements() * j.steps)
						for step := range uint64(j.steps) { // and each shard once
							for _, s := range shards(world, j.elements(), j.first+step) {
								want += uint64(4 * (world - 1) * (s.Hi - s.Lo))
							}
						}
						if s.BytesSent != want {
							t.Errorf("%s, chunks of %d: %d bytes sent, want %d", name, chunk, s.BytesSent, want)
						}
						if s.Faults() != 0 {
							t.Errorf("%s, chunks of %d: faults %v on a perfect network", name, chunk, s.ByKind)
						}
					})
				}
			}
		})
	}
}

func TestRanksWithoutMicroBatches(t *testing.T) {
	for _, bounds := range [][]int{{0, 7, 7, 7}, {0, 1, 1, 7}, {0, 1, 7, 7}} {
		synctest.Test(t, func(t *testing.T) {
			j := trial{micro: 7, bounds: bounds, buckets: []Range{{3, 50}, {57, 99}}, steps: 2, opt: Options{ChunkBytes: 40, WindowBytes: 80}}
			j.run(t, join(NewMemNetwork(Faults{}), names(3)), names(3), 1)
		})
	}
}

func TestLyingNetwork(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults Faults
		sees   []FaultKind
	}{
		{"drop", Faults{Drop: 0.1}, []FaultKind{FaultLost}},
		{"duplicate", Faults{Duplicate: 0.3}, []FaultKind{FaultDuplicate}},
		{"corrupt", Faults{Corrupt: 0.1}, []FaultKind{FaultCorrupt}},
		{"reorder", Faults{Delay: 0.2}, []FaultKind{FaultLost, FaultDuplicate}},
		{"all at once", Faults{Drop: 0.08, Duplicate: 0.1, Corrupt: 0.08, Delay: 0.1, Hold: 9}, []FaultKind{FaultLost, FaultDuplicate, FaultCorrupt}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, world := range []int{2, 3, 5} {
				for seed := range uint64(3) {
					synctest.Test(t, func(t *testing.T) {
						c.faults.Seed = seed
						hub := NewMemNetwork(c.faults)
						var mu sync.Mutex
						var told Stats
						j := trial{micro: 6, buckets: []Range{{0, 100}, {100, 333}}, steps: 4, opt: Options{ChunkBytes: 32, WindowBytes: 8 * 32, Event: func(e *FaultError) {
							mu.Lock()
							defer mu.Unlock()
							told.ByKind[e.Kind]++
							if e.Kind != FaultCorrupt && (e.Generation != 1 || e.Peer != fmt.Sprintf("worker-%d", e.Rank) || e.Detail == "") {
								t.Errorf("an event does not say where: %+v", e)
							}
							if !strings.HasPrefix(e.Error(), e.Kind.String()+": ") {
								t.Errorf("an event does not say what: %v", e)
							}
						}}}
						s := j.run(t, join(hub, names(world)), names(world), 1)
						in := hub.Injected()
						for _, k := range c.sees {
							if s.ByKind[k] == 0 {
								t.Errorf("world %d, seed %d: no fault %q was counted: %+v of %+v", world, seed, k, s, in)
							}
						}
						if told.ByKind != s.ByKind {
							t.Errorf("events %v, statistics %v", told.ByKind, s.ByKind)
						}
						if s.ByKind[FaultCorrupt] > in.Corrupted+in.Duplicated {
							t.Errorf("%d corrupt frames counted of %d", s.ByKind[FaultCorrupt], in.Corrupted)
						}
						// Repairs must not feed on themselves.
						if in.Frames > 60*s.Frames || s.Retransmits == 0 && in.Dropped > 0 {
							t.Errorf("world %d, seed %d: %d frames for %d chunks, %d repeated", world, seed, in.Frames, s.Frames, s.Retransmits)
						}
					})
				}
			}
		})
	}
}

// An interruption shorter than the deadline costs time only.
func TestPartitionHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := NewMemNetwork(Faults{})
		nets := join(hub, names(3))
		hub.Partition("worker-1")
		go func() {
			time.Sleep(30 * time.Second) // of the fake clock
			hub.Partition()
		}()
		j := trial{micro: 3, buckets: []Range{{0, 200}}, steps: 2, opt: Options{ChunkBytes: 40, WindowBytes: 400}}
		s := j.run(t, nets, names(3), 1)
		if s.Retransmits == 0 || hub.Injected().Cut == 0 {
			t.Errorf("nothing was cut (%+v) or repeated (%+v)", hub.Injected(), s)
		}
	})
}

// refuser fails its first Sends, as a client does while it reconnects.
type refuser struct {
	Network
	mu   sync.Mutex
	left int
}

func (n *refuser) Send(ctx context.Context, peer string, frame []byte) error {
	n.mu.Lock()
	n.left--
	refuse := n.left >= 0
	n.mu.Unlock()
	if refuse {
		return errors.New("not connected")
	}
	return n.Network.Send(ctx, peer, frame)
}

func TestRefusedSendsAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nets := join(NewMemNetwork(Faults{}), names(2))
		nets[0] = &refuser{Network: nets[0], left: 5}
		j := trial{micro: 3, buckets: []Range{{0, 20}}, steps: 2, opt: Options{ChunkBytes: 40}}
		if s := j.run(t, nets, names(2), 1); s.ByKind[FaultLost] < 5 || s.Retransmits == 0 {
			t.Errorf("refused frames were not counted: %+v", s)
		}
	})
}

func TestTimeoutSaysWhere(t *testing.T) {
	// The ranks asked wait in one pass only; where both are stuck either is named.
	for _, c := range []struct {
		name      string
		late      int // the rank whose bucket 1 never is ready
		at        int // the rank that is asked
		want      FaultError
		fragments []string
	}{
		{"reduce", 1, 2, FaultError{Peer: "worker-1", Rank: 1, Pass: Reduce}, []string{"timeout: rank 1 (worker-1): step 8, bucket 1, reduce chunk 0, generation 4", "nothing came within 1m0s"}},
		{"broadcast", 2, 0, FaultError{Peer: "worker-2", Rank: 2, Pass: Broadcast}, []string{"broadcast chunk 0", "rank 2 (worker-2)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := trial{micro: 3, buckets: []Range{{0, 20}, {20, 40}}, opt: Options{ChunkBytes: 16, Deadline: time.Minute}}
				rings := j.rings(t, join(NewMemNetwork(Faults{}), names(3)), names(3), 4)
				ops := make([]Reduction, 3)
				for r, ring := range rings {
					ops[r], _ = j.begin(ring, r, 3, 7)
					ops[r].Ready(0)
					if r != c.late {
						ops[r].Ready(1)
					}
				}
				_, err := ops[c.at].Wait(context.Background())
				var f *FaultError
				if !errors.As(err, &f) {
					t.Fatalf("got %v, want a FaultError", err)
				}
				if f.Kind != FaultTimeout || f.Step != 7 || f.Bucket != 1 || f.Chunk != 0 || f.Generation != 4 || f.Peer != c.want.Peer || f.Rank != c.want.Rank || f.Pass != c.want.Pass {
					t.Errorf("got %+v", f)
				}
				for _, s := range c.fragments {
					if !strings.Contains(f.Error(), s) {
						t.Errorf("%q does not say %q", f, s)
					}
				}
				if n := rings[c.at].Stats().ByKind[FaultTimeout]; n == 0 {
					t.Error("the timeout was not counted")
				}
				for _, r := range rings {
					r.Close()
				}
			})
		})
	}
}

// A peer that takes nothing is named too, after exactly the deadline.
func TestCreditTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := trial{micro: 2, buckets: []Range{{0, 100}}, opt: Options{ChunkBytes: 16, WindowBytes: 64, Deadline: time.Minute}}
		nets := join(NewMemNetwork(Faults{}), names(2))
		ring, err := NewRing(nets[0], Group{Generation: 1, Rank: 0, Members: names(2), Micro: j.split(2)}, j.opt)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		op, _ := j.begin(ring, 0, 2, 0)
		op.Ready(0)
		_, err = op.Wait(context.Background())
		var f *FaultError
		if !errors.As(err, &f) || f.Kind != FaultTimeout || f.Peer != "worker-1" {
			t.Errorf("got %v, want a timeout of worker-1", err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("it took %v, want the deadline", d)
		}
		ring.Close()
	})
}

func TestMembersOfDifferentJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := trial{micro: 2, buckets: []Range{{0, 100}}, opt: Options{ChunkBytes: 16}}
		b := trial{micro: 2, buckets: []Range{{0, 50}, {50, 100}}, opt: Options{ChunkBytes: 20}}
		nets := join(NewMemNetwork(Faults{}), names(2))
		ra, err := NewRing(nets[0], Group{Generation: 1, Rank: 0, Members: names(2), Micro: a.split(2)}, a.opt)
		if err != nil {
			t.Fatal(err)
		}
		rb, err := NewRing(nets[1], Group{Generation: 1, Rank: 1, Members: names(2), Micro: b.split(2)}, b.opt)
		if err != nil {
			t.Fatal(err)
		}
		oa, _ := a.begin(ra, 0, 2, 0)
		ob, _ := b.begin(rb, 1, 2, 0)
		oa.Ready(0)
		ob.Ready(0)
		_, err = ob.Wait(context.Background())
		var f *FaultError
		if !errors.As(err, &f) || f.Kind != FaultProtocol || !strings.Contains(f.Error(), "do not run the same job") {
			t.Errorf("got %v, want a protocol fault", err)
		}
		oa.Abort()
		ra.Close()
		rb.Close()
	})
}

func TestEndings(t *testing.T) {
	j := trial{micro: 4, buckets: []Range{{0, 1000}, {1000, 2000}}, opt: Options{ChunkBytes: 16, WindowBytes: 64}}
	stop := errors.New("the caller is leaving")
	for _, c := range []struct {
		name string
		end  func(op Reduction, ring *Ring, net Network) error
		want error
	}{
		{"abort", func(op Reduction, _ *Ring, _ Network) error {
			op.Abort()
			_, err := op.Wait(context.Background())
			return err
		}, ErrAborted},
		{"close", func(op Reduction, ring *Ring, _ Network) error {
			ring.Close()
			_, err := op.Wait(context.Background())
			return err
		}, ErrClosed},
		{"context", func(op Reduction, _ *Ring, _ Network) error {
			ctx, cancel := context.WithCancelCause(context.Background())
			time.AfterFunc(time.Second, func() { cancel(stop) })
			_, err := op.Wait(ctx)
			return err
		}, stop},
		{"network", func(op Reduction, _ *Ring, net Network) error {
			net.Close()
			_, err := op.Wait(context.Background())
			return err
		}, ErrNetworkClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			for world := 1; world <= 3; world++ {
				for _, begun := range []bool{false, true} { // nothing ready, or stuck in the middle of bucket 0 or before bucket 1
					if world == 1 && c.want == ErrNetworkClosed {
						continue // a ring of one does not use its network
					}
					synctest.Test(t, func(t *testing.T) {
						nets := join(NewMemNetwork(Faults{}), names(world))
						rings := j.rings(t, nets, names(world), 1)
						ops := make([]Reduction, world)
						for r, ring := range rings {
							ops[r], _ = j.begin(ring, r, world, 0)
							if begun && r != world-1 {
								ops[r].Ready(0)
							}
						}
						synctest.Wait()
						for r, op := range ops {
							if err := c.end(op, rings[r], nets[r]); !errors.Is(err, c.want) {
								t.Errorf("world %d, rank %d: got %v, want %v", world, r, err, c.want)
							}
							op.Abort() // once more: returns at once
							next, _ := j.begin(rings[r], r, world, 1)
							next.Ready(0)
							next.Ready(1)
							if _, err := next.Wait(context.Background()); !errors.Is(err, c.want) {
								t.Errorf("world %d, rank %d: the next operation of a broken ring: got %v, want %v", world, r, err, c.want)
							}
							rings[r].Close()
							rings[r].Close()
						}
					})
				}
			}
		})
	}
}

// What is complete stays complete, whatever ends afterwards.
func TestLateEndings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := trial{micro: 1, buckets: []Range{{0, 10}}}
		rings := j.rings(t, join(NewMemNetwork(Faults{}), names(1)), names(1), 1)
		op, out := j.begin(rings[0], 0, 1, 0)
		op.Ready(0)
		synctest.Wait()
		op.Abort()
		rings[0].Close()
		for range 2 {
			if flags, err := op.Wait(context.Background()); err != nil || flags != 1 || !slices.Equal(out, j.fold(0)) {
				t.Errorf("a complete operation: flags %v, error %v, %v", flags, err, out)
			}
		}
	})
}

// A generation breaks in the middle; another one of other members, order and
// size repeats its step on the same networks. What the broken one left behind
// on the way is refused.
func TestNewGenerationAfterABrokenOne(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			hub := NewMemNetwork(Faults{Seed: seed, Delay: 0.2, Drop: 0.05})
			members := names(4)
			nets := join(hub, members)
			j := trial{micro: 6, buckets: []Range{{0, 300}, {300, 500}}, first: 9, steps: 2, opt: Options{ChunkBytes: 32, WindowBytes: 512}}

			// worker-2 dies before it listens.
			broken := j.rings(t, nets, members, 1)
			broken[2].Close()
			ops := make([]Reduction, 4)
			for _, r := range []int{0, 1, 3} {
				ops[r], _ = j.begin(broken[r], r, 4, 9)
				ops[r].Ready(1)
				ops[r].Ready(0)
			}
			time.Sleep(10 * time.Second) // of the fake clock: frames pile up before worker-2
			for _, r := range []int{0, 1, 3} {
				ops[r].Abort()
				broken[r].Close()
			}

			// It comes back on the network that it had, and leads.
			next := []int{2, 3, 0}
			var nets2 []Network
			var members2 []string
			for _, i := range next {
				nets2, members2 = append(nets2, nets[i]), append(members2, members[i])
			}
			if s := j.run(t, nets2, members2, 2); s.ByKind[FaultStale] == 0 {
				t.Errorf("seed %d: no stale frame was counted: %+v", seed, s)
			}
			j.run(t, nets, members, 3)
		})
	}
}

func TestCallerMistakesPanic(t *testing.T) {
	j := trial{micro: 2, buckets: []Range{{0, 10}}}
	ring := j.rings(t, join(NewMemNetwork(Faults{}), names(1)), names(1), 1)[0]
	defer ring.Close()
	g := [][]float32{make([]float32, 10), make([]float32, 10)}
	out := make([]float32, 10)
	for name, f := range map[string]func(){
		"no micro-gradient": func() { ring.Begin(0, j.buckets, nil, out, nil) },
		"output has 9":      func() { ring.Begin(0, j.buckets, g, out[:9], nil) },
		"micro-gradient 1":  func() { ring.Begin(0, j.buckets, [][]float32{g[0], g[1][:3]}, out, nil) },
		"ascending":         func() { ring.Begin(0, []Range{{0, 4}, {3, 10}}, g, out, nil) },
		"in progress":       func() { ring.Begin(0, j.buckets, g, out, nil); ring.Begin(1, j.buckets, g, out, nil) },
	} {
		func() {
			defer func() {
				if s := fmt.Sprint(recover()); !strings.Contains(s, name) {
					t.Errorf("got %q, want a panic with %q", s, name)
				}
			}()
			f()
		}()
	}
}

func TestNewRingRefuses(t *testing.T) {
	net := NewMemNetwork(Faults{}).Join("a")
	for want, c := range map[string]struct {
		g Group
		o Options
	}{
		"rank 2 of 2":            {Group{Rank: 2, Members: names(2), Micro: []int{0, 1, 2}}, Options{}},
		"rank 0 of 0":            {Group{}, Options{}},
		"bounds [0 1]":           {Group{Members: names(2), Micro: []int{0, 1}}, Options{}},
		"fall at rank 1":         {Group{Members: names(2), Micro: []int{0, 3, 2}}, Options{}},
		"rank 0 owns no micro":   {Group{Members: names(2), Micro: []int{0, 0, 2}}, Options{}},
		"want a multiple of 4":   {Group{Members: names(1), Micro: []int{0, 1}}, Options{ChunkBytes: 6}},
		"chunk of 1048580 bytes": {Group{Members: names(1), Micro: []int{0, 1}}, Options{ChunkBytes: MaxPayload + 4}},
	} {
		if _, err := NewRing(net, c.g, c.o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}
