package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

const sharded = "cluster.optimizer=sharded"

// place gives each of ranks its place, with the moments that belong there, and
// says how many elements came from other ranks.
func (s *squad) place(ranks ...*rank) (moved int) {
	s.t.Helper()
	for i, r := range ranks {
		for _, need := range r.shards.missing(r.shards.held(i, len(ranks)), r.step) {
			moved += need.Hi - need.Lo
			for _, o := range ranks {
				for _, h := range slices.Clone(o.shards.have) {
					if lo, hi := max(h.Lo, need.Lo), min(h.Hi, need.Hi); lo < hi && h.step == r.step && o != r {
						for _, f := range r.shards.slab(allreduce.Range{Lo: lo, Hi: hi}) {
							for i := range r.slots {
								copy(r.slots[i][f.Lo:f.Hi], o.slots[i][f.Lo:f.Hi])
							}
						}
						r.shards.note(allreduce.Range{Lo: lo, Hi: hi}, r.step)
					}
				}
			}
		}
	}
	for i, r := range ranks {
		if l := r.shards.missing(r.shards.held(i, len(ranks)), r.step); len(l) > 0 {
			s.t.Fatalf("%s: nobody has the moments %v of step %d", r.name, l, r.step)
		}
		r.Seat(i, len(ranks))
	}
	return moved
}

// sameState compares ranks of a sharded world with one that holds everything:
// weights on all, moments where they are held, zeros where they are not.
func sameState(t *testing.T, whole *Trainer, ranks ...*rank) {
	t.Helper()
	for _, r := range ranks {
		same := func(what string, got, want []float32) {
			t.Helper()
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%s, step %d: %s %d is %v, want %v", r.name, r.step, what, i, got[i], want[i])
				}
			}
		}
		if r.step != whole.step {
			t.Fatalf("%s is at step %d, want %d", r.name, r.step, whole.step)
		}
		same("weight", r.params.Values(), whole.params.Values())
		held := 0
		for _, h := range r.shards.have {
			if h.step != r.step {
				t.Fatalf("%s holds moments of step %d at step %d", r.name, h.step, r.step)
			}
			for _, f := range r.shards.slab(h.Range) {
				for i, s := range r.opt.Optimizer.Slots() {
					same(s.Name, r.slots[i][f.Lo:f.Hi], whole.slots[i][f.Lo:f.Hi])
				}
			}
			held += h.Hi - h.Lo
		}
		kept := 0
		for _, k := range r.shards.keep {
			kept += k.Hi - k.Lo
		}
		if held != kept {
			t.Fatalf("%s holds %d moments, want the %d of its place", r.name, held, kept)
		}
		other := allreduce.Range{Hi: r.shards.total}
		for _, miss := range r.shards.missing([]allreduce.Range{other}, r.step) {
			for _, f := range r.shards.slab(miss) {
				for i := f.Lo; i < f.Hi; i++ {
					for _, slot := range r.slots {
						if slot[i] != 0 {
							t.Fatalf("%s: moment %d of another rank is still here", r.name, i)
						}
					}
				}
			}
		}
	}
}

// whole runs the replicated optimizer.
func wholeRun(t *testing.T, steps int, set ...string) []*Trainer {
	s := newSquad(t, set...)
	var l []*Trainer
	for n := range steps + 1 { // a trainer for each step: what it holds stays
		r := s.rank(fmt.Sprint("whole ", n))
		bounds := []int{0, s.job.Groups()}
		s.form(bounds, r)
		for range n {
			s.step(bounds, r)
		}
		l = append(l, r.Trainer)
	}
	return l
}

// The bits of a sharded optimizer are the replicated one's, for any number of
// ranks, as ranks come and go, with clipping, groups of parameters and frozen ones.
func TestShardsAreTheReplicatedOptimizer(t *testing.T) {
	for name, set := range map[string][]string{
		"plain":          nil,
		"clip":           {"optimizer.clip_norm=0.01"},
		"adam":           {"optimizer.kind=adam", "optimizer.weight_decay=0.1"},
		"none":           {"optimizer.kind=none"},
		"one":            {"optimizer.kind=one"},
		"three":          {"optimizer.kind=three", "optimizer.clip_norm=0.01"},
		"average":        {"optimizer.ema=true", "optimizer.kind=three"},
		"frozen average": {"optimizer.ema={decay: 0.9}", `train.freeze=["*embed*"]`},
		"lora":           loraSet,
		"groups":         {`optimizer.groups=[{match: "*bias", lr: 0.001, weight_decay: 0}]`, `train.freeze=["*embed*"]`},
	} {
		t.Run(name, func(t *testing.T) {
			worlds := [][]int{{0, 8}, {0, 4, 8}, {0, 3, 6, 8}, {0, 2, 4, 6, 8}, {0, 1, 2, 3, 4, 5, 6, 7, 8}, {0, 2, 3, 7, 8}, {0, 5, 8}, {0, 8, 8, 8}}
			want := wholeRun(t, len(worlds), set...)
			s := newSquad(t, append(set, sharded)...)
			var ranks []*rank
			for n, bounds := range worlds {
				for len(ranks) < len(bounds)-1 {
					r := s.rank(fmt.Sprintf("rank %d from step %d", len(ranks), n))
					if len(ranks) > 0 { // it has its weights from another
						copy(r.params.Values(), ranks[0].params.Values())
						r.settleAt(ranks[0].step)
						r.step = ranks[0].step
					}
					ranks = append(ranks, r)
				}
				for i := 1; len(ranks) > len(bounds)-1; i++ { // every second one goes
					ranks = slices.Delete(ranks, i, i+1)
				}
				rand.Shuffle(len(ranks), func(i, j int) { ranks[i], ranks[j] = ranks[j], ranks[i] })
				s.form(bounds, ranks...)
				s.place(ranks...)
				s.step(bounds, ranks...)
				sameState(t, want[n+1], ranks...)
			}
		})
	}
}

// lateRing breaks gatherings off: before anything is sent, or after this rank has
// all.
type lateRing struct {
	allreduce.Reducer
	before, after error
}

type lateOp struct {
	allreduce.Reduction
	after error
}

func (r *lateRing) Gather(step uint64, shards []allreduce.Shard, own, out []float32) allreduce.Reduction {
	if r.before != nil {
		return failedOp{r.before}
	}
	return lateOp{r.Reducer.Gather(step, shards, own, out), r.after}
}

func (o lateOp) Wait(ctx context.Context) (allreduce.Flags, error) {
	f, err := o.Reduction.Wait(ctx)
	if err == nil {
		err = o.after
	}
	return f, err
}

type failedOp struct{ err error }

func (failedOp) Ready(int)                                       {}
func (o failedOp) Wait(context.Context) (allreduce.Flags, error) { return 0, o.err }
func (failedOp) Abort()                                          {}
func (failedOp) Sum() ([]float32, bool)                          { return nil, false }

// A rank is lost while weights are gathered: before anybody has all of them, the
// step is done again; after one has, the others take what it has, and find their
// moments in what they had made ready. No rank fetches what it has.
func TestRankLostWhileGathering(t *testing.T) {
	lost := errors.New("a rank is lost")
	bounds := []int{0, 2, 4, 6, 8}
	for _, set := range [][]string{nil, {"batch.group=2", "optimizer.ema=true"}} {
		want := wholeRun(t, 3, set...)
		if set != nil { // groups, and memory for three slots, which no gradient lends
			bounds = []int{0, 1, 2, 3, 4}
		}
		for dead := range 4 {
			for _, committed := range []int{-1, 0, 1, 2, 3} { // who has committed
				if committed == dead {
					continue
				}
				t.Run(fmt.Sprintf("%v rank %d, %d has committed", set, dead, committed), func(t *testing.T) {
					s := newSquad(t, append(set, sharded)...)
					var ranks []*rank
					for i := range 4 {
						ranks = append(ranks, s.rank(fmt.Sprint("rank ", i)))
					}
					s.form(bounds, ranks...)
					s.place(ranks...)
					s.step(bounds, ranks...)
					for i, r := range ranks {
						ring := &lateRing{Reducer: r.ring}
						if i != committed {
							ring.after = lost
						}
						if committed < 0 {
							ring.before = lost
						}
						r.ring = ring
						r.begin(bounds[i], bounds[i+1])
					}
					for i, r := range ranks {
						if _, err := r.end(); (err == nil) != (i == committed) {
							t.Fatalf("%s: %v", r.name, err)
						}
					}
					step := uint64(1)
					if committed >= 0 {
						step = 2
					}
					live := slices.Delete(slices.Clone(ranks), dead, dead+1)
					for _, r := range live {
						if r.step != step { // the weights come from who has committed
							r.mu.Lock()
							r.Trainer.mu.Lock()
							copy(r.params.Values(), ranks[committed].params.Values())
							r.forget() // gradients are of the step before
							r.settleAt(step)
							r.step = step
							r.Trainer.mu.Unlock()
							r.mu.Unlock()
						}
					}
					after := []int{0, bounds[4] / 2, bounds[4] / 2 * 3 / 2, bounds[4]}
					s.form(after, live...)
					if moved, most := s.place(live...), live[0].shards.total*4/5; moved > most { // three ranks hold twice the total, of which at most three quarters lie elsewhere
						t.Errorf("%d moments moved, want at most %d", moved, most)
					}
					for live[0].step < 3 {
						s.step(after, live...)
						sameState(t, want[live[0].step], live...)
					}
				})
			}
		}
	}
}

// Two ranks that compute a shard differently are found out before it is anybody's
// state.
func TestUnlikeShards(t *testing.T) {
	s := newSquad(t, sharded)
	a, b, c := s.rank("a"), s.rank("b"), s.rank("c")
	bounds := []int{0, 3, 6, 8}
	s.form(bounds, a, b, c)
	s.place(a, b, c)
	s.step(bounds, a, b, c)
	at := b.shards.slab(b.shards.shard(1, 3))[0].Lo
	b.slots[0][at] += 1 // a is its buddy
	before := a.Digest()
	for i, r := range []*rank{a, b, c} {
		r.begin(bounds[i], bounds[i+1])
	}
	for _, r := range []*rank{a, b, c} {
		_, err := r.end()
		var unlike *UnlikeError
		if r == a && (!errors.As(err, &unlike) || unlike.Rank != 1 || unlike.Step != 2) {
			t.Errorf("the buddy says %v", err)
		}
		if r != a && err != nil {
			t.Errorf("%s says %v", r.name, err)
		}
	}
	if a.Digest() != before {
		t.Error("the buddy has taken on what it found wrong")
	}
}

// Shards cover all moments once, whatever the number of ranks.
func TestShardsCoverAll(t *testing.T) {
	s := newSquad(t, sharded).rank("a").shards
	for world := 1; world < 70; world++ {
		end := 0
		for r := range world {
			sh := s.shard(r, world)
			if sh.Lo != end || sh.Hi < sh.Lo {
				t.Fatalf("world %d: shard %d is %v, and the one before it ends at %d", world, r, sh, end)
			}
			end = sh.Hi
		}
		s.place(0, world)
		n := 0
		for i, p := range s.plan {
			if n += p.Hi - p.Lo; i > 0 && p.Lo < s.plan[i-1].Hi {
				t.Fatalf("world %d: %v lies over %v", world, p, s.plan[i-1])
			}
		}
		if end != s.total || n != s.total {
			t.Fatalf("world %d: shards end at %d of %d, and %d weights have an owner", world, end, s.total, n)
		}
	}
}

// note and missing are inverse to each other, against a list of elements.
func TestStretches(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		s := &shards{total: 60}
		twin := make([]uint64, s.total) // step + 1 by element
		for range 12 {
			lo := rnd.IntN(s.total)
			r, step := allreduce.Range{Lo: lo, Hi: lo + rnd.IntN(s.total-lo+1)}, uint64(rnd.IntN(3))
			s.note(r, step)
			for i := r.Lo; i < r.Hi; i++ {
				twin[i] = step + 1
			}
			for step := range uint64(3) {
				gone := make([]bool, s.total)
				for _, m := range s.missing([]allreduce.Range{{Lo: 7, Hi: 50}, {Lo: 55, Hi: 58}}, step) {
					for i := m.Lo; i < m.Hi; i++ {
						gone[i] = true
					}
				}
				for i := range twin {
					in := i >= 7 && i < 50 || i >= 55 && i < 58
					if gone[i] != (in && twin[i] != step+1) {
						t.Fatalf("%v: element %d of step %d is missing: %v", s.have, i, step, gone[i])
					}
				}
			}
		}
	}
}

// What a broken gathering has left ready lies in a slab of gradients where the
// sum has memory of its own. Once the next attempt computes, it is no state any
// more: a rank that is then left behind must not take it for its moments.
func TestLeftoversOfAGatheringAreNotMoments(t *testing.T) {
	lost := errors.New("a rank is lost")
	bounds := []int{0, 2, 4, 6, 8}
	s := newSquad(t, sharded)
	var ranks []*rank
	for i := range 4 {
		ranks = append(ranks, s.rank(fmt.Sprint("rank ", i)))
	}
	s.form(bounds, ranks...)
	s.place(ranks...)
	s.step(bounds, ranks...)
	for i, r := range ranks {
		r.ring = &lateRing{Reducer: r.ring, after: lost}
		r.begin(bounds[i], bounds[i+1])
	}
	for _, r := range ranks {
		if _, err := r.end(); !errors.Is(err, lost) {
			t.Fatal(err)
		}
	}
	a := ranks[1]
	if a.shards.next == nil || !a.shards.next.lent {
		t.Fatal("nothing is left in a slab: this test tests nothing")
	}
	broken := errors.New("input/output error")
	a.fail = func(m int) error {
		if m == 3 {
			return broken
		}
		return nil
	}
	s.form(bounds, ranks...)
	a.begin(2, 4) // it computes a micro-batch, and is lost to the others
	if _, err := a.end(); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	a.Trainer.mu.Lock()
	defer a.Trainer.mu.Unlock()
	a.settleAt(2) // which they commit without it
	if l := a.shards.missing([]allreduce.Range{{Hi: a.shards.total}}, 2); len(l) != 1 {
		t.Errorf("it takes what is left for moments of step 2; it lacks %v", l)
	}
}
