package kernel

// Column kernels: sums over rows, in the order of the rows. x[r·stride + j] is
// element j of row r; a call does the n columns that dst has.

// columnRows is how many rows one call of assembly adds: few enough that the
// strips of all of them stay in L1 until the next strip asks for their neighbours.
const columnRows = 8

// AddRows adds rows of x to dst.
func AddRows(dst, x []float32, rows, stride int) {
	n := len(dst)
	if n == 0 || rows == 0 {
		return
	}
	_ = x[(rows-1)*stride+n-1]
	for r := 0; r < rows; r += columnRows {
		k := min(columnRows, rows-r)
		if row != nil {
			row.addRows(&dst[0], &x[r*stride], n, k, stride)
			continue
		}
		for i := r; i < r+k; i++ {
			Accumulate(dst, x[i*stride:i*stride+n])
		}
	}
}

// NormRows adds rows of dy·xhat to gamma, fused, and rows of dy to beta: the
// gradients of a LayerNorm's scale and shift.
func NormRows(gamma, beta, dy, xhat []float32, rows, stride int) {
	n := len(gamma)
	if n == 0 || rows == 0 {
		return
	}
	_, _, _ = beta[n-1], dy[(rows-1)*stride+n-1], xhat[(rows-1)*stride+n-1]
	for r := 0; r < rows; r += columnRows {
		k := min(columnRows, rows-r)
		if row != nil {
			row.normRows(&gamma[0], &beta[0], &dy[r*stride], &xhat[r*stride], n, k, stride)
			continue
		}
		for i := r * stride; i < (r+k)*stride; i += stride {
			AddProducts(gamma, dy[i:i+n], xhat[i:i+n])
			Accumulate(beta[:n], dy[i:i+n])
		}
	}
}

// ReLURows does ReLUBackward on rows of dy and adds them to dst.
func ReLURows(dst, dy, y []float32, rows, stride int, s float32) {
	n := len(dst)
	if n == 0 || rows == 0 {
		return
	}
	_, _ = dy[(rows-1)*stride+n-1], y[(rows-1)*stride+n-1]
	for r := 0; r < rows; r += columnRows {
		k := min(columnRows, rows-r)
		if row != nil {
			row.reluRows(&dst[0], &dy[r*stride], &y[r*stride], n, k, stride, s)
			continue
		}
		for i := r * stride; i < (r+k)*stride; i += stride {
			ReLUBackward(dy[i:i+n], y[i:i+n], s)
			Accumulate(dst, dy[i:i+n])
		}
	}
}
