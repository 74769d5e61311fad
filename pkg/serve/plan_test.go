package serve

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/trained"
)

// run is what a robot does in so many steps: it asks where a question is due, and the
// n-th answer is answer(n).
func run(p *plan, steps int, answer func(n int) trained.Chunk) (done []float32, questions int) {
	for range steps {
		if p.due() {
			p.add(answer(questions))
			questions++
		}
		done = append(done, p.take(1)...)
	}
	return done, questions
}

// TestPlanReplays guards which actions are done of which chunk, and when the next
// question is due.
func TestPlanReplays(t *testing.T) {
	answer := func(n int) (c trained.Chunk) { // of 4 actions of 1 value: 10n, 10n+1, …
		for i := range 4 {
			c = append(c, float32(10*n+i))
		}
		return c
	}
	for execute, want := range map[int][]float32{
		0: {0, 1, 2, 3, 10, 11, 12, 13, 20},
		1: {0, 10, 20, 30, 40, 50, 60, 70, 80},
		3: {0, 1, 2, 10, 11, 12, 20, 21, 22},
	} {
		p, err := planned(execute, false, 4, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := run(&p, len(want), answer); !slices.Equal(got, want) {
			t.Errorf("execute %d: %v, want %v", execute, got, want)
		}
		if len(p.chunks) != 1 {
			t.Errorf("execute %d: %d chunks are kept", execute, len(p.chunks))
		}
	}
	p, _ := planned(3, false, 4, 1)
	run(&p, 2, answer)
	p.reset()
	if got, n := run(&p, 2, func(int) trained.Chunk { return answer(5) }); !slices.Equal(got, []float32{50, 51}) || n != 1 {
		t.Errorf("behind a reset: %v after %d questions", got, n)
	}
}

// TestPlanEnsemble guards that an action is ACT's mean of all chunks that reach its
// step, written here as in its paper: weights exp(-0.01·i), i = 0 the oldest.
func TestPlanEnsemble(t *testing.T) {
	const length, values, steps = 7, 3, 40
	random := rand.New(rand.NewPCG(1, 2))
	for execute := 1; execute < length; execute++ {
		p, err := planned(execute, true, length, values)
		if err != nil {
			t.Fatal(err)
		}
		var chunks []trained.Chunk
		got, n := run(&p, steps, func(int) trained.Chunk {
			c := make(trained.Chunk, length*values)
			for i := range c {
				c[i] = float32(random.NormFloat64())
			}
			chunks = append(chunks, c)
			return slices.Clone(c)
		})
		if n != (steps+execute-1)/execute {
			t.Errorf("execute %d: %d questions", execute, n)
		}
		for s := range steps {
			for d := range values {
				sum, all, i := 0.0, 0.0, 0
				for k, c := range chunks {
					if at := k * execute; at <= s && s < at+length {
						w := math.Exp(-0.01 * float64(i))
						sum, all, i = sum+w*float64(c[(s-at)*values+d]), all+w, i+1
					}
				}
				if diff := math.Abs(sum/all - float64(got[s*values+d])); diff > 1e-6 { // float32 of values around 1
					t.Fatalf("execute %d, step %d, value %d: %v, ACT %v", execute, s, d, got[s*values+d], sum/all)
				}
			}
		}
		if execute == 1 && len(p.chunks) != length {
			t.Errorf("%d chunks are kept", len(p.chunks))
		}
	}
	if math.Abs(older-math.Exp(-0.01)) > 1e-16 {
		t.Errorf("older is %v", older)
	}
}

// TestPlanned guards which plans there are.
func TestPlanned(t *testing.T) {
	for want, c := range map[string]struct {
		execute  int
		ensemble bool
		chunk    int
	}{
		"--execute 5: an answer of this policy has 4 actions; want 1 to 4, or 0 for all": {5, false, 4},
		"--execute -1: ":  {-1, false, 4},
		"has 1 action; ":  {2, false, 1},
		"one action at a": {0, true, 1},
		"--ensemble --execute 4: answers of 4 actions do not overlap; want at most 3": {4, true, 4},
	} {
		if _, err := planned(c.execute, c.ensemble, c.chunk, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
	}
}
