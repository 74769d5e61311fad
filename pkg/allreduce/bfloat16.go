package allreduce

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Coding is how partial sums and totals are written on a network.
type Coding uint8

const (
	// Float32 writes them as they are.
	Float32 Coding = iota
	// BFloat16 writes the upper half of each float32, rounded to the
	// nearest, ties to even: half the bytes. What rounding takes away from an
	// element a rank adds to the same element in its next step, so that nothing
	// is lost for good: error feedback (Seide and others, "1-Bit Stochastic
	// Gradient Descent", 2014; Karimireddy and others, "Error Feedback Fixes
	// SignSGD", 2019). The last bucket, which holds losses and counts, stays
	// float32. All ranks end with the same total, that of the last rank as it
	// was written.
	BFloat16
)

func (k Coding) check() error {
	if k > BFloat16 {
		return fmt.Errorf("coding %d is unknown", k)
	}
	return nil
}

// narrow tells whether a bucket is written in half the bytes. What is gathered is
// no sum: nothing makes good what rounding would take away from it.
func (c *Core) narrow(bucket int) bool {
	return !c.gather && c.opt.Coding == BFloat16 && bucket < len(c.plans)-1
}

// float is the size of an element of a bucket on the wire, in bytes.
func (c *Core) float(bucket int) int {
	if c.narrow(bucket) {
		return 2
	}
	return 4
}

// round makes of data, which stands at lo of the sum, what the wire will carry,
// and keeps the rest for the next step.
func (c *Core) round(data []float32, lo int) {
	if c.rest == nil {
		c.rest = make([]float32, len(c.sum))
	}
	roundBF16(data, c.rest[lo:lo+len(data)])
}

// roundBF16 adds rest to data, rounds that to bfloat16, and leaves the
// difference in rest; of what is not finite, nothing.
func roundBF16(data, rest []float32) {
	rest = rest[:len(data)]
	for i, x := range data {
		x += rest[i]
		b := math.Float32bits(x)
		q := math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
		switch {
		case x != x: // rounding could make an infinity of a NaN
			q, rest[i] = math.Float32frombits(0x7fc00000), 0
		case q-q != 0: // infinite, or too large for bfloat16
			rest[i] = 0
		default:
			rest[i] = x - q
		}
		data[i] = q
	}
}

func encodeBF16(payload []byte, src []float32) {
	for i, x := range src {
		binary.LittleEndian.PutUint16(payload[2*i:], uint16(math.Float32bits(x)>>16))
	}
}

func decodeBF16(dst []float32, payload []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(payload[2*i:])) << 16)
	}
}
