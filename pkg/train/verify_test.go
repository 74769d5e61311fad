package train

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// checks has ranks check what an assignment of a share tells them for the next step,
// and returns how many micro-batches that is.
func (s *squad) checks(share float64, bounds []int, ranks ...*rank) (n int) {
	for i, r := range ranks {
		a := &cluster.Assign{Group: allreduce.Group{Rank: i, Micro: bounds}, First: bounds, Verify: &cluster.Verify{Key: "6b6579", Share: share}}
		l := a.Checks(r.CommittedStep(), s.job.Batch.Group)
		r.Check(l)
		n += len(l)
	}
	return n
}

// lie has a rank multiply the gradients of micro-batches by -1.01, as backward
// writes them: what it sends is wrong, and what it says of it is true of that.
func (r *rank) lie(which func(m int) bool) {
	m := -1
	r.spoil = func(_ *models.Batch, now int) { m = now }
	r.prog.OnGrad(func(p *tensor.Param) {
		if which(m) {
			for i := range p.Grad {
				p.Grad[i] *= -1.01
			}
		}
		r.gradReady(p)
	})
}

// Gradients that are computed again have the same checksum on any rank, whatever is
// folded where, and leave no trace in the bits.
func TestVerifiedStepsHaveTheSameBits(t *testing.T) {
	for _, set := range [][]string{{}, {"batch.group=2"}, {"batch.group=4"}, {"precision=bf16"}, {"cluster.reduce=fast"}, {"model.recompute=true"}} {
		want, losses := alone(t, 3, slices.DeleteFunc(slices.Clone(set), func(s string) bool { return s == "cluster.reduce=fast" })...)
		s := newSquad(t, append([]string{"cluster.verify=1"}, set...)...)
		a, b, c := s.rank("a"), s.rank("b"), s.rank("c")
		n := s.job.Groups()
		bounds := []int{0, (n + 2) / 3, (2*n + 2) / 3, n}
		s.form(bounds, a, b, c)
		for step := range 3 {
			if n := s.checks(1, bounds, a, b, c); n != 8 {
				t.Fatalf("%v: %d of 8 micro-batches are checked", set, n)
			}
			loss := s.step(bounds, a, b, c)[0].Loss
			if n := len(a.read()) + len(b.read()) + len(c.read()); n != 16 {
				t.Errorf("%v: %d micro-batches were computed, want each of 8 twice", set, n)
			}
			if s.job.Cluster.Reduce == "fast" {
				continue
			}
			if got := a.Digest(); got != want[step] || loss != losses[step] {
				t.Errorf("%v, step %d: state %s and loss %v, undisturbed and not verified %s and %v", set, step+1, got, loss, want[step], losses[step])
			}
		}
	}
}

// A gradient that is not what it should be stops every rank before the step, and each
// finds for itself what is right. Once the liar is gone the bits are the undisturbed
// ones.
func TestLiesAreDisputed(t *testing.T) {
	want, _ := alone(t, 2)
	for _, lies := range []int{0, 2, 4, 7} {
		s := newSquad(t, "cluster.verify=1")
		a, b, c := s.rank("a"), s.rank("b"), s.rank("c")
		bounds := []int{0, 3, 6, 8}
		s.form(bounds, a, b, c)
		s.checks(1, bounds, a, b, c)
		s.step(bounds, a, b, c)
		ranks := []*rank{a, b, c}
		liar := slices.IndexFunc(bounds, func(b int) bool { return b > lies }) - 1
		ranks[liar].lie(func(m int) bool { return m == lies })
		s.checks(1, bounds, a, b, c)
		for i, r := range ranks {
			r.begin(bounds[i], bounds[i+1])
		}
		for i, r := range ranks {
			_, err := r.end()
			var d *DisputeError
			if !errors.As(err, &d) || d.Step != 2 || d.Micro != lies {
				t.Fatalf("micro-batch %d: %s says %v", lies, r.name, err)
			}
			if r.CommittedStep() != 1 || r.Digest() != want[0] {
				t.Errorf("%s: a step in dispute has changed the state", r.name)
			}
			own, err := r.Again(context.Background(), d.Micro, r)
			if err != nil {
				t.Fatal(err)
			}
			if right := own == d.Check; right != (i != liar) || i == liar && own != d.Claim {
				t.Errorf("%s finds %08x, where %08x is the liar's and %08x another's", r.name, own, d.Claim, d.Check)
			}
		}
		honest := slices.Delete(slices.Clone(ranks), liar, liar+1)
		bounds = []int{0, 4, 8}
		s.form(bounds, honest...)
		s.checks(1, bounds, honest...)
		s.step(bounds, honest...)
		if got := honest[0].Digest(); got != want[1] {
			t.Errorf("without the liar: state %s, undisturbed %s", got, want[1])
		}
	}
}

// A rank whose gradients are all there from an attempt that broke checks others, too,
// and nothing of what the attempt had found is left.
func TestHeldGradientsAreChecked(t *testing.T) {
	want, _ := alone(t, 1)
	s := newSquad(t, "cluster.verify=1")
	a, b := s.rank("a"), s.rank("b")
	bounds := []int{0, 4, 8}
	for round := range 3 { // b never comes to its tail; then a does not
		s.form(bounds, a, b)
		s.checks(1, bounds, a, b)
		if round == 2 {
			break
		}
		r := []*rank{a, b}[round]
		r.begin(bounds[round], bounds[round+1])
		<-r.waits
		r.cancel()
		if _, err := r.end(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	a.read()
	b.read()
	s.step(bounds, a, b)
	if x, y := a.read(), b.read(); !slices.Equal(x, []int{4, 5, 6, 7}) || !slices.Equal(y, []int{0, 1, 2, 3}) {
		t.Errorf("computed were %v and %v, want what is checked alone", x, y)
	}
	if got := a.Digest(); got != want[0] {
		t.Errorf("state %s, undisturbed %s", got, want[0])
	}
}

// What happens in memory to a gradient that is held until all are there is in its
// checksum, which is taken when it is handed over.
func TestHeldGradientsAreSummedLate(t *testing.T) {
	for _, flipped := range []int{3, 4} {
		s := newSquad(t, "cluster.verify=1")
		a, b := s.rank("a"), s.rank("b")
		bounds := []int{0, 3, 8}
		s.form(bounds, a, b)
		s.checks(1, bounds, a, b)
		b.spoil = func(_ *models.Batch, m int) {
			if m == 6 { // with the last one the reduction begins
				b.slabs.held[flipped][17] += 0.25
			}
		}
		a.begin(0, 3)
		b.begin(3, 8)
		for _, r := range []*rank{a, b} {
			_, err := r.end()
			var d *DisputeError
			if !errors.As(err, &d) || d.Micro != flipped {
				t.Errorf("%s: a gradient changed in memory, and it says %v, want micro-batch %d in dispute", r.name, err, flipped)
			}
		}
	}
}
