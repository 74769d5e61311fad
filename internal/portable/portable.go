// Package portable has functions whose bits do not depend on the CPU, for what
// decides those of a run: first values, positional tables, schedules, draws.
//
// The math package's Log, Exp, Pow, Sin and Cos do depend on it: some
// architectures have them in assembly, and where they are Go the compiler may
// fuse x*y + z into one rounding (arm64, ppc64, s390x, riscv64 and amd64 with
// GOAMD64=v3). The functions here use the polynomials of FDLIBM with every
// product rounded by an explicit conversion, which the language forbids to
// fuse, and otherwise only operations that IEEE 754 fixes: + - / sqrt, floor,
// and the exact Frexp and Ldexp.
package portable

import "math"

// mul is x·y, rounded.
func mul(x, y float64) float64 { return float64(x * y) }

// horner returns c[0] + z·(c[1] + z·(c[2] + …)), each operation rounded.
func horner(z float64, c *[6]float64) float64 {
	p := c[5]
	for i := 4; i >= 0; i-- {
		p = mul(z, p) + c[i]
	}
	return p
}

// FDLIBM, k_sin.c and k_cos.c: minimax on [-π/4, π/4].
var (
	sinC = [6]float64{-1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
		2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10}
	cosC = [6]float64{4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
		-2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11}
)

// π/2 in three parts of 33 bits (FDLIBM, e_rem_pio2.c).
const (
	piHalf1 = 1.57079632673412561417e+00
	piHalf2 = 6.07710050630396597660e-11
	piHalf3 = 2.02226624871116645580e-21
)

// SinCos returns sine and cosine of x, 0 ≤ x < 2²⁴, to an absolute error below
// 1e-8 there and below 1e-15 for x < 2²⁰: the product with piHalf1 is exact up
// to 2²⁰ quarter turns.
func SinCos(x float64) (sin, cos float64) {
	k := math.Floor(mul(x, 2/math.Pi) + 0.5)
	r := ((x - mul(k, piHalf1)) - mul(k, piHalf2)) - mul(k, piHalf3)
	z := mul(r, r)
	s := r + mul(mul(r, z), horner(z, &sinC))
	c := (1 - mul(0.5, z)) + mul(mul(z, z), horner(z, &cosC))
	switch int64(k) & 3 {
	case 0:
		return s, c
	case 1:
		return c, -s
	case 2:
		return -s, -c
	}
	return -c, s
}

// Log returns ln x of a positive normal x within an ulp: FDLIBM, e_log.c.
func Log(x float64) float64 {
	const (
		ln2Hi = 6.93147180369123816490e-01
		ln2Lo = 1.90821492927058770002e-10
		l1    = 6.666666666666735130e-01
		l2    = 3.999999999940941908e-01
		l3    = 2.857142874366239149e-01
		l4    = 2.222219843214978396e-01
		l5    = 1.818357216161805012e-01
		l6    = 1.531383769920937332e-01
		l7    = 1.479819860511658591e-01
	)
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	f, k := m-1, float64(e)
	s := f / (2 + f)
	s2 := mul(s, s)
	s4 := mul(s2, s2)
	odd := mul(s2, l1+mul(s4, l3+mul(s4, l5+mul(s4, l7))))
	even := mul(s4, l2+mul(s4, l4+mul(s4, l6)))
	half := mul(0.5, mul(f, f))
	return mul(k, ln2Hi) - ((half - (mul(s, half+(odd+even)) + mul(k, ln2Lo))) - f)
}

// exp returns e^x of |x| ≤ 700 within an ulp: FDLIBM, e_exp.c.
func exp(x float64) float64 {
	const (
		ln2Hi = 6.93147180369123816490e-01
		ln2Lo = 1.90821492927058770002e-10
		p1    = 1.66666666666666019037e-01
		p2    = -2.77777777770155933842e-03
		p3    = 6.61375632143793436117e-05
		p4    = -1.65339022054652515390e-06
		p5    = 4.13813679705723846039e-08
	)
	k := math.Floor(mul(x, math.Log2E) + 0.5)
	hi, lo := x-mul(k, ln2Hi), mul(k, ln2Lo)
	r := hi - lo
	z := mul(r, r)
	c := r - mul(z, p1+mul(z, p2+mul(z, p3+mul(z, p4+mul(z, p5)))))
	return math.Ldexp(1-((lo-mul(r, c)/(2-c))-hi), int(k))
}

// Pow returns x^y of a positive normal x, where |y·ln x| ≤ 700: its relative
// error is that of the product y·ln x, |y·ln x| times 2⁻⁵³, and an ulp or two.
func Pow(x, y float64) float64 { return exp(mul(y, Log(x))) }

// fma32 is x·y + z. The product of two float32 is exact in float64, so fusing
// cannot change it; the sum is rounded to 53 bits and then to 24, which differs
// from a fused float32 operation about once in 2²⁹.
func fma32(x, y, z float32) float32 { return float32(float64(x)*float64(y) + float64(z)) }

// Exp32 is e^x, -80 < x ≤ 0, in float32, as SLEEF's Sleef_expf_u10 computes it
// (1 ulp), which is what PyTorch's CPU build without MKL uses. It makes the
// frequencies of models.PositionalEncoding, whose last bit matters: multiplied by a
// position in the thousands it moves the table by 1e-4.
func Exp32(x float32) float32 {
	q := float32(math.RoundToEven(float64(float32(x * float32(1.442695040888963407)))))
	s := fma32(q, -0.693145751953125, x)
	s = fma32(q, -1.428606765330187045e-06, s)
	u := float32(0.000198527617612853646278381)
	u = fma32(u, s, 0.00139304355252534151077271)
	u = fma32(u, s, 0.00833336077630519866943359)
	u = fma32(u, s, 0.0416664853692054748535156)
	u = fma32(u, s, 0.166666671633720397949219)
	u = fma32(u, s, 0.5)
	u = fma32(float32(s*s), u, s)
	return float32(math.Ldexp(float64(float32(u+1)), int(q)))
}
