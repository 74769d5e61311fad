package tabletop

import "math"

// The camera: a pinhole behind and above the near edge of the table.
var (
	eye     = vec{-0.06, 0, 0.56}
	lookAt  = vec{0.41, 0, 0.068}
	forward = lookAt.sub(eye).unit()
	right   = vec{0, -1, 0}
	up      = vec{-forward.z, 0, forward.x} // right × forward
	light   = vec{-0.35, 0.45, 1}.unit()    // towards the lamp
)

const (
	tangent = 0.34 // of half the field of view
	samples = 2    // rays along each side of a pixel
)

type rgb [3]float64

var (
	tables  = [...]rgb{{0.80, 0.70, 0.56}, {0.72, 0.72, 0.70}, {0.62, 0.48, 0.36}, {0.86, 0.85, 0.80}}
	grey    = rgb{0.5, 0.5, 0.5}
	floor   = rgb{0.30, 0.32, 0.36}
	steel   = rgb{0.13, 0.13, 0.15}
	casing  = rgb{0.93, 0.93, 0.95}
	palette = [colours]rgb{Red: {0.85, 0.10, 0.10}, Green: {0.10, 0.60, 0.18}, Blue: {0.10, 0.25, 0.85},
		Yellow: {0.95, 0.85, 0.10}, Purple: {0.55, 0.15, 0.70}, Orange: {0.98, 0.48, 0.05}}
)

// body is a convex solid around c, in the frame of its axes.
type body struct {
	shape  Shape // Brick stands for any box
	c      vec
	axes   [3]vec
	half   vec
	colour rgb
	eye    vec // in the body's frame
	// Outlines that let most rays pass it by: a radius on the image plane, and
	// a squared radius of its shadow on the table, each with its centre.
	u, v, r     float64
	sx, sy, sr2 float64
}

func newBody(s Shape, c vec, axes [3]vec, half vec, colour rgb) body {
	if s == Cube {
		s = Brick
	}
	b := body{shape: s, c: c, axes: axes, half: half, colour: colour, eye: eye.sub(c).along(axes)}
	r := half.length()
	w := c.sub(eye)
	depth := w.dot(forward)
	b.u, b.v = w.dot(right)/depth/tangent, w.dot(up)/depth/tangent
	b.r = mul(r/(depth-r)/tangent, 1.25) // off-centre spheres are ellipses: a margin
	t := c.z / light.z
	b.sx, b.sy = c.x-mul(light.x, t), c.y-mul(light.y, t)
	sr := r / light.z
	b.sr2 = mul(sr, sr)
	return b
}

// hit returns the distance, in lengths of d, at which the ray from o along d
// enters the body, and the outward normal there.
func (b *body) hit(o, d vec) (t float64, normal vec, ok bool) {
	return b.meet(o.sub(b.c).along(b.axes), d)
}

// meet is hit where o is in the body's frame, as b.eye is.
func (b *body) meet(o, d vec) (t float64, normal vec, ok bool) {
	d = d.along(b.axes)
	var n vec
	switch b.shape {
	case Ball:
		t, n, ok = hitBall(o, d, b.half.x)
	case Cylinder, Cone:
		t, n, ok = hitRound(o, d, b.half, b.shape == Cone)
	default:
		t, n, ok = hitBox(o, d, b.half)
	}
	if !ok || t <= 0 {
		return 0, vec{}, false
	}
	return t, n.of(b.axes), true
}

func hitBall(o, d vec, r float64) (float64, vec, bool) {
	a, h, c := d.dot(d), o.dot(d), o.dot(o)-mul(r, r)
	disc := mul(h, h) - mul(a, c)
	if disc < 0 {
		return 0, vec{}, false
	}
	t := (-h - math.Sqrt(disc)) / a
	return t, o.add(d.scale(t)).unit(), true
}

// hitRound is a cylinder, or a cone with its apex up: radius half.x at the
// bottom, height 2·half.z around 0.
func hitRound(o, d, half vec, cone bool) (best float64, normal vec, ok bool) {
	try := func(t float64, n vec) {
		if !ok || t < best {
			best, normal, ok = t, n, true
		}
	}
	// Side: x² + y² = (r0 + k·z)², with k 0 for a cylinder.
	r0, k := half.x, 0.0
	if cone {
		k = -half.x / (2 * half.z)
		r0 = half.x / 2
	}
	ro, rd := r0+mul(k, o.z), mul(k, d.z)
	a := mul(d.x, d.x) + mul(d.y, d.y) - mul(rd, rd)
	h := mul(o.x, d.x) + mul(o.y, d.y) - mul(ro, rd)
	c := mul(o.x, o.x) + mul(o.y, o.y) - mul(ro, ro)
	if disc := mul(h, h) - mul(a, c); disc >= 0 && a != 0 {
		root := math.Sqrt(disc)
		for _, t := range [2]float64{(-h - root) / a, (-h + root) / a} {
			p := o.add(d.scale(t))
			if p.z >= -half.z && p.z <= half.z {
				try(t, vec{p.x, p.y, mul(-k, r0+mul(k, p.z))}.unit())
			}
		}
	}
	// Ends.
	if d.z != 0 {
		for _, z := range [2]float64{half.z, -half.z} {
			if cone && z > 0 {
				continue
			}
			t := (z - o.z) / d.z
			x, y := o.x+mul(d.x, t), o.y+mul(d.y, t)
			if mul(x, x)+mul(y, y) <= mul(half.x, half.x) {
				n := vec{0, 0, 1}
				if z < 0 {
					n.z = -1
				}
				try(t, n)
			}
		}
	}
	return best, normal, ok
}

func hitBox(o, d, half vec) (float64, vec, bool) {
	lo, hi := math.Inf(-1), math.Inf(1)
	var n vec
	for axis, s := range [3][3]float64{{o.x, d.x, half.x}, {o.y, d.y, half.y}, {o.z, d.z, half.z}} {
		o, d, h := s[0], s[1], s[2]
		if d == 0 {
			if o < -h || o > h {
				return 0, vec{}, false
			}
			continue
		}
		t1, t2, sign := (-h-o)/d, (h-o)/d, -1.0
		if t1 > t2 {
			t1, t2, sign = t2, t1, 1
		}
		if t1 > lo {
			lo, n = t1, vec{}
			*[3]*float64{&n.x, &n.y, &n.z}[axis] = sign
		}
		hi = min(hi, t2)
	}
	return lo, n, lo <= hi
}

// bodies returns the solids of the frame: the objects and the gripper's parts.
func (f *Frame) bodies() []body {
	out := make([]body, 0, 8)
	for _, o := range f.Objects {
		h := o.half()
		out = append(out, newBody(o.Shape, vec{o.X, o.Y, o.Z + h.z}, frame(0, 0, o.Yaw), h, palette[o.Colour]))
	}
	g := f.Gripper
	axes := frame(g.Roll, g.Pitch, g.Yaw)
	tip := vec{g.X, g.Y, g.Z}
	part := func(s Shape, at, half vec, c rgb) {
		out = append(out, newBody(s, tip.add(at.of(axes)), axes, half, c))
	}
	gap := 0.010
	switch {
	case g.Held >= 0:
		gap = f.Objects[g.Held].half().y + 0.006
	case g.Open:
		gap = 0.042
	}
	part(Brick, vec{0, gap, 0.024}, vec{0.008, 0.006, 0.032}, steel)
	part(Brick, vec{0, -gap, 0.024}, vec{0.008, 0.006, 0.032}, steel)
	part(Brick, vec{0, 0, 0.064}, vec{0.014, 0.052, 0.010}, steel)
	part(Cylinder, vec{0, 0, 0.109}, vec{0.019, 0.019, 0.035}, casing)
	return out
}

// Render draws the frame into pix, size·size·3 bytes of RGB, row by row from
// the top. Any size works; it is the same view.
func (f *Frame) Render(pix []byte, size int) {
	bodies := f.bodies()
	step := 2 / float64(samples*size)
	nothing := rgb{samples * samples * grey[0], samples * samples * grey[1], samples * samples * grey[2]}.pixel()
	var hits [8]int
	for py := 0; py < size; py++ {
		for px := 0; px < size; px++ {
			// The bodies near the pixel's centre, wide enough for all its rays.
			cu, cv := mul(float64(2*px+1), step)-1, 1-mul(float64(2*py+1), step)
			n := 0
			for i := range bodies {
				b := &bodies[i]
				du, dv := cu-b.u, cv-b.v
				if r := b.r + step; mul(du, du)+mul(dv, dv) <= mul(r, r) {
					hits[n] = i
					n++
				}
			}
			if n == 0 && f.scene == Simple { // most of the picture
				copy(pix[(py*size+px)*3:], nothing[:])
				continue
			}
			var sum rgb
			for s := 0; s < samples*samples; s++ {
				u := mul(float64(px*samples+s%samples)+0.5, step) - 1
				v := 1 - mul(float64(py*samples+s/samples)+0.5, step)
				c := f.trace(u, v, bodies, hits[:n])
				for k := range sum {
					sum[k] += c[k]
				}
			}
			p := sum.pixel()
			copy(pix[(py*size+px)*3:], p[:])
		}
	}
}

// pixel is the mean of a pixel's rays, of which c is the sum.
func (c rgb) pixel() (p [3]byte) {
	for k := range c {
		p[k] = byte(mul(clamp(c[k]/(samples*samples), 0, 1), 255) + 0.5)
	}
	return p
}

// trace returns the colour that is seen at (u, v) of the image plane, both in
// [-1, 1], where only the listed bodies can be.
func (f *Frame) trace(u, v float64, bodies []body, list []int) rgb {
	d := forward.add(right.scale(mul(u, tangent))).add(up.scale(mul(v, tangent)))
	best, at := math.Inf(1), -1
	var normal vec
	for _, i := range list {
		if t, n, ok := bodies[i].meet(bodies[i].eye, d); ok && t < best {
			best, at, normal = t, i, n
		}
	}
	if at >= 0 {
		c := bodies[at].colour
		diffuse := max(normal.dot(light), 0)
		// A little gloss: the half vector between lamp and eye, to the 16th.
		w := light.sub(d.unit()).unit()
		g := max(normal.dot(w), 0)
		for i := 0; i < 4; i++ {
			g = mul(g, g)
		}
		for k := range c {
			c[k] = mul(c[k], 0.42+mul(0.62, diffuse)) + mul(0.18, g)
		}
		return c
	}
	if f.scene == Simple {
		return grey
	}
	if d.z >= 0 {
		return floor
	}
	t := -eye.z / d.z
	p := eye.add(d.scale(t))
	c := tables[f.table]
	if p.x < 0.18 || p.x > 0.70 || p.y < -0.36 || p.y > 0.36 {
		return floor
	}
	plank := math.Floor(p.y / 0.09)
	if edge := p.y/0.09 - plank; edge < 0.045 || int(plank)&1 == 1 { // joints, and every other plank, are darker
		shade := 0.965
		if edge < 0.045 {
			shade = 0.86
		}
		for k := range c {
			c[k] = mul(c[k], shade)
		}
	}
	for i := range bodies {
		b := &bodies[i]
		dx, dy := p.x-b.sx, p.y-b.sy
		// The shadow of the body's sphere is an ellipse; its circle is generous.
		if mul(dx, dx)+mul(dy, dy) > b.sr2 {
			continue
		}
		if _, _, ok := b.hit(p, light); ok {
			for k := range c {
				c[k] = mul(c[k], 0.58)
			}
			break
		}
	}
	return c
}
