package octets

import (
	"encoding/binary"
	"hash"
	"hash/crc32"
	"sync"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is the CRC-32C of b.
func Sum(b []byte) uint32 { return AddSum(0, b) }

// AddSum is the CRC-32C of what has the CRC-32C sum, with b behind it.
//
// A sum is the remainder of a polynomial over bits. So the first bytes may be replaced
// by others further on that have the same remainder: where the CPU multiplies such
// polynomials in wide registers, b is folded in this way into its last block, whose sum
// crc32 takes. It is three times as fast as the instruction for CRC-32C, and faster
// than memory.
//
//	b      │ block │ block │ … │ block │ tail │
//	fold       └──────>└─────────> f   │ tail │    f: 256 bytes
func AddSum(sum uint32, b []byte) uint32 {
	if n := len(b) / foldBytes; folds && n >= leastFolded {
		f := folded.Get().(*[foldBytes]byte)
		defer folded.Put(f)
		copy(f[:], b)
		binary.LittleEndian.PutUint32(f[:], binary.LittleEndian.Uint32(f[:])^^sum) // what came before stands in the first bits
		fold(f, &b[foldBytes], n-1, &foldBy)
		sum = crc32.Update(^uint32(0), castagnoli, f[:])
		b = b[n*foldBytes:]
	}
	return crc32.Update(sum, castagnoli, b)
}

// folded keeps the blocks that are folded into: crc32 calls through a table, so they
// would be on the heap each time.
var folded = sync.Pool{New: func() any { return new([foldBytes]byte) }}

const (
	foldBytes   = 256 // of a block: four registers
	leastFolded = 32  // blocks that are worth it: below, what begins and ends it takes longer
)

// foldBy multiplies the lower and the upper half of sixteen bytes, so that they have the
// same remainder a block further on: x^(8·256 ± 32) modulo the polynomial, shifted by the
// bit that a product of mirrored polynomials is short of.
var foldBy = [2]uint64{uint64(powerOfX(8*foldBytes+32)) << 1, uint64(powerOfX(8*foldBytes-32)) << 1}

// NewSum is a CRC-32C that is written to.
func NewSum() hash.Hash32 { return new(running) }

// running is the sum of what was written.
type running uint32

func (r *running) Write(p []byte) (int, error) {
	*r = running(AddSum(uint32(*r), p))
	return len(p), nil
}
func (r *running) Sum32() uint32        { return uint32(*r) }
func (r *running) Sum(in []byte) []byte { return binary.BigEndian.AppendUint32(in, uint32(*r)) }
func (r *running) Reset()               { *r = 0 }
func (r *running) Size() int            { return crc32.Size }
func (r *running) BlockSize() int       { return 1 }

// Joint puts n bytes behind others: bytes behind a polynomial multiply it by a power of
// x, and the sums of both halves add up. It is worth keeping for many runs of one length.
type Joint uint32

// JointOf is that of n bytes.
func JointOf(n int64) Joint { return Joint(powerOfX(8 * n)) }

// Sums is the CRC-32C of what has the sum a, with the joint's bytes, of the sum b, behind it.
func (j Joint) Sums(a, b uint32) uint32 { return mulModCastagnoli(a, uint32(j)) ^ b }

// powerOfX is x^n modulo Castagnoli's polynomial, by squaring.
func powerOfX(n int64) uint32 {
	product, power := uint32(1)<<31, uint32(1)<<30 // 1 and x
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			product = mulModCastagnoli(product, power)
		}
		power = mulModCastagnoli(power, power)
	}
	return product
}

// mulModCastagnoli is the product of two polynomials modulo Castagnoli's, the highest
// power in the lowest bit.
func mulModCastagnoli(a, b uint32) (p uint32) {
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			p ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ crc32.Castagnoli
		} else {
			b >>= 1
		}
	}
	return p
}
