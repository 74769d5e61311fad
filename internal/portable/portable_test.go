package portable

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"testing"
)

// The math package is right to an ulp everywhere, and differs in the last bits
// between CPUs: it is the measure of the error, and the checksum that of the bits.
func TestAgainstMath(t *testing.T) {
	const exact = 0x1p-52
	sum := crc32.NewIEEE()
	check := func(what string, x, got, want, allowed float64) {
		t.Helper()
		if math.Abs(got-want) > allowed {
			t.Fatalf("%s of %v is %v, want %v within %v", what, x, got, want, allowed)
		}
		binary.Write(sum, binary.LittleEndian, got)
	}
	for i := range 20000 {
		x := float64(i-10000) * 0.07
		e := math.Exp(x)
		check("exp", x, exp(x), e, 2*exact*e)
		y := math.Exp2(float64(i-10000)*0.1) * (1 + float64(i)/20000)
		check("Log", y, Log(y), math.Log(y), 2*exact*max(1, math.Abs(math.Log(y))))
		angle := float64(i) * 50.3
		s, c := SinCos(angle)
		check("the sine", angle, s, math.Sin(angle), 1e-14)
		check("the cosine", angle, c, math.Cos(angle), 1e-14)
		n := float64(uint64(1) + uint64(i)*uint64(i)*7)
		p := math.Pow(n, -0.75)
		check("the power -3/4", n, Pow(n, -0.75), p, 20*exact*p)
		u := (float64(i) + 0.5) / 20000
		check("the power 2/3", u, Pow(u, 1/1.5), math.Pow(u, 1/1.5), 8*exact)
	}
	if got := sum.Sum32(); got != 0xf682c8f3 {
		t.Errorf("the bits have the checksum %#x", got)
	}
	if Pow(1, -0.75) != 1 || exp(0) != 1 || Log(1) != 0 {
		t.Error("one to any power, e to none and the logarithm of one are exact")
	}
}
