package cluster

import "slices"

// evenBounds splits micro-batches 0..micro-1 over world ranks in contiguous runs
// whose lengths differ by at most one, the longer ones first: rank r owns
// [b[r], b[r+1]). Where there are more ranks than micro-batches the last ones own
// none. The runs are contiguous so that the ring can fold in the job's order.
func evenBounds(micro, world int) []int {
	w := make([]float64, world)
	for r := range w {
		w[r] = 1
	}
	return weightedBounds(micro, w)
}

// weightedBounds splits micro-batches as evenBounds does, in proportion to weights, which
// are speeds: rank r gets its share rounded down, and the ranks with the
// largest remainders, earlier ones first, get one more. A weight of 0 gets
// none; not all may be 0.
func weightedBounds(micro int, weights []float64) []int {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	n := len(weights)
	share, rest := make([]int, n), make([]float64, n)
	left := micro
	for r, w := range weights {
		x := float64(micro) * w / sum
		share[r] = int(x + 1e-9)
		rest[r] = x - float64(share[r])
		left -= share[r]
	}
	for ; left > 0; left-- {
		best := -1
		for r := range rest {
			if weights[r] > 0 && (best < 0 || rest[r] > rest[best]+1e-9) {
				best = r
			}
		}
		share[best]++
		rest[best]--
	}
	b := make([]int, n+1)
	for r, s := range share {
		b[r+1] = b[r] + s
	}
	return b
}

// twoOwn changes bounds of at least two ranks of which one alone has micro-batches,
// and more than one: it gives half of them to the rank behind it, or before it where
// there is none. Nobody could check the only one. The last rank that may have any
// is active-1.
func twoOwn(bounds []int, active int) []int {
	only := -1
	for r := range len(bounds) - 1 {
		switch n := bounds[r+1] - bounds[r]; {
		case n == 0:
		case n == 1 || only >= 0 || active < 2:
			return bounds
		default:
			only = r
		}
	}
	if only < 0 || only >= active {
		return bounds
	}
	half := bounds[only] + (bounds[only+1]-bounds[only]+1)/2
	b := slices.Clone(bounds)
	if only+1 < active {
		b[only+1] = half
	} else {
		b[only] = half
	}
	return b
}

// place is a rank in a generation: who has it, and the micro-batches [Lo, Hi) of the
// generation's first step.
type place struct {
	Worker string
	Lo, Hi int
}

// arrange ranks the members of a new generation. old are the places of the one
// before that had micro-batches, in rank order; fresh are members without a
// place, the most welcome first. Survivors keep their order and, for the step
// in progress, their micro-batches. A newcomer takes a lost member's place and
// micro-batches; where there is none, the lost ones' micro-batches go to their
// neighbours, half to each side; newcomers left over come last, with none.
//
//	old   a[0,4)  b[4,8)  c[8,12)  d[12,16)        b and c are lost, e is new
//	new   a[0,4)  e[4,8)  d[8,16)
func arrange(old []place, alive func(string) bool, fresh []string) []place {
	var out []place
	gap := false // out ends with micro-batches without an owner: they begin at out's last Hi
	for _, p := range old {
		switch {
		case alive(p.Worker):
		case p.Hi > p.Lo && len(fresh) > 0:
			p.Worker, fresh = fresh[0], fresh[1:]
		default:
			gap = gap || p.Hi > p.Lo
			continue
		}
		if gap {
			lo := 0
			if len(out) > 0 {
				last := &out[len(out)-1]
				lo = last.Hi + (p.Lo-last.Hi+1)/2
				last.Hi = lo
			}
			p.Lo, gap = lo, false
		}
		out = append(out, p)
	}
	end := 0
	if len(old) > 0 {
		end = old[len(old)-1].Hi
	}
	if gap && len(out) > 0 {
		out[len(out)-1].Hi = end
	}
	for _, w := range fresh {
		out = append(out, place{w, end, end})
	}
	return out
}
