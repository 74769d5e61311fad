package tensor

import "testing"

// What is done with whole slabs is timed by what it is for, once it is asked
// for, and begins anew each time it is told.
func TestSlabTimes(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	ps := NewParams()
	ps.Add("w", 1<<12)
	ps.Seal()
	slab := func() []float32 { return Floats(ps.Len()) }
	p, g, m, v := slab(), slab(), slab(), slab()
	work := func() {
		rt.Fold(g, p)
		rt.Div(g, g, 2)
		rt.GradNorm(ps, g)
		rt.AdamWStep(p, g, m, v, 1, AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, 1)
	}
	work()
	if got := rt.Profile(); got != (SlabTimes{}) {
		t.Errorf("nobody asked: %+v", got)
	}
	rt.SetProfile(true)
	work()
	if got := rt.Profile(); got.Fold <= 0 || got.Norm <= 0 || got.Update <= 0 {
		t.Errorf("%+v", got)
	}
	if got := rt.Profile(); got != (SlabTimes{}) {
		t.Errorf("nothing was done since: %+v", got)
	}
	rt.SetProfile(false)
	work()
	if got := rt.Profile(); got != (SlabTimes{}) {
		t.Errorf("it is off: %+v", got)
	}
}
