package cluster

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// What must come of a simulated job, and what must not happen to it.

func (s *sim) fail(f string, a ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("at %v: %s", s.now.Sub(simStart), fmt.Sprintf(f, a...))
	}
}

func (s *sim) where() string {
	var l []string
	if s.coord != nil {
		m := s.coord.m
		l = append(l, fmt.Sprintf("coordinator %v, generation %d, committed %d, reported %d, stored %d",
			m.phase, m.generation, m.ledger.committed, m.ledger.reported, m.saves.stored))
		for _, w := range m.roster.byRank() {
			l = append(l, fmt.Sprintf("  member %s: %v, state %v, step %d", w.Worker, w.Status, w.State, w.Step))
		}
	}
	for _, id := range s.ids() {
		w := s.procs[id]
		if w.node != nil {
			l = append(l, fmt.Sprintf("  process %s: %v, generation %d, step %d, fault %v",
				id, w.node.phase, w.node.generation, w.node.step, w.node.fault))
		} else {
			l = append(l, fmt.Sprintf("  process %s: joining", id))
		}
	}
	return strings.Join(l, "\n")
}

// expect computes what comes of the job.
func (s *sim) expect() {
	w, mom := simInit(), make([]float32, simElements)
	s.want, s.wantLoss = [][]float32{append(slices.Clone(w), mom...)}, []float64{0}
	for step := range s.steps {
		var sum []float32
		loss := 0.0
		for m := range s.micro {
			g, l := simGradient(uint64(step), m, w)
			loss += simTravel(l)
			if m == 0 {
				sum = g
			} else {
				for i := range sum {
					sum[i] += g[i]
				}
			}
		}
		simUpdate(w, mom, sum, s.micro)
		s.want = append(s.want, append(slices.Clone(w), mom...))
		s.wantLoss = append(s.wantLoss, loss/float64(s.micro))
	}
}

func simInit() []float32 {
	w := make([]float32, simElements)
	for i := range w {
		w[i] = float32(i%7) - 3
	}
	return w
}

// simGradient is far from associative in its sums: sizes differ by 2^20.
func simGradient(step uint64, m int, w []float32) (g []float32, loss float64) {
	r := rand.New(rand.NewPCG(step, uint64(m)))
	g = make([]float32, simElements)
	for i := range g {
		g[i] = float32(math.Ldexp(r.Float64()-0.5, r.IntN(20)-10)) * (1 + w[i]/8)
		loss += float64(g[i])
	}
	return g, loss
}

func simUpdate(w, mom, sum []float32, micro int) {
	for i := range w {
		mom[i] = 0.9*mom[i] + sum[i]/float32(micro)
		w[i] -= 0.01 * mom[i]
	}
}

// simTravel is a loss after its way through the ring as two floats.
func simTravel(l float64) float64 {
	return float64(float32(l)) + float64(float32(l-float64(float32(l))))
}

func simDigest(state []float32) string {
	h := fnv.New64a()
	for _, x := range state {
		b := math.Float32bits(x)
		h.Write([]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)})
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// watchIdle fails where a member that has loaded is never given anything to do.
func (c *simCoordinator) watchIdle() {
	s := c.s
	for id, w := range c.m.roster.members {
		p := s.procs[id]
		idle := w.Status == Loading && p != nil && p.node != nil && p.node.phase != nodeLoading
		if !s.calm() || c != s.coord || c.m.phase == Ended || !idle {
			delete(c.idle, id)
			continue
		}
		if c.idle[id].IsZero() {
			c.idle[id] = s.now
		}
		if s.now.Sub(c.idle[id]) > 10*time.Second+2*time.Duration(s.micro)*(s.pass+s.rest) {
			s.fail("%s is idle for good: %s", id, s.where())
		}
	}
}

// lost fails where a worker is given up as silent that was not: neither killed
// nor frozen nor cut off, however long it computes and the coordinator was held up.
func (c *simCoordinator) lost(note string) {
	s := c.s
	id, why, ok := strings.Cut(strings.TrimPrefix(note, "lost worker "), ": ")
	silent := ok && strings.HasPrefix(note, "lost worker ") && strings.HasPrefix(why, "not heard from")
	if !silent || s.drop > 0 || c != s.coord || len(s.others) > 0 {
		return
	}
	id, _, _ = strings.Cut(id, " ")
	if w := s.procs[id]; w != nil && w.node != nil && !w.frozen && !s.cut[id] && s.now.Sub(w.harmed) > 3*time.Second {
		s.fail("%s was lost, and nothing had happened to it: %s", id, note)
	}
}

func (c *simCoordinator) stepDone(reports []*Report) {
	s := c.s
	r := reports[0]
	if !s.flips && !s.sampled && (r.Targets != s.micro || r.Loss != s.wantLoss[r.Step]) {
		s.fail("step %d was reported with another loss", r.Step)
	}
	if n := len(c.metrics); n > 0 && r.Step <= c.metrics[n-1] {
		s.fail("%s reports step %d after step %d", c.name, r.Step, c.metrics[n-1])
	}
	c.metrics = append(c.metrics, r.Step)
}
