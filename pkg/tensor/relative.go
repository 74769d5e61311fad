package tensor

// relative is a learned bias of an attention's scores by how far a key is from its
// query: T5's. The table's rows are buckets of distances.
type relative struct {
	table   *Param    // [buckets, heads]
	bucket  []int     // [2n-1], of k-q from -(n-1) on
	partial []float32 // [B·H, buckets] a head's part of the gradient
	acc     bool
}

// RelativeAttention is Attention with scores q·k + table[bucket[k-q+T-1]], and
// without the factor of 1/√(D/heads): table [buckets, heads], bucket [2T-1].
func (t *Tape) RelativeAttention(qkv *Var, heads int, mask Mask, table *Param, bucket []int) *Var {
	need(len(qkv.Shape) == 3 && heads > 0 && qkv.Shape[2]%(3*heads) == 0, "RelativeAttention", sprint("[B, T, 3D] with D a multiple of ", heads), qkv.Shape)
	b, n, w := qkv.Shape[0], qkv.Shape[1], qkv.Shape[2]/3
	need(len(table.Shape) == 2 && table.Shape[1] == heads && len(bucket) == 2*n-1, "RelativeAttention", sprint("a table [buckets, ", heads, "] and ", 2*n-1, " distances"), table.Shape, len(bucket))
	need(mask.Window == 0, "RelativeAttention", "no window", mask.Window)
	for _, k := range bucket {
		need(k >= 0 && k < table.Shape[0], "RelativeAttention", sprint("buckets below ", table.Shape[0]), k)
	}
	if k := mask.Keys; k != nil {
		need(len(k.Shape) == 2 && k.Shape[0] == b && k.Shape[1] == n, "RelativeAttention", sprint("a key mask [", b, " ", n, "]"), k.Shape)
	}
	return t.attend(&attention{q: operand{qkv, n, 0}, k: operand{qkv, n, w}, v: operand{qkv, n, 2 * w}, b: b, n: n, queries: n, heads: heads, d: w / heads, mask: mask,
		scale: 1, relative: &relative{table: table, bucket: bucket}})
}

// bias adds the table's values to rows of scores.
func (r *relative) bias(b queries, s []float32, room int) {
	heads, head := b.a.heads, b.i%b.a.heads
	for q := b.lo; q < b.hi; q++ {
		row := s[(q-b.lo)*room+b.base:]
		for k := b.from; k < b.keys; k++ {
			row[k-b.from] += r.table.Value[r.bucket[k-q+b.a.n-1]*heads+head]
		}
	}
}

// gather adds the gradients of rows of scores to the head's part.
func (r *relative) gather(b queries, s []float32, room int) {
	part := r.partial[b.i*r.table.Shape[0]:][:r.table.Shape[0]]
	if b.lo == 0 {
		clear(part)
	}
	for q := b.lo; q < b.hi; q++ {
		row := s[(q-b.lo)*room+b.base:]
		for k := b.from; k < b.keys; k++ {
			part[r.bucket[k-q+b.a.n-1]] += row[k-b.from]
		}
	}
}

// fold makes the table's gradient of the heads' parts, sample by sample.
func (r *relative) fold(samples, heads int) {
	if !r.acc {
		clear(r.table.Grad)
	}
	n := r.table.Shape[0]
	for i := range samples * heads {
		for k, g := range r.partial[i*n : (i+1)*n] {
			r.table.Grad[k*heads+i%heads] += g
		}
	}
}
