package data

import (
	"fmt"
	"math"
	"testing"
)

// mixed is the order of a mixture of sets of n samples, by their weights.
func mixed(shuffle bool, n []int, weights ...float64) Order {
	o := Order{Seed: 7, Global: 8, Micro: 2, Shuffle: shuffle}
	for d, share := range sharesOf(weights) {
		o.Parts = append(o.Parts, Part{n[d], share})
		o.N += n[d]
	}
	return o
}

// Read in the order of the stream, each set's samples come once an epoch, whatever
// the other sets are, and the number of the epoch is what At says.
func TestMixtureIsExactlyOnce(t *testing.T) {
	for _, o := range []Order{
		mixed(true, []int{1}, 1),
		mixed(true, []int{5, 100}, 2, 1),
		mixed(true, []int{1, 7, 64}, 0.1, 10, 1),
		mixed(false, []int{30, 20, 3}, 1, 1, 1),
		mixed(true, []int{1000, 3}, 1000, 3),
	} {
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(o.Parts)
		drawn, seen := make([]int, len(o.Parts)), map[[3]int]bool{}
		for pos := range uint64(5000) {
			i, epoch := o.At(pos)
			d, of := 0, i
			for of >= o.Parts[d].N {
				of -= o.Parts[d].N
				d++
			}
			if want := drawn[d] / o.Parts[d].N; int(epoch) != want {
				t.Fatalf("%s: draw %d of set %d is of epoch %d, not %d", name, drawn[d], d, epoch, want)
			}
			at := [3]int{d, int(epoch), of}
			if seen[at] {
				t.Fatalf("%s: sample %d of set %d comes twice in epoch %d", name, of, d, epoch)
			}
			if want := drawn[d] % o.Parts[d].N; !o.Shuffle && of != want {
				t.Fatalf("%s: draw %d of set %d is its sample %d", name, drawn[d], d, of)
			}
			seen[at] = true
			drawn[d]++
		}
	}
}

// No set is as many positions from its share as there are sets, after any number of
// blocks, and never more than a block's worth between.
func TestMixtureKeepsShares(t *testing.T) {
	for _, w := range [][]float64{{2, 1}, {1, 1, 1, 1, 1}, {0.7, 0.2, 0.1}, {1, 1e-4}, {3, 1000, 17, 17, 4, 256}} {
		sum := 0.0
		n := make([]int, len(w))
		for d := range w {
			sum, n[d] = sum+w[d], 10+d
		}
		o := mixed(true, n, w...)
		drawn := make([]int, len(w))
		for pos := range uint64(block * 200) {
			d, k := o.draw(pos, 0)
			if k != uint64(drawn[d]) {
				t.Fatalf("weights %v, position %d: draw %d of set %d, after %d", w, pos, k, d, drawn[d])
			}
			drawn[d]++
			within := float64(len(w))
			if (pos+1)%block != 0 {
				within = block
			}
			for d := range w {
				if off := float64(drawn[d]) - float64(pos+1)*w[d]/sum; math.Abs(off) > within {
					t.Fatalf("weights %v: after %d positions set %d is %v from its share", w, pos+1, d, off)
				}
			}
		}
		for _, far := range []uint64{1 << 40, 1<<62 - 100} { // random access, without a table
			had := o.drawn(far / block * block)
			for d := range w {
				if got, want := float64(had[d])/float64(far), w[d]/sum; math.Abs(got-want) > 1e-9 {
					t.Errorf("weights %v: set %d has %v of the first 2^%v positions, want %v", w, d, got, math.Log2(float64(far)), want)
				}
			}
		}
	}
}

// Which set a position has looks random, and depends on the seed.
func TestMixtureIsShuffled(t *testing.T) {
	a := mixed(true, []int{10, 10}, 1, 1)
	b := a
	b.Seed++
	after, same := 0, 0 // of the same set as the one before; as under another seed
	const n = block * 100
	last := -1
	for pos := range uint64(n) {
		d, _ := a.draw(pos, 0)
		if d == last {
			after++
		}
		last = d
		if e, _ := b.draw(pos, 0); e == d {
			same++
		}
	}
	// Half of them, less a 64th part for dealing out blocks; six standard deviations of n coins are 240.
	if after < n/2-300 || after > n/2+240 || same < n/2-240 || same > n/2+240 {
		t.Errorf("%d of %d positions have the set of the one before, %d the same under another seed", after, n, same)
	}
}

// The order of a mixture whose data has changed begins with epochs that no set has begun.
func TestMixtureBeginsAnew(t *testing.T) {
	o := mixed(true, []int{5, 100}, 2, 1)
	const pos = 1000
	begun := o.begun(pos)
	most := uint64(0)
	for p := range uint64(pos) {
		_, epoch := o.At(p)
		most = max(most, epoch)
	}
	if begun <= most || begun > most+10 { // a block of 64 has at most 9 epochs of 5
		t.Fatalf("epoch %d is new after position %d, where %d was the last", begun, pos, most)
	}
	o.Start, o.Epoch = pos, begun
	for p := range uint64(200) {
		if _, epoch := o.At(pos + p); epoch < begun {
			t.Fatalf("position %d is of epoch %d, which was begun before %d", pos+p, epoch, pos)
		}
		if _, epoch := o.At(p); epoch >= begun {
			t.Fatalf("position %d is of epoch %d", p, epoch)
		}
	}
	if again := o.begun(pos + 200); again <= begun {
		t.Errorf("epoch %d is new later on", again)
	}
}

func TestSharesOf(t *testing.T) {
	for _, w := range [][]float64{{1}, {1, 1, 1}, {1e9, 1e-9}, {0.1, 0.2, 0.7}, {5, 5, 5, 5, 5, 5, 5}} {
		sum, total := uint64(0), 0.0
		for _, x := range w {
			total += x
		}
		shares := sharesOf(w)
		for d, s := range shares {
			sum += s
			if off := math.Abs(float64(s) - w[d]/total*whole); off > 1 {
				t.Errorf("weights %v: share %d of set %d is %v off", w, s, d, off)
			}
		}
		if sum != whole {
			t.Errorf("weights %v: the shares %v are %d in all", w, shares, sum)
		}
	}
}
