package bench

import (
	"testing"
	"time"
)

// A sum that lacks a rank, is of the turn before, or has chunks in each other's
// place is found.
func TestRingPattern(t *testing.T) {
	const floats = 5000
	p := newPattern(&rankSpec{World: 2, Micros: 2})
	sum := func() []float32 {
		s, g := make([]float32, floats), make([]float32, floats)
		for r := range p.micros {
			p.fill(g, r)
			for i, v := range g {
				s[i] += v
			}
		}
		return s
	}
	p.turn = 1
	was := sum()
	p.turn = 2
	good := sum()
	if err := p.check(good); err != nil {
		t.Fatal(err)
	}
	alter := func(f func(s []float32)) []float32 {
		s := append([]float32(nil), good...)
		f(s)
		return s
	}
	g := make([]float32, floats)
	for name, s := range map[string][]float32{
		"the turn before":  was,
		"the last element": alter(func(s []float32) { s[floats-1]++ }),
		"a rank twice": alter(func(s []float32) {
			p.fill(g, 1)
			for i := range s {
				s[i] += g[i]
			}
		}),
		"one rank for another": alter(func(s []float32) {
			other := make([]float32, floats)
			p.fill(g, 1)
			p.fill(other, 2)
			for i := range s {
				s[i] += other[i] - g[i]
			}
		}),
		"a chunk in another's place": alter(func(s []float32) { copy(s[1024:2048], good[:1024]) }),
	} {
		if err := p.check(s); err == nil {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestRounds(t *testing.T) {
	for _, c := range []struct {
		seconds     float64
		budget      time.Duration
		rounds, ops int
	}{{1, time.Second, leastRounds, 1}, {0.1, 3 * time.Second, 30, 1}, {1e-4, time.Second, 100, 100}, {1e-9, time.Minute, mostRounds, mostOps}} {
		if r, o := rounds(c.seconds, c.budget); r != c.rounds || o != c.ops {
			t.Errorf("%v s in %v: %d rounds of %d, want %d of %d", c.seconds, c.budget, r, o, c.rounds, c.ops)
		}
	}
}
