package cluster

import "sort"

// pace is how fast a member computes: a running mean of its time a micro-batch.
type pace struct {
	mean  float64 // seconds
	n     int
	slow  int  // steps in a row that it was much slower than the others
	quick int  // steps in a row that it was not
	shed  bool // it has been given less
}

const (
	minPace      = 1e-9 // seconds: clocks are coarse, and speeds are quotients
	paceMemory   = 0.2  // weight of the newest step
	slowFrom     = 1.5  // times the others' median
	slowUntil    = 1.2
	slowLeast    = 0.005 // seconds a micro-batch: less is the noise of a busy machine
	slowSteps    = 10    // in a row, before anything is done about it
	recoverSteps = 30
)

func (p *pace) add(seconds float64) {
	seconds = max(seconds, minPace)
	if p.n++; p.n == 1 {
		p.mean = seconds
		return
	}
	p.mean += paceMemory * (seconds - p.mean)
}

// speeds are relative: all alike, or by pace where shares follow it. Members
// whose pace is not known yet count as the mean of the others.
func speeds(l []*pace) []float64 {
	out := make([]float64, len(l))
	sum, n := 0.0, 0
	for i, p := range l {
		if p.shed && p.n >= slowSteps && p.mean > 0 {
			out[i] = 1 / p.mean
			sum, n = sum+out[i], n+1
		}
	}
	for i := range out {
		switch {
		case out[i] > 0:
		case n > 0:
			out[i] = sum / float64(n)
		default:
			out[i] = 1
		}
	}
	return out
}

// watchPace looks for members that stay slow, after each step.
func (m *Machine) watchPace(reports []*Report) {
	if m.phase != Running {
		return
	}
	for _, r := range reports {
		w := m.members[r.Worker]
		if w == nil || w.pace.n < slowSteps || !m.ring[w.Worker] {
			continue
		}
		var others []float64
		for _, o := range m.members {
			if o != w && o.pace.n >= slowSteps && m.ring[o.Worker] && !o.Spare {
				others = append(others, o.pace.mean)
			}
		}
		if len(others) == 0 {
			continue
		}
		sort.Float64s(others)
		median := others[len(others)/2]
		if median <= 0 {
			continue
		}
		w.Slowdown = w.pace.mean / median
		p := &w.pace
		switch {
		case w.Slowdown > slowFrom && w.pace.mean-median > slowLeast:
			p.slow, p.quick = p.slow+1, 0
		case w.Slowdown < slowUntil:
			p.slow, p.quick = 0, p.quick+1
		}
		if p.slow == slowSteps {
			m.straggler(w)
		}
	}
}

func (m *Machine) straggler(w *Member) {
	m.note("straggler: worker %s%s takes %.1f times as long a micro-batch as the others; policy: %s", w.Worker, m.rankText(w.Worker), w.Slowdown, m.cfg.Straggler)
	switch {
	case m.cfg.Straggler == DropStraggler && len(m.members)-1 >= max(m.cfg.MinWorkers, 1):
		m.act(Send{w.Worker, &End{Outcome: Released, Reason: "it is a straggler, and cluster.straggler is drop"}})
		m.act(Dropped{w.Worker})
		m.lose(w, "it is a straggler")
	case m.cfg.Straggler == ShedStraggler:
		for _, o := range m.members {
			o.pace.shed = true // all by their pace
		}
		w.pace.slow = 0
		m.reshares = true
	}
}

// reshare says whether micro-batches are to be divided anew.
func (m *Machine) reshare() bool {
	if m.reshares {
		m.reshares = false
		return true
	}
	if m.cfg.Straggler != ShedStraggler {
		return false
	}
	for _, w := range m.members { // the slow one has recovered: even shares again
		if !w.pace.shed || w.pace.quick < recoverSteps {
			return false
		}
	}
	for _, w := range m.members {
		w.pace.shed, w.pace.quick = false, 0
	}
	return len(m.members) > 0
}
