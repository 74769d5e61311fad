package data

import (
	"encoding/binary"
	"math"
)

// memoReader reads memos of a Scan. Once something is missing it gives zeros.
type memoReader struct {
	b     []byte
	short bool
}

func (r *memoReader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	return v * r.pass(n)
}

func (r *memoReader) signed() int64 {
	v, n := binary.Varint(r.b)
	return v * int64(r.pass(n))
}

// pass leaves n bytes behind and returns 1; 0 where there are not so many.
func (r *memoReader) pass(n int) uint64 {
	if n <= 0 {
		r.short, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return 1
}

// int is a number or a length; one above what an int32 holds is as if it were missing.
func (r *memoReader) int() int {
	v := r.uint()
	if v > math.MaxInt32 {
		r.short, r.b = true, nil
		return 0
	}
	return int(v)
}

func (r *memoReader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short, r.b = true, nil
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *memoReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *memoReader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// append adds a tally to a memo.
func (t pictureTally) append(b []byte) []byte {
	put := binary.AppendUvarint
	b = put(b, uint64(t.n))
	for _, s := range []seen{t.turned, t.deep} {
		b = append(put(put(b, uint64(s.n)), uint64(len(s.first))), s.first...)
	}
	return put(put(put(b, uint64(t.orientation)), uint64(t.low+1)), uint64(t.high+1)) // high may be -1
}

func (r *memoReader) tally() (t pictureTally) {
	t.n = r.int()
	for _, s := range []*seen{&t.turned, &t.deep} {
		s.n = r.int()
		s.first = string(r.take(r.int()))
	}
	t.orientation, t.low, t.high = r.int(), r.int()-1, r.int()-1
	return t
}

// with is the tally of the pictures of t and then those of u.
func (t pictureTally) with(u pictureTally) pictureTally {
	if t.turned.n == 0 {
		t.turned.first, t.orientation = u.turned.first, u.orientation
	}
	if t.deep.n == 0 {
		t.deep.first, t.low, t.high = u.deep.first, u.low, u.high
	}
	t.n, t.turned.n, t.deep.n = t.n+u.n, t.turned.n+u.turned.n, t.deep.n+u.deep.n
	return t
}
