package train

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// The sum of a step is the fold over groups of the folds over their
// micro-batches, each computed by itself here, whatever the world.
func TestGroupsAreFoldedFirst(t *testing.T) {
	for _, c := range []struct {
		group  string
		size   int
		bounds [][]int
	}{
		{"batch.group=1", 1, [][]int{{0, 8}, {0, 3, 8}, {0, 1, 1, 8}}},
		{"batch.group=2", 2, [][]int{{0, 4}, {0, 1, 4}, {0, 2, 3, 4}, {0, 1, 2, 3, 4}}},
		{"batch.group=4", 4, [][]int{{0, 2}, {0, 1, 2}}},
		{"batch.group=8", 8, [][]int{{0, 1}, {0, 1, 1}}},
	} {
		t.Run(c.group, func(t *testing.T) {
			var want []float32
			twin := newSquad(t, c.group).rank("twin")
			for k := range 8 / c.size {
				var fold []float32
				for m := k * c.size; m < (k+1)*c.size; m++ {
					g := make([]float32, twin.slabs.floats)
					if err := twin.micro(context.Background(), m, writing{from: g}, twin, &cluster.Times{}); err != nil {
						t.Fatal(err)
					}
					fold = plus(fold, g)
				}
				want = plus(want, fold)
			}
			for _, bounds := range c.bounds {
				s := newSquad(t, c.group)
				var ranks []*rank
				for i := range len(bounds) - 1 {
					ranks = append(ranks, s.rank(string(rune('a'+i))))
				}
				s.form(bounds, ranks...)
				for i, r := range ranks {
					r.ring = seen{r.ring, &r.sum}
					r.begin(bounds[i], bounds[i+1])
				}
				for _, r := range ranks {
					if _, err := r.end(); err != nil {
						t.Fatal(err)
					}
					for _, b := range r.buckets {
						for i := b.Lo; i < b.Hi; i++ {
							if math.Float32bits(r.sum[i]) != math.Float32bits(want[i]) {
								t.Fatalf("bounds %v, rank %s: element %d of the sum is %v, want %v", bounds, r.name, i, r.sum[i], want[i])
							}
						}
					}
				}
			}
		})
	}
}

// plus is a + b; nil is nothing at all.
func plus(a, b []float32) []float32 {
	if a == nil {
		return b
	}
	for i := range a {
		a[i] += b[i]
	}
	return a
}

// seen is a Reducer whose sums are copied before anybody writes there.
type seen struct {
	allreduce.Reducer
	sum *[]float32
}

type seenOp struct {
	allreduce.Reduction
	sum *[]float32
}

func (s seen) Begin(step uint64, b []allreduce.Range, micro [][]float32, out []float32, f func() allreduce.Flags) allreduce.Reduction {
	return seenOp{s.Reducer.Begin(step, b, micro, out, f), s.sum}
}

func (o seenOp) Sum() ([]float32, bool) {
	sum, own := o.Reduction.Sum()
	*o.sum = slices.Clone(sum)
	return sum, own
}

// What a rank holds is of use to it in another place, or forgotten: the bits are
// the same.
func TestPlacesChangeWithinAStep(t *testing.T) {
	want, _ := alone(t, 2)
	for name, next := range map[string][]int{
		"more":             {0, 5, 8},
		"less":             {0, 1, 8},
		"the same":         {0, 3, 8},
		"the other's part": nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSquad(t)
			a, b := s.rank("a"), s.rank("b")
			bounds := []int{0, 3, 8}
			s.form(bounds, a, b)
			broken := errors.New("input/output error")
			b.fail = func(m int) error {
				if m == 6 {
					return broken
				}
				return nil
			}
			a.begin(0, 3)
			b.begin(3, 8)
			if _, err := b.end(); !errors.Is(err, broken) {
				t.Fatal(err)
			}
			<-a.waits
			a.cancel()
			a.end()
			b.fail = nil
			if a.read(); name == "the other's part" {
				next = []int{0, 4, 8}
				s.form(next, b, a)
				s.step(next, b, a)
			} else {
				s.form(next, a, b)
				s.step(next, a, b)
			}
			for _, r := range []*rank{a, b} {
				if r.Digest() != want[0] {
					t.Errorf("%s: state %s, undisturbed %s", r.name, r.Digest(), want[0])
				}
			}
			if got := a.read(); name == "the same" && len(got) > 0 || name == "more" && !slices.Equal(got, []int{3, 4}) {
				t.Errorf("a computed %v again", got)
			}
		})
	}
}

// A panic in the middle of a fold leaves nothing that is used again.
func TestTornFoldIsForgotten(t *testing.T) {
	want, _ := alone(t, 1)
	s := newSquad(t)
	r := s.rank("a")
	s.form([]int{0, 8}, r)
	torn := r.buckets[1]
	r.buckets[1] = allreduce.Range{Lo: -1, Hi: -1} // so that a fold panics after others are done
	func() {
		defer func() { recover() }()
		r.Step(context.Background(), r.ring, 0, 8, r, nil)
		t.Error("no panic")
	}()
	r.buckets[1] = torn
	r.read()
	s.form([]int{0, 8}, r)
	s.step([]int{0, 8}, r)
	if got := r.read(); len(got) != 8 || r.Digest() != want[0] {
		t.Errorf("it computed %v again, and the state is %s; undisturbed %s", got, r.Digest(), want[0])
	}
}

// How much memory a rank holds: the first a fold and a micro-gradient, whatever
// its share; another a slab a group, and one more where groups are of several.
func TestSlabsOfARank(t *testing.T) {
	for _, c := range []struct {
		group  string
		bounds []int
		want   []int
	}{
		{"cluster.reduce=fast", []int{0, 8}, []int{2}},
		{"cluster.reduce=fast", []int{0, 3, 8}, []int{2, 2}},
		{"batch.group=1", []int{0, 8}, []int{2}},
		{"batch.group=1", []int{0, 4, 8}, []int{2, 4}},
		{"batch.group=2", []int{0, 2, 4}, []int{3, 3}},
		{"batch.group=4", []int{0, 1, 2}, []int{2, 2}},
		{"batch.group=8", []int{0, 1}, []int{2}},
	} {
		s := newSquad(t, c.group)
		var ranks []*rank
		for i := range c.want {
			ranks = append(ranks, s.rank(string(rune('a'+i))))
		}
		s.form(c.bounds, ranks...)
		if len(ranks) == 1 {
			ranks[0].ring = allreduce.NewSolo(nil)
		}
		for range 2 {
			s.step(c.bounds, ranks...)
		}
		for i, r := range ranks {
			if got := len(r.slabs.free) + len(r.slabs.held); got != c.want[i] {
				t.Errorf("%s, bounds %v: rank %d has %d slabs, want %d", c.group, c.bounds, i, got, c.want[i])
			}
			if alone := len(ranks) == 1; alone != (r.total == nil) {
				t.Errorf("%s, bounds %v: rank %d has another slab for the sum: %v", c.group, c.bounds, i, r.total != nil)
			}
		}
	}
}

// Where each rank folds what is its own the sum is the ranks', and a rank whose
// share grows to the left keeps what it has.
func TestFast(t *testing.T) {
	exact, _ := alone(t, 1)
	s := newSquad(t, "cluster.reduce=fast")
	a, b, c := s.rank("a"), s.rank("b"), s.rank("c")
	bounds := []int{0, 3, 5, 8}
	s.form(bounds, a, b, c)
	a.begin(0, 3)
	c.begin(5, 8)
	for _, r := range []*rank{a, c} { // b never comes
		<-r.waits
		r.cancel()
		r.end()
		r.read()
	}
	bounds = []int{0, 4, 8}
	s.form(bounds, a, c)
	s.step(bounds, a, c)
	if x, y := a.read(), c.read(); !slices.Equal(x, []int{3}) || !slices.Equal(y, []int{4}) {
		t.Errorf("they computed %v and %v, want what was b's alone", x, y)
	}
	if a.Digest() != c.Digest() {
		t.Errorf("a holds %s, c %s", a.Digest(), c.Digest())
	}
	if a.Digest() == exact[0] {
		t.Error("the sum of ranks has the bits of the sum of micro-batches: nothing was tried")
	}
}
