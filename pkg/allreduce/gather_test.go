package allreduce_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	. "github.com/vlaring/vlaring/pkg/allreduce"
)

// shards are the ranks' parts of floats, some of them empty, with gaps between them.
func shards(world, floats int, step uint64) (l []Shard) {
	rnd := rand.New(rand.NewPCG(step, uint64(world)))
	at := 0
	n := 1 + rnd.IntN(2*world)
	for i := range n {
		lo := min(at+rnd.IntN(2), floats)
		hi := max(lo, floats*(i+1)/n)
		if rnd.IntN(4) == 0 {
			hi = lo
		}
		l, at = append(l, Shard{Range{Lo: lo, Hi: hi}, rnd.IntN(world)}), hi
	}
	return l
}

// made is what the owner makes of an element, odd numbers among them: they are
// copied and not added.
func made(step uint64, i int) uint32 {
	switch i % 5 {
	case 0:
		return 1 << 31 // a negative zero
	case 1:
		return 0x7fc00000 + uint32(i) // a NaN with something in it
	}
	return uint32(step+1)*2654435761 + uint32(i)*40503
}

// shard exchanges the shards of a step and compares what has come with what the
// owners made. own and out may be the same memory.
func shard(t *testing.T, red Reducer, rank, world int, step uint64, floats int, own, out []float32) {
	t.Helper()
	l := shards(world, floats, step)
	for _, s := range l {
		for i := s.Lo; i < s.Hi && s.Rank == rank; i++ {
			own[i] = math.Float32frombits(made(step, i))
		}
	}
	op := red.Gather(step, l, own, out)
	flags, err := op.Wait(context.Background())
	if err != nil || flags != 0 {
		t.Errorf("world %d, rank %d, step %d: gathering: flags %b, %v", world, rank, step, flags, err)
		return
	}
	got, _ := op.Sum()
	for _, s := range l {
		for i := s.Lo; i < s.Hi; i++ {
			if math.Float32bits(got[i]) != made(step, i) {
				t.Errorf("world %d, rank %d, step %d: gathered element %d is %08x, want %08x", world, rank, step, i, math.Float32bits(got[i]), made(step, i))
				return
			}
		}
	}
}

// TestGatherBytes: each link carries each shard at most once, so no rank sends
// more than all shards but one.
func TestGatherBytes(t *testing.T) {
	const world, floats = 5, 1000
	j := trial{micro: world, buckets: []Range{{Lo: 0, Hi: floats}}, steps: 1, opt: Options{ChunkBytes: 256}}
	net := NewMemNetwork(Faults{})
	var nets []Network
	members := names(world)
	for _, m := range members {
		nets = append(nets, net.Join(m))
	}
	rings := j.rings(t, nets, members, 1)
	var l []Shard
	for r := range world {
		l = append(l, Shard{Range{Lo: floats * r / world, Hi: floats * (r + 1) / world}, r})
	}
	errs := make(chan error)
	for r, ring := range rings {
		go func() {
			own := make([]float32, floats)
			for i := l[r].Lo; i < l[r].Hi; i++ {
				own[i] = float32(i)
			}
			_, err := ring.Gather(0, l, own, own).Wait(t.Context())
			errs <- err
		}()
	}
	for range rings {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for r, ring := range rings {
		ring.Close()
		if s := ring.Stats(); s.BytesSent != 4*floats*(world-1)/world {
			t.Errorf("rank %d sent %d bytes, want %d", r, s.BytesSent, 4*floats*(world-1)/world)
		}
	}
}

// TestGatherMistakesPanic: what cannot be gathered is the caller's mistake.
func TestGatherMistakesPanic(t *testing.T) {
	for name, call := range map[string]func(r *Ring, m []float32){
		"shards that overlap": func(r *Ring, m []float32) {
			r.Gather(0, []Shard{{Range{Lo: 0, Hi: 3}, 0}, {Range{Lo: 2, Hi: 4}, 1}}, m, m)
		},
		"of a rank that is none":  func(r *Ring, m []float32) { r.Gather(0, []Shard{{Range{Lo: 0, Hi: 3}, 2}}, m, m) },
		"own memory is too short": func(r *Ring, m []float32) { r.Gather(0, []Shard{{Range{Lo: 0, Hi: 3}, 0}}, m[:1], m) },
		"out is too short":        func(r *Ring, m []float32) { r.Gather(0, []Shard{{Range{Lo: 0, Hi: 3}, 1}}, m, m[:1]) },
	} {
		t.Run(name, func(t *testing.T) {
			net := NewMemNetwork(Faults{})
			ring, err := NewRing(net.Join("a"), Group{Members: []string{"a", "b"}, Micro: []int{0, 1, 2}}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer ring.Close()
			defer func() {
				if recover() == nil {
					t.Error("it did not panic")
				}
			}()
			call(ring, make([]float32, 4))
		})
	}
}
