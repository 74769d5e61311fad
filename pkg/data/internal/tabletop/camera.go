package tabletop

import (
	"math"
	"sync"
)

// view is where a camera stands and how it is turned: a pinhole.
type view struct {
	eye                vec
	forward, right, up vec // unit vectors; up = right × forward
}

// The cameras: one behind and above the near edge of the table, and one beside it,
// to the left.
var atFront, atSide = func() (f, s view) {
	f.eye = vec{-0.06, 0, 0.56}
	f.forward = vec{0.41, 0, 0.068}.sub(f.eye).unit()
	f.right, f.up = vec{0, -1, 0}, vec{-f.forward.z, 0, f.forward.x}
	s.eye = vec{0.41, 0.56, 0.40}
	s.forward = vec{0.41, 0, 0.05}.sub(s.eye).unit()
	s.right, s.up = vec{-1, 0, 0}, vec{0, s.forward.z, -s.forward.y}
	return f, s
}()

const (
	tangent = 0.34 // of half the field of view
	samples = 2    // rays along each side of a pixel

	// keptGloss is the largest picture for whose rays a Camera keeps what depends
	// on the ray alone: 24 bytes each.
	keptGloss = 128
)

// Camera draws pictures of one size, any size, of the same view. It is safe for
// concurrent use.
//
// A picture is made of rays, samples² a pixel. A body is asked only about rays
// within its outline; what it answers is the same number wherever it is asked,
// so outlines save time and change no pixel.
//
//	for each row of pixels
//	  for each of its rows of rays
//	    for each body whose outline crosses the row: the nearest hit of each ray    line
//	  for each pixel: the mean of its rays' colours
type Camera struct {
	view
	size    int
	columns []vec // forward + right·u of a column of rays
	rows    []vec // up·v of a row of rays
	halves  []vec // of each ray, row by row: see halfway; nil: too many to keep
	canvas  sync.Pool
}

// NewCamera returns the camera in front of pictures of size × size pixels.
func NewCamera(size int) *Camera { return newCamera(atFront, size) }

// NewSideCamera returns the one beside the table.
func NewSideCamera(size int) *Camera { return newCamera(atSide, size) }

func newCamera(at view, size int) *Camera {
	c := &Camera{view: at, size: size, columns: make([]vec, samples*size), rows: make([]vec, samples*size)}
	for i := range c.rows {
		u := mul(float64(i)+0.5, c.step()) - 1
		v := 1 - mul(float64(i)+0.5, c.step())
		c.columns[i] = c.forward.add(c.right.scale(mul(u, tangent)))
		c.rows[i] = c.up.scale(mul(v, tangent))
	}
	if size <= keptGloss {
		for y := range c.rows {
			for x := range c.columns {
				c.halves = append(c.halves, halfway(c.ray(x, y)))
			}
		}
	}
	c.canvas.New = func() any { return newCanvas(samples * size) }
	return c
}

// step is the distance of two rays on the image plane, which is [-1, 1]².
func (c *Camera) step() float64 { return 2 / float64(samples*c.size) }

// ray is the direction of ray x of row y.
func (c *Camera) ray(x, y int) vec { return c.columns[x].add(c.rows[y]) }

// halfway is the direction between lamp and eye, where a surface across it shines
// the most.
func halfway(ray vec) vec { return light.sub(ray.unit()).unit() }

func (c *Camera) halfway(x, y int) vec {
	if c.halves != nil {
		return c.halves[y*len(c.columns)+x]
	}
	return halfway(c.ray(x, y))
}

// canvas is memory for one picture in progress.
type canvas struct {
	room            [maxBodies]body
	bodies, shadows [maxBodies]outline
	lines           [samples]line
}

// line is what the rays of a row meet first.
type line struct {
	t    []float64 // distance, in lengths of the ray; infinite: nothing
	face []*face   // of what is there: a box's, or that of own
	own  []face

	shadows []shadow
}

// shadow is where a body may keep the light from the table.
type shadow struct {
	span
	body *body
}

func newCanvas(rays int) *canvas {
	v := &canvas{}
	for i := range v.bodies {
		v.bodies[i].spans, v.shadows[i].spans = make([]span, rays), make([]span, rays)
	}
	for i := range v.lines {
		v.lines[i] = line{t: make([]float64, rays), face: make([]*face, rays), own: make([]face, rays)}
	}
	return v
}

// Render draws the frame into pix, size·size·3 bytes of RGB, row by row from
// the top.
func (f *Frame) Render(c *Camera, pix []byte) {
	v := c.canvas.Get().(*canvas)
	defer c.canvas.Put(v)
	bodies := f.bodies(&v.room, c.eye)
	for i := range bodies {
		corners := bodies[i].corners()
		v.bodies[i].draw(c, &corners)
		if f.scene != Simple {
			for k, p := range corners { // where their shadows fall
				corners[k] = p.sub(light.scale(p.z / light.z))
			}
			v.shadows[i].draw(c, &corners)
		}
	}
	if f.scene == Simple {
		fill(pix[:c.size*c.size*3], grey.times(samples*samples).pixel())
	}
	for py := range c.size {
		all := span{0, int32(samples * c.size)}
		if f.scene == Simple { // most of the picture shows nothing
			all = span{}
			for i := range bodies {
				for s := range samples {
					all = all.and(v.bodies[i].at(py*samples + s))
				}
			}
		}
		from, to := int(all.lo)/samples, (int(all.hi)+samples-1)/samples
		if from >= to {
			continue
		}
		for s := range samples {
			y := py*samples + s
			l := &v.lines[s]
			l.shadows = l.shadows[:0]
			for x := samples * from; x < samples*to; x++ {
				l.t[x] = math.Inf(1)
			}
			for i := range bodies {
				if at := v.bodies[i].at(y); at.lo < at.hi {
					l.cross(c, y, at, &bodies[i])
				}
				if at := v.shadows[i].at(y); f.scene != Simple && at.lo < at.hi {
					l.shadows = append(l.shadows, shadow{at, &bodies[i]})
				}
			}
		}
		for px := from; px < to; px++ {
			if f.scene == Simple && v.nothing(px) {
				continue
			}
			var sum rgb
			for s := range samples * samples {
				x, y := px*samples+s%samples, py*samples+s/samples
				l := &v.lines[s/samples]
				var p rgb
				switch {
				case l.t[x] < math.Inf(1):
					p = l.face[x].shine(c.halfway(x, y))
				case f.scene == Simple:
					p = grey
				default:
					p = f.backdrop(c.eye, c.ray(x, y), x, l.shadows)
				}
				sum = sum.add(p)
			}
			p := sum.pixel()
			copy(pix[(py*c.size+px)*3:], p[:])
		}
	}
}

// fill repeats a pixel.
func fill(pix []byte, with [3]byte) {
	for n := copy(pix, with[:]); n < len(pix); n *= 2 {
		copy(pix[n:], pix[:n])
	}
}

// pixel is the mean of a pixel's rays, of which c is the sum.
func (c rgb) pixel() [3]byte {
	mean := func(x float64) byte { return byte(mul(clamp(x/(samples*samples), 0, 1), 255) + 0.5) }
	return [3]byte{mean(c.r), mean(c.g), mean(c.b)}
}

// nothing says whether all rays of a pixel miss all bodies.
func (v *canvas) nothing(px int) bool {
	for s := range v.lines {
		for _, t := range v.lines[s].t[px*samples : (px+1)*samples] {
			if t < math.Inf(1) {
				return false
			}
		}
	}
	return true
}

// cross notes where a body is the nearest on the rays of row y in its outline.
func (l *line) cross(c *Camera, y int, at span, b *body) {
	row := c.rows[y]
	columns, t, face := c.columns[at.lo:at.hi], l.t[at.lo:at.hi], l.face[at.lo:at.hi]
	own := l.own[at.lo:at.hi]
	for x, column := range columns {
		d := column.add(row).along(b.axes)
		var hit float64
		var ok bool
		end := 0
		switch b.shape {
		case brick:
			side := 0
			if hit, side, ok = hitBox(b.eye, d, b.half); ok && hit > 0 && hit < t[x] {
				t[x], face[x] = hit, &b.faces[side]
			}
			continue
		case ball:
			hit, ok = hitBall(b.eye, d, b.half.x)
		default:
			hit, end, ok = hitRound(b.eye, d, b.half, b.shape == Cone)
		}
		if ok && hit > 0 && hit < t[x] {
			t[x], face[x] = hit, &own[x]
			own[x].set(b.normal(b.eye, d, hit, end).of(b.axes), b.colour)
		}
	}
}

// shine is the colour of a surface where the lamp's light comes back to the eye
// along half. A little gloss: the cosine to the 16th.
func (f *face) shine(half vec) rgb {
	g := f.normal.dot(half)
	if g < 0 {
		g = 0
	}
	for range 4 {
		g = mul(g, g)
	}
	g = mul(0.18, g)
	return f.matt.add(rgb{g, g, g})
}

// backdrop is the colour that is seen from eye along d where no body is: the table, or the
// floor around it. x is the ray's place in the shadows' spans.
func (f *Frame) backdrop(eye, d vec, x int, shadows []shadow) rgb {
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
		c = c.times(shade)
	}
	for _, s := range shadows {
		if s.has(x) && s.body.hit(p, light) {
			return c.times(0.58)
		}
	}
	return c
}

// Project says where a point is in the camera's picture, in shares of its width from the
// left and of its height from the top, which a point that is not in it has below 0 or
// above 1; false: it is not before the camera.
func (c *Camera) Project(x, y, z float64) (right, down float64, before bool) {
	to := vec{x, y, z}.sub(c.eye)
	far := to.dot(c.forward)
	if far <= 0 {
		return 0, 0, false
	}
	return (1 + to.dot(c.right)/(far*tangent)) / 2, (1 - to.dot(c.up)/(far*tangent)) / 2, true
}
