package tabletop

import "math"

// slack widens an outline, in units of the image plane: much more than rounding
// moves a ray or a corner, much less than the distance of two rays.
const slack = 1e-6

// span is a run [lo, hi) of a row's rays.
type span struct{ lo, hi int32 }

func (s span) has(x int) bool { return int(s.lo) <= x && x < int(s.hi) }

// and is the run that holds both.
func (s span) and(t span) span {
	switch {
	case s.lo >= s.hi:
		return t
	case t.lo >= t.hi:
		return s
	}
	return span{min(s.lo, t.lo), max(s.hi, t.hi)}
}

// outline holds the rays that can meet a convex body, row by row: those within
// the hull of eight corners on the image plane. An edge of the hull is the
// picture of one of the box's twelve edges, so a row's span reaches from the
// leftmost of them that it crosses to the rightmost.
type outline struct {
	lo, hi int    // rows
	spans  []span // by row
}

func (o *outline) at(row int) span {
	if row < o.lo || row >= o.hi {
		return span{}
	}
	return o.spans[row]
}

// draw sets the outline of a box with these corners, of which numbers that differ
// in one bit are joined by an edge.
func (o *outline) draw(c *Camera, corners *[8]vec) {
	rays := len(o.spans)
	step := c.step()
	var u, v [8]float64 // of the corners, in rays: ray i is at i
	top, bottom := math.Inf(1), math.Inf(-1)
	for i, p := range corners {
		w := p.sub(c.eye)
		depth := w.dot(c.forward)
		if depth < 0.01 { // beside the camera, or behind it
			o.lo, o.hi = 0, rays
			for y := range o.spans {
				o.spans[y] = span{0, int32(rays)}
			}
			return
		}
		u[i] = (w.dot(c.right)/depth/tangent+1)/step - 0.5
		v[i] = (1-w.dot(c.up)/depth/tangent)/step - 0.5
		top, bottom = min(top, v[i]), max(bottom, v[i])
	}
	margin := slack / step
	o.lo, o.hi = clip(math.Ceil(top-margin), rays), clip(math.Floor(bottom+margin)+1, rays)
	for y := o.lo; y < o.hi; y++ {
		o.spans[y] = span{int32(rays), 0}
	}
	for i := range corners {
		for bit := 1; bit < 8; bit <<= 1 {
			if j := i | bit; j != i {
				o.edge(u[i], v[i], u[j], v[j], margin)
			}
		}
	}
}

// edge widens the spans of the rows that an edge from (u1, v1) to (u2, v2)
// crosses.
func (o *outline) edge(u1, v1, u2, v2, margin float64) {
	if v1 > v2 {
		u1, v1, u2, v2 = u2, v2, u1, v1
	}
	from, to := max(clip(math.Ceil(v1-margin), o.hi), o.lo), clip(math.Floor(v2+margin)+1, o.hi)
	if from >= to {
		return
	}
	left, right := u1, u2
	if left > right {
		left, right = right, left
	}
	flat := v2-v1 < margin // its slope is not to be trusted
	slope := 0.0
	if !flat {
		slope = (u2 - u1) / (v2 - v1)
	}
	for y := from; y < to; y++ {
		lo, hi := left, right
		if !flat {
			x := u1 + mul(slope, float64(y)-v1)
			if x > right {
				x = right
			}
			if x < left {
				x = left
			}
			lo, hi = x, x
		}
		s := &o.spans[y]
		s.lo = min(s.lo, int32(clip(math.Ceil(lo-margin), len(o.spans))))
		s.hi = max(s.hi, int32(clip(math.Floor(hi+margin)+1, len(o.spans))))
	}
}

// clip is x within [0, n].
func clip(x float64, n int) int { return min(max(int(x), 0), n) }
