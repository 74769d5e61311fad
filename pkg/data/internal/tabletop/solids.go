package tabletop

import "math"

type rgb struct{ r, g, b float64 }

func (c rgb) add(d rgb) rgb       { return rgb{c.r + d.r, c.g + d.g, c.b + d.b} }
func (c rgb) times(x float64) rgb { return rgb{mul(c.r, x), mul(c.g, x), mul(c.b, x)} }

var light = vec{-0.35, 0.45, 1}.unit() // towards the lamp

var (
	tables  = [...]rgb{{0.80, 0.70, 0.56}, {0.72, 0.72, 0.70}, {0.62, 0.48, 0.36}, {0.86, 0.85, 0.80}}
	grey    = rgb{0.5, 0.5, 0.5}
	floor   = rgb{0.30, 0.32, 0.36}
	steel   = rgb{0.13, 0.13, 0.15}
	casing  = rgb{0.93, 0.93, 0.95}
	palette = [colours]rgb{red: {0.85, 0.10, 0.10}, green: {0.10, 0.60, 0.18}, blue: {0.10, 0.25, 0.85},
		yellow: {0.95, 0.85, 0.10}, purple: {0.55, 0.15, 0.70}, orange: {0.98, 0.48, 0.05}}
)

// body is a convex solid around c, in the frame of its axes.
type body struct {
	shape  Shape // brick stands for any box
	c      vec
	axes   [3]vec
	half   vec
	colour rgb
	eye    vec     // in the body's frame
	faces  [6]face // of a box: -x, +x, -y, +y, -z, +z
}

// face is a surface that shines alike everywhere.
type face struct {
	normal vec
	matt   rgb // its colour without gloss
}

// set makes it a body of that shape.
func (b *body) set(s Shape, c vec, axes [3]vec, half vec, colour rgb, eye vec) {
	if s == cube {
		s = brick
	}
	*b = body{shape: s, c: c, axes: axes, half: half, colour: colour, eye: eye.sub(c).along(axes)}
	if s == brick {
		for i, n := range [6]vec{{x: -1}, {x: 1}, {y: -1}, {y: 1}, {z: -1}, {z: 1}} {
			b.faces[i].set(n.of(axes), colour)
		}
	}
}

// set makes it a surface with that outward normal.
func (f *face) set(normal vec, colour rgb) {
	f.normal, f.matt = normal, colour.times(0.42+mul(0.62, max(normal.dot(light), 0)))
}

// corners are those of the box around the body.
func (b *body) corners() (p [8]vec) {
	for i := range p {
		h := b.half
		if i&1 == 0 {
			h.x = -h.x
		}
		if i&2 == 0 {
			h.y = -h.y
		}
		if i&4 == 0 {
			h.z = -h.z
		}
		p[i] = b.c.add(h.of(b.axes))
	}
	return p
}

// hit says whether the ray from o along d enters the body.
func (b *body) hit(o, d vec) bool {
	o, d = o.sub(b.c).along(b.axes), d.along(b.axes)
	var t float64
	var ok bool
	switch b.shape {
	case ball:
		t, ok = hitBall(o, d, b.half.x)
	case cylinder, Cone:
		t, _, ok = hitRound(o, d, b.half, b.shape == Cone)
	default:
		t, _, ok = hitBox(o, d, b.half)
	}
	return ok && t > 0
}

// normal is the outward one, in the body's frame, where the ray from o along d,
// both of that frame too, enters a body that is no box; end is hitRound's.
func (b *body) normal(o, d vec, t float64, end int) vec {
	p := o.add(d.scale(t))
	switch {
	case b.shape == ball:
	case end != 0:
		return vec{z: float64(end)}
	default:
		r0, k := round(b.half, b.shape == Cone)
		p.z = mul(-k, r0+mul(k, p.z))
	}
	return p.unit()
}

// hitBall returns the distance, in lengths of d, at which the ray from o along d
// enters a ball of radius r around 0.
func hitBall(o, d vec, r float64) (float64, bool) {
	a, h, c := d.dot(d), o.dot(d), o.dot(o)-mul(r, r)
	disc := mul(h, h) - mul(a, c)
	if disc < 0 {
		return 0, false
	}
	return (-h - math.Sqrt(disc)) / a, true
}

// round is the side of a cylinder or cone of that half extent: its radius is
// r0 + k·z.
func round(half vec, cone bool) (r0, k float64) {
	if cone {
		return half.x / 2, -half.x / (2 * half.z)
	}
	return half.x, 0
}

// hitRound is a cylinder, or a cone with its apex up: radius half.x at the
// bottom, height 2·half.z around 0. end is 1 or -1 where the ray enters through
// the top or bottom, 0 on the side.
func hitRound(o, d, half vec, cone bool) (best float64, end int, ok bool) {
	// Side: x² + y² = (r0 + k·z)².
	r0, k := round(half, cone)
	ro, rd := r0+mul(k, o.z), mul(k, d.z)
	a := mul(d.x, d.x) + mul(d.y, d.y) - mul(rd, rd)
	h := mul(o.x, d.x) + mul(o.y, d.y) - mul(ro, rd)
	c := mul(o.x, o.x) + mul(o.y, o.y) - mul(ro, ro)
	if disc := mul(h, h) - mul(a, c); disc >= 0 && a != 0 {
		root := math.Sqrt(disc)
		t := (-h - root) / a
		if z := o.z + mul(d.z, t); z >= -half.z && z <= half.z {
			best, ok = t, true
		}
		t = (-h + root) / a
		if !ok || t < best {
			if z := o.z + mul(d.z, t); z >= -half.z && z <= half.z {
				best, ok = t, true
			}
		}
	}
	// Ends.
	if d.z == 0 {
		return best, 0, ok
	}
	r2 := mul(half.x, half.x)
	if !cone {
		if t := (half.z - o.z) / d.z; (!ok || t < best) && within(o, d, t, r2) {
			best, end, ok = t, 1, true
		}
	}
	if t := (-half.z - o.z) / d.z; (!ok || t < best) && within(o, d, t, r2) {
		best, end, ok = t, -1, true
	}
	return best, end, ok
}

// within says whether the point at t is at most the root of r2 away from the z axis.
func within(o, d vec, t, r2 float64) bool {
	x, y := o.x+mul(d.x, t), o.y+mul(d.y, t)
	return mul(x, x)+mul(y, y) <= r2
}

// hitBox is a box around 0; side is the number of the face that the ray enters,
// as body has them.
func hitBox(o, d, half vec) (lo float64, side int, ok bool) {
	lo, hi := math.Inf(-1), math.Inf(1)
	if d.x != 0 {
		t1, t2, s := (-half.x-o.x)/d.x, (half.x-o.x)/d.x, 0
		if t1 > t2 {
			t1, t2, s = t2, t1, 1
		}
		lo, hi, side = t1, t2, s
	} else if o.x < -half.x || o.x > half.x {
		return 0, 0, false
	}
	if d.y != 0 {
		t1, t2, s := (-half.y-o.y)/d.y, (half.y-o.y)/d.y, 2
		if t1 > t2 {
			t1, t2, s = t2, t1, 3
		}
		if t1 > lo {
			lo, side = t1, s
		}
		if t2 < hi {
			hi = t2
		}
	} else if o.y < -half.y || o.y > half.y {
		return 0, 0, false
	}
	if d.z != 0 {
		t1, t2, s := (-half.z-o.z)/d.z, (half.z-o.z)/d.z, 4
		if t1 > t2 {
			t1, t2, s = t2, t1, 5
		}
		if t1 > lo {
			lo, side = t1, s
		}
		if t2 < hi {
			hi = t2
		}
	} else if o.z < -half.z || o.z > half.z {
		return 0, 0, false
	}
	return lo, side, lo <= hi
}

// maxBodies is the most solids that a frame has.
const maxBodies = 8

// bodies makes the solids of the frame, in room: the objects and the gripper's parts.
func (f *Frame) bodies(room *[maxBodies]body, eye vec) []body {
	n := 0
	add := func(s Shape, c vec, axes [3]vec, half vec, colour rgb) {
		room[n].set(s, c, axes, half, colour, eye)
		n++
	}
	for _, o := range f.Objects {
		h := o.half()
		add(o.Shape, vec{o.X, o.Y, o.Z + h.z}, frame(0, 0, o.Yaw), h, palette[o.Colour])
	}
	g := f.Gripper
	axes := frame(g.Roll, g.Pitch, g.Yaw)
	tip := vec{g.X, g.Y, g.Z}
	part := func(s Shape, at, half vec, c rgb) {
		add(s, tip.add(at.of(axes)), axes, half, c)
	}
	gap := 0.010
	switch {
	case g.Held >= 0:
		gap = f.Objects[g.Held].half().y + 0.006
	case g.Open:
		gap = 0.042
	}
	part(brick, vec{0, gap, 0.024}, vec{0.008, 0.006, 0.032}, steel)
	part(brick, vec{0, -gap, 0.024}, vec{0.008, 0.006, 0.032}, steel)
	part(brick, vec{0, 0, 0.064}, vec{0.014, 0.052, 0.010}, steel)
	part(cylinder, vec{0, 0, 0.109}, vec{0.019, 0.019, 0.035}, casing)
	return room[:n]
}
