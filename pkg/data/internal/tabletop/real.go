package tabletop

import "math"

// Arithmetic whose result is the same bits on every CPU. A compiler may fuse
// x*y+z into one rounding where the CPU can, so every product here goes through
// mul, whose conversion forbids that; sums, quotients and square roots are
// correctly rounded everywhere. Sines and arc tangents are series of our own.

func mul(a, b float64) float64 { return float64(a * b) }

type vec struct{ x, y, z float64 }

func (a vec) add(b vec) vec           { return vec{a.x + b.x, a.y + b.y, a.z + b.z} }
func (a vec) sub(b vec) vec           { return vec{a.x - b.x, a.y - b.y, a.z - b.z} }
func (a vec) scale(s float64) vec     { return vec{mul(a.x, s), mul(a.y, s), mul(a.z, s)} }
func (a vec) dot(b vec) float64       { return mul(a.x, b.x) + mul(a.y, b.y) + mul(a.z, b.z) }
func (a vec) length() float64         { return math.Sqrt(a.dot(a)) }
func (a vec) unit() vec               { return a.scale(1 / a.length()) }
func (a vec) along(f [3]vec) vec      { return vec{a.dot(f[0]), a.dot(f[1]), a.dot(f[2])} }
func clamp(x, lo, hi float64) float64 { return min(max(x, lo), hi) }

// of returns the vector whose coordinates in frame f are a.
func (a vec) of(f [3]vec) vec { return f[0].scale(a.x).add(f[1].scale(a.y)).add(f[2].scale(a.z)) }

// sincos returns sine and cosine of |a| ≤ 4 by their Taylor series at a/4,
// doubled twice; the error is below 1e-12.
func sincos(a float64) (s, c float64) {
	x := a / 4
	x2 := mul(x, x)
	s, c = 1, 1
	for k := 9; k >= 1; k-- {
		s = 1 - mul(s, x2)/float64(2*k*(2*k+1))
		c = 1 - mul(c, x2)/float64(2*k*(2*k-1))
	}
	s = mul(s, x)
	for i := 0; i < 2; i++ {
		s, c = mul(2, mul(s, c)), mul(c, c)-mul(s, s)
	}
	return s, c
}

// atan2 returns the angle of (x, y) in (-π, π]; 0 for the origin. The error is
// below 1e-12.
func atan2(y, x float64) float64 {
	if x == 0 && y == 0 {
		return 0
	}
	ax, ay := math.Abs(x), math.Abs(y)
	t := min(ax, ay) / max(ax, ay)
	for i := 0; i < 2; i++ { // halve the angle twice: t ≤ tan(π/16)
		t = t / (1 + math.Sqrt(1+mul(t, t)))
	}
	t2 := mul(t, t)
	s := 0.0
	for k := 21; k >= 1; k -= 2 {
		s = 1/float64(k) - mul(s, t2)
	}
	a := mul(4, mul(s, t))
	if ay > ax {
		a = math.Pi/2 - a
	}
	if x < 0 {
		a = math.Pi - a
	}
	if y < 0 {
		a = -a
	}
	return a
}

// frame returns the axes of a body turned by roll about x, then pitch about y,
// then yaw about z.
func frame(roll, pitch, yaw float64) [3]vec {
	sr, cr := sincos(roll)
	sp, cp := sincos(pitch)
	sy, cy := sincos(yaw)
	return [3]vec{
		{mul(cy, cp), mul(sy, cp), -sp},
		{mul(mul(cy, sp), sr) - mul(sy, cr), mul(mul(sy, sp), sr) + mul(cy, cr), mul(cp, sr)},
		{mul(mul(cy, sp), cr) + mul(sy, sr), mul(mul(sy, sp), cr) - mul(cy, sr), mul(cp, cr)},
	}
}
