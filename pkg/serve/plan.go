package serve

import (
	"fmt"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/trained"
)

// plan holds what a robot is still to do at its coming steps: the chunks that were
// answered to its recent questions.
//
//	step          0   1   2   3   4   5      execute 2, chunks of 4
//	asked at 0    a0  a1  a2  a3
//	asked at 2            b0  b1  b2  b3
//	done          a0  a1  b0  b1  …          of the newest alone
//	    or        a0  a1  a2+b0 a3+b1 …      of an ensemble, weighted
//
// It is one connection's, and knows nothing of messages and time.
type plan struct {
	values   int  // of an action
	execute  int  // steps between two questions
	ensemble bool // all chunks that reach a step count for it, not the newest alone
	step     int  // the next
	chunks   []asked
}

// asked is a chunk and the step that its first action is for.
type asked struct {
	at    int
	chunk trained.Chunk
}

// older is what a chunk counts for, in an ensemble, against the one that was asked
// for before it: ACT's weights exp(-0.01·i), i = 0 the oldest. A product of these
// has the same bits on every machine, and is within a few units of 1e-16 of ACT's.
const older = 0.99004983374916805357

// planned checks what the flags say of plans for chunks of so many actions. execute
// 0 is all of a chunk, or one action where there is an ensemble.
func planned(execute int, ensemble bool, chunk, values int) (plan, error) {
	p := plan{values: values, execute: execute, ensemble: ensemble}
	switch {
	case execute < 0 || execute > chunk:
		return p, usage.Errorf("--execute %d: an answer of this policy has %s; want 1 to %d, or 0 for all", execute, counted(chunk, "action"), chunk)
	case ensemble && chunk == 1:
		return p, usage.Errorf("--ensemble: this policy answers one action at a time (data.chunk), and there is nothing to join")
	case ensemble && execute == chunk:
		return p, usage.Errorf("--ensemble --execute %d: answers of %d actions do not overlap; want at most %d", execute, chunk, chunk-1)
	case execute == 0 && ensemble:
		p.execute = 1
	case execute == 0:
		p.execute = chunk
	}
	return p, nil
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// reset forgets everything: an episode begins.
func (p *plan) reset() { p.step, p.chunks = 0, nil }

// due says that the next step wants another question.
func (p *plan) due() bool {
	n := len(p.chunks)
	return n == 0 || p.step >= p.chunks[n-1].at+p.execute
}

// add takes the answer to a question that was asked at the next step.
func (p *plan) add(c trained.Chunk) {
	kept := p.chunks[:0]
	for _, a := range p.chunks {
		if p.ensemble && p.step < a.at+len(a.chunk)/p.values {
			kept = append(kept, a)
		}
	}
	p.chunks = append(kept, asked{p.step, c})
}

// take are the next n actions, which some chunk reaches: n ≤ execute behind an add.
func (p *plan) take(n int) trained.Chunk {
	out := make(trained.Chunk, 0, n*p.values)
	for range n {
		out = p.action(out)
		p.step++
	}
	return out
}

// action appends the next step's action.
func (p *plan) action(out trained.Chunk) trained.Chunk {
	row := func(a asked) trained.Chunk {
		from := (p.step - a.at) * p.values
		return a.chunk[from:min(from+p.values, len(a.chunk))]
	}
	if !p.ensemble {
		return append(out, row(p.chunks[len(p.chunks)-1])...)
	}
	var reach []trained.Chunk
	for _, a := range p.chunks {
		if p.step < a.at+len(a.chunk)/p.values {
			reach = append(reach, row(a))
		}
	}
	for d := range p.values {
		sum, all, w := 0.0, 0.0, 1.0
		for _, r := range reach {
			sum += float64(w * float64(r[d])) // nothing fused: the same bits everywhere
			all += w
			w *= older
		}
		out = append(out, float32(sum/all))
	}
	return out
}
