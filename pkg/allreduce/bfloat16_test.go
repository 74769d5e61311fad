package allreduce

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// Rounding is to the nearest of the two neighbours, to the even one of a tie,
// and what is left is exactly the difference.
func TestRoundBF16(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct{ x, rest, want, left float32 }{
		{1, 0, 1, 0},
		{1 + 1.0/512, 0, 1, 1.0 / 512},
		{1 + 1.0/256, 0, 1, 1.0 / 256},                      // a tie, to the even one
		{1 + 3.0/256, 0, 1 + 4.0/256, -1.0 / 256},           // the other way
		{1 + 1.0/256, 1.0 / 1024, 1 + 2.0/256, -3.0 / 1024}, // what was left tips it
		{-1 - 1.0/512, 0, -1, -1.0 / 512},                   //
		{0, 0x1p-140, 0, 0x1p-140},                          // below bfloat16's smallest
		{math.MaxFloat32, 0, inf, 0},                        // rounds up beyond all
		{inf, 7, inf, 0},                                    //
		{float32(math.Copysign(0, -1)), 0, float32(0), 0},   // -0 + 0
	} {
		data, rest := []float32{c.x}, []float32{c.rest}
		roundBF16(data, rest)
		if data[0] != c.want || rest[0] != c.left {
			t.Errorf("%v with %v left becomes %v and %v, want %v and %v", c.x, c.rest, data[0], rest[0], c.want, c.left)
		}
	}
	nan := math.Float32frombits(0x7f800001) // its upper half is an infinity's
	data, rest := []float32{nan}, []float32{1}
	roundBF16(data, rest)
	if !math.IsNaN(float64(data[0])) || rest[0] != 0 {
		t.Errorf("a NaN becomes %v and leaves %v", data[0], rest[0])
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100000 {
		x := math.Float32frombits(r.Uint32())
		if x-x != 0 || math.Abs(float64(x)) > 1e38 {
			continue
		}
		data, rest := []float32{x}, []float32{0}
		roundBF16(data, rest)
		q := data[0]
		if math.Float32bits(q)&0xffff != 0 || q+rest[0] != x {
			t.Fatalf("%v becomes %v and leaves %v", x, q, rest[0])
		}
		up := math.Float32frombits(math.Float32bits(q) + 1<<16)
		down := math.Float32frombits(math.Float32bits(q) - 1<<16)
		if d := math.Abs(float64(x) - float64(q)); d > math.Abs(float64(x)-float64(up)) || q != 0 && d > math.Abs(float64(x)-float64(down)) {
			t.Fatalf("%v becomes %v, and %v or %v is nearer", x, q, up, down)
		}
		var wire [2]byte
		encodeBF16(wire[:], data)
		var back [1]float32
		decodeBF16(back[:], wire[:])
		if binary.LittleEndian.Uint16(wire[:]) != uint16(math.Float32bits(q)>>16) || math.Float32bits(back[0]) != math.Float32bits(q) {
			t.Fatalf("%v comes back as %v", q, back[0])
		}
	}
}
