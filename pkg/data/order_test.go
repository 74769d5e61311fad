package data

import (
	"fmt"
	"testing"

	"github.com/vlaring/vlaring/internal/philox"
)

// Every epoch holds every sample once, whatever N is.
func TestOrderIsABijection(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 31, 32, 33, 64, 97, 100, 127, 128, 129, 255, 256, 257, 1000, 1009, 1024, 4095, 4096, 4097} {
		for _, shuffle := range []bool{true, false} {
			o := Order{Seed: 11, N: n, Global: 1, Micro: 1, Shuffle: shuffle}
			for epoch := uint64(0); epoch < 3; epoch++ {
				seen := make([]bool, n)
				for p := 0; p < n; p++ {
					s := o.Sample(epoch*uint64(n) + uint64(p))
					if s < 0 || s >= n {
						t.Fatalf("N %d epoch %d position %d: sample %d out of range", n, epoch, p, s)
					}
					if seen[s] {
						t.Fatalf("N %d epoch %d: sample %d twice", n, epoch, s)
					}
					seen[s] = true
					if !shuffle && s != p {
						t.Fatalf("N %d: unshuffled position %d is sample %d", n, p, s)
					}
				}
			}
		}
	}
}

// Sizes too large for a table still map in and stay apart.
func TestOrderLargeDomains(t *testing.T) {
	for _, n := range []uint64{1 << 32, 1<<32 + 15, 1<<40 - 87, 1 << 62} {
		s := philox.Stream{Seed: 3, Purpose: philox.Shuffle}
		seen := map[uint64]uint64{}
		for x := uint64(0); x < 2000; x++ {
			p := x * (n / 2000)
			y := permute(s, n, p)
			if y >= n {
				t.Fatalf("n %d: %d maps to %d", n, p, y)
			}
			if q, dup := seen[y]; dup {
				t.Fatalf("n %d: %d and %d both map to %d", n, p, q, y)
			}
			seen[y] = p
		}
	}
}

// The permutation looks random: each (position, sample) cell of a small N is
// hit about equally over many epochs. With 20000 draws over 10 cells the
// standard deviation of a cell is 42; six of them is the bound.
func TestOrderIsUniform(t *testing.T) {
	const n, epochs = 10, 20000
	var hits [n][n]int
	o := Order{Seed: 5, N: n, Global: 1, Micro: 1, Shuffle: true}
	for e := uint64(0); e < epochs; e++ {
		for p := uint64(0); p < n; p++ {
			hits[p][o.Sample(e*n+p)]++
		}
	}
	for p := range hits {
		for s, h := range hits[p] {
			if h < epochs/n-255 || h > epochs/n+255 {
				t.Errorf("position %d is sample %d in %d of %d epochs, expected about %d", p, s, h, epochs, epochs/n)
			}
		}
	}
}

func TestOrderDependsOnSeedAndEpoch(t *testing.T) {
	row := func(seed, epoch uint64) string {
		o := Order{Seed: seed, N: 100, Global: 1, Micro: 1, Shuffle: true}
		var r []int
		for p := uint64(0); p < 100; p++ {
			r = append(r, o.Sample(epoch*100+p))
		}
		return fmt.Sprint(r)
	}
	base := row(1, 0)
	if row(1, 0) != base {
		t.Error("the order is not a pure function")
	}
	if row(2, 0) == base || row(1, 1) == base || row(1<<32+1, 0) == base {
		t.Error("seed or epoch does not matter")
	}
}

// The micro-batches of all steps, laid end to end, are the stream, wherever one
// starts: resuming needs the step and nothing else, and no split of the
// micro-batches over workers can change what they hold, for no worker count
// enters.
func TestOrderSlicesAreTheStream(t *testing.T) {
	for _, c := range []struct{ n, global, micro int }{{10, 4, 2}, {3, 8, 4}, {1, 2, 1}, {64, 64, 8}, {7, 7, 7}} {
		o := Order{Seed: 9, N: c.n, Global: c.global, Micro: c.micro, Shuffle: true}
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		for _, start := range []uint64{0, 1, 5, 1000003} {
			pos := start * uint64(c.global)
			for step := start; step < start+3; step++ {
				for m := 0; m < o.Micros(); m++ {
					for _, s := range o.Slice(step, m, nil) {
						if want := o.Sample(pos); s != want {
							t.Fatalf("%+v step %d micro %d: sample %d, the stream has %d", o, step, m, s, want)
						}
						pos++
					}
				}
			}
		}
	}
}

func TestOrderValidate(t *testing.T) {
	for _, o := range []Order{{N: 0, Global: 1, Micro: 1}, {N: 1, Global: 0, Micro: 1}, {N: 1, Global: 4, Micro: 3}, {N: 1, Global: 1, Micro: 0}} {
		if o.Validate() == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func BenchmarkOrderSample(b *testing.B) {
	o := Order{Seed: 5, N: 1_000_003, Global: 64, Micro: 8, Shuffle: true}
	for i := 0; b.Loop(); i++ {
		o.Sample(uint64(i))
	}
}
